"""The grid of ``mvcore:multimodal``: each posterior, loss and family has the bound that quadrature gives it.

The latent has one dimension, so that the expectations of a bound are sums over a grid of its values. The grid is
written down here from the definitions: nothing of it goes through the losses, the mixture or the likelihoods.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

import mvcore
from mvcore.data.batch import Batch
from mvcore.data.schema import Schema
from mvcore.errors import ConfigError
from mvcore.models.multimodal import MultimodalVAE

SCHEMA = Schema.from_shapes({"a": (2,), "b": (3,)})
BETA = 0.7
POSTERIORS: dict[str, dict[str, Any]] = {
    "product": {"posterior.subsets": "observed", "posterior.prior_expert": "every"},
    "mixture": {"posterior.subsets": "each", "posterior.prior_expert": "none"},
    "mixture of products": {"posterior.subsets": "all", "posterior.prior_expert": "none"},
}
LAPLACE = {"posterior.family": "laplace", "prior.family": "laplace"}
FAMILIES = [(p, "normal") for p in POSTERIORS] + [("mixture", "laplace")]
LOSSES: dict[str, dict[str, Any]] = {
    "elbo convex": {"use": "elbo"},
    "elbo convex, stratified": {"use": "elbo", "stratified": True},
    "elbo monte_carlo": {"use": "elbo", "kl": "monte_carlo"},
    "iwae looser": {"use": "iwae", "samples": 2},
    "iwae tight": {"use": "iwae", "samples": 1, "bound": "tight"},
    "dreg looser": {"use": "dreg", "samples": 2},
    "dreg tight": {"use": "dreg", "samples": 1, "bound": "tight"},
}


def make(posterior: str, family: str, loss: str) -> MultimodalVAE:
    torch.manual_seed(3)
    parts = {f"modalities.{m}.{part}": "none" for m in SCHEMA.names for part in ("input", "target")}
    networks = {
        f"modalities.{m}.{n}.{field}": value
        for m in SCHEMA.names
        for n in ("encoder", "decoder")
        for field, value in (("hidden", [6]), ("activation", "tanh"), ("dropout", 0.0))
    }
    model = mvcore.create(
        "multimodal",
        SCHEMA,
        latent_dim=1,
        modality_dropout=0.0,
        loss={**LOSSES[loss], "beta": BETA},
        **{**parts, **networks, **POSTERIORS[posterior], **(LAPLACE if family == "laplace" else {})},
    ).double()
    assert isinstance(model, MultimodalVAE)
    return model


def rows() -> Batch:
    x = {m.name: torch.randn(3, *m.shape, dtype=torch.float64) for m in SCHEMA}
    has = {"a": torch.tensor([True, True, False]), "b": torch.tensor([True, False, True])}
    return Batch.from_dense(x, has)


class Quadrature:
    """One row's densities at points of the latent, and sums over them."""

    def __init__(self, model: MultimodalVAE, one: Batch, family: str, points: int = 1201) -> None:
        kind = {"normal": torch.distributions.Normal, "laplace": torch.distributions.Laplace}[family]
        self.z = torch.linspace(-15, 15, points, dtype=torch.float64)
        self.step = float(self.z[1] - self.z[0])
        prior = kind(torch.zeros(()).double(), torch.ones(()).double())
        self.log_prior = prior.log_prob(self.z)
        self.log_likelihood = torch.zeros_like(self.z)
        experts = {}
        for m in one.names:
            if not bool(one.column(m)[0]):
                continue
            encoded = model.encoders[m](one.x[m])
            experts[m] = float(encoded.loc), float(encoded.log_scale.exp())
            location = model.decoders[m].network(self.z[:, None])[:, 0]  # type: ignore[operator, union-attr]
            self.log_likelihood = self.log_likelihood + torch.distributions.Normal(location, 1.0).log_prob(
                one.x[m]
            ).sum(1)
        self.log_q = torch.stack([kind(*p).log_prob(self.z) for p in self._components(experts, model)])
        self.log_mixture = self.log_q.logsumexp(0) - torch.tensor(len(self.log_q)).log()

    def _components(self, experts: dict[str, tuple[float, float]], model: MultimodalVAE) -> list[tuple[Any, Any]]:
        """Location and scale of each component, the products by the rule of precisions."""
        kind = model.joint_posterior.subsets
        sizes = {"observed": [len(experts)], "each": [1], "all": range(1, len(experts) + 1)}[kind]
        components = []
        for members in itertools.chain(*(itertools.combinations(experts.values(), size) for size in sizes)):
            precision = sum(scale**-2 for _, scale in members) + (kind == "observed")
            weighted = sum(loc * scale**-2 for loc, scale in members)
            pair = members[0] if len(members) == 1 and kind != "observed" else (weighted / precision, precision**-0.5)
            components.append((torch.tensor(pair[0]).double(), torch.tensor(pair[1]).double()))
        return components

    def mean(self, values: Tensor, component: int) -> Tensor:
        """E over the last dimension of values at the points, under a component."""
        return (values * self.log_q[component].exp()).sum(-1) * self.step


def exact(model: MultimodalVAE, one: Batch, family: str, loss: str) -> float:
    """The bound of one row by its definition."""
    name, _, kind = loss.partition(" ")
    kind = kind.removesuffix(", stratified")
    product_of_three = kind == "tight" and model.joint_posterior.subsets == "all" and bool(one.observed.all())
    q = Quadrature(model, one, family, points=241 if product_of_three else 1201)
    C = range(len(q.log_q))
    if name == "elbo":
        density = {"convex": q.log_q, "monte_carlo": q.log_mixture.expand_as(q.log_q)}[kind]
        each = [q.mean(q.log_likelihood - BETA * (density[c] - q.log_prior), c) for c in C]
        return float(torch.stack(each).mean())
    log_w = q.log_likelihood + BETA * (q.log_prior - q.log_mixture)
    if kind == "looser":  # two draws of the same component
        pairs = torch.logaddexp(log_w[:, None], log_w[None]) - torch.tensor(2.0).log()
        return float(torch.stack([q.mean(q.mean(pairs, c), c) for c in C]).mean())
    joint = log_w
    for _ in C[1:]:  # one draw of each component: the first dimension is the last component's
        joint = torch.logaddexp(joint[None], log_w.reshape(-1, *[1] * joint.dim()))
    joint = joint - torch.tensor(float(len(C))).log()
    for c in C:
        joint = q.mean(joint, c)
    return float(joint)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("posterior", "family"), FAMILIES)
def test_the_bound_is_what_quadrature_gives(posterior: str, family: str, loss: str) -> None:
    model, batch = make(posterior, family, loss), rows()
    with torch.no_grad():
        for row in range(3):
            one = batch.select(torch.tensor([row]))
            many = one.select(torch.zeros(2_000, dtype=torch.long))
            means = torch.stack([-model(many).loss for _ in range(20)])
            error = float(means.std()) / 20**0.5
            assert abs(float(means.mean()) - exact(model, one, family, loss)) < 5 * error + 1e-6


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("posterior", "family"), FAMILIES)
def test_every_parameter_gets_a_finite_gradient(posterior: str, family: str, loss: str) -> None:
    model = make(posterior, family, loss)
    model(rows()).loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"posterior.family": "laplace", "prior.family": "laplace"}, "a product of Laplace experts is not Laplace"),
        ({**POSTERIORS["mixture of products"], **LAPLACE}, "a product of Laplace experts is not Laplace"),
        ({**POSTERIORS["mixture"], "posterior.family": "laplace"}, "posterior and prior must be of one family"),
        ({"prior.family": "laplace"}, "posterior and prior must be of one family"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        mvcore.create("multimodal", SCHEMA, **fields)
