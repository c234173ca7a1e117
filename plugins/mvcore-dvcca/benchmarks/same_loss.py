"""DVCCA's loss beside multi-view-AE's, on copied weights: ``python same_loss.py`` prints both.

It needs multi-view-AE (``pip install multiviewae``). Posteriors are nearly points, so that the draws do not matter.
With private latents its loss counts the divergence of the last modality's twice, which is taken off here.
"""

from __future__ import annotations

import math

import torch
from multiviewae.models.dvcca import DVCCA
from torch import nn

import mvcore
from mvcore.data import Schema

SIZES = {"a": 5, "b": 6, "c": 4}
LOG_VARIANCE = -30.0


def copy(linear: nn.Linear, encoder: nn.Module) -> None:
    """A variational encoder of theirs into the linear head of ours, with one variance for all."""
    with torch.no_grad():
        encoder.enc_logvar_layer.weight.zero_()
        encoder.enc_logvar_layer.bias.fill_(LOG_VARIANCE)
        linear.weight.zero_()
        linear.weight[:2], linear.bias[:2] = encoder.enc_mean_layer.weight, encoder.enc_mean_layer.bias
        linear.bias[2:] = LOG_VARIANCE / 2


def compare(private: bool) -> None:
    theirs = DVCCA(cfg=None, input_dim=list(SIZES.values()), z_dim=2)
    if private:
        theirs.private, theirs._training = True, True
        theirs._setencoders()
        theirs._setdecoders()
    theirs._training = True
    schema = Schema.from_shapes({m: (d,) for m, d in SIZES.items()})
    plain = {"input": "none", "target": "none", "encoder.hidden": [], "decoder.hidden": []}
    parts = {f"modalities.{m}.{part}": value for m in SIZES for part, value in plain.items()}
    parts |= {f"modalities.{m}.likelihood.scale": math.exp(-1.5) for m in SIZES}
    ours = mvcore.create("dvcca", schema, latent_dim=2, private_dim=2 if private else 0, **parts)
    copy(ours.encoders["a"].shared.head.linear, theirs.encoders[0])
    for i, m in enumerate(SIZES):
        if private:
            copy(ours.encoders[m].private.head.linear, theirs.private_encoders[i])
        with torch.no_grad():
            ours.decoders[m].network.body[0].load_state_dict(theirs.decoders[i].dec_mean_layer.state_dict())
    x = {m: torch.randn(50, d) for m, d in SIZES.items()}
    with torch.no_grad():
        values = list(x.values())
        found = theirs.forward(values)
        expected = float(theirs.loss_function(values, found)["loss"])
        if private:  # the divergence of the last one is counted twice there
            expected -= float(theirs.calc_kl_(found["qh_xs"][-1]))
        loss = float(ours(mvcore.Batch.from_dense(x)).loss)
    print(
        f"private {private}: ours {loss:.4f}, theirs {expected:.4f}, relative difference {abs(loss / expected - 1):.1g}"
    )


if __name__ == "__main__":
    for private in (False, True):
        compare(private)
