"""The laws of mAAE and mWAE: who learns from which term, discrepancies by loops, and codes like the prior's draws."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

import mvcore
from mvcore.data import MultimodalDataset, Schema
from mvcore.errors import ConfigError, NotApplicableError
from mvcore.models import Autoencoder
from mvcore.testing import LinearGaussian, StopAfter, all_patterns, check_neighbours, fixed_noise, small
from mvcore_maae.matching import Adversary, Discrepancy, squared_discrepancy

SIZES = {"a": 5, "b": 6, "c": 4}
BOTH = pytest.mark.parametrize("name", ["maae", "mwae"])
SCALES = (0.5, 2.0)


@pytest.fixture
def world() -> LinearGaussian:
    return LinearGaussian(SIZES, 2)


@pytest.fixture
def batch(world: LinearGaussian) -> mvcore.Batch:
    return world.sample(28, observed=all_patterns(3).repeat(4, 1))


def make(name: str, schema: Schema, **fields: object) -> Autoencoder:
    chosen = {"discriminator_hidden": [8]} if name == "maae" else {}
    model = small(name, schema, **{**chosen, **fields})
    assert isinstance(model, Autoencoder)
    return model


def draws(z: Tensor) -> Tensor:
    """What ``fixed_noise`` draws for codes ``(n, D)``."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, z.shape[1], dtype=torch.float64, generator=generator).expand(z.shape)


# Reconstruction


@BOTH
def test_each_code_reconstructs_all_that_its_row_has(name: str, world: LinearGaussian, batch: mvcore.Batch) -> None:
    """(1/|O|) Σ_c Σ_m −log p(x_m | z_c), by loops."""
    model = make(name, world.schema, **{"modalities.b.weight": 3.0})
    terms, codes = model(batch).terms, model.encode_modalities(batch).experts
    for m in SIZES:
        total = torch.zeros((), dtype=torch.float64)
        for row in batch.rows(m).tolist():
            have = [c for c in SIZES if batch.column(c)[row]]
            x = batch.select(torch.tensor([row])).x[m]
            each = [codes[c][int(batch.column(c)[:row].sum())][None, None] for c in have]
            scores = [model.decode({"shared": z}, m).log_prob(x)[0, 0] for z in each]
            total = total - (3.0 if m == "b" else 1.0) * torch.stack(scores).mean() / len(batch)
        torch.testing.assert_close(terms[f"reconstruction/{m}"], total.detach())


# The adversary


def test_terms_of_the_adversary_are_those_of_the_papers(world: LinearGaussian, batch: mvcore.Batch) -> None:
    """−λ log D(z), and −log D(p) − log(1 − D(z)), each the mean over a row's codes, with D a probability."""
    model = make("maae", world.schema, matching=4.0)
    codes, D = model.encode_modalities(batch).experts, lambda z: model.matching.discriminator(z)[:, 0].sigmoid()
    fooling, telling = (torch.zeros(len(batch), dtype=torch.float64) for _ in range(2))
    for m in SIZES:
        z, share = codes[m], 1 / batch.observed.sum(1)[batch.rows(m)]
        fooling = fooling.index_add(0, batch.rows(m), -4.0 * share * D(z).log())
        told = -D(draws(z)).log() - (1 - D(z)).log()
        telling = telling.index_add(0, batch.rows(m), share * told)
    with fixed_noise():
        terms = model(batch).terms
    torch.testing.assert_close(terms["matching"], fooling.mean().detach())
    torch.testing.assert_close(terms["discriminator"], telling.mean().detach())


def test_each_player_learns_from_its_own_term_alone(world: LinearGaussian, batch: mvcore.Batch) -> None:
    model = make("maae", world.schema)
    codes = {m: z.detach().requires_grad_() for m, z in model.encode_modalities(batch).experts.items()}
    terms = model.matching(codes, batch)
    weights = list(model.matching.parameters())
    assert all(p.requires_grad for p in weights)
    of = {t: torch.autograd.grad(v.sum(), [*codes.values(), *weights], allow_unused=True, retain_graph=True)
          for t, v in terms.items()}  # fmt: skip
    for term, (codes_learn, weights_learn) in {"matching": (True, False), "discriminator": (False, True)}.items():
        found = [g is not None and bool(g.any()) for g in of[term]]
        assert all(f is codes_learn for f in found[:3])
        assert any(f is weights_learn for f in found[3:])
        assert weights_learn or not any(found[3:])


def test_at_chance_the_terms_are_logarithms_of_two() -> None:
    adversary = Adversary(2, hidden=[4], weight=3.0).double()
    torch.nn.init.zeros_(adversary.discriminator[-1].weight)
    torch.nn.init.zeros_(adversary.discriminator[-1].bias)
    codes = {"a": torch.randn(6, 2, dtype=torch.float64)}
    terms = adversary(codes, mvcore.Batch.from_dense(codes))
    torch.testing.assert_close(terms["matching"], torch.full((6,), 3 * math.log(2)).double())
    torch.testing.assert_close(terms["discriminator"], torch.full((6,), 2 * math.log(2)).double())


def test_the_best_discriminator_tells_the_ratio_of_the_densities() -> None:
    """d*(z) = log p(z) − log q(z), and its loss 2 log 2 − 2 JSD(p ‖ q): here by quadrature of two normals."""
    torch.manual_seed(0)
    n, adversary = 20_000, Adversary(1, hidden=[16], weight=1.0).double()
    codes = {"a": 1.0 + 0.5 * torch.randn(n, 1, dtype=torch.float64)}
    rows, optimizer = mvcore.Batch.from_dense(codes), torch.optim.Adam(adversary.parameters(), lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        loss = adversary(codes, rows)["discriminator"].mean()
        loss.backward()
        optimizer.step()
    z = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    p, q = torch.distributions.Normal(0.0, 1.0), torch.distributions.Normal(1.0, 0.5)
    log_p, log_q = p.log_prob(z), q.log_prob(z)
    mixed = torch.logaddexp(log_p, log_q)
    best = float(-torch.trapezoid(log_p.exp() * (log_p - mixed) + log_q.exp() * (log_q - mixed), z))
    assert float(loss.detach()) == pytest.approx(best, abs=0.03)


# The discrepancy


def test_the_discrepancy_is_the_double_loop() -> None:
    x, y, D = torch.randn(7, 3).double(), 1 + torch.randn(7, 3).double(), 3

    def k(u: Tensor, v: Tensor) -> float:
        return sum(2 * D * s / (2 * D * s + float((u - v).square().sum())) for s in SCALES)

    total = 0.0
    for i in range(7):
        for j in range(7):
            if i != j:
                total += (k(x[i], x[j]) + k(y[i], y[j])) / (7 * 6)
            total -= 2 * k(x[i], y[j]) / 49
    assert float(squared_discrepancy(x, y, SCALES)) == pytest.approx(total, abs=1e-12)


def test_it_is_zero_on_average_for_equal_distributions_and_positive_for_others() -> None:
    torch.manual_seed(0)
    same = torch.stack([squared_discrepancy(torch.randn(10, 2), torch.randn(10, 2), SCALES) for _ in range(2000)])
    assert abs(float(same.mean())) < 5 * float(same.std()) / math.sqrt(2000)
    moved = torch.stack([squared_discrepancy(1 + torch.randn(10, 2), torch.randn(10, 2), SCALES) for _ in range(500)])
    assert float(moved.mean()) > 10 * float(moved.std()) / math.sqrt(500)


def test_each_modality_s_codes_are_matched_by_the_rows_that_have_them(
    world: LinearGaussian, batch: mvcore.Batch
) -> None:
    """Σ_m v_m MMD²_m, v_m the mean over all rows of 1/|O| where a row has m."""
    model = make("mwae", world.schema, matching=7.0, scales=SCALES)
    codes, total = model.encode_modalities(batch).experts, torch.zeros((), dtype=torch.float64)
    for m in SIZES:
        weight = (batch.column(m) / batch.observed.sum(1)).mean()
        total = total + 7.0 * weight * squared_discrepancy(codes[m], draws(codes[m]), SCALES)
    with fixed_noise():
        torch.testing.assert_close(model(batch).terms["matching"], total.detach())
    assert sum(float((batch.column(m) / batch.observed.sum(1)).mean()) for m in SIZES) == pytest.approx(1)


@pytest.mark.parametrize("rows", [0, 1])
def test_of_fewer_than_two_rows_it_is_zero_with_a_gradient_of_zero(rows: int) -> None:
    z = torch.randn(rows, 2, dtype=torch.float64, requires_grad=True)
    batch = mvcore.Batch({"a": z.detach()}, torch.ones(rows, 1, dtype=torch.bool))
    (value,) = Discrepancy()({"a": z}, batch).values()
    value.sum().backward()
    assert z.grad is not None
    assert not z.grad.any()


def test_without_weight_it_is_a_plain_autoencoder(world: LinearGaussian, batch: mvcore.Batch) -> None:
    """multi-view-AE's AE; its loss is the mean of its rows', unlike a discrepancy."""
    model = make("mwae", world.schema, matching=0.0)
    assert set(model(batch).terms) == {f"reconstruction/{m}" for m in SIZES}
    check_neighbours(model, batch)


# Both


@pytest.mark.parametrize(
    ("name", "options", "fields"),
    [
        pytest.param("mwae", {"epochs": 60, "lr": 1e-2}, {"matching": 30.0}, id="mwae"),
        # two players take smaller steps, and more of them
        pytest.param("maae", {"epochs": 100, "lr": 3e-3}, {"matching": 3.0, "discriminator_hidden": [64, 64]},
                     id="maae", marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_training_draws_the_codes_to_the_prior_and_the_generated_to_the_data(
    name: str, options: dict[str, float], fields: dict[str, object]
) -> None:
    """One uniform variable that the modalities share; nothing but the match gives their codes a scale."""
    torch.manual_seed(0)
    n = 700
    u = torch.rand(n, 1) * 2 - 1
    x = {m: u @ torch.ones(1, d) + 0.1 * torch.randn(n, d) for m, d in SIZES.items()}
    observed = all_patterns(3).repeat(100, 1)
    batch = mvcore.Batch({m: x[m][observed[:, i]] for i, m in enumerate(SIZES)}, observed)
    schema = Schema.from_shapes({m: (d,) for m, d in SIZES.items()})
    wide = {f"modalities.{m}.{part}.hidden": [32] for m in SIZES for part in ("encoder", "decoder")}
    model = make(name, schema, latent_dim=1, **wide, **fields).float()
    data = MultimodalDataset.from_batch(schema, batch)
    mvcore.fit(model, data, batch_size=100, progress=False, hooks=False, **options)
    for z in model.encode_modalities(batch).experts.values():
        assert abs(float(z.detach().mean())) < 0.25
        assert float(z.detach().std()) == pytest.approx(1, abs=0.25)
    drawn = model.generate(4000)["a"].mean(1)
    seen = x["a"].mean(1)
    assert abs(float(drawn.mean() - seen.mean())) < 0.15
    assert float(drawn.std() / seen.std()) == pytest.approx(1, abs=0.2)


@BOTH
def test_it_generates_from_its_prior_and_has_no_likelihood(
    name: str, world: LinearGaussian, batch: mvcore.Batch
) -> None:
    model = make(name, world.schema)
    assert model.generate(3)["a"].shape == (3, 5)
    with pytest.raises(NotApplicableError, match="points, which have no density"):
        model.log_likelihood(batch)
    data = MultimodalDataset.from_batch(world.schema, batch)
    assert "no density" in mvcore.evaluate(model, data, K=1).skipped["log_likelihood"]


@BOTH
@pytest.mark.parametrize("step", [2, 5])
def test_a_training_that_was_stopped_goes_on_to_the_same_weights(
    name: str, world: LinearGaussian, batch: mvcore.Batch, tmp_path: Path, step: int
) -> None:
    """The discriminator's weights and the state of its steps, and the prior's draws, among them."""
    rows = mvcore.Batch({m: x.float() for m, x in batch.x.items()}, batch.observed)
    data = MultimodalDataset.from_batch(world.schema, rows)
    options = {"epochs": 2, "batch_size": 7, "progress": False, "hooks": False}
    through = mvcore.fit(make(name, world.schema).float(), data, **options).model.state_dict()
    kept = {**options, "checkpoint": tmp_path, "checkpoint_steps": 1}
    stop = StopAfter(step - 1, mvcore.StopTraining)
    assert mvcore.fit(make(name, world.schema).float(), data, **kept, callbacks=[stop]).stopped
    again = mvcore.fit(make(name, world.schema).float(), data, **kept, resume=True).model.state_dict()
    assert all(torch.equal(again[k], v) for k, v in through.items())


@pytest.mark.parametrize(
    ("name", "fields", "words"),
    [("maae", {"matching": -1.0}, "matching must be 0 or greater"), ("mwae", {"scales": [0.0]}, "scales must hold"),
     ("maae", {"discriminator_hidden": []}, "discriminator_hidden must hold"), ("mwae", {"scales": []}, "scales")],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_the_reason(
    name: str, world: LinearGaussian, fields: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        small(name, world.schema, **fields)
