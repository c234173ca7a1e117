"""The structural similarity of images."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

WINDOW = 11  #: Side of the Gaussian window in pixels, and the smallest side of an image; its deviation is 1.5 pixels.


def ssim(x: Tensor, y: Tensor, *, data_range: float) -> Tensor:
    r"""Structural similarity of each pair of images ``(n, channels, height, width)``, ``(n,)``.

    .. math:: \frac{(2 \mu_x \mu_y + c_1)(2 \sigma_{xy} + c_2)}
        {(\mu_x^2 + \mu_y^2 + c_1)(\sigma_x^2 + \sigma_y^2 + c_2)}, \quad c_1 = (.01 L)^2, c_2 = (.03 L)^2

    with moments under an 11 × 11 Gaussian window of deviation 1.5, averaged over the positions where the window lies
    inside the image, and over the channels, each on its own. L is the data range.

    References:
        | Image Quality Assessment: From Error Visibility to Structural Similarity (Wang et al., 2004)
        | https://doi.org/10.1109/TIP.2003.819861
    """
    offsets = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    weights = torch.exp(-0.5 * (offsets / 1.5).square())
    weights = (weights / weights.sum()).to(x.device)
    rows = len(x)
    x, y = (v.double().flatten(0, 1).unsqueeze(1) for v in (x, y))  # differences of squares: float32 is too coarse

    def blur(image: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(image, weights.view(1, 1, 1, -1)), weights.view(1, 1, -1, 1))

    mx, my = blur(x), blur(y)
    vx, vy, cov = blur(x * x) - mx * mx, blur(y * y) - my * my, blur(x * y) - mx * my
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    similar = (2 * mx * my + c1) * (2 * cov + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))
    return similar.reshape(rows, -1).mean(1)
