"""How well a row's own modalities are predicted from all that it has."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from mvcore.data.batch import Batch
from mvcore.data.rows import packed
from mvcore.evaluation.evaluation import Evaluation
from mvcore.inference.encodings import Encodings
from mvcore.inference.estimators import predictive_mean
from mvcore.metrics.similarity import WINDOW, ssim
from mvcore.metrics.specs import ReconstructionConfig


@final
class Reconstruction:
    r"""``reconstruction/<modality>/mse``, for images also ``psnr`` and ``ssim``; ``accuracy`` of categories.

    A reconstruction is the predictive mean: the decoder's mean over K draws of the posterior given all that the row
    has. PSNR is :math:`10 \log_{10}(L^2 / \text{MSE})` decibels of each image, SSIM that of Wang et al. (2004), both
    averaged over the images; L is the data range.

    Args:
        K: Draws of the posterior; the evaluation's by default.
        data_range: Range L of a pixel; by default largest minus smallest value of the modality in the test rows.
    """

    def __init__(self, *, K: int | None = None, data_range: float | None = None) -> None:
        self.K, self.data_range = K, data_range

    def __call__(self, e: Evaluation) -> dict[str, float]:
        """Means over the known values, or over the images, of the rows that have the modality."""
        values: dict[str, float] = {}
        for name in e.targets:
            x, known = packed(e.test, name)
            if not len(x):
                e.skipped[f"reconstruction/{name}"] = "No test row has it."
                continue
            predicted = self._predict(e, name)
            if e.model.schema[name].categories is not None:
                scores = {"accuracy": _mean(predicted == x, known)}
            else:
                scores = {"mse": _mean((predicted - x).double().square(), known)}
                if x.ndim == 4 and known is None:
                    scores |= self._of_images(predicted, x)
            values |= {f"reconstruction/{name}/{key}": value for key, value in scores.items()}
        return values

    def _of_images(self, predicted: Tensor, x: Tensor) -> dict[str, float]:
        span = self.data_range or float(x.max() - x.min())
        scores = {"psnr": float(psnr(predicted, x, data_range=span).mean())}
        if min(x.shape[2:]) >= WINDOW:
            scores["ssim"] = float(ssim(predicted, x, data_range=span).mean())
        return scores

    def _predict(self, e: Evaluation, name: str) -> Tensor:
        def mean(view: Encodings, batch: Batch) -> Tensor:
            latents = e.model.posterior(view).draw(self.K or e.K)
            rows = batch.rows(name)
            return predictive_mean(e.model, latents.take(rows), name, batch, rows).cpu()

        return torch.cat(e.map(mean))


def psnr(x: Tensor, y: Tensor, *, data_range: float) -> Tensor:
    """Peak signal-to-noise ratio in decibels ``(n,)`` of images ``(n, *shape)``; infinite for equal ones."""
    return 10 * torch.log10(data_range**2 / (x - y).double().square().flatten(1).mean(1))


def _mean(values: Tensor, known: Tensor | None) -> float:
    return float((values if known is None else values[known]).double().mean())


def build(config: ReconstructionConfig) -> Reconstruction:
    """Builds the errors of reconstructions."""
    return Reconstruction(K=config.K, data_range=config.data_range)
