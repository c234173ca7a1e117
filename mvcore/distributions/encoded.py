"""What encoders give."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from torch import Tensor

from mvcore.distributions.diagonal import full


@final
@dataclass(frozen=True)
class Encoded:
    """What an encoder returns for n observations: raw parameters; the posterior maps them to scales."""

    loc: Tensor
    """Locations of the shared latents ``(n, D)``."""
    log_scale: Tensor
    """Logarithms of their scales ``(n, D)``, before the posterior's map."""
    private_loc: Tensor | None = None
    """Locations of the private latents ``(n, D_m)``, for encoders built with ``private_dim``."""
    private_log_scale: Tensor | None = None
    """Logarithms of their scales ``(n, D_m)``."""

    @property
    def code(self) -> Tensor:
        """The locations ``(n, D)``, in float32 at least, as the code of a deterministic encoder."""
        # a scale that takes no part would be a parameter without a gradient, which stops distributed training
        return full(self.loc) + 0 * full(self.log_scale)
