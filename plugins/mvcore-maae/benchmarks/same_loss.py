"""The reconstructions of mAAE and mWAE beside multi-view-AE's, on copied weights: ``python same_loss.py`` prints both.

It needs multi-view-AE (``pip install multiviewae``). Its autoencoders average squared errors over M² pairs of a code
and a modality; ours are halves of squared errors, with the constant of the normal, summed over the modalities and
averaged over the codes. The adversarial terms are not compared: its are faulty (see the README).
"""

from __future__ import annotations

import math

import torch
from multiviewae.models.ae import AE

import mvcore
from mvcore.data import Schema

SIZES = {"a": 5, "b": 6, "c": 4}


def main() -> None:
    theirs = AE(cfg=None, input_dim=list(SIZES.values()), z_dim=2)
    schema = Schema.from_shapes({m: (d,) for m, d in SIZES.items()})
    plain = {"input": "none", "target": "none", "encoder.hidden": [], "decoder.hidden": []}
    parts = {f"modalities.{m}.{part}": value for m in SIZES for part, value in plain.items()}
    ours = mvcore.create("mwae", schema, latent_dim=2, matching=0.0, **parts)
    for i, m in enumerate(SIZES):
        encoder, decoder = theirs.encoders[i].encoder_layers[0], theirs.decoders[i].decoder_layers[0]
        head, body = ours.encoders[m].head.linear, ours.decoders[m].network.body[0]
        with torch.no_grad():
            head.weight[:2], head.bias[:2] = encoder.weight, encoder.bias
            body.weight.copy_(decoder.weight)
            body.bias.copy_(decoder.bias)
    x = {m: torch.randn(50, d) for m, d in SIZES.items()}
    with torch.no_grad():
        values = list(x.values())
        squared = float(theirs.loss_function(values, theirs.forward(values))["loss"]) * len(SIZES)
        loss = float(ours(mvcore.Batch.from_dense(x)).loss)
    expected = squared / 2 + 0.5 * sum(SIZES.values()) * math.log(2 * math.pi)
    print(f"ours {loss:.6f}, theirs as ours {expected:.6f}, difference {abs(loss - expected):.1g}")


if __name__ == "__main__":
    main()
