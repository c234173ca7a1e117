"""``MultimodalVAE`` put together by hand: what does not fit is told at construction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import mvcore
from mvcore.data.batch import Batch
from mvcore.data.dataset import MultimodalDataset
from mvcore.data.schema import Schema
from mvcore.errors import DataError, NotFittedError, NotPackagedError
from mvcore.likelihoods.base import LikelihoodDecoder
from mvcore.likelihoods.discrete import CategoricalLikelihood
from mvcore.likelihoods.real import NormalLikelihood
from mvcore.models.multimodal import MultimodalVAE
from mvcore.nn.mlp import MLPDecoder, MLPEncoder
from mvcore.posteriors.product import ProductOfExperts
from mvcore.priors.standard import StandardPrior
from mvcore.testing.checks import all_patterns
from mvcore.testing.linear import LinearGaussian

Compose = Callable[..., MultimodalVAE]
D = 3


def parts(**changes: Any) -> dict[str, Any]:
    schema = Schema.from_shapes({"a": (4,), "b": (2, 3)})
    fields = {
        "schema": schema,
        "latent_dim": D,
        "encoders": {m.name: MLPEncoder(m.shape, D, hidden=(5,)) for m in schema},
        "decoders": {
            m.name: LikelihoodDecoder(MLPDecoder(D, m.shape, hidden=(5,)), NormalLikelihood(m.shape)) for m in schema
        },
    }
    return fields | changes


def build(**changes: Any) -> MultimodalVAE:
    fields = parts(**changes)
    return MultimodalVAE(fields.pop("schema"), **fields)


def changed(kind: str, name: str, module: Any) -> dict[str, Any]:
    return {kind: parts()[kind] | {name: module}}


def test_a_hand_built_model_trains_but_is_not_saved(tmp_path: Any) -> None:
    model = build()
    model(Batch.from_dense({"a": torch.randn(5, 4), "b": torch.randn(5, 2, 3)})).loss.backward()
    assert all(p.grad is not None for p in model.parameters())
    with pytest.raises(NotPackagedError, match="entry-point group"):
        mvcore.save(model, tmp_path / "model")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (changed("encoders", "a", MLPEncoder((4,), D + 1)), r"encoder of 'a' must give loc of shape \('n', 3\)"),
        (
            changed("decoders", "b", LikelihoodDecoder(MLPDecoder(D, (3, 2)), NormalLikelihood((2, 3)))),
            r"decoder network of 'b' must give its output of shape \('n', 1, 2, 3\).*gave \(0, 1, 3, 2\)",
        ),
        (  # a likelihood that needs more outputs than the network has
            changed("decoders", "b", LikelihoodDecoder(MLPDecoder(D, (2, 3)), CategoricalLikelihood((2, 3), 4))),
            r"must give its output of shape \('n', 4, 2, 3\)",
        ),
        (
            changed(
                "decoders",
                "b",
                LikelihoodDecoder(MLPDecoder(D, (2, 3)), NormalLikelihood((2, 3), learn="predicted")),
            ),
            r"shape \('n', 2, 2, 3\)",
        ),
        (
            {"private_dims": {"a": 2}, **changed("decoders", "a", parts()["decoders"]["a"])},
            r"encoder of 'a' must give private_loc of shape \('n', 2\); .* gave None",
        ),
        (
            {"prior": StandardPrior(D, family="laplace")},
            "prior is DiagonalLaplace, the posterior's experts are DiagonalNormal",
        ),
        (
            {"posterior": ProductOfExperts(("a", "b"), subsets="each", prior_expert="none", family="laplace")},
            "prior is DiagonalNormal, the posterior's experts are DiagonalLaplace",
        ),
    ],
)  # fmt: skip
def test_a_part_that_does_not_fit_is_told_at_construction(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        build(**changes)


@pytest.mark.parametrize("name", ["keys", "training", "forward", "a.b", "type", "parameters"])
def test_a_name_that_torch_keeps_is_refused(name: str) -> None:
    with pytest.raises(DataError, match=f"can't be called '{name}'"):
        mvcore.create("multimodal", Schema.from_shapes({name: (3,)}))


@pytest.mark.parametrize("name", ["prior", "shared", "kl", "loss", "model", "a/b", "ä b", "__"])
def test_any_other_name_trains_and_saves(name: str, tmp_path: Any) -> None:
    schema = Schema.from_shapes({"x": (3,), name: (2,)})
    model = mvcore.create("multimodal", schema, private_dim=1, latent_dim=2)
    data = MultimodalDataset({"x": np.zeros((4, 3)), name: np.arange(8.0).reshape(4, 2)})
    model.fit_transforms(data)
    model(data.batch()).loss.backward()
    again = mvcore.load(mvcore.save(model, tmp_path / "model"))
    torch.testing.assert_close(again.embed(data.batch()), model.embed(data.batch()))


def test_an_unknown_modality_in_a_batch_is_named() -> None:
    batch = Batch.from_dense({"a": torch.randn(5, 4), "z": torch.randn(5, 2)})
    model = build()
    for ask in (model, model.embed, model.log_likelihood, model.impute):
        with pytest.raises(DataError, match="batch has the modality 'z', the model has a, b"):
            ask(batch)


def test_data_that_a_likelihood_cannot_score_is_refused_before_training() -> None:
    schema = Schema.from_shapes({"a": (2,), "b": (3,)}, {"a": "bernoulli"})
    model = mvcore.create("multimodal", schema)
    data = MultimodalDataset({"a": np.full((4, 2), 2.0), "b": np.zeros((4, 3))})
    with pytest.raises(DataError, match=r"'a': a bernoulli likelihood needs values in \[0, 1\], got 2 to 2"):
        mvcore.fit(model, data, epochs=1, progress=False)
    wide = MultimodalDataset({"a": np.zeros((4, 2)), "b": np.zeros((4, 5))})
    with pytest.raises(DataError, match=r"'b' has the shape \(5,\), the model was built for \(3,\)"):
        mvcore.fit(model, wide, epochs=1, progress=False)


def test_a_transform_that_is_not_fitted_is_told() -> None:
    model = mvcore.create("multimodal", Schema.from_shapes({"a": (2,)}))
    with pytest.raises(NotFittedError, match="fit_transforms"):
        model(Batch.from_dense({"a": torch.zeros(3, 2)}))


def test_unknown_cells_change_neither_the_loss_nor_the_likelihood_of_the_known_ones() -> None:
    rng = np.random.default_rng(0)
    values, cells = rng.normal(size=(20, 3)) * 5 + 50, rng.random((20, 3)) < 0.7
    sets = []
    for filler in (np.nan, 0.0, 1e6):
        arrays = {"a": np.where(cells, values, filler), "b": values[:, :2]}
        sets.append(MultimodalDataset(arrays, cells={"a": cells}))
    model = mvcore.create("multimodal", sets[0], latent_dim=2)
    model.fit_transforms(sets[0])
    found = [model.log_likelihood(data.batch(), 5) for data in sets]
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    # of a row with no known cell of a, only b counts: given the latents, a's log-density is 0
    batch = sets[0].batch()
    nothing = Batch(batch.x, batch.observed, {"a": torch.zeros_like(batch.cells["a"])})
    z = torch.randn(1, 20, 2)
    likelihood = model.decode({"shared": z}, "a")
    assert not likelihood.log_prob(nothing.x["a"], nothing.cells["a"]).any()
    seen: list[torch.Tensor] = []
    handle = model.encoders["a"].register_forward_pre_hook(lambda module, args: seen.extend(args))
    model.embed(batch)
    handle.remove()
    x, mask, context = seen
    assert context is None
    assert torch.equal(mask, batch.cells["a"])
    assert not x[~mask].any()
    assert x[mask].all()


def test_the_likelihood_in_data_units_follows_a_change_of_units(world: LinearGaussian) -> None:
    """In other units the same model has its log-density moved by the logarithm of the factor, for each value."""
    rng = np.random.default_rng(1)
    a = rng.normal(size=(30, 3))
    data, scaled = (MultimodalDataset({"a": a * factor}) for factor in (1.0, 8.0))
    models = []
    for one in (data, scaled):
        torch.manual_seed(0)
        model = mvcore.create("multimodal", one, latent_dim=2)
        model.fit_transforms(one)
        models.append(model)
    gap = models[0].log_likelihood(data.batch(), 10) - models[1].log_likelihood(scaled.batch(), 10)
    torch.testing.assert_close(gap, torch.full((30,), 3 * float(np.log(8))), atol=1e-3, rtol=0)


def test_private_latents_of_absent_modalities_have_no_part_in_the_density(compose: Compose) -> None:
    world = LinearGaussian({"a": 5, "b": 6, "c": 4}, 2, {"a": 1, "b": 2})
    batch = world.sample(7, observed=all_patterns(3))
    model = compose(world)
    q = model.posterior(model.encode_modalities(batch))
    drawn = q.draw(3)
    shared = q.shared.log_prob(drawn)
    expected = shared.clone()
    for m in ("a", "b"):
        density = q.private[m]
        expected[:, batch.column(m)] += density.log_prob(drawn[f"private/{m}"])[:, batch.column(m)]
        unit = torch.zeros(int((~batch.column(m)).sum()), world.private_dims[m], dtype=torch.float64)
        torch.testing.assert_close(density.loc[~batch.column(m)], unit)  # what an absent one is drawn from: the prior
        torch.testing.assert_close(density.log_scale[~batch.column(m)], unit)
    torch.testing.assert_close(q.log_prob(drawn), expected)


@pytest.mark.parametrize("subsets", ["each", "all"])
def test_each_component_has_private_draws_of_its_own_also_in_a_batch_of_one_row(subsets: str, compose: Compose) -> None:
    world = LinearGaussian({"a": 5, "b": 6}, 2, {"a": 1})
    model = compose(world, subsets=subsets)
    for rows in (1, 3):
        batch = world.sample(rows)
        drawn = model.posterior(model.encode_modalities(batch)).draw(4, "each")["private/a"].detach()
        assert len(drawn.unique()) == drawn.numel()


def nothing(*arguments: object) -> None:
    """A function where a module belongs."""


@pytest.mark.parametrize("wrong", [nothing, 3, "mlp", torch.nn.Linear])
def test_parts_that_are_no_modules_are_refused_by_name(wrong: object) -> None:
    fields = parts()
    with pytest.raises(DataError, match=r"The loss must be a torch\.nn\.Module; got"):
        MultimodalVAE(**parts(loss=wrong))
    with pytest.raises(DataError, match=r"The encoder of 'b' must be a torch\.nn\.Module; got"):
        MultimodalVAE(**parts(encoders=fields["encoders"] | {"b": wrong}))
    with pytest.raises(DataError, match=r"The decoder network must be a torch\.nn\.Module; got"):
        LikelihoodDecoder(wrong, NormalLikelihood((4,)))  # type: ignore[arg-type]


def test_a_loss_that_takes_no_pass_is_refused() -> None:
    with pytest.raises(DataError, match=r"The loss, CosineEmbeddingLoss, can't be called with \(p\)"):
        MultimodalVAE(**parts(loss=torch.nn.CosineEmbeddingLoss()))
