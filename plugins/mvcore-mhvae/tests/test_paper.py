"""The laws of MHVAE (Dorent et al., 2023), on linear maps whose posteriors and likelihoods are known."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, Normal, kl_divergence

import mvcore
from mvcore.data import Batch, Schema
from mvcore.distributions import DiagonalNormal, Encoded, Latents
from mvcore.errors import ConfigError
from mvcore.models import Model
from mvcore.testing import (
    LinearGaussian,
    all_patterns,
    check_conditions_on_every_subset,
    check_neighbours,
    check_no_rows,
    check_submodels,
    fixed_noise,
    sigma_points,
    small,
)

SIZES = {"a": 5, "b": 6, "c": 4}
D = 2
PATTERNS = all_patterns(3)


@pytest.fixture
def world() -> LinearGaussian:
    return LinearGaussian(SIZES, D)


def make(schema: Schema, **fields: object) -> Model:
    """An MHVAE of vectors with small random networks, in float64."""
    return small("mhvae", schema, **{"width": 8, **fields})


def kl(q: DiagonalNormal, p: DiagonalNormal) -> Tensor:
    return kl_divergence(Normal(q.loc, q.scale), Normal(p.loc, p.scale)).sum(-1)


def nonempty(names: list[str]) -> list[tuple[str, ...]]:
    return [s for size in range(1, len(names) + 1) for s in itertools.combinations(names, size)]


def members(batch: Batch, row: int) -> list[str]:
    return [m for m in batch.names if bool(batch.column(m)[row])]


# One level


@pytest.mark.parametrize("beta", [1.0, 2.5])
def test_one_level_is_the_likelihood_and_the_mean_divergence_over_the_subsets_of_what_a_row_has(
    world: LinearGaussian, beta: float
) -> None:
    """For any encoders: each subset of O gives −log p(x_O) + KL(q_S ‖ p(z|x_O)) + (β − 1) KL(q_S ‖ p)."""
    batch = world.sample(7, observed=PATTERNS)
    model = make(world.schema, levels=1, samples=2 * D, beta=beta)
    model.decoders.update(world.decoders())
    experts = {m: e.top for m, e in model.encode_modalities(batch).experts.items()}
    exact, log_p, law = world.posterior(batch), world.log_likelihood(batch), []
    for row in range(7):
        terms = []
        for subset in nonempty(members(batch, row)):
            packed = {m: int((batch.rows(m) == row).nonzero()) for m in subset}
            precisions = [torch.exp(-2 * experts[m].log_scale[i]) for m, i in packed.items()]
            means = [experts[m].loc[i] for m, i in packed.items()]
            precision = 1 + sum(precisions)
            loc = sum(p * mean for p, mean in zip(precisions, means, strict=True)) / precision
            q = DiagonalNormal(loc, -0.5 * precision.log())
            terms.append(kl(q, exact[row]) + (beta - 1) * kl(q, DiagonalNormal.unit(D, like=loc)))
        law.append(-log_p[row] + torch.stack(terms).mean())
    with sigma_points():
        torch.testing.assert_close(model(batch).loss, torch.stack(law).mean())


def test_one_level_of_exact_experts_has_the_exact_likelihood_of_every_subset(world: LinearGaussian) -> None:
    batch, model = world.sample(7, observed=PATTERNS), Chain(world, levels=1).model()
    torch.testing.assert_close(model.log_likelihood(batch, K=1), Chain(world, levels=1).log_likelihood(batch))


# Several levels: a chain that is linear and diagonal


class _Affine(nn.Module):
    """x ↦ a normal about ``weight x + bias`` with a constant scale; of several inputs the first alone is read."""

    def __init__(self, weight: Tensor, bias: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)
        self.log_scale = scale.log()

    def forward(self, x: Tensor, *_: Tensor) -> Encoded:
        loc = x @ self.weight.T + self.bias
        return Encoded(loc, self.log_scale.expand_as(loc))


class _Second(nn.Module):
    """A block that reads its second input, the features of the modality."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, h: Tensor, d: Tensor) -> Encoded:
        encoded: Encoded = self.block(d)
        return encoded


class _Ladder(nn.Module):
    """The observation as the features of every level, and an expert of the deepest latent."""

    def __init__(self, top: nn.Module, levels: int) -> None:
        super().__init__()
        self.top, self.levels = top, levels

    def forward(self, x: Tensor, mask: Tensor | None = None, context: Tensor | None = None) -> object:
        from mvcore_mhvae.densities import Steps

        return Steps((x,) * (self.levels - 1), self.top(x))


class Chain:
    r"""``z_L ~ N(0, I)``, ``z_l ~ N(c z_{l+1}, s² I)``, ``x_m ~ N(W_m z_1 + b_m, σ_m² I)``, W_m of orthogonal columns.

    All dimensions are independent. The likelihood of z_1 has the precision λ_m and the mean x̂_m; that of z_2, z_1
    integrated out, c²/(s² + 1/λ_m) and x̂_m/c. Products of these are the exact posterior given one modality, but not
    given several: at the deepest level their precisions do not add.
    """

    c, s = 0.8, 0.6

    def __init__(self, world: LinearGaussian, levels: int = 2) -> None:
        self.world, self.levels = world, levels

    def model(self, **fields: object) -> Model:
        """The exact decoders, prior, and experts given one modality."""
        model = make(self.world.schema, levels=self.levels, share_experts=False, **fields)
        model.decoders.update(self.world.decoders())
        for level in range(1, self.levels):
            model.top_down[level - 1] = nn.Identity()
            eye, zero = torch.eye(D, dtype=torch.float64), torch.zeros(D, dtype=torch.float64)
            model.prior_blocks[level - 1] = _Affine(self.c * eye, zero, torch.full((D,), self.s, dtype=torch.float64))
            model.expert_blocks[level - 1] = nn.ModuleDict({m: _Second(self._expert(m, level)) for m in SIZES})
        for m in SIZES:
            model.encoders[m] = _Ladder(self._expert(m, self.levels), self.levels)
        return model

    def _expert(self, name: str, level: int) -> _Affine:
        W, b, sigma = self.world.W[name], self.world.b[name], self.world.sigma[name]
        precision = W.square().sum(0) / sigma**2
        weight = W.T / W.square().sum(0)[:, None]
        variance, gain = 1 / precision, 1.0
        for _ in range(1, level):
            variance, gain = (variance + self.s**2) / self.c**2, gain / self.c
        return _Affine(gain * weight, -gain * weight @ b, variance.sqrt())

    def log_likelihood(self, batch: Batch) -> Tensor:
        """Exact log p of what each row has."""
        variance = 1.0
        for _ in range(1, self.levels):
            variance = self.c**2 * variance + self.s**2
        values = []
        for row in range(len(batch)):
            have, one = members(batch, row), batch.select(torch.tensor([row]))
            W = torch.cat([self.world.W[m] for m in have])
            noise = torch.cat([torch.full((SIZES[m],), self.world.sigma[m] ** 2).double() for m in have])
            mean = torch.cat([self.world.b[m] for m in have])
            density = MultivariateNormal(mean, variance * W @ W.T + noise.diag())
            values.append(density.log_prob(torch.cat([one.x[m][0] for m in have])))
        return torch.stack(values)


@pytest.mark.parametrize("levels", [2, 3])
def test_experts_that_are_exact_given_one_modality_give_its_exact_likelihood_by_one_draw(
    world: LinearGaussian, levels: int
) -> None:
    chain, batch = Chain(world, levels), world.sample(12, observed=torch.eye(3, dtype=torch.bool).repeat(4, 1))
    estimate = chain.model().log_likelihood(batch, K=1)
    torch.testing.assert_close(estimate, chain.log_likelihood(batch))


def test_given_several_the_bound_is_strict_and_importance_sampling_closes_it(world: LinearGaussian) -> None:
    """ELBO < the bound of few draws < that of many → log p(x_O), of rows with two or three of the modalities."""
    chain, observed = Chain(world), PATTERNS[PATTERNS.sum(1) > 1]
    batch, repeats = world.sample(4, observed=observed), 400
    exact = chain.log_likelihood(batch)
    many = batch.select(torch.arange(4).repeat(repeats))
    one, few = (chain.model().log_likelihood(many, K=K).view(repeats, 4).mean(0) for K in (1, 8))
    assert (one < few).all()
    assert (few < exact + 0.01).all()
    assert (exact - one > 0.01).any()
    torch.testing.assert_close(chain.model().log_likelihood(batch, K=10_000), exact, atol=0.05, rtol=0)


def test_the_mean_of_the_estimated_over_the_exact_likelihood_is_one(world: LinearGaussian) -> None:
    chain, repeats = Chain(world), 4_000
    batch = world.sample(7, observed=PATTERNS)
    many = batch.select(torch.arange(7).repeat(repeats))
    ratio = (chain.model().log_likelihood(many, K=3) - chain.log_likelihood(batch).repeat(repeats)).exp()
    ratio = ratio.view(repeats, 7)
    error = ratio.std(0) / math.sqrt(repeats)
    assert (error < 0.05).all()
    # where the posterior is exact there is no error but that of likelihoods' scales, which are float32
    assert ((ratio.mean(0) - 1).abs() < 5 * error + 1e-7).all()


def test_loss_is_the_mean_bound_over_the_subsets_with_all_that_a_row_has_scored(world: LinearGaussian) -> None:
    """Of rows with one modality −log p(x_m) itself, of others above it; six standard errors of the draws."""
    chain, samples = Chain(world), 20_000
    model = chain.model(samples=samples)
    alone = world.sample(3, observed=torch.eye(3, dtype=torch.bool))
    torch.manual_seed(0)
    with torch.no_grad():
        loss = model(alone).loss
        whole = model(world.sample(3)).loss
    torch.testing.assert_close(loss, -chain.log_likelihood(alone).mean(), atol=6 * 3 / math.sqrt(samples), rtol=0)
    assert whole > -chain.log_likelihood(world.sample(3)).mean() + 0.05


def test_generation_runs_the_learned_prior_from_the_top_down(world: LinearGaussian) -> None:
    chain, n = Chain(world, levels=3), 40_000
    model = chain.model()
    torch.manual_seed(0)
    latents = model.prior().draw(n)
    z3, z2, z1 = (latents[name][:, 0].detach() for name in ("level/3", "level/2", "shared"))
    for above, below in ((z3, z2), (z2, z1)):
        residual = (below - chain.c * above) / chain.s
        assert residual.mean(0).abs().max() < 6 / math.sqrt(n)
        assert (residual.var(0) - 1).abs().max() < 6 * math.sqrt(2 / n)
        assert (residual * above).mean(0).abs().max() < 6 / math.sqrt(n)
    law = Normal(0, 1).log_prob(z3) + Normal(chain.c * z3, chain.s).log_prob(z2)
    law = (law + Normal(chain.c * z2, chain.s).log_prob(z1)).sum(1)
    torch.testing.assert_close(model.prior().log_prob(latents)[:, 0].detach(), law)
    variance = chain.c**2 * (chain.c**2 + chain.s**2) + chain.s**2
    drawn, W = model.generate(n)["a"], world.W["a"]
    torch.testing.assert_close(drawn.T.cov(), variance * W @ W.T, atol=0.1, rtol=0)


# The product of experts at each level


@pytest.mark.parametrize("share", [True, False])
def test_each_level_is_the_product_of_prior_and_experts_by_their_precisions(world: LinearGaussian, share: bool) -> None:
    """1/σ² add up, not 1/σ; the prior of the levels below the deepest is the learned one."""
    batch, model = world.sample(7, observed=PATTERNS), make(world.schema, levels=2, share_experts=share)
    encodings = model.encode_modalities(batch)
    z = {"shared": torch.randn(1, 7, D).double(), "level/2": torch.randn(1, 7, D).double()}
    law = torch.zeros(7, dtype=torch.float64)
    for row in range(7):
        h = model.top_down[0](z["level/2"][0, row : row + 1])
        below = model.prior_blocks[0](h)
        for level, name, loc, log_scale in (
            (2, "level/2", torch.zeros(D).double(), torch.zeros(D).double()),
            (1, "shared", below.loc[0], below.log_scale[0]),
        ):
            precision = torch.exp(-2 * log_scale)
            weighted = precision * loc
            for m in members(batch, row):
                steps, i = encodings.experts[m], int((batch.rows(m) == row).nonzero())
                block = model.expert_blocks[0] if share else model.expert_blocks[0][m]
                each = steps.top if level == 2 else block(h, steps.features[0][i : i + 1])
                at = i if level == 2 else 0
                precision = precision + torch.exp(-2 * each.log_scale[at])
                weighted = weighted + torch.exp(-2 * each.log_scale[at]) * each.loc[at]
            law[row] += Normal(weighted / precision, precision.rsqrt()).log_prob(z[name][0, row]).sum()
    torch.testing.assert_close(model.posterior(encodings).log_prob(Latents(z, 7))[0], law)


def test_a_view_never_adds_information(world: LinearGaussian) -> None:
    """Whatever is hidden, each level given the same latents above it is at least as wide."""
    batch, model = world.sample(5), make(world.schema, levels=3)
    encodings = model.encode_modalities(batch)
    latents = model.encode(batch, 2)
    scales = {
        given: {level: q.scale for level, (q, _) in model.posterior(encodings.only(given)).levels(latents).items()}
        for given in [(), *nonempty(list(SIZES))]
    }
    for less, more in itertools.permutations(scales, 2):
        if set(less) < set(more):
            assert all((scales[less][level] > scales[more][level]).all() for level in (1, 2, 3))


def test_a_row_with_nothing_has_the_prior(world: LinearGaussian) -> None:
    batch, model = world.sample(3), make(world.schema, levels=3)
    nothing = model.encode_modalities(batch.only([]))
    with fixed_noise():
        given, prior = model.posterior(nothing).draw(4), model.prior().draw(4)
    for name in ("shared", "level/2", "level/3"):
        torch.testing.assert_close(given[name], prior[name].expand(-1, 3, -1))


# Subsets in training, partial rows


def test_sampled_subsets_have_the_loss_of_all_on_average(world: LinearGaussian) -> None:
    """Each row one non-empty subset of what it has, every one as likely: six standard errors of 3,000 draws."""
    batch = world.sample(7, observed=PATTERNS)
    every, sampled = make(world.schema), make(world.schema, subsets="sampled")
    sampled.load_state_dict(every.state_dict())
    with fixed_noise(), torch.no_grad():
        torch.manual_seed(0)
        losses = torch.stack([sampled(batch).loss for _ in range(3_000)])
        error = losses.std() / math.sqrt(3_000)
        assert abs(losses.mean() - every(batch).loss) < 6 * error


def test_a_row_has_the_loss_of_a_model_built_on_its_modalities_with_weights_and_experts_of_their_own(
    world: LinearGaussian,
) -> None:
    fields = {"levels": 3, "share_experts": False, "samples": 2}
    batch, model = world.sample(14, observed=PATTERNS.repeat(2, 1)), make(world.schema, **fields)
    check_submodels(lambda schema: make(schema, **fields), model, batch)
    check_neighbours(model, batch)
    check_conditions_on_every_subset(model, batch)
    check_no_rows(model, batch)


def test_terms_sum_to_the_loss_weights_are_the_reconstructions_and_beta_warms_up(world: LinearGaussian) -> None:
    batch = world.sample(7, observed=PATTERNS)
    plain, weighted = (make(world.schema, warmup=4.0, **f) for f in ({}, {"modalities.b.weight": 3.0}))
    with fixed_noise():
        one, other, half = plain(batch), weighted(batch), plain(batch, epoch=2.0)
    assert set(one.terms) == {"reconstruction/a", "reconstruction/b", "reconstruction/c", "kl/1", "kl/2", "kl/3"}
    torch.testing.assert_close(sum(one.terms.values()), one.loss.detach())
    for name, value in one.terms.items():
        torch.testing.assert_close(other.terms[name], 3 * value if name == "reconstruction/b" else value)
        torch.testing.assert_close(half.terms[name], value / 2 if name.startswith("kl") else value)


def test_blocks_of_draws_change_nothing_and_densities_follow_their_rows(
    world: LinearGaussian, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, model = world.sample(7, observed=PATTERNS), make(world.schema)
    whole, score = model.encode(batch, 5), model.log_likelihood(batch, 5)
    with monkeypatch.context() as patch:
        patch.setattr("mvcore_mhvae.densities.BLOCK", 14)
        parts, again = model.encode(batch, 5), model.log_likelihood(batch, 5)
    for name in whole.values:
        torch.testing.assert_close(parts[name], whole[name])
    torch.testing.assert_close(again, score)
    encodings, order = model.encode_modalities(batch), torch.tensor([6, 0, 3, 3])
    moved = Latents(whole.take(order), 7, rows=order)
    for density in (model.posterior(encodings), model.prior(encodings)):
        torch.testing.assert_close(density.log_prob(moved), density.log_prob(whole)[:, order])


def test_each_encoder_runs_once_however_many_subsets(world: LinearGaussian) -> None:
    batch, model, rows = world.sample(7, observed=PATTERNS), make(world.schema), {}
    for name, encoder in model.encoders.items():
        encoder.register_forward_pre_hook(lambda _, args, name=name: rows.setdefault(name, []).append(len(args[0])))
    model(batch)
    assert rows == {"a": [4], "b": [4], "c": [4]}


# Blocks for images


IMAGES = {"28": (1, 28, 28), "32": (3, 32, 32), "64": (3, 64, 64), "odd": (2, 9, 13), "8": (1, 8, 8)}


def images(shapes: Mapping[str, tuple[int, ...]], n: int) -> Batch:
    torch.manual_seed(0)
    masks = {m: torch.arange(n) % 3 != i for i, m in enumerate(shapes)}
    return Batch.from_dense({m: torch.rand(n, *shape) for m, shape in shapes.items()}, masks)


@pytest.mark.parametrize("shape", IMAGES.values(), ids=IMAGES)
def test_images_of_any_size_have_maps_for_latents_and_do_all_that_vectors_do(shape: tuple[int, ...]) -> None:
    shapes = {"x": shape, "y": (1, *shape[1:])}
    plain = {f"modalities.{m}.{part}": "none" for m in shapes for part in ("input", "target")}
    model = mvcore.create("mhvae", Schema.from_shapes(shapes), latent_dim=6, channels=4, map_channels=2, **plain)
    sizes = {name: size for name, (size,) in model.latent_shapes.items()}
    half = ((shape[1] + 1) // 2, (shape[2] + 1) // 2)
    quarter = ((half[0] + 1) // 2, (half[1] + 1) // 2)
    assert sizes == {"level/3": 6, "shared": 2 * math.prod(half), "level/2": 2 * math.prod(quarter)}
    batch = images(shapes, 6)
    check_neighbours(model.double(), Batch({m: x.double() for m, x in batch.x.items()}, batch.observed))
    check_conditions_on_every_subset(model.float(), batch)
    check_no_rows(model, batch)
    assert model.generate(2)["x"].shape == (2, *shape)


@pytest.mark.parametrize(
    "shapes", [{"x": (1, 16, 16), "y": (7,)}, {"x": (1, 16, 16), "y": (1, 12, 16)}, {"x": (5,), "y": (2, 3)}]
)
def test_modalities_that_are_not_all_images_of_one_size_have_vectors(shapes: dict[str, tuple[int, ...]]) -> None:
    schema = Schema.from_shapes(shapes)
    model = mvcore.create("mhvae", schema, width=16, latent_dim=4)
    assert set(model.latent_shapes.values()) == {(4,)}
    with pytest.raises(ConfigError, match="blocks: 'maps' needs images of one height and width"):
        mvcore.create("mhvae", schema, blocks="maps")


def test_images_may_have_vectors_too() -> None:
    schema = Schema.from_shapes({"x": (1, 16, 16), "y": (3, 16, 16)})
    model = mvcore.create("mhvae", schema, blocks="vectors", width=16, latent_dim=4, levels=2)
    assert model.latent_shapes == {"shared": (4,), "level/2": (4,)}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"levels": 0}, "levels must be greater than 0"),
        ({"width": 7}, "width must be even"),
        ({"channels": 0}, "channels must be greater than 0"),
        ({"map_channels": 0}, "map_channels must be greater than 0"),
        ({"subsets": "some"}, "subsets"),
        ({"beta": -1.0}, "beta must be 0 or greater"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(
    world: LinearGaussian, fields: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        make(world.schema, **fields)
