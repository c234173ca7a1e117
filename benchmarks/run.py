"""Times mvcore beside hand-written code and multivae, after checking that all compute the same.

Run ``python -m benchmarks.run`` from the root of the repository, or ``nox -s bench``; see ``README.md`` in this folder.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

import torch

from benchmarks import multivae_side as theirs, ours, same_loss
from benchmarks.handwritten import HandwrittenMoPoE
from benchmarks.networks import make_networks
from benchmarks.settings import (
    BOUNDS,
    FEATURES_64,
    FEATURES_784,
    HALF_MISSING,
    IMAGES,
    IMAGES_32,
    IMAGES_PRIVATE,
    TEN_MODALITIES,
    Rows,
    Setting,
    draw_rows,
)
from benchmarks.timing import Result, interleaved, load, result, to_json, to_markdown
from mvcore.models import Model, MultimodalVAE

HMC = {"steps": 10, "leapfrog": 10}  # multivae's default is 100 steps; time is linear in them on both sides


def compare(name: str, cases: dict[str, Callable[[], None]], repeats: int) -> Iterator[Result]:
    """Times every side of a case in turn; a line for each that mvcore is measured against."""
    seconds = interleaved(cases, repeats, warmup=2)
    for other in [side for side in cases if side != "mvcore"]:
        bound = BOUNDS.get((name, other))
        yield result(f"{name}: mvcore over {other}", seconds["mvcore"], seconds[other], bound=bound)
    if "hand-written" in cases:
        yield result(f"{name}: hand-written over multivae", seconds["hand-written"], seconds["multivae"], bound=None)


def mopoe(name: str, setting: Setting, missing: float, repeats: int) -> Iterator[Result]:
    """MoPoE's training step on all three sides."""
    rows = draw_rows(setting, missing=missing)
    check_same_loss(setting, rows)
    cases = {
        "mvcore": ours.training_step(ours.mopoe(setting), rows),
        "hand-written": HandwrittenMoPoE(setting).training_step(rows),
        "multivae": theirs.training_step(theirs.mopoe(setting), rows),
    }
    return compare(name, cases, repeats)


@torch.no_grad()
def check_same_loss(setting: Setting, rows: Rows, *, draws: int = 5) -> None:
    """Asserts that equal weights give equal divergences, which have no noise, and equal mean losses to 1 %."""
    networks = make_networks(setting)
    model, batch = ours.mopoe(setting, networks), ours.batch_of(rows)
    hand, multivae = HandwrittenMoPoE(setting, networks=networks), theirs.mopoe(setting, networks=networks)
    mine = [model(batch) for _ in range(draws)]
    written = [hand.loss(rows) for _ in range(draws)]
    other = [multivae(theirs.dataset(rows)) for _ in range(draws)]
    for kl in (written[0].kl, other[0].metrics["joint_divergence"]):
        torch.testing.assert_close(mine[0].terms["kl"], kl, rtol=1e-4, atol=1e-4)
    for losses in ([w.loss for w in written], [o.loss for o in other]):
        mean = torch.stack([m.loss for m in mine]).mean()
        torch.testing.assert_close(mean, torch.stack(losses).mean(), rtol=1e-2, atol=0.0)


def mmvae_plus(name: str, missing: float, repeats: int) -> Iterator[Result]:
    """MMVAE+'s training step with one draw."""
    rows = draw_rows(IMAGES_PRIVATE, missing=missing)
    cases = {
        "mvcore": ours.training_step(ours.mmvae_plus(IMAGES_PRIVATE), rows),
        "multivae": theirs.training_step(theirs.mmvae_plus(IMAGES_PRIVATE), rows),
    }
    return compare(name, cases, repeats)


def step(name: str, mine: Model, other: theirs.BaseMultiVAE, rows: Rows, repeats: int) -> Iterator[Result]:
    """A training step of one model on both sides."""
    cases = {"mvcore": ours.training_step(mine, rows), "multivae": theirs.training_step(other, rows)}
    return compare(name, cases, repeats)


def mvae(name: str, missing: float, repeats: int) -> Iterator[Result]:
    """MVAE's step with the joint and the unimodal terms."""
    return step(
        name, ours.plugin("mvae", IMAGES), theirs.mvae_terms(IMAGES), draw_rows(IMAGES, missing=missing), repeats
    )


def mvtcae(name: str, missing: float, repeats: int) -> Iterator[Result]:
    """MVTCAE's step."""
    rows = draw_rows(IMAGES, missing=missing)
    return step(name, ours.plugin("mvtcae", IMAGES), theirs.mvtcae(IMAGES), rows, repeats)


def mmvae(name: str, missing: float, repeats: int) -> Iterator[Result]:
    """MMVAE's step with ten draws."""
    mine = ours.plugin("mmvae", IMAGES_32, loss={"samples": 10})
    return step(name, mine, theirs.mmvae(IMAGES_32, K=10), draw_rows(IMAGES_32, missing=missing), repeats)


def jmvae(name: str, repeats: int) -> Iterator[Result]:
    """JMVAE's step on complete rows, which multivae asks for."""
    return step(name, ours.joint("jmvae", IMAGES), theirs.jmvae(IMAGES), draw_rows(IMAGES), repeats)


def dmvae(name: str, missing: float, repeats: int) -> Iterator[Result]:
    """DMVAE's step."""
    same_loss.check(name)
    mine = ours.plugin("dmvae", IMAGES_PRIVATE, private_dim=IMAGES_PRIVATE.private_dim)
    return step(name, mine, theirs.dmvae(IMAGES_PRIVATE), draw_rows(IMAGES_PRIVATE, missing=missing), repeats)


def crmvae(name: str, missing: float, repeats: int) -> Iterator[Result]:
    """CRMVAE's step."""
    same_loss.check(name)
    rows = draw_rows(IMAGES, missing=missing)
    return step(name, ours.plugin("crmvae", IMAGES), theirs.crmvae(IMAGES), rows, repeats)


def telbo(name: str, stage: str, epoch: int, repeats: int) -> Iterator[Result]:
    """TELBO's step in one of its stages, on complete rows, which multivae asks for."""
    same_loss.check(name)
    rows = draw_rows(IMAGES)
    cases = {
        "mvcore": ours.training_step(ours.joint("telbo", IMAGES), rows, stage=stage),
        "multivae": theirs.training_step(theirs.telbo(IMAGES), rows, epoch=epoch),
    }
    return compare(name, cases, repeats)


def cvae(name: str, prior: str, repeats: int) -> Iterator[Result]:
    """CVAE's step on complete rows, which multivae asks for; with a fixed prior also multivae's default networks."""
    same_loss.check(name)
    rows, mine = draw_rows(IMAGES), ours.cvae(IMAGES, prior=prior)
    cases = {
        "multivae": theirs.training_step(theirs.cvae(IMAGES, mine), rows),
        "mvcore": ours.training_step(mine, rows),
    }
    if prior == "standard":
        cases["multivae by default"] = theirs.training_step(theirs.cvae_by_default(IMAGES), rows)
    return compare(name, cases, repeats)


def mhvae(name: str, missing: float, repeats: int) -> Iterator[Result]:
    """MHVAE's step over all subsets, three levels."""
    same_loss.check(name)
    mine = ours.mhvae(IMAGES)
    return step(name, mine, theirs.mhvae(IMAGES, mine), draw_rows(IMAGES, missing=missing), repeats)


def jnf(name: str, repeats: int) -> Iterator[Result]:
    """One draw a row from the product of two flows, by as many Hamiltonian steps on both sides."""
    rows, given = draw_rows(IMAGES), IMAGES.names[:2]
    model = ours.jnf(IMAGES, **HMC)
    calls = ours.count_encoder_calls(model)
    sample = ours.subset_sampling(model, rows, given)
    sample()
    assert calls == dict.fromkeys(given, 1), f"the encoders were called {calls} times, expected once each"
    other = theirs.subset_sampling(theirs.jnf(IMAGES), rows, given, mcmc_steps=HMC["steps"], n_lf=HMC["leapfrog"])
    return compare(name, {"mvcore": sample, "multivae": other}, repeats)


def likelihood(name: str, setting: Setting, repeats: int) -> Iterator[Result]:
    """The joint log-likelihood of a product model with 1,000 importance samples."""
    rows, networks = draw_rows(setting), make_networks(setting)
    model, multivae = ours.mvae(setting, networks), theirs.mvae(setting, networks=networks)
    check_same_likelihood(model, multivae, rows)
    cases = {"mvcore": ours.joint_log_likelihood(model, rows), "multivae": theirs.joint_nll(multivae, rows)}
    return compare(name, cases, repeats)


def check_same_likelihood(model: MultimodalVAE, multivae: theirs.BaseMultiVAE, rows: Rows) -> None:
    """Asserts that equal weights give equal estimates, to 0.1 %."""
    mine = model.log_likelihood(ours.batch_of(rows), 1000).sum()
    other = -torch.as_tensor(multivae.compute_joint_nll(theirs.dataset(rows), K=1000, batch_size_K=100))
    torch.testing.assert_close(mine, other.to(mine), rtol=1e-3, atol=0.0)


def coherence(name: str, repeats: int) -> Iterator[Result]:
    """The coherence over all subsets from one encoding of each modality, and from a new one for each subset."""
    rows, model = draw_rows(IMAGES), ours.mopoe(IMAGES)
    once = ours.coherence(model, rows)
    calls = ours.count_encoder_calls(model)
    once()
    assert calls == dict.fromkeys(IMAGES.names, 1), f"the encoders were called {calls} times, expected once each"
    return compare(name, {"mvcore": once, "encoding anew": ours.coherence_encoding_anew(model, rows)}, repeats)


CASES: dict[str, Callable[[str, int], Iterator[Result]]] = {
    "MoPoE complete": lambda name, n: mopoe(name, IMAGES, 0.0, n),
    "MoPoE half missing": lambda name, n: mopoe(name, IMAGES, HALF_MISSING, n),
    "MoPoE ten modalities": lambda name, n: mopoe(name, TEN_MODALITIES, 0.0, max(3, n // 5)),
    "MMVAE+ complete": lambda name, n: mmvae_plus(name, 0.0, n),
    "MMVAE+ half missing": lambda name, n: mmvae_plus(name, HALF_MISSING, n),
    "MVAE complete": lambda name, n: mvae(name, 0.0, n),
    "MVAE half missing": lambda name, n: mvae(name, HALF_MISSING, n),
    "MVTCAE complete": lambda name, n: mvtcae(name, 0.0, n),
    "MVTCAE half missing": lambda name, n: mvtcae(name, HALF_MISSING, n),
    "MMVAE complete": lambda name, n: mmvae(name, 0.0, max(3, n // 2)),
    "MMVAE half missing": lambda name, n: mmvae(name, HALF_MISSING, max(3, n // 2)),
    "JMVAE complete": jmvae,
    "DMVAE complete": lambda name, n: dmvae(name, 0.0, n),
    "DMVAE half missing": lambda name, n: dmvae(name, HALF_MISSING, n),
    "CRMVAE complete": lambda name, n: crmvae(name, 0.0, n),
    "CRMVAE half missing": lambda name, n: crmvae(name, HALF_MISSING, n),
    "TELBO, joint": lambda name, n: telbo(name, "joint", 1, n),
    "TELBO, surrogates": lambda name, n: telbo(name, "surrogates", 2, n),
    "CVAE, learned prior": lambda name, n: cvae(name, "learned", n),
    "CVAE, fixed prior": lambda name, n: cvae(name, "standard", n),
    "MHVAE complete": lambda name, n: mhvae(name, 0.0, max(3, n // 3)),
    "MHVAE half missing": lambda name, n: mhvae(name, HALF_MISSING, max(3, n // 3)),
    "JNF sampling from two": lambda name, n: jnf(name, max(3, n // 3)),
    "joint likelihood, 784 features": lambda name, n: likelihood(name, FEATURES_784, max(3, n // 3)),
    "joint likelihood, 64 features": lambda name, n: likelihood(name, FEATURES_64, max(3, n // 3)),
    "coherence over all subsets": lambda name, n: coherence(name, max(3, n // 5)),
}


def main() -> None:
    """Checks and times the cases that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", choices=CASES, action="append", help="all by default")
    parser.add_argument("--repeats", type=int, default=15, help="timed calls of each side; fewer for the slow cases")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    before, results = load(), []
    for name in arguments.case or CASES:
        results += CASES[name](name, arguments.repeats)
        if not arguments.json:
            print(to_markdown(results).splitlines()[-1], flush=True)
    if arguments.json:
        print(to_json(results))
    else:
        print(f"\ntorch {torch.__version__}, {torch.get_num_threads()} threads; before: {before}; after: {load()}\n")
        print(to_markdown(results))


if __name__ == "__main__":
    main()
