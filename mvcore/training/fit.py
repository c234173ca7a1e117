"""Training: a short loop over stages; devices, precision and ranks come from accelerate."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from typing import Any, final

import torch
from accelerate import Accelerator
from attrs import field, frozen
from torch import Tensor, nn
from tqdm.auto import tqdm

from mvcore.data.batch import Batch
from mvcore.data.dataset import MultimodalDataset
from mvcore.errors import DataError, TrainingError
from mvcore.models.base import Model, Stage, isolated
from mvcore.plugins.hooks import make_manager, names


@final
@frozen(kw_only=True)
class Run:
    """A finished training."""

    model: Model
    """The trained model in evaluation mode: with validation data, as it was after the best epoch of the last stage."""
    history: list[dict[str, Any]] = field(repr=False)
    """One table an epoch: epoch, stage, loss and its terms (means over the rows), and ``validation_loss``."""
    seed: int
    """The seed of the batches' order and of the draws."""
    hooks: tuple[str, ...] = ()
    """What took part: hooks of installed distributions, and the callbacks."""


def fit(
    model: Model,
    data: MultimodalDataset,
    *,
    epochs: int = 100,
    batch_size: int = 128,
    lr: float = 1e-3,
    validation: MultimodalDataset | None = None,
    seed: int = 0,
    progress: bool = True,
    callbacks: Sequence[object] = (),
    hooks: bool = True,
    accelerator: Accelerator | None = None,
) -> Run:
    """Trains a model on complete or partial rows with Adam.

    The model is trained in place and returned in the run. Under ``torchrun`` each batch is divided among the ranks.

    Args:
        model: Any model.
        data: Training rows. Transforms that are not fitted yet are fitted to them.
        epochs: Passes over the rows in all, divided among the model's stages.
        batch_size: Rows of a batch, over all ranks.
        lr: Adam's learning rate.
        validation: Rows to choose the best epoch by.
        seed: Seed of torch's global generators and of the order of the rows.
        progress: Whether to show a progress bar.
        callbacks: Objects with functions marked by ``mvcore.plugins.hooks.hookimpl``.
        hooks: Whether the hooks of installed distributions take part.
        accelerator: Where and in which precision to train; by default what accelerate finds.

    Raises:
        DataError: If the data does not fit the model.
        TrainingError: If the loss is not finite.
    """
    for name, value in {"epochs": epochs, "batch_size": batch_size, "lr": lr}.items():
        if not value > 0:
            raise ValueError(f"{name} must be greater than 0, got {value!r}")
    for part in [data] if validation is None else [data, validation]:
        if part.schema.names != model.schema.names:
            raise DataError(f"The model has the modalities {model.schema.names}, the data {part.schema.names}.")
        model.check(part)
    model.check_training(data.observed)
    manager = make_manager(callbacks, installed=hooks)
    model.fit_transforms(data)
    torch.manual_seed(seed)
    accelerator = accelerator or Accelerator()
    loop = _Loop(model, data, validation, batch_size, lr, seed, accelerator, manager.hook)
    manager.hook.mvcore_fit_start(model=model, data=data, epochs=epochs)
    with tqdm(total=epochs, disable=not (progress and accelerator.is_main_process), unit="epoch") as bar:
        for stage, length in _lengths(model.stages(), epochs):
            loop.run(stage, length, bar)
    model.eval()
    run = Run(model=model, history=loop.history, seed=seed, hooks=tuple(names(manager)))
    manager.hook.mvcore_fit_end(run=run)
    return run


@final
class _Loop:
    """The state of a training that outlives a stage."""

    def __init__(
        self,
        model: Model,
        data: MultimodalDataset,
        validation: MultimodalDataset | None,
        batch_size: int,
        lr: float,
        seed: int,
        accelerator: Accelerator,
        hook: Any,
    ) -> None:
        self.model, self.data, self.validation = model, data, validation
        self.batch_size, self.lr, self.seed, self.accelerator = batch_size, lr, seed, accelerator
        self.history: list[dict[str, Any]] = []
        self.hook, self.step = hook, 0

    def run(self, stage: Stage, epochs: int, bar: tqdm[Any]) -> None:
        """Trains one stage; with validation data, the model ends as it was after the stage's best epoch."""
        trainable = {p for m in stage.frozen for p in m.parameters() if p.requires_grad}
        for parameter in trainable:
            parameter.requires_grad_(False)
        try:
            self._run(stage, epochs, bar)
        finally:
            for parameter in trainable:
                parameter.requires_grad_(True)

    def _run(self, stage: Stage, epochs: int, bar: tqdm[Any]) -> None:
        self.model.to(self.accelerator.device)
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        module, optimizer = self.accelerator.prepare(self.model, torch.optim.Adam(parameters, lr=self.lr, fused=True))
        best, kept = math.inf, None
        for epoch in range(epochs):
            row: dict[str, Any] = {
                "epoch": len(self.history),
                "stage": stage.name,
                **self._epoch(module, optimizer, stage, epoch),
            }
            if self.validation is not None:
                row["validation_loss"] = self._validate(stage)
                if row["validation_loss"] < best:
                    best, kept = row["validation_loss"], copy.deepcopy(self.model.state_dict())
            self.history.append(row)
            self.hook.mvcore_epoch_end(model=self.model, row=row)
            bar.set_postfix({"stage": stage.name, "loss": f"{row['loss']:.4g}"}, refresh=False)
            bar.update()
        if kept is not None:
            self.model.load_state_dict(kept)

    def _epoch(self, module: nn.Module, optimizer: Any, stage: Stage, epoch: int) -> dict[str, float]:
        self._train_mode(stage)
        sums: dict[str, Tensor] = {}
        batches = self._batches()
        for i, (batch, share) in enumerate(batches):
            output = module(batch, epoch=epoch + i / len(batches), stage=stage.name)
            optimizer.zero_grad(set_to_none=True)
            self.accelerator.backward(output.loss * share)
            optimizer.step()
            self.step += 1
            self.hook.mvcore_step_end(model=self.model, output=output, step=self.step)
            for name, value in {"loss": output.loss.detach(), **output.terms}.items():
                sums[name] = sums.get(name, 0) + value * len(batch)
        means = self._means(sums)
        if bad := [name for name, value in means.items() if not math.isfinite(value)]:
            raise TrainingError(
                f"The loss is not finite in epoch {epoch} of stage {stage.name!r}; terms that are not: "
                f"{', '.join(bad)}. Lower the learning rate, or look for extreme values in the data."
            )
        return means

    def _means(self, sums: dict[str, Tensor]) -> dict[str, float]:
        """Means over all rows and ranks, in one transfer from the device."""
        stacked = torch.stack([v.float() for v in sums.values()])
        values = self.accelerator.reduce(stacked, reduction="sum") / len(self.data)
        return dict(zip(sums, values.tolist(), strict=True))

    def _train_mode(self, stage: Stage) -> None:
        self.model.train()
        for module in stage.frozen:
            module.eval()

    def _batches(self) -> Sequence[tuple[Batch, float]]:
        return _Batches(self.data, self.batch_size, (self.seed, len(self.history)), self.accelerator)

    def _validate(self, stage: Stage) -> float:
        """Mean loss of the validation rows, after every warm-up; every rank takes all of them."""
        assert self.validation is not None
        total = 0.0
        with isolated(self.model, None):
            for batch in self.validation.batches(self.batch_size):
                output = self.model(batch.to(self.accelerator.device), stage=stage.name)
                total += float(output.loss) * len(batch)
        return total / len(self.validation)


@final
class _Batches(Sequence[tuple[Batch, float]]):
    """One rank's part of each batch of an epoch, and the factor that makes the ranks' mean that of all rows."""

    def __init__(self, data: MultimodalDataset, size: int, seed: tuple[int, int], accelerator: Accelerator) -> None:
        generator = torch.Generator().manual_seed(seed[0] * 1_000_003 + seed[1])
        self.parts = torch.randperm(len(data), generator=generator).split(size)
        self.data, self.accelerator = data, accelerator

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, index: Any) -> Any:
        ranks, rank = self.accelerator.num_processes, self.accelerator.process_index
        rows = self.parts[index]
        own = rows[rank::ranks]
        return self.data.batch(own).to(self.accelerator.device), len(own) * ranks / len(rows)


def _lengths(stages: Sequence[Stage], epochs: int) -> Iterator[tuple[Stage, int]]:
    """Whole epochs for each stage, in proportion to their shares, with the given sum."""
    total, done, share = sum(s.share for s in stages), 0, 0.0
    for stage in stages:
        share += stage.share
        end = round(epochs * share / total)
        yield stage, end - done
        done = end
