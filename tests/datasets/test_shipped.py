"""The shipped data sets hold what their files hold, row by row."""

from __future__ import annotations

from importlib import resources
from typing import Any

import numpy as np
import pytest
import torch

import mvcore


def raw(name: str) -> dict[str, np.ndarray[Any, Any]]:
    """The file as numpy reads it."""
    with resources.as_file(resources.files("mvcore.datasets") / "files" / f"{name}.npz") as path, np.load(path) as file:
        return {key: file[key] for key in file.files}


def test_mfeat_has_six_complete_views_of_2000_digits() -> None:
    data = mvcore.dataset("mfeat")
    # UCI's description: Fourier 76, profile correlations 216, Karhunen-Loève 64, pixels 240, Zernike 47, morphology 6
    assert sorted(m.size for m in data.schema) == sorted([76, 216, 64, 240, 47, 6])
    assert data.patterns() == {data.schema.names: 2000}
    assert data.labels is not None
    assert np.bincount(data.labels).tolist() == [200] * 10
    file = raw("mfeat")
    for m in data.schema.names:
        np.testing.assert_array_equal(data.dense(m)[0].numpy(), file[m].astype(np.float32))
    np.testing.assert_array_equal(data.labels, file["labels"])


BLOCKS = {"rna": "RNASeq2GeneNorm", "cna": "gistict", "protein": "RPPAArray", "mutation": "Mutations",
          "mirna": "miRNASeqGene"}  # fmt: skip


def test_miniacc_has_43_complete_patients_of_92() -> None:
    data, file = mvcore.dataset("miniacc"), raw("miniacc")
    assert len(data) == 92
    sets = [set(file[f"{block}_patients"]) for block in BLOCKS.values()]
    assert data.patterns()[data.schema.names] == 43 == len(set.intersection(*sets))
    counts = {m: int(data.dense(m)[1].sum()) for m in data.schema.names}
    assert counts == {m: len(s) for m, s in zip(BLOCKS, sets, strict=True)}
    # every pattern, counted patient by patient
    expected: dict[tuple[str, ...], int] = {}
    for patient in file["patients"]:
        pattern = tuple(m for m, s in zip(BLOCKS, sets, strict=True) if patient in s)
        expected[pattern] = expected.get(pattern, 0) + 1
    assert data.patterns() == expected


@pytest.mark.parametrize("log1p", [True, False])
def test_miniacc_has_each_patients_own_values(log1p: bool) -> None:
    data, file = mvcore.dataset("miniacc", log1p=log1p), raw("miniacc")
    assert data.ids is not None
    for m, block in BLOCKS.items():
        full, have = data.dense(m)
        table = dict(zip(file[f"{block}_patients"], file[block], strict=True))
        assert set(data.ids[have.numpy()]) == set(table)
        for i in have.nonzero().squeeze(1).tolist():
            values = table[data.ids[i]].astype(np.float64)
            expected = np.log1p(values) if log1p and m in ("rna", "mirna") else values
            np.testing.assert_allclose(full[i].numpy(), expected, rtol=1e-6)
        assert data.schema[m].columns == tuple(file[f"{block}_features"])
        assert torch.equal(full[~have], torch.zeros_like(full[~have]))
    assert {m.name: m.likelihood for m in data.schema} == {**dict.fromkeys(BLOCKS, "normal"), "mutation": "bernoulli"}
    np.testing.assert_array_equal(data.labels, file["vital_status"])
