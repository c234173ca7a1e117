"""CMVAE on real data, and the example of the README."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mvcore


@pytest.mark.slow
def test_mfeat_with_a_third_of_the_views_missing(check_mfeat: Callable[..., dict[str, float]]) -> None:
    """The defaults but for narrower networks, for speed."""

    def create(data: mvcore.MultimodalDataset) -> mvcore.Model:
        widths = {f"modalities.{m}.{part}.hidden": [128] for m in data.schema.names for part in ("encoder", "decoder")}
        return mvcore.create("cmvae", data, **widths)

    assert len(check_mfeat(create)) == 7


def test_example_of_the_readme_runs(run_examples: Callable[[Path], dict[str, Any]]) -> None:
    names = run_examples(Path(__file__).parents[1] / "README.md")
    assert names["found"].shape == (400,)
    assert names["chances"].shape == (400, 12)
    assert names["filled"].shape == (400, 240)
    assert names["smaller"].config.prior.clusters == len(names["pruned"].kept)
