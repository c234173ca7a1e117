"""The check with two processes: one start serves many models, and one that fails is told from the others."""

from __future__ import annotations

import pytest
import torch

from mvcore.testing import ranks
from mvcore.testing.conformance import Case

GOOD, BAD = ranks.job_of("multimodal", {}), ranks.job_of("multimodal", {"latent_dim": -1})


def weights(value: float) -> ranks.Weights:
    return {"w": torch.full((2,), value)}


def test_a_model_is_trained_with_the_others_once_and_alone_where_another_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    starts: list[tuple[ranks.Job, ...]] = []

    def start(jobs: tuple[ranks.Job, ...]) -> tuple[dict[ranks.Job, tuple[ranks.Weights, ranks.Weights]], str]:
        starts.append(jobs)
        if BAD in jobs:
            return {}, "latent_dim must be at least 1"
        return {job: (weights(1.0), weights(1.0)) for job in jobs}, ""

    monkeypatch.setattr(ranks, "_start", start)
    monkeypatch.setattr(ranks, "_together", ranks.lru_cache(maxsize=1)(start))
    other = ranks.job_of("multimodal", {"latent_dim": 3})
    for fields in ({}, {"latent_dim": 3}):
        ranks.ranks(Case("model", "multimodal", fields), among=(GOOD, other))
    assert starts == [(GOOD, other)]
    ranks.ranks(Case("model", "multimodal"), among=(GOOD, BAD))
    with pytest.raises(AssertionError, match="a process failed: latent_dim must be at least 1"):
        ranks.ranks(Case("model", "multimodal", {"latent_dim": -1}), among=(GOOD, BAD))
    assert starts[1:] == [(GOOD, BAD), (GOOD,), (BAD,)]


@pytest.mark.parametrize(
    ("first", "second", "message"), [(1.0, 2.0, "other weights of w"), (torch.inf, torch.inf, "w is not finite")]
)
def test_weights_that_differ_or_are_not_finite_are_a_failure(
    monkeypatch: pytest.MonkeyPatch, first: float, second: float, message: str
) -> None:
    monkeypatch.setattr(ranks, "_start", lambda jobs: ({jobs[0]: (weights(first), weights(second))}, ""))
    with pytest.raises(AssertionError, match=message):
        ranks.ranks(Case("model", "multimodal"))
