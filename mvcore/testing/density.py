"""The check that a model has likelihoods of all rows or of none, as its facts say, and what has none can generate."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, final, get_args

import torch
from torch import Tensor

from mvcore.data.batch import Batch
from mvcore.distributions.latents import Latents
from mvcore.errors import NotApplicableError
from mvcore.models.base import Model
from mvcore.options import Estimator
from mvcore.samplers.base import Sampler

if TYPE_CHECKING:
    from mvcore.data.rows import Rows
    from mvcore.testing.conformance import Case


def density(case: Case) -> None:
    """Every row has likelihoods, or none has and the facts say ``none``; there is a way to generate."""
    model, batch, facts = case.stirred(), case.batch, case.spec.facts
    expected = facts is None or facts.likelihood != "none"
    for size in range(1, len(batch.names) + 1):
        for names in itertools.combinations(batch.names, size):
            for what, found in _likelihoods(model, batch.only(names)).items():
                said = "" if facts is None else f", and the facts say {facts.likelihood!r}"
                assert found is expected, f"the {what} of {names} is {'there' if found else 'not applicable'}{said}"
    drawn = generated(model, 3)
    assert all(values.isfinite().all() for values in drawn.values()), "what is generated is not finite"


def _likelihoods(model: Model, batch: Batch) -> dict[str, bool]:
    """Whether each likelihood of some rows can be asked for."""
    found = {"likelihood": has_density(model, batch)}
    targets = [m for m in batch.names if m in model.generated]
    if len(batch.names) > 1 and targets:
        for estimator in get_args(Estimator):
            try:
                model.conditional_log_likelihood(batch, targets[:1], estimator=estimator, K=2)
            except NotApplicableError:
                found[f"conditional likelihood ({estimator})"] = False
            else:
                found[f"conditional likelihood ({estimator})"] = True
    return found


def has_density(model: Model, batch: Batch) -> bool:
    """Whether rows have a likelihood under a model."""
    try:
        model.log_likelihood(batch, 1)
    except NotApplicableError:
        return False
    return True


def log_likelihoods(model: Model, batch: Batch, K: int) -> Tensor:
    """The log-likelihoods of rows ``(B,)``; zeros, if the model has no density."""
    return model.log_likelihood(batch, K) if has_density(model, batch) else torch.zeros(len(batch))


def generated(model: Model, n: int, context: Mapping[str, Any] | None = None) -> dict[str, Tensor]:
    """What a model generates; of one without a prior from standard normal latents, as a fitted sampler might draw."""
    try:
        return model.generate(n, context=context)
    except NotApplicableError:
        return model.generate(n, context=context, sampler=_Unit())


@final
class _Unit(Sampler):
    """Standard normal latents."""

    def fit(self, model: Model, data: Rows) -> None:
        """Fits nothing."""

    def draw(self, model: Model, n: int) -> Latents:
        """N draws, K = n and N = 1."""
        like = next(model.parameters())
        shapes = model.latent_shapes.items()
        drawn = {name: torch.randn(n, 1, *shape, dtype=like.dtype, device=like.device) for name, shape in shapes}
        return Latents(drawn, 1)
