"""Embeddings of the modalities, which deep CCA trains and the flows are conditioned on."""

from __future__ import annotations

from typing import final

from torch import Tensor, nn

from mvcore.data import Schema
from mvcore.distributions import Encoded
from mvcore.nn import MLPEncoder
from mvcore.plugins import Registry
from mvcore_jnf import DCCAConfig, JNFConfig


@final
class EmbeddedEncoder(nn.Module):
    """An encoder that sees an embedding alone, and sends it no gradient: deep CCA has a stage of its own.

    Args:
        network: From an observation to ``Encoded``, whose code ``(n, E)`` is the embedding.
        head: From the embedding to the parameters of the flow's normal.
    """

    def __init__(self, network: nn.Module, head: MLPEncoder) -> None:
        super().__init__()
        self.network, self.head = network, head

    def embed(self, x: Tensor, mask: Tensor | None, context: Tensor | None) -> Tensor:
        """The embedding ``(n, E)``, which has a gradient."""
        encoded: Encoded = self.network(x, mask, context)
        return encoded.code

    def forward(self, x: Tensor, mask: Tensor | None = None, context: Tensor | None = None) -> Encoded:
        """The parameters of n observations."""
        encoded: Encoded = self.head(self.embed(x, mask, context).detach(), None, None)
        return encoded


def embedded(config: JNFConfig, dcca: DCCAConfig, schema: Schema) -> dict[str, EmbeddedEncoder]:
    """For each modality its encoder's network, with a head between the embedding and the flow."""
    registry, made = Registry.installed(), {}
    for m in schema:
        network: nn.Module = registry.build(
            config.modalities[m.name].encoder, modality=m, latent_dim=dcca.dimensions, private_dim=0,
            context_dim=schema.context_dim,
        )  # fmt: skip
        head = MLPEncoder((dcca.dimensions,), config.latent_dim, hidden=dcca.hidden)
        made[m.name] = EmbeddedEncoder(network, head)
    return made
