"""The same work in multivae 1.0.3, with the networks of :mod:`benchmarks.networks`; none of its numerics is changed.

A training step is what its trainer does for a batch on CPU: ``torch.optim.Adam`` with its defaults (not fused),
``zero_grad``, ``backward``, ``step``. The loader, callbacks and logged metrics are left out.
"""

# mypy: disable-error-code="import-untyped, import-not-found, misc"
from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor

from benchmarks.networks import Networks, double_log_scales, make_networks
from benchmarks.settings import LEARNING_RATE, Rows, Setting
from mvcore.data import Batch

_TORCHVISION = ("", ".datasets", ".datasets.utils", ".models", ".transforms", ".utils")


class _Stub(ModuleType):
    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return object


@contextmanager
def torchvision_stub() -> Iterator[None]:
    """Lets multivae be imported without torchvision, which only its datasets and plots use; removed at the end."""
    names = [] if find_spec("torchvision") else [f"torchvision{end}" for end in _TORCHVISION]
    stubs = {name: _Stub(name) for name in names}
    for name, stub in stubs.items():
        stub.__spec__, stub.__path__ = ModuleSpec(name, None), []
    sys.modules.update(stubs)
    try:
        yield
    finally:
        for name in stubs:
            del sys.modules[name]


with torchvision_stub():
    from multivae.data.datasets.base import IncompleteDataset, MultimodalBaseDataset
    from multivae.models import (
        CRMVAE,
        CVAE,
        DMVAE,
        JMVAE,
        JNF,
        MHVAE,
        MMVAE,
        MVAE,
        MVTCAE,
        TELBO,
        CRMVAEConfig,
        CVAEConfig,
        DMVAEConfig,
        JMVAEConfig,
        JNFConfig,
        MHVAEConfig,
        MMVAEConfig,
        MMVAEPlus,
        MMVAEPlusConfig,
        MoPoE,
        MoPoEConfig,
        MVAEConfig,
        MVTCAEConfig,
        TELBOConfig,
    )
    from multivae.models.base import BaseMultiVAE
    from multivae.models.nn import BaseConditionalDecoder, BaseJointEncoder, BaseMultilatentEncoder
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn.base_architectures import BaseDecoder, BaseEncoder

# The sampler of JNF announces each call at level INFO, on two handlers.
logging.getLogger("multivae").setLevel(logging.WARNING)
for _name in [name for name in logging.root.manager.loggerDict if name.startswith("multivae.")]:
    logging.getLogger(_name).setLevel(logging.WARNING)


class _SharedEncoder(BaseEncoder):
    def __init__(self, network: torch.nn.Module, latent_dim: int) -> None:
        super().__init__()
        self.network, self.latent_dim = network, latent_dim

    def forward(self, x: Tensor) -> ModelOutput:
        loc, log_variance = self.network(x)
        return ModelOutput(
            embedding=loc, log_covariance=log_variance.clone()
        )  # its MVAE writes into it, a view of the network's output


class _PrivateEncoder(BaseMultilatentEncoder):
    def __init__(self, network: torch.nn.Module, latent_dim: int, private_dim: int) -> None:
        super().__init__()
        self.network, self.latent_dim, self.style_dim = network, latent_dim, private_dim

    def forward(self, x: Tensor) -> ModelOutput:
        loc, log_variance, private_loc, private_log_variance = self.network(x)
        return ModelOutput(
            embedding=loc,
            log_covariance=log_variance,
            style_embedding=private_loc,
            style_log_covariance=private_log_variance,
        )


class _Decoder(BaseDecoder):
    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, z: Tensor) -> ModelOutput:
        return ModelOutput(reconstruction=self.network(z))


def dataset(rows: Rows) -> MultimodalBaseDataset | IncompleteDataset:
    """The batch in multivae's type, on new dictionaries, since some of its methods drop keys from those they get."""
    if rows.complete:
        return MultimodalBaseDataset(data=dict(rows.x))
    return IncompleteDataset(data=dict(rows.x), masks={m: rows.observed[:, i] for i, m in enumerate(rows.x)})


def mopoe(setting: Setting, *, beta: float = 1.0, networks: Networks | None = None) -> MoPoE:
    """MoPoE with all subsets; its prior expert is in the component of all modalities only."""
    return MoPoE(MoPoEConfig(**_sizes(setting), beta=beta), **_wrapped(setting, networks))


def mmvae_plus(
    setting: Setting,
    *,
    K: int = 1,
    loss: Literal["iwae_looser", "dreg_looser"] = "iwae_looser",
    family: Literal["laplace_with_softmax", "normal_with_softplus", "normal"] = "laplace_with_softmax",
    networks: Networks | None = None,
) -> MMVAEPlus:
    """MMVAE+ with K draws; the prior scales of the private latents are learned (its default)."""
    config = MMVAEPlusConfig(
        **_sizes(setting),
        modalities_specific_dim=setting.private_dim,
        K=K,
        loss=loss,
        prior_and_posterior_dist=family,
    )
    return MMVAEPlus(config, **_wrapped(setting, networks, variances=family == "normal"))


def jnf(setting: Setting, *, networks: Networks | None = None) -> JNF:
    """JNF with its default flows: MAF of 2 blocks, each with 3 hidden layers of 128."""
    return JNF(JNFConfig(**_sizes(setting)), **_wrapped(setting, networks))


def mvae(setting: Setting, *, networks: Networks | None = None) -> MVAE:
    """MVAE: the product of all experts and the prior."""
    return MVAE(MVAEConfig(**_sizes(setting)), **_wrapped(setting, networks))


def mvae_terms(setting: Setting) -> MVAE:
    """MVAE with its joint and unimodal terms, without warm-up."""
    return MVAE(MVAEConfig(**_sizes(setting), use_subsampling=True, k=0, warmup=1), **_wrapped(setting, None))


def mvtcae(setting: Setting) -> MVTCAE:
    """MVTCAE with its defaults."""
    return MVTCAE(MVTCAEConfig(**_sizes(setting)), **_wrapped(setting, None))


def mmvae(setting: Setting, *, K: int) -> MMVAE:
    """MMVAE with Laplace latents of softmax scales and DReG, its defaults."""
    return MMVAE(MMVAEConfig(**_sizes(setting), K=K), **_wrapped(setting, None, variances=False))


def jmvae(setting: Setting) -> JMVAE:
    """JMVAE with its default joint encoder: a copy of each encoder, and two layers of 512."""
    return JMVAE(JMVAEConfig(**_sizes(setting), warmup=1), **_wrapped(setting, None))


def dmvae(setting: Setting, *, networks: Networks | None = None) -> DMVAE:
    """DMVAE, which counts the shared latent's divergence once in each term."""
    private = dict.fromkeys(setting.names, setting.private_dim)
    return DMVAE(DMVAEConfig(**_sizes(setting), modalities_specific_dim=private), **_wrapped(setting, networks))


def crmvae(setting: Setting, *, networks: Networks | None = None) -> CRMVAE:
    """CRMVAE with its default β of 2.5 and its halved reconstructions."""
    return CRMVAE(CRMVAEConfig(**_sizes(setting)), **_wrapped(setting, networks))


def telbo(
    setting: Setting, *, networks: Networks | None = None, joint_encoder: BaseJointEncoder | None = None
) -> TELBO:
    """TELBO, its likelihoods unweighted; the first epoch trains the joint VAE, later ones the surrogates."""
    config = TELBOConfig(**_sizes(setting), warmup=1, uses_likelihood_rescaling=False)
    return TELBO(config, **_wrapped(setting, networks), joint_encoder=joint_encoder)


class SharedJointEncoder(BaseJointEncoder):
    """mvcore's joint encoder in multivae's type, so that both have the same."""

    def __init__(self, network: torch.nn.Module, latent_dim: int) -> None:
        super().__init__()
        self.network, self.latent_dim = network, latent_dim

    def forward(self, x: dict[str, Tensor]) -> ModelOutput:
        q = self.network(x, {})
        return ModelOutput(embedding=q.loc, log_covariance=2 * q.log_scale)


class SubsetEncoder(BaseJointEncoder):
    """A network of mvcore's CVAE over the encodings of some modalities, in multivae's type."""

    def __init__(self, network: torch.nn.Module, encoders: torch.nn.ModuleDict, latent_dim: int) -> None:
        super().__init__()
        self.network, self.encoders, self.latent_dim = network, encoders, latent_dim

    def forward(self, x: dict[str, Tensor]) -> ModelOutput:
        q = self.network(encodings(self.encoders, x), Batch.from_dense(x))
        return ModelOutput(embedding=q.loc, log_covariance=2 * q.log_scale)


class ConditionalDecoder(BaseConditionalDecoder):
    """The decoder of mvcore's CVAE, of z and the features of the conditions, in multivae's type."""

    def __init__(self, network: torch.nn.Module, pool: torch.nn.Module, encoders: torch.nn.ModuleDict) -> None:
        super().__init__()
        self.network, self.pool, self.encoders = network, pool, encoders

    def forward(self, z: Tensor, cond_mods: dict[str, Tensor]) -> ModelOutput:
        told = self.pool(encodings(self.encoders, cond_mods), Batch.from_dense(cond_mods))
        return ModelOutput(reconstruction=self.network(torch.cat([z, told], 1), None)[:, 0])


def encodings(encoders: torch.nn.ModuleDict, x: dict[str, Tensor]) -> dict[str, Tensor]:
    """Both vectors of each encoder, side by side."""
    encoded = {m: encoders[m](values) for m, values in x.items()}
    return {m: torch.cat([e.loc, e.log_scale], 1) for m, e in encoded.items()}


class _Features(BaseEncoder):
    """The features of an encoder of mvcore's MHVAE, both of its vectors side by side."""

    def __init__(self, encoder: torch.nn.Module, latent_dim: int) -> None:
        super().__init__()
        self.encoder, self.latent_dim = encoder, latent_dim

    def forward(self, x: Tensor) -> ModelOutput:
        encoded = self.encoder(x)
        return ModelOutput(embedding=torch.cat([encoded.loc, encoded.log_scale], 1))


class _Block(BaseEncoder):
    """A block of mvcore's MHVAE that gives a normal; one of two inputs finds them side by side."""

    def __init__(self, block: torch.nn.Module, inputs: int = 1) -> None:
        super().__init__()
        self.block, self.inputs = block, inputs

    def forward(self, x: Tensor) -> ModelOutput:
        head = self.block(*x.chunk(self.inputs, dim=1))
        return ModelOutput(embedding=head.loc, log_covariance=2 * head.log_scale)


def mhvae(setting: Setting, networks: Any) -> MHVAE:
    """MHVAE with the blocks of mvcore's, a model, which are copied."""
    mine = deepcopy(networks)
    bottom_up = {}
    for m, encoder in mine.encoders.items():
        *between, last = encoder.layers
        bottom_up[m] = [*between, _Block(torch.nn.Sequential(last, encoder.head))]
    return MHVAE(
        MHVAEConfig(**_sizes(setting), n_latent=mine.count),
        encoders={m: _Features(encoder.encoder, setting.latent_dim) for m, encoder in mine.encoders.items()},
        decoders={m: _Decoder(decoder.network.network) for m, decoder in mine.decoders.items()},
        bottom_up_blocks=bottom_up,
        top_down_blocks=list(mine.top_down),
        posterior_blocks=[_Block(block, 2) for block in mine.expert_blocks],
        prior_blocks=[_Block(block) for block in mine.prior_blocks],
    )


def cvae(setting: Setting, networks: Any) -> CVAE:
    """CVAE with copies of the networks of mvcore's, a model; each of its three runs the encoders that it needs."""
    mine, main = deepcopy(networks), setting.names[0]
    prior = mine.prior_encoder and SubsetEncoder(mine.prior_encoder, mine.encoders, setting.latent_dim)
    return CVAE(
        _conditional(setting),
        encoder=SubsetEncoder(mine.posterior_encoder, mine.encoders, setting.latent_dim),
        decoder=ConditionalDecoder(mine.decoders[main].network, mine.condition_features, mine.encoders),
        prior_network=prior,
    )


def cvae_by_default(setting: Setting) -> CVAE:
    """CVAE with its default networks: the conditions side by side with z enter the decoder; the prior is fixed."""
    return CVAE(_conditional(setting))


def _conditional(setting: Setting) -> CVAEConfig:
    main, *conditions = setting.names
    shapes = {m: setting.shape for m in setting.names}
    return CVAEConfig(
        main_modality=main, conditioning_modalities=conditions, input_dims=shapes, latent_dim=setting.latent_dim
    )


def training_step(model: BaseMultiVAE, rows: Rows, *, epoch: int = 1) -> Callable[[], None]:
    """One step of multivae's trainer on one batch: forward, ``zero_grad``, backward, Adam."""
    model.train()
    inputs, n_rows = dataset(rows), len(rows.observed)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)

    def step() -> None:
        loss = model(inputs, epoch=epoch, dataset_size=n_rows, uses_ddp=False, batch_ratio=0.0).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def subset_sampling(
    model: JNF, rows: Rows, given: tuple[str, str], *, mcmc_steps: int = 100, n_lf: int = 10, eps_lf: float = 0.01
) -> Callable[[], None]:
    """One draw for each row from the product of two flows by Hamiltonian Monte Carlo; the numbers are its defaults."""
    model.eval()
    inputs = dataset(rows)

    def sample() -> None:
        model.encode(inputs, list(given), N=1, mcmc_steps=mcmc_steps, n_lf=n_lf, eps_lf=eps_lf)

    return sample


def joint_nll(model: BaseMultiVAE, rows: Rows, *, K: int = 1000, batch_size_K: int = 100) -> Callable[[], None]:
    """The joint negative log-likelihood of a batch with K importance samples (its default K and chunk)."""
    inputs = dataset(rows)

    def estimate() -> None:
        model.compute_joint_nll(inputs, K=K, batch_size_K=batch_size_K)

    return estimate


def _sizes(setting: Setting) -> dict[str, Any]:
    shapes = {m: setting.shape for m in setting.names}
    return {"n_modalities": setting.modalities, "latent_dim": setting.latent_dim, "input_dims": shapes}


def _wrapped(setting: Setting, networks: Networks | None, *, variances: bool = True) -> dict[str, Any]:
    networks = make_networks(setting) if networks is None else deepcopy(networks)
    if variances:
        for encoder in networks.encoders.values():
            double_log_scales(encoder)
    encoders = {m: _encoder(network, setting) for m, network in networks.encoders.items()}
    return {"encoders": encoders, "decoders": {m: _Decoder(network) for m, network in networks.decoders.items()}}


def _encoder(network: torch.nn.Module, setting: Setting) -> BaseEncoder:
    if setting.private_dim:
        return _PrivateEncoder(network, setting.latent_dim, setting.private_dim)
    return _SharedEncoder(network, setting.latent_dim)
