"""The bias of DReG's gradient for a mixture: ``python plugins/mvcore-mmvae/benchmarks/dreg_bias.py``.

On a linear model of three modalities with random encoders, the mean gradient of the encoders under ``dreg`` beside that
under ``iwae``, which is unbiased, over equal numbers of draws, and how much of the difference is noise.
"""

from __future__ import annotations

import torch
from torch import Tensor

import mvcore
from mvcore.models import Model
from mvcore.testing import LinearGaussian

REPEATS, ROWS = 40, 2000


def model_of(world: LinearGaussian, loss: str, K: int) -> Model:
    """An MMVAE with normal latents, exact decoders and random encoders, the same for every loss."""
    torch.manual_seed(0)
    parts = {"input": "none", "target": "none", "encoder.hidden": [7], "decoder.hidden": [7]}
    fields = {f"modalities.{m}.{part}": v for m in world.schema.names for part, v in parts.items()}
    normal = {"posterior.family": "normal", "posterior.scale": "exp", "prior": "standard"}
    chosen = {"loss": {"use": loss, "samples": K}, "latent_dim": world.latent_dim, **normal, **fields}
    model = mvcore.create("mmvae", world.schema, **chosen).double()
    model.decoders.update(world.decoders())
    return model


def gradients(model: Model, batch: mvcore.Batch) -> Tensor:
    """The gradient of the encoders for each of the repeats, ``(REPEATS, parameters)``."""
    found = []
    for seed in range(REPEATS):
        torch.manual_seed(seed)
        model.zero_grad(set_to_none=True)
        model(batch).loss.backward()
        found.append(torch.cat([p.grad.flatten() for p in model.encoders.parameters() if p.grad is not None]))
    return torch.stack(found)


def main() -> None:
    """Prints the bias and its standard error as shares of the gradient's length."""
    world = LinearGaussian({"a": 5, "b": 6, "c": 4}, 2)
    batch = world.sample(1).select(torch.zeros(ROWS, dtype=torch.long))
    print("| K | bias / length | standard error |\n|--:|--:|--:|")
    for K in (1, 10, 30):
        iwae, dreg = (gradients(model_of(world, loss, K), batch) for loss in ("iwae", "dreg"))
        length = iwae.mean(0).norm()
        error = ((iwae.var(0) + dreg.var(0)) / REPEATS).sum().sqrt()
        print(f"| {K} | {(dreg.mean(0) - iwae.mean(0)).norm() / length:.3f} | {error / length:.3f} |")


if __name__ == "__main__":
    main()
