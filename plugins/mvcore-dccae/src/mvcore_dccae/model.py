"""DCCAE: an autoencoder for each modality, and the canonical correlation of their codes."""

from __future__ import annotations

import math
from typing import final

from torch import Tensor

from mvcore.build import Parts, build_parts
from mvcore.data import Batch, Schema
from mvcore.losses import LossOutput, check_pairs, multiset_correlation
from mvcore.models import Autoencoder
from mvcore_dccae import DCCAEConfig


@final
class DCCAE(Autoencoder):
    r"""Deep canonically correlated autoencoders: reconstructions, less the correlation of the codes.

    .. math:: -\sum_{m \in O} \frac{1}{|O|} \sum_{c \in O} r_m \log p(x_m|z_c) - \lambda\,\rho(z_1, \dots, z_M)

    with the codes :math:`z_m` of the encoders, and :math:`\rho` their multiset canonical correlation over the rows of
    the batch that have each pair (``mvcore.losses.multiset_correlation``). ``reconstruct="own"`` decodes each modality
    from :math:`z_m` alone, as the paper does.

    Args:
        schema: The modalities.
        parts: Their input transforms, encoders, decoders and weights.
        config: The numbers.

    References:
        | On Deep Multi-View Representation Learning (Wang et al., 2015)
        | https://proceedings.mlr.press/v37/wangb15.html
    """

    config: DCCAEConfig

    def __init__(self, schema: Schema, *, parts: Parts, config: DCCAEConfig) -> None:
        super().__init__(schema, parts=parts, latent_dim=config.latent_dim, config=config)

    def forward(self, batch: Batch, *, epoch: float = math.inf, stage: str | None = None) -> LossOutput:
        """The loss and its terms, which sum to it."""
        batch = self.widened(batch)
        codes = self.encode_modalities(batch).experts
        own = self.config.reconstruct == "own"
        rows = (self.reconstruction_from_own if own else self.reconstruction_from_each)(batch, codes)
        if self.config.correlation:
            agreement = multiset_correlation(codes, batch, ridge=self.config.ridge)
            rows["correlation"] = -self.config.correlation * agreement.expand(len(batch))
        return LossOutput.from_rows(rows)

    def check_training(self, observed: Tensor) -> None:
        """Warns of modalities that correlate with none, for want of rows.

        Raises:
            DataError: If no two modalities are together in more than D + 1 rows.
        """
        if self.config.correlation:
            check_pairs(observed, self.schema.names, self.latent_dim)


def build(config: DCCAEConfig, schema: Schema) -> DCCAE:
    """A DCCAE from its config."""
    return DCCAE(schema, parts=build_parts(config, schema), config=config)
