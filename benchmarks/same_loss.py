"""Compares losses of mvcore with multivae's on equal weights, with all latent noise 0 on both sides.

Run ``python -m benchmarks.same_loss`` from the root of the repository. It asserts that they agree in float32, where
multivae is right and after the corrections that are written here where it is not, and prints relative differences.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from benchmarks import multivae_side as theirs, ours
from benchmarks.networks import make_networks
from benchmarks.settings import HALF_MISSING, IMAGES, IMAGES_PRIVATE, Rows, draw_rows
from mvcore.distributions import DiagonalNormal
from mvcore.inference import log_likelihoods

TOLERANCE = 1e-5


@contextmanager
def without_noise() -> Iterator[None]:
    """Draws of normals are their means, in mvcore and in torch.distributions."""

    def ours(self: DiagonalNormal, shape: torch.Size) -> Tensor:
        return self.loc.new_zeros(shape)

    def theirs(shape: torch.Size, dtype: torch.dtype, device: torch.device) -> Tensor:
        return torch.zeros(shape, dtype=dtype, device=device)

    patched = mock.patch.object(torch.distributions.normal, "_standard_normal", theirs)
    with mock.patch.object(DiagonalNormal, "noise", ours), patched, torch.no_grad():
        yield


def dmvae(missing: float) -> tuple[Tensor, Tensor]:
    """DMVAE with its terms as bounds, as multivae has them."""
    rows, networks = draw_rows(IMAGES_PRIVATE, missing=missing), make_networks(IMAGES_PRIVATE)
    other = theirs.dmvae(IMAGES_PRIVATE, networks=networks)
    fields = {"private_dim": IMAGES_PRIVATE.private_dim, "loss.shared_kl": "elbo"}
    mine = ours.plugin("dmvae", IMAGES_PRIVATE, networks, **fields)
    return mine(ours.batch_of(rows)).loss, other(theirs.dataset(rows)).loss


def crmvae(missing: float) -> tuple[Tensor, Tensor]:
    """CRMVAE, each row's loss in multivae multiplied by (M + 1) / (|O| + 1)."""
    rows, networks = draw_rows(IMAGES, missing=missing), make_networks(IMAGES)
    other = theirs.crmvae(IMAGES, networks=networks)
    mine = ours.plugin("crmvae", IMAGES, networks, **{"loss.halved": True, "loss.beta": 2.5})
    weights = (IMAGES.modalities + 1) / (rows.observed.sum(1) + 1)
    alone = torch.stack([other(theirs.dataset(one)).loss for one in single_rows(rows)])
    return mine(ours.batch_of(rows)).loss, (weights * alone).mean()


def single_rows(rows: Rows) -> Iterator[Rows]:
    """Batches of one row each."""
    for i in range(len(rows.observed)):
        yield Rows({m: x[i : i + 1] for m, x in rows.x.items()}, rows.observed[i : i + 1])


def telbo(stage: str) -> tuple[Tensor, Tensor]:
    """TELBO, the joint posterior's log-variance in multivae's divergences of surrogates replaced by their own."""
    rows, networks = draw_rows(IMAGES), make_networks(IMAGES)
    mine: Any = ours.plugin("telbo", IMAGES, networks)
    joint = theirs.SharedJointEncoder(mine.joint_encoder, IMAGES.latent_dim)
    other = theirs.telbo(IMAGES, networks=networks, joint_encoder=joint)
    batch, first = ours.batch_of(rows), stage == "joint"
    loss = other(theirs.dataset(rows), epoch=1 if first else 2).loss
    if not first:
        encodings = mine.encode_modalities(batch)
        wrong = [(encodings.joint.log_scale - q.log_scale).sum(1) for q in encodings.experts.values()]
        loss = loss + sum(wrong).mean()
    return mine(batch, stage=stage).loss, loss


def cvae(prior: str) -> tuple[Tensor, Tensor]:
    """CVAE, of complete rows, since multivae takes no others."""
    rows, mine = draw_rows(IMAGES), ours.cvae(IMAGES, prior=prior)
    return mine(ours.batch_of(rows)).loss, theirs.cvae(IMAGES, mine)(theirs.dataset(rows)).loss


def mhvae() -> tuple[Tensor, Tensor]:
    """MHVAE, multivae's sum over the rows divided by their number."""
    rows, mine = draw_rows(IMAGES), ours.mhvae(IMAGES)
    return mine(ours.batch_of(rows)).loss, theirs.mhvae(IMAGES, mine)(theirs.dataset(rows)).loss / IMAGES.rows


def mhvae_half_missing(count: int = 32) -> tuple[Tensor, Tensor]:
    """MHVAE on partial rows: of multivae's mean over all subsets of all modalities those of what a row has.

    Each subset of k modalities of a row is there 2^(M - k) times, and once less the empty one, drawn from the prior.
    """
    rows, mine = draw_rows(IMAGES, missing=HALF_MISSING), ours.mhvae(IMAGES)
    rows, M = Rows({m: x[:count] for m, x in rows.x.items()}, rows.observed[:count]), IMAGES.modalities
    other, batch = theirs.mhvae(IMAGES, mine), ours.batch_of(rows)
    prior = mine.prior(mine.encode_modalities(batch)).draw(1)
    empty = -torch.stack(list(log_likelihoods(mine, batch, prior).values())).sum((0, 1))
    corrected = []
    for i, one in enumerate(single_rows(rows)):
        copies, own = 2 ** (M - int(one.observed.sum())), 2 ** int(one.observed.sum()) - 1
        whole = other(theirs.dataset(one)).loss * (2**M - 1)
        corrected.append((whole - (copies - 1) * empty[i]) / (copies * own))
    return mine(batch).loss, torch.stack(corrected).mean()


CASES = {
    "DMVAE complete": lambda: dmvae(0.0),
    "DMVAE half missing": lambda: dmvae(HALF_MISSING),
    "CRMVAE complete": lambda: crmvae(0.0),
    "CRMVAE half missing": lambda: crmvae(HALF_MISSING),
    "TELBO, joint": lambda: telbo("joint"),
    "TELBO, surrogates": lambda: telbo("surrogates"),
    "CVAE, learned prior": lambda: cvae("learned"),
    "CVAE, fixed prior": lambda: cvae("standard"),
    "MHVAE complete": mhvae,
    "MHVAE half missing": mhvae_half_missing,
}


def check(name: str) -> str:
    """Asserts that both sides of a case agree, and says by how much."""
    with without_noise():
        mine, other = CASES[name]()
    difference = float((mine / other - 1).abs())
    assert difference < TOLERANCE, f"{name}: mvcore {float(mine)}, multivae {float(other)}"
    return f"{name}: mvcore {float(mine):.4f}, multivae {float(other):.4f}, relative difference {difference:.1e}"


if __name__ == "__main__":
    for name in CASES:
        print(check(name))
