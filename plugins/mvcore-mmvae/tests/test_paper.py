"""The laws of MMVAE (Shi et al., 2019): on linear maps, whose posteriors are known, with arbitrary encoders."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import mvcore
from mvcore.data import Schema
from mvcore.distributions import DiagonalLaplace, Encoded
from mvcore.models import Model
from mvcore.testing import LinearGaussian, small

SIZES = {"a": 5, "b": 6, "c": 4}
D = 2
NORMAL = {"posterior.family": "normal", "posterior.scale": "exp", "prior": "standard"}


@pytest.fixture
def world() -> LinearGaussian:
    return LinearGaussian(SIZES, D)


def make(schema: Schema, **fields: object) -> Model:
    """An MMVAE with random small encoders, in float64."""
    return small("mmvae", schema, **{"latent_dim": D, **fields})


def with_exact_decoders(world: LinearGaussian, loss: str, samples: int) -> Model:
    model = make(world.schema, loss={"use": loss, "samples": samples}, **NORMAL)
    model.decoders.update(world.decoders())
    return model


class Shifted(nn.Module):
    """An expert moved aside and widened, so that the experts of a row disagree about an exact posterior they cover."""

    def __init__(self, expert: nn.Module, shift: float) -> None:
        super().__init__()
        self.expert, self.shift = expert, shift

    def forward(self, x: Tensor, mask: Tensor | None = None, context: Tensor | None = None) -> Encoded:
        encoded = self.expert(x)
        return Encoded(encoded.loc + self.shift, encoded.log_scale + 0.5)


def repeated(batch: mvcore.Batch, row: int, times: int) -> mvcore.Batch:
    return batch.select(torch.full((times,), row))


@pytest.fixture
def batch(world: LinearGaussian) -> mvcore.Batch:
    return world.sample(2, observed=torch.tensor([[True, True, True], [True, False, True]]))


@pytest.mark.parametrize("row", [0, 1])
@pytest.mark.parametrize("loss", ["iwae", "dreg"])
def test_one_draw_gives_the_likelihood_and_the_divergence_of_the_mixture(
    world: LinearGaussian, batch: mvcore.Batch, loss: str, row: int
) -> None:
    """K = 1: −log p(x_O) + KL(q ‖ p(z|x_O)), the divergence estimated from draws of the mixture of its own."""
    many, model = repeated(batch, row, 40_000), with_exact_decoders(world, loss, 1)
    with torch.no_grad():
        value = float(model(many).loss)
        q = model.posterior(model.encode_modalities(many))
        draws = q.draw(1)
        ratio = q.log_prob(draws) - world.posterior(repeated(batch, row, 1)).log_prob(draws["shared"])
    law = float(-world.log_likelihood(repeated(batch, row, 1)) + ratio.mean())
    assert abs(value - law) < 6 * float(ratio.std()) / 200


@pytest.mark.parametrize("row", [0, 1])
def test_with_many_draws_it_tends_to_the_mean_log_share_of_the_experts(
    world: LinearGaussian, batch: mvcore.Batch, row: int
) -> None:
    """K → ∞: −log p − (1/|O|) Σ_m log E[q_m / q] under the exact posterior, which is more than −log p."""
    model, one = with_exact_decoders(world, "iwae", 50_000), repeated(batch, row, 1)
    experts = world.encoders("posterior")
    model.encoders.update({m: Shifted(experts[m], 1.0 * (i - 1)) for i, m in enumerate(SIZES)})
    with torch.no_grad():
        value = float(model(one).loss)
        z = world.posterior(one).rsample(200_000)
        mixture = model.posterior(model.encode_modalities(one)).shared
        names = [i for i in range(3) if one.observed[0, i]]
        log_q = torch.stack([mixture.components[i].log_prob(z)[:, 0] for i in names])
        shares = log_q.softmax(0).mean(1) * len(names)  # E[q_m / q], q the mean of the q_m
    law = float(-world.log_likelihood(one)) - float(shares.log().mean())
    assert value == pytest.approx(law, abs=0.02)
    if row == 0:  # and not −log p: in the complete row, whose experts lie furthest apart, the gap is seen
        assert law > float(-world.log_likelihood(one)) + 0.04


def _mean_gradient(model: Model, batch: mvcore.Batch) -> tuple[Tensor, Tensor]:
    """Mean gradient of the encoders over 30 repeats, and the standard error of each entry."""
    found = []
    for seed in range(30):
        torch.manual_seed(seed)
        model.zero_grad(set_to_none=True)
        model(batch).loss.backward()
        found.append(torch.cat([p.grad.flatten() for p in model.encoders.parameters() if p.grad is not None]))
    stacked = torch.stack(found)
    return stacked.mean(0), stacked.std(0) / math.sqrt(30)


@pytest.mark.parametrize(("samples", "same"), [(1, True), (10, False)])
def test_dreg_has_the_right_gradient_at_one_draw_and_a_bias_at_more(
    world: LinearGaussian, batch: mvcore.Batch, samples: int, same: bool
) -> None:
    many = repeated(batch, 0, 1000)
    iwae, error = _mean_gradient(with_exact_decoders(world, "iwae", samples), many)
    dreg, other = _mean_gradient(with_exact_decoders(world, "dreg", samples), many)
    apart = float((dreg - iwae).norm() / (error**2 + other**2).sum().sqrt())
    assert apart < 2 if same else apart > 4  # 1 where noise alone keeps them apart


def test_dreg_has_no_bias_where_a_row_has_one_modality(world: LinearGaussian) -> None:
    one = world.sample(1, observed=torch.tensor([[False, True, False]]))
    many = repeated(one, 0, 1000)
    iwae, error = _mean_gradient(with_exact_decoders(world, "iwae", 10), many)
    dreg, other = _mean_gradient(with_exact_decoders(world, "dreg", 10), many)
    assert float((dreg - iwae).norm() / (error**2 + other**2).sum().sqrt()) < 2


def test_defaults_are_the_papers() -> None:
    model = make(Schema.from_shapes({"a": (3,), "b": (2,)}))
    assert (model.loss.samples, model.loss.bound, type(model.loss).__name__) == (30, "looser", "DReG")
    batch = mvcore.Batch.from_dense({"a": torch.randn(4, 3).double(), "b": torch.randn(4, 2).double()})
    mixture = model.posterior(model.encode_modalities(batch)).shared
    assert isinstance(mixture.components, DiagonalLaplace)
    torch.testing.assert_close(mixture.components.scale.mean(-1), torch.ones(2, 4).double())  # D · softmax
    assert [name for name, _ in model.latent_prior.named_parameters()] == ["log_scale"]
