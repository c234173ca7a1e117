"""Checks of the parts of a composed model, and of what is called on a trained one."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from mvcore.data.batch import Batch
from mvcore.data.dataset import MultimodalDataset
from mvcore.data.schema import Schema
from mvcore.errors import ConfigError, NotApplicableError
from mvcore.evaluation.evaluation import Evaluation
from mvcore.evaluation.figures import figure_class
from mvcore.evaluation.report import Report
from mvcore.models.base import Model
from mvcore.plugins.spec import SamplerConfig
from mvcore.posteriors.specs import ProductConfig
from mvcore.samplers.fitting import fit_sampler
from mvcore.storage.models import load, save
from mvcore.testing import checks
from mvcore.testing.noise import fixed_noise
from mvcore.testing.small_models import small

if TYPE_CHECKING:
    from mvcore.testing.conformance import Case

#: Draws that an estimate is made from, and how many of its standard errors it may be off.
DRAWS, ERRORS = 40_000, 6


def posterior_submodels(case: Case) -> None:
    """A row has the loss and the gradients that a posterior over the row's modalities alone gives it."""
    checks.check_submodels(lambda schema: _with_posterior(case, schema), _model(case), case.batch)


def posterior_neighbours(case: Case) -> None:
    """What a row gets depends on no other row."""
    checks.check_neighbours(_model(case), case.batch)


def posterior_subsets(case: Case) -> None:
    """Every subset of modalities conditions."""
    checks.check_conditions_on_every_subset(_model(case), case.batch)


def posterior_order(case: Case) -> None:
    """The order of the modalities changes no posterior mean."""
    model, (other, turned) = _model(case), _turned(case, lambda schema: _with_posterior(case, schema))
    other.load_state_dict(model.state_dict())
    _close(other.embed(turned), model.embed(case.batch), "the posterior means of the modalities in another order")


def prior_density(case: Case) -> None:
    """The draws are those of the density: E_p[q(z) / p(z)] is 1 for a q inside p."""
    prior = case.build(modalities=case.world.schema.modalities, latent_dim=2, private_dims={"a": 1}).double()
    with torch.no_grad():
        density = prior()
        latents = density.draw(DRAWS)
        z = latents["shared"][:, 0]
        q = torch.distributions.Normal(z.mean(0), 0.5 * z.std(0))
        ratio = (q.log_prob(z).sum(-1) - density.log_prob(latents)[:, 0]).exp()
        error = float(ratio.std()) / DRAWS**0.5
        assert abs(float(ratio.mean()) - 1) < ERRORS * error, (
            f"E[q / p] is {float(ratio.mean()):.4f} ± {error:.4f}, not 1"
        )
        own = prior.private("a")
        assert own.loc.shape == (1, 1), f"the private latent has parameters of shape {tuple(own.loc.shape)}, not (1, 1)"


def loss_rows(case: Case) -> None:
    """The loss is the mean of its rows' losses, and finite for a batch without rows."""
    model = _with_loss(case, case.world.schema).eval()  # a loss may draw random subsets in training
    checks.check_neighbours(model, case.batch)
    empty = model(case.batch.select(torch.zeros(0, dtype=torch.long))).loss
    assert empty.isfinite(), f"the loss of 0 rows is {float(empty)}"


def loss_order(case: Case) -> None:
    """The order of the modalities changes no loss."""
    model, (other, turned) = _with_loss(case, case.world.schema), _turned(case, lambda s: _with_loss(case, s))
    other.load_state_dict(model.state_dict())
    with fixed_noise():
        _close(other.eval()(turned).loss, model.eval()(case.batch).loss, "the loss of the modalities in another order")


def sampler_draws(case: Case) -> None:
    """Fitted on a model, it draws all latents that the model decodes, the same ones for the same random state."""
    model = small("multimodal", case.world.schema, private_dim=1)
    sampler = case.build(latent_shapes=model.latent_shapes).double()
    sampler.fit(model, MultimodalDataset.from_batch(case.world.schema, case.batch))
    drawn = [model.generate(5, sampler=sampler, generator=torch.Generator().manual_seed(s)) for s in (0, 0, 1)]
    for spec in case.world.schema:
        first, same, other = (each[spec.name] for each in drawn)
        assert first.shape == (5, *spec.shape), f"{spec.name!r} was generated with the shape {tuple(first.shape)}"
        assert torch.equal(first, same), "equal random states gave other draws"
        assert not torch.equal(first, other), "other random states gave the same draws"


def sampler_is_saved(case: Case) -> None:
    """It is a part of its model's folder: a loaded model generates what the saved one did."""
    model = small("multimodal", case.world.schema, private_dim=1).float()
    fit_sampler(
        model, MultimodalDataset.from_batch(case.world.schema, _single(case.batch)), cast(SamplerConfig, case.config)
    )
    with tempfile.TemporaryDirectory() as folder:
        again = load(save(model, Path(folder) / "model"))
    assert again.sampler is not None, "the loaded model has no sampler"
    assert again.sampler.config == case.config, "the sampler's config has changed"
    first, other = model.generate(5), again.generate(5)
    for name, values in first.items():
        assert torch.equal(values, other[name]), f"a loaded model generates another {name!r}"


def dataset_rows(case: Case) -> None:
    """It gives a data set with rows, twice the same."""
    one, other = case.build(), case.build()
    assert isinstance(one, MultimodalDataset), f"the builder gave {type(one).__name__}, not a MultimodalDataset"
    assert torch.equal(one.observed, other.observed), "two calls gave other rows"
    for name in one.schema.names:
        assert torch.equal(one.batch().x[name], other.batch().x[name]), f"two calls gave other values of {name!r}"


def metric_values(case: Case) -> None:
    """It gives numbers by name, the same ones again, and leaves the model as it was; or says why it can't."""
    model, data = _judged(case)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    metric = case.build()
    try:
        found: list[Mapping[str, float]] = [metric(Evaluation(model, data, data, K=20)) for _ in range(2)]
    except NotApplicableError:
        return
    assert found[0], "it gave no value"
    for name, value in found[0].items():
        assert isinstance(name, str), f"{name!r} is no name"
        assert isinstance(value, float), f"{name} is {value!r}, no float"
    assert {n: repr(v) for n, v in found[0].items()} == {n: repr(v) for n, v in found[1].items()}, (
        "two equal calls differ"
    )
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items()), "a weight has changed"


def metric_figure(case: Case) -> None:
    """Its figure, if its spec names one, draws a report of its values, and is None for a report without any."""
    draw = case.spec.drawer()
    if draw is None:
        return
    model, data = _judged(case)
    none = draw(Report(values={}, skipped={}, about={}))
    assert none is None, f"the figure of a report without values is {none!r}, not None"
    try:
        values = case.build()(Evaluation(model, data, data, K=20))
    except NotApplicableError:
        return
    figure = draw(Report(values=dict(values), skipped={}, about={}))
    assert isinstance(figure, figure_class()), f"the figure of its values is {figure!r}, not a matplotlib figure"


def _judged(case: Case) -> tuple[Model, MultimodalDataset]:
    """A small model, and partial rows with labels."""
    model = small("multimodal", case.world.schema).float()
    data = MultimodalDataset.from_batch(case.world.schema, _single(case.batch), labels=[i % 2 for i in range(14)])
    model.fit_transforms(data)
    return model, data


def _model(case: Case) -> Model:
    return _with_posterior(case, case.world.schema)


def _with_posterior(case: Case, schema: Schema) -> Model:
    """A composed model of the posterior, its prior of the same family, whose loss draws from every component."""
    family = {"prior.family": case.config.family} if hasattr(case.config, "family") else {}
    fields = {"posterior": case.config, "loss.stratified": True, "modality_dropout": 0.0, **family}
    return small("multimodal", schema, **fields)


def _with_loss(case: Case, schema: Schema) -> Model:
    """A composed model of the loss, with the first posterior and private latents that it takes."""
    faults = []
    for posterior in (ProductConfig(), ProductConfig(subsets="each", prior_expert="none")):
        for private_dim in (0, 1):
            fields = {"posterior": posterior, "loss": case.config, "private_dim": private_dim}
            try:
                return small("multimodal", schema, modality_dropout=0.0, **fields)
            except ConfigError as fault:
                faults.append(str(fault))
    raise AssertionError(f"the loss took no posterior: {faults}")


def _turned(case: Case, make: Any) -> tuple[Model, Batch]:
    """The model and the batch with the last modality first."""
    order = [2, 0, 1]
    specs = [case.world.schema.modalities[i] for i in order]
    batch = Batch({spec.name: case.batch.x[spec.name] for spec in specs}, case.batch.observed[:, order])
    return make(Schema(tuple(specs))), batch


def _single(batch: Batch) -> Batch:
    return Batch({m: x.float() for m, x in batch.x.items()}, batch.observed)


def _close(one: Tensor, other: Tensor, what: str) -> None:
    assert torch.allclose(one, other, rtol=1e-8, atol=1e-9), f"{what} differ by {float((one - other).abs().max())}"
