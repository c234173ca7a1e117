"""What public functions are given is checked before any work, and one sentence names the argument."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import mvcore
from mvcore.data.dataset import MultimodalDataset
from mvcore.errors import ConfigError, DataError
from mvcore.metrics.cells import cell_coverage
from mvcore.models.base import Model

BAD_COUNTS = [0, -1, 1.5, 2.0, True, None, "3", float("nan")]


@pytest.fixture(scope="module")
def data() -> MultimodalDataset:
    rng = np.random.default_rng(0)
    masks = {"a": np.arange(12) % 4 != 0, "b": np.arange(12) % 4 != 1}
    return MultimodalDataset({"a": rng.normal(size=(12, 3)), "b": rng.normal(size=(12, 2))}, masks)


@pytest.fixture(scope="module")
def model(data: MultimodalDataset) -> Model:
    model = mvcore.create("multimodal", data, latent_dim=2)
    model.fit_transforms(data)
    return model


COUNTS: dict[str, Callable[[Model, MultimodalDataset, Any], Any]] = {
    "encode K": lambda m, d, v: m.encode(d.batch(), v),
    "impute K": lambda m, d, v: m.impute(d.batch(), K=v),
    "log_likelihood K": lambda m, d, v: m.log_likelihood(d.batch(), v),
    "conditional K": lambda m, d, v: m.conditional_log_likelihood(d.batch(), ["a"], K=v),
    "generate n": lambda m, d, v: m.generate(v),
    "generate given n": lambda m, d, v: m.generate(v, given=d.batch()),
    "mvcore.impute K": lambda m, d, v: mvcore.impute(m, d, K=v),
    "mvcore.impute batch_size": lambda m, d, v: mvcore.impute(m, d, K=2, batch_size=v),
    "mvcore.embed batch_size": lambda m, d, v: mvcore.embed(m, d, batch_size=v),
    "evaluate K": lambda m, d, v: mvcore.evaluate(m, d, K=v, metrics=["log_likelihood"]),
    "evaluate batch_size": lambda m, d, v: mvcore.evaluate(m, d, batch_size=v, metrics=["log_likelihood"]),
    "batches size": lambda m, d, v: list(d.batches(v)),
}


@pytest.mark.parametrize("value", BAD_COUNTS, ids=repr)
@pytest.mark.parametrize("what", COUNTS)
def test_what_counts_is_a_whole_number_above_zero(model: Model, data: MultimodalDataset, what: str, value: Any) -> None:
    with pytest.raises(DataError, match=rf"^{what.split()[-1]} must be at least 1, and a whole number; got "):
        COUNTS[what](model, data, value)
    COUNTS[what](model, data, np.int64(3))


SEEDS: dict[str, Callable[[Model, MultimodalDataset, Any], Any]] = {
    "mcar": lambda m, d, v: mvcore.mcar(d, 0.2, seed=v),
    "mar": lambda m, d, v: mvcore.mar(d, 0.1, seed=v),
    "mnar": lambda m, d, v: mvcore.mnar(d, 0.1, seed=v),
    "split": lambda m, d, v: d.split(0.5, seed=v),
    "impute": lambda m, d, v: mvcore.impute(m, d, K=2, seed=v),
    "embed": lambda m, d, v: mvcore.embed(m, d, seed=v),
    "evaluate": lambda m, d, v: mvcore.evaluate(m, d, seed=v, metrics=["log_likelihood"]),
    "cell_coverage": lambda m, d, v: cell_coverage(m, d, K=19, seed=v),
}


@pytest.mark.parametrize("value", [-1, 0.5, True, None, "0", 2**63], ids=repr)
@pytest.mark.parametrize("what", SEEDS)
def test_a_seed_is_a_whole_number(model: Model, data: MultimodalDataset, what: str, value: Any) -> None:
    with pytest.raises(DataError, match="seed must be"):
        SEEDS[what](model, data, value)


SHARES: dict[str, Callable[[Model, MultimodalDataset, Any], Any]] = {
    "mcar": lambda m, d, v: mvcore.mcar(d, v, seed=0),
    "mar": lambda m, d, v: mvcore.mar(d, v, seed=0),
    "mnar": lambda m, d, v: mvcore.mnar(d, v, seed=0),
    "split": lambda m, d, v: d.split(v),
    "interval": lambda m, d, v: mvcore.impute(m, d, interval=v),
    "cell_coverage": lambda m, d, v: cell_coverage(m, d, K=19, share=v),
}


HUGE = [10**400, -(10**400), Fraction(10**400)]


@pytest.mark.parametrize("value", [-0.1, 1.0, 90, True, "0.5", float("nan"), [0.5], *HUGE], ids=lambda v: repr(v)[:20])
@pytest.mark.parametrize("what", SHARES)
def test_a_share_lies_in_its_range(model: Model, data: MultimodalDataset, what: str, value: Any) -> None:
    with pytest.raises(DataError, match=r"(rate|share|interval) must"):
        SHARES[what](model, data, value)


@pytest.mark.parametrize("estimator", ["nope", "", None, 3, ["ratio"]])
def test_an_unknown_estimator_is_refused(model: Model, data: MultimodalDataset, estimator: Any) -> None:
    with pytest.raises(ConfigError, match="estimator: expected 'predictive', 'ratio' or 'reweighted', got"):
        model.conditional_log_likelihood(data.batch(), ["a"], None, estimator, 5)


CALLS: dict[str, Callable[[Model, MultimodalDataset], Any]] = {
    "encode": lambda m, d: m.encode(d),  # type: ignore[arg-type]
    "embed": lambda m, d: m.embed(d),  # type: ignore[arg-type]
    "impute": lambda m, d: m.impute(d),  # type: ignore[arg-type]
    "log_likelihood": lambda m, d: m.log_likelihood(d),  # type: ignore[arg-type]
    "conditional": lambda m, d: m.conditional_log_likelihood(d, ["a"]),  # type: ignore[arg-type]
    "generate": lambda m, d: m.generate(1, given=d),  # type: ignore[arg-type]
    "mvcore.impute": lambda m, d: mvcore.impute(m, d.batch()),  # type: ignore[arg-type]
    "mvcore.embed": lambda m, d: mvcore.embed(m, d.batch()),  # type: ignore[arg-type]
    "mvcore.fit": lambda m, d: mvcore.fit(m, d.batch(), epochs=1),  # type: ignore[arg-type]
    "validation": lambda m, d: mvcore.fit(m, d, validation=d.batch(), epochs=1),  # type: ignore[arg-type]
    "mvcore.evaluate": lambda m, d: mvcore.evaluate(m, d.batch()),  # type: ignore[arg-type]
    "mcar": lambda m, d: mvcore.mcar(d.batch(), 0.1, seed=0),  # type: ignore[arg-type]
    "mar": lambda m, d: mvcore.mar(d.batch(), 0.1, seed=0),  # type: ignore[arg-type]
    "create": lambda m, d: mvcore.create("multimodal", d.batch()),  # type: ignore[arg-type]
    "model": lambda m, d: mvcore.impute(d, d),  # type: ignore[arg-type]
    "generator": lambda m, d: m.embed(d.batch(), generator=0),  # type: ignore[arg-type]
    "target": lambda m, d: m.conditional_log_likelihood(d.batch(), 3),  # type: ignore[arg-type]
    "arrays": lambda m, d: MultimodalDataset(np.zeros((2, 2))),  # type: ignore[arg-type]
    "masks": lambda m, d: MultimodalDataset({"a": np.zeros((2, 2))}, [True, True]),  # type: ignore[arg-type]
    "name": lambda m, d: MultimodalDataset({0: np.zeros((2, 2))}),  # type: ignore[dict-item]
}


@pytest.mark.parametrize("what", CALLS)
def test_a_data_set_where_a_batch_belongs_and_the_reverse_are_one_sentence(
    model: Model, data: MultimodalDataset, what: str
) -> None:
    with pytest.raises(DataError, match=r"(Expected|must be|can't be)"):
        CALLS[what](model, data)
