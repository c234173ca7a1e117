"""DVCCA: the composed model, with the encoders that it needs and no others."""

from __future__ import annotations

from typing import final

from torch import Tensor, nn

from mvcore.data import ModalitySpec, Schema
from mvcore.distributions import Encoded
from mvcore.models import MultimodalVAE, build_multimodal
from mvcore.plugins import Registry
from mvcore_dvcca import DVCCAConfig
from mvcore_dvcca.main_view import MainView


@final
class ViewEncoder(nn.Module):
    """The encoders of one modality: of the shared latent, if it is the main one, and of its private latent.

    What it has no encoder of is 0, and nothing reads it.

    Args:
        latent_dim: Dimensions D of the shared latent.
        shared: From an observation to ``Encoded`` of the shared latent; None for a modality that is not the main one.
        private: From an observation to ``Encoded`` of the private latent; None where there is none.
    """

    def __init__(self, latent_dim: int, shared: nn.Module | None, private: nn.Module | None) -> None:
        super().__init__()
        self.latent_dim, self.shared, self.private = latent_dim, shared, private

    def forward(self, x: Tensor, mask: Tensor | None = None, context: Tensor | None = None) -> Encoded:
        """Encodes n observations."""
        nothing = x.new_zeros(len(x), self.latent_dim)
        shared = Encoded(nothing, nothing) if self.shared is None else self.shared(x, mask, context)
        if self.private is None:
            return Encoded(shared.loc, shared.log_scale)
        private: Encoded = self.private(x, mask, context)
        return Encoded(shared.loc, shared.log_scale, private.loc, private.log_scale)


def build(config: DVCCAConfig, schema: Schema) -> MultimodalVAE:
    """A DVCCA from its config."""
    model, private = build_multimodal(config, schema), config.private_dims(schema)
    posterior = model.joint_posterior
    assert isinstance(posterior, MainView)
    encoders = {}
    for m in schema:
        D, D_m = config.latent_dim if m.name == posterior.main else 0, private[m.name]
        # without a private latent the model's encoder is that of the shared one, a caller's own among them
        shared = model.encoders[m.name] if D and not D_m else _network(config, schema, m, D)
        encoders[m.name] = ViewEncoder(config.latent_dim, shared, _network(config, schema, m, D_m))
    model.encoders.update(encoders)
    return model


def _network(config: DVCCAConfig, schema: Schema, modality: ModalitySpec, size: int) -> nn.Module | None:
    """A network like the modality's encoder, of a latent of some dimensions; None of none."""
    if not size:
        return None
    network: nn.Module = Registry.installed().build(
        config.modalities[modality.name].encoder, modality=modality, latent_dim=size, private_dim=0,
        context_dim=schema.context_dim,
    )  # fmt: skip
    return network
