"""What holds for each posterior with each loss: finite, the same alone and in company, the same as a smaller model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import mvcore
from mvcore.data.schema import Schema
from mvcore.likelihoods.base import LikelihoodDecoder
from mvcore.likelihoods.real import NormalLikelihood
from mvcore.losses.elbo import ELBO
from mvcore.losses.importance import IWAE, DReG
from mvcore.models.base import Model
from mvcore.models.multimodal import MultimodalVAE
from mvcore.nn.mlp import MLPDecoder, MLPEncoder
from mvcore.posteriors.product import ProductOfExperts
from mvcore.priors.standard import StandardPrior
from mvcore.testing import checks
from mvcore.testing.linear import LinearGaussian

POSTERIORS: dict[str, dict[str, Any]] = {
    "product observed": {"subsets": "observed", "prior_expert": "every"},
    "mixture each": {"subsets": "each"},
    "mixture of products all": {"subsets": "all"},
    "laplace each": {"subsets": "each", "family": "laplace", "scale": "softmax"},
}
LOSSES: dict[str, nn.Module] = {
    "elbo": ELBO(samples=3, stratified=True, beta=1.5),
    "elbo monte carlo": ELBO(samples=3, stratified=True, kl="monte_carlo"),
    "iwae": IWAE(samples=3),
    "iwae tight": IWAE(samples=3, bound="tight", beta=0.7),
    "dreg": DReG(samples=3),
}
GRID = pytest.mark.parametrize(
    ("posterior", "loss", "private"),
    [
        pytest.param(p, loss, private, id=f"{p}-{loss}-{private}")
        for i, p in enumerate(POSTERIORS)
        for j, loss in enumerate(LOSSES)
        for private in ([0, 2] if loss in ("elbo", "iwae") else [2 * ((i + j) % 2)])
    ],
)


def make(schema: Schema, posterior: str, loss: str | nn.Module, private: int = 0) -> Model:
    """A composed model with small random networks, in float64."""
    torch.manual_seed(0)
    fields, dims = POSTERIORS[posterior], dict.fromkeys(schema.names, private)
    return MultimodalVAE(
        schema,
        latent_dim=2,
        encoders={m.name: MLPEncoder(m.shape, 2, private, hidden=(7,), activation="tanh") for m in schema},
        decoders={
            m.name: LikelihoodDecoder(MLPDecoder(2 + private, m.shape, hidden=(7,)), NormalLikelihood(m.shape))
            for m in schema
        },
        posterior=ProductOfExperts(schema.names, **{"prior_expert": "none", **fields}),
        prior=StandardPrior(2, dims, family=fields.get("family", "normal"), learn_scale=True),
        loss=LOSSES[loss] if isinstance(loss, str) else loss,
        private_dims=dims,
    ).double()


@pytest.fixture
def batch(world: LinearGaussian) -> mvcore.Batch:
    return world.sample(14, observed=checks.all_patterns(3).repeat(2, 1))


@GRID
def test_a_row_has_the_loss_and_gradients_of_a_model_built_on_its_modalities(
    world: LinearGaussian, batch: mvcore.Batch, posterior: str, loss: str, private: int
) -> None:
    model = make(world.schema, posterior, loss, private)
    assert model(batch).loss.isfinite()
    checks.check_submodels(lambda schema: make(schema, posterior, loss, private), model, batch)


@GRID
def test_a_row_has_the_same_loss_alone_and_no_row_reaches_every_parameter(
    world: LinearGaussian, batch: mvcore.Batch, posterior: str, loss: str, private: int
) -> None:
    model = make(world.schema, posterior, loss, private)
    checks.check_neighbours(model, batch)
    checks.check_no_rows(model, batch)


@pytest.mark.parametrize("posterior", POSTERIORS)
@pytest.mark.parametrize("private", [0, 2])
def test_every_subset_conditions_and_inference_leaves_no_trace(
    world: LinearGaussian, batch: mvcore.Batch, posterior: str, private: int
) -> None:
    model = make(world.schema, posterior, "elbo", private)
    checks.check_conditions_on_every_subset(model, batch)
    checks.check_leaves_state_alone(model, batch)


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_random_draws_train_a_batch_without_rows_too(
    world: LinearGaussian, batch: mvcore.Batch, posterior: str
) -> None:
    checks.check_no_rows(make(world.schema, posterior, ELBO(), 1), batch)
