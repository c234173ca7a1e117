"""Unknown cells inside a modality: a closed form, on partial rows."""

from __future__ import annotations

import torch
from torch.distributions import MultivariateNormal

from mvcore.data.batch import Batch
from mvcore.models.multimodal import MultimodalVAE
from mvcore.nn.mlp import MLPEncoder
from mvcore.testing.checks import all_patterns
from mvcore.testing.linear import LinearGaussian


def test_the_likelihood_of_a_linear_row_is_that_of_its_known_cells(world: LinearGaussian) -> None:
    plain = world.sample(7, observed=all_patterns(3))
    cells = {m: torch.rand(x.shape) < 0.6 for m, x in plain.x.items()}
    spoilt = {m: x.where(cells[m], torch.nan) for m, x in plain.x.items()}
    batch = Batch(spoilt, plain.observed, cells)
    torch.manual_seed(3)
    model = MultimodalVAE(
        world.schema,
        latent_dim=2,
        encoders={m.name: MLPEncoder(m.shape, 2, hidden=()).double() for m in world.schema},
        decoders=world.decoders(),
    ).double()
    with torch.no_grad():  # draws from the prior, whose weights are bounded: an estimate with an honest error
        for m in model.schema.names:
            model.encoders[m].head.linear.weight.zero_()
            model.encoders[m].head.linear.bias.copy_(torch.tensor([0.0, 0.0, 9.0, 9.0]))
    for row in range(7):
        W, b, noise, x = [], [], [], []
        for m in plain.names:
            one = batch.select(torch.tensor([row]))
            if len(one.x[m]):
                known = one.cells[m][0]
                W.append(world.W[m][known])
                b.append(world.b[m][known])
                noise.append(torch.full((int(known.sum()),), world.sigma[m] ** 2, dtype=torch.float64))
                x.append(one.x[m][0][known])
        mean, covariance = torch.cat(b), torch.cat(W) @ torch.cat(W).T + torch.diag(torch.cat(noise))
        expected = MultivariateNormal(mean, covariance).log_prob(torch.cat(x)) if len(mean) else torch.zeros(())
        many = batch.select(torch.full((20,), row))
        estimates = model.log_likelihood(many, 10_000)
        error = estimates.std() / 20**0.5
        assert (estimates.mean() - expected).abs() < 5 * error + 1e-3, row
