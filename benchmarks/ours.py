"""The same work in mvcore, with the networks of :mod:`benchmarks.networks`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.networks import Encoder, Networks, make_networks
from benchmarks.settings import LEARNING_RATE, Rows, Setting
from mvcore.build import create
from mvcore.data import Batch, MultimodalDataset, Schema
from mvcore.distributions import Encoded
from mvcore.evaluation import Evaluation
from mvcore.likelihoods import LikelihoodDecoder, NormalLikelihood
from mvcore.losses import ELBO
from mvcore.metrics import Coherence
from mvcore.models import Model, MultimodalVAE
from mvcore.nn import JointEncoder
from mvcore.posteriors import ProductOfExperts


class _Encoder(nn.Module):
    def __init__(self, network: Encoder) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, mask: Tensor | None = None, context: Tensor | None = None) -> Encoded:
        return Encoded(*self.network(x))


class _Decoder(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        outputs: Tensor = self.network(z)
        return outputs[:, None]


def schema(setting: Setting) -> Schema:
    """The modalities of a setting."""
    return Schema.from_shapes(dict.fromkeys(setting.names, setting.shape))


def parts(setting: Setting, networks: Networks | None = None) -> dict[str, Any]:
    """Encoders and decoders of a hand-built model, and the sizes of its latents."""
    networks = make_networks(setting) if networks is None else networks
    likelihood = NormalLikelihood(setting.shape)
    decoders = {m: LikelihoodDecoder(_Decoder(network), likelihood) for m, network in networks.decoders.items()}
    return {
        "encoders": {m: _Encoder(network) for m, network in networks.encoders.items()},
        "decoders": decoders,
        "latent_dim": setting.latent_dim,
        "private_dims": dict.fromkeys(setting.names, setting.private_dim),
    }


def mopoe(setting: Setting, networks: Networks | None = None) -> MultimodalVAE:
    """MoPoE with the prior expert in the component of all modalities, as multivae has it."""
    joint = ProductOfExperts(setting.names, subsets="all", prior_expert="full")
    return MultimodalVAE(schema(setting), posterior=joint, loss=ELBO(), **parts(setting, networks))


def mvae(setting: Setting, networks: Networks | None = None) -> MultimodalVAE:
    """The product of all experts and the prior."""
    return MultimodalVAE(schema(setting), **parts(setting, networks))


def mmvae_plus(setting: Setting, networks: Networks | None = None) -> Model:
    """MMVAE+ with one draw and the gradient through IWAE, its networks replaced by the shared ones."""
    fields = {"latent_dim": setting.latent_dim, "private_dim": setting.private_dim}
    model = create("mmvaeplus", schema(setting), **fields, **{"loss.samples": 1, "loss.estimator": "iwae"})
    own = parts(setting, networks)
    model.encoders, model.decoders = nn.ModuleDict(own["encoders"]), nn.ModuleDict(own["decoders"])
    return model


def plugin(name: str, setting: Setting, networks: Networks | None = None, **fields: Any) -> Model:
    """A model by name, its encoders and decoders replaced by the shared ones."""
    model = create(name, schema(setting), latent_dim=setting.latent_dim, **fields)
    own = parts(setting, networks)
    model.encoders, model.decoders = nn.ModuleDict(own["encoders"]), nn.ModuleDict(own["decoders"])
    return model


def joint(name: str, setting: Setting) -> Model:
    """A model whose joint encoder has a copy of each encoder and two layers of 512, as multivae's default has."""
    model, copies = plugin(name, setting), parts(setting)["encoders"]
    sizes = dict.fromkeys(setting.names, 2 * setting.latent_dim)
    model.joint_encoder = JointEncoder(sizes, copies, setting.latent_dim, (512, 512))
    return model


def cvae(setting: Setting, *, prior: str = "learned") -> Model:
    """A CVAE of the first modality with the shared encoders, and a decoder of z and as many features."""
    sizes = {"latent_dim": setting.latent_dim, "encoding_dim": setting.latent_dim, "condition_dim": setting.latent_dim}
    main, wide = setting.names[0], replace(setting, latent_dim=2 * setting.latent_dim)
    model = create("cvae", schema(setting), main=main, prior=prior, condition_dropout=0.0, **sizes)
    model.encoders = nn.ModuleDict(parts(setting)["encoders"])
    model.decoders = nn.ModuleDict({main: parts(wide)["decoders"][main]})
    return model


def mhvae(setting: Setting) -> Model:
    """An MHVAE of three levels of vectors between the shared encoders and decoders."""
    sizes = {"latent_dim": setting.latent_dim, "width": 2 * setting.latent_dim, "levels": 3}
    model, own = create("mhvae", schema(setting), blocks="vectors", **sizes), parts(setting)
    for m, encoder in own["encoders"].items():
        model.encoders[m].encoder = encoder
    model.decoders = nn.ModuleDict(own["decoders"])
    return model


def jnf(setting: Setting, *, steps: int, leapfrog: int) -> Model:
    """JNF with flows of the size of multivae's, masked autoregressive, and that many steps before its one draw."""
    hmc = {"hmc.steps": steps, "hmc.adapt": steps // 2, "hmc.leapfrog": leapfrog}
    parts = {m: {"encoder": "mlp", "decoder": "mlp"} for m in setting.names}
    return create("jnf", schema(setting), latent_dim=setting.latent_dim, modalities=parts, **hmc)


def count_encoder_calls(model: Model) -> dict[str, int]:
    """Counts from now on how often each encoder is called, in the returned table."""
    calls: dict[str, int] = {}

    def count(name: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            calls[name] = calls.get(name, 0) + 1

        return hook

    for name, encoder in model.encoders.items():
        encoder.register_forward_hook(count(name))
    return calls


def batch_of(rows: Rows) -> Batch:
    """The observed rows, packed as a loader packs them."""
    return Batch(rows.packed()[0], rows.observed)


def training_step(model: Model, rows: Rows, *, stage: str | None = None) -> Callable[[], None]:
    """One step on a batch that has just been made: forward, ``zero_grad``, backward, Adam."""
    model.train()
    for module in [m for s in model.stages() if s.name == stage for m in s.frozen]:
        module.eval().requires_grad_(False)
    x, observed = rows.packed()[0], rows.observed
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=LEARNING_RATE, fused=True)

    def step() -> None:
        output = model(Batch(x, observed), stage=stage)
        optimizer.zero_grad(set_to_none=True)
        output.loss.backward()
        optimizer.step()

    return step


def subset_sampling(model: Model, rows: Rows, given: tuple[str, str]) -> Callable[[], None]:
    """One draw for each row given two modalities."""
    model.eval()
    view = batch_of(rows).only(given)

    def sample() -> None:
        model.encode(view, 1)

    return sample


def joint_log_likelihood(model: Model, rows: Rows, *, K: int = 1000) -> Callable[[], None]:
    """The log-likelihood of each row with K importance samples."""
    batch = batch_of(rows)

    def estimate() -> None:
        model.log_likelihood(batch, K)

    return estimate


def coherence(model: Model, rows: Rows) -> Callable[[], None]:
    """The coherence over all subsets, each modality encoded once."""
    data, classifiers = _judged(model, rows)

    def measure() -> None:
        Coherence(draws=1)(Evaluation(model, data, batch_size=len(data), resources={"classifiers": classifiers}))

    return measure


def coherence_encoding_anew(model: Model, rows: Rows) -> Callable[[], None]:
    """The same draws, decodings and classifications, every subset encoded for itself."""
    data, classifiers = _judged(model, rows)
    names = data.schema.names
    subsets = [given for size in range(1, len(names)) for given in combinations(names, size)]

    @torch.no_grad()
    def measure() -> None:
        for given in subsets:
            latents = model.encode(data.batch().only(given))
            for target in set(names) - set(given):
                classifiers[target](model.decode(latents.values, target).mean[0])

    return measure


def _judged(model: Model, rows: Rows) -> tuple[MultimodalDataset, dict[str, Callable[[Tensor], Tensor]]]:
    labels = torch.arange(len(rows.observed)) % 10
    data = MultimodalDataset(rows.x, {m: rows.observed[:, i] for i, m in enumerate(rows.x)}, labels=labels)
    weights = torch.randn(rows.x["m0"][0].numel(), 10, generator=torch.Generator().manual_seed(0))
    return data, dict.fromkeys(data.schema.names, lambda x: x.flatten(1) @ weights)
