"""The loop over stages, epochs and batches, and its state, which a checkpoint holds."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, final

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.optim import lr_scheduler
from tqdm.auto import tqdm

from mvcore.data.batch import Batch
from mvcore.data.dataset import MultimodalDataset
from mvcore.errors import TrainingError
from mvcore.inference.isolation import isolated
from mvcore.losses.base import LossOutput
from mvcore.models.base import Model, Stage
from mvcore.options import TrainingConfig
from mvcore.training import checkpoint
from mvcore.training.sums import Sums


@final
class Loop:
    """A training under way.

    Args:
        model: The model, its transforms fitted.
        data: Training rows.
        validation: Rows to choose the best epoch by.
        options: How to train.
        accelerator: Devices, precision and ranks.
        hook: The hooks to call.
        folder: Where checkpoints go; None for none.
    """

    def __init__(
        self,
        model: Model,
        data: MultimodalDataset,
        validation: MultimodalDataset | None,
        options: TrainingConfig,
        accelerator: Accelerator,
        hook: Any,
        folder: Path | None,
    ) -> None:
        self.model, self.data, self.validation, self.options = model, data, validation, options
        self.accelerator, self.hook, self.folder = accelerator, hook, folder
        self.history: list[dict[str, Any]] = []
        self.step = 0  # steps of the whole training
        self.stage = 0  # the stage under way, and the epoch and batch in it
        self.epoch = self.batch = 0
        self.best, self.waited = math.inf, 0
        self.kept: dict[str, Tensor] | None = None
        self.sums = Sums()
        self.fingerprint: dict[str, Any] = {}
        self._loaded: dict[str, Any] | None = None

    def resume(self, state: Mapping[str, Any]) -> None:
        """Takes over the state of a checkpoint; weights, optimizer and random states follow when the stage starts."""
        self.model.load_state_dict(state["model"])
        self.history = json.loads(state["history"])
        for name in ("step", "stage", "epoch", "batch", "best", "waited", "kept"):
            setattr(self, name, state[name])
        own = state["ranks"][self.accelerator.process_index]
        self.sums = Sums(own["names"], own["totals"], own["first"])
        self._loaded = dict(state)

    def run(self, stages: Sequence[tuple[Stage, int]], bar: tqdm[Any]) -> None:
        """Trains the stages that are left; a stage with validation data ends as it was after its best epoch."""
        bar.update(len(self.history))
        while self.stage < len(stages):
            stage, epochs = stages[self.stage]
            with _frozen(stage):
                self._stage(stage, epochs, bar, last=self.stage == len(stages) - 1)
            self.stage, self.epoch, self.best, self.waited, self.kept = self.stage + 1, 0, math.inf, 0, None
            self._loaded = None
            if self.folder is not None and self.stage == len(stages):
                self._save(None, None)  # a finished training has nothing left to do when it is asked to go on

    def _stage(self, stage: Stage, epochs: int, bar: tqdm[Any], *, last: bool) -> None:
        self.model.to(self.accelerator.device)
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        adam = torch.optim.AdamW if self.options.weight_decay else torch.optim.Adam
        chosen = adam(parameters, lr=self.options.lr, weight_decay=self.options.weight_decay, fused=True)
        schedule = self._schedule(chosen, epochs)
        module, optimizer = self.accelerator.prepare(self.model, chosen)
        if self._loaded is not None:
            self._restore(chosen, schedule)
        while self.epoch < epochs and not self._waited_enough(last):
            row: dict[str, Any] = {
                "epoch": len(self.history),
                "stage": stage.name,
                **self._epoch(module, optimizer, schedule, stage),
            }
            self._judge(row, stage)
            self.history.append(row)
            self.epoch, self.batch, self.sums = self.epoch + 1, 0, Sums()
            if isinstance(schedule, lr_scheduler.ReduceLROnPlateau):
                schedule.step(row.get("validation_loss", row["loss"]))
            self._track(row)
            self.hook.mvcore_epoch_end(model=self.model, row=row)
            shown = {"stage": stage.name} | {k: f"{row[k]:.4g}" for k in ("loss", "validation_loss") if k in row}
            bar.set_postfix(shown, refresh=False)
            bar.update()
            if self.epoch % self.options.checkpoint_epochs == 0 or self.epoch == epochs:
                self._save(chosen, schedule)
        if self.kept is not None:
            self.model.load_state_dict(self.kept)

    def _track(self, row: Mapping[str, Any]) -> None:
        numbers = {name: value for name, value in row.items() if isinstance(value, float)}
        self.accelerator.log(numbers, step=int(row["epoch"]))

    def _waited_enough(self, last: bool) -> bool:
        return last and self.options.patience is not None and self.waited >= self.options.patience

    def _judge(self, row: dict[str, Any], stage: Stage) -> None:
        if self.validation is None:
            return
        row["validation_loss"] = self._validate(stage)
        if row["validation_loss"] < self.best:
            self.best, self.waited, self.kept = row["validation_loss"], 0, copy.deepcopy(self.model.state_dict())
        else:
            self.waited += 1

    def _epoch(self, module: nn.Module, optimizer: Any, schedule: Any, stage: Stage) -> dict[str, float]:
        self.model.train()
        for frozen in stage.frozen:
            frozen.eval()
        parts = _order(len(self.data), self.options, len(self.history))
        for i in range(self.batch, len(parts)):
            self._batch(module, optimizer, parts[i], self.epoch + i / len(parts), stage)
            if schedule is not None and not isinstance(schedule, lr_scheduler.ReduceLROnPlateau):
                schedule.step()
            self.batch = i + 1
            steps = self.options.checkpoint_steps
            if steps is not None and self.step % steps == 0 and self.batch < len(parts):
                self._check(stage)
                self._save(optimizer, schedule)
        self._check(stage)
        return self._means()

    def _batch(self, module: nn.Module, optimizer: Any, rows: Tensor, epoch: float, stage: Stage) -> None:
        """One optimizer step, its rows divided among the ranks and into micro-batches that all ranks have alike."""
        ranks, rank = self.accelerator.num_processes, self.accelerator.process_index
        pieces = rows[rank::ranks].tensor_split(self.options.accumulate)
        optimizer.zero_grad(set_to_none=True)
        for i, piece in enumerate(pieces):
            batch: Batch = self.data.batch(piece).to(self.accelerator.device)
            last = i == len(pieces) - 1
            with nullcontext() if last else self.accelerator.no_sync(module):
                output: LossOutput = module(batch, epoch=epoch, stage=stage.name)
                # the factor makes the mean over ranks and the sum over micro-batches the mean over all rows
                self.accelerator.backward(output.loss * (len(piece) * ranks / len(rows)))
            self.sums.add(output, len(batch), self.step)
        if self.options.clip_norm is not None:
            self.accelerator.clip_grad_norm_(self.model.parameters(), self.options.clip_norm)
        optimizer.step()
        self.step += 1
        self.hook.mvcore_step_end(model=self.model, output=output, step=self.step)

    def _means(self) -> dict[str, float]:
        """Means over all rows and ranks, in one transfer from the device."""
        assert self.sums.totals is not None
        values = self.accelerator.reduce(self.sums.totals, reduction="sum") / len(self.data)
        return dict(zip(self.sums.names, values.tolist(), strict=True))

    def _check(self, stage: Stage) -> None:
        """Raises a TrainingError that names what is not finite; the one place where the host waits for the device."""
        assert self.sums.first is not None
        first = self.accelerator.gather(self.sums.first[None]).amin(0)
        if not bool((first < math.inf).any()):
            return
        began = float(first.min())  # one term's infinity is another's in the next step
        bad = [n for n, step in zip(self.sums.names, first.tolist(), strict=True) if step == began]
        modalities = sorted({n.partition("/")[2] for n in bad if "/" in n})
        whose = f" Modalities: {', '.join(modalities)}." if modalities else ""
        raise TrainingError(
            f"The loss is not finite in epoch {self.epoch} of stage {stage.name!r}; terms that are not: "
            f"{', '.join(bad)}.{whose} It began in step {int(began) + 1} of the training. Lower the learning "
            "rate, clip the gradient (clip_norm), or look for extreme values in the data."
        )

    def _validate(self, stage: Stage) -> float:
        """Mean loss of the validation rows, after every warm-up; every rank takes all of them."""
        assert self.validation is not None
        total = 0.0
        with isolated(self.model, None):
            for batch in self.validation.batches(self.options.batch_size):
                output = self.model(batch.to(self.accelerator.device), stage=stage.name)
                total += float(output.loss) * len(batch)
        return total / len(self.validation)

    def _schedule(self, optimizer: torch.optim.Optimizer, epochs: int) -> Any:
        total = epochs * math.ceil(len(self.data) / self.options.batch_size)
        if self.options.schedule == "cosine":
            return lr_scheduler.CosineAnnealingLR(optimizer, max(1, total))
        if self.options.schedule == "one_cycle":
            return lr_scheduler.OneCycleLR(optimizer, self.options.lr, total_steps=total + 1)
        if self.options.schedule == "plateau":
            return lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=10)
        return None

    def _save(self, optimizer: Any, schedule: Any) -> None:
        if self.folder is None:
            return
        own = {"random": checkpoint.random_states(), **vars(self.sums)}
        ranks = gather_object([own])
        if not self.accelerator.is_main_process:
            return
        scaler = self.accelerator.scaler
        names = ("step", "stage", "epoch", "batch", "best", "waited", "kept")
        state = {
            "fingerprint": json.dumps(self.fingerprint),
            "history": json.dumps(self.history),
            "model": self.model.state_dict(),
            "optimizer": None if optimizer is None else optimizer.state_dict(),
            "schedule": None if schedule is None else _plain(schedule.state_dict()),
            "scaler": None if scaler is None else scaler.state_dict(),
            "ranks": ranks,
            **{name: getattr(self, name) for name in names},
        }
        checkpoint.write(self.folder, state)

    def _restore(self, optimizer: Any, schedule: Any) -> None:
        assert self._loaded is not None
        state, self._loaded = self._loaded, None
        if state["optimizer"] is not None:
            optimizer.load_state_dict(state["optimizer"])
        if schedule is not None and state["schedule"] is not None:
            schedule.load_state_dict(state["schedule"])
        if self.accelerator.scaler is not None and state["scaler"] is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.sums.to(self.accelerator.device)
        checkpoint.restore_random_states(state["ranks"][self.accelerator.process_index]["random"])


class _frozen:
    """Inside, the stage's frozen modules get no gradient."""

    def __init__(self, stage: Stage) -> None:
        self._parameters = {p for m in stage.frozen for p in m.parameters() if p.requires_grad}

    def __enter__(self) -> None:
        for parameter in self._parameters:
            parameter.requires_grad_(False)

    def __exit__(self, *_: object) -> None:
        for parameter in self._parameters:
            parameter.requires_grad_(True)


def lengths(stages: Sequence[Stage], epochs: int) -> Iterator[tuple[Stage, int]]:
    """Whole epochs for each stage, in proportion to their shares, with the given sum."""
    total, done, share = sum(s.share for s in stages), 0, 0.0
    for stage in stages:
        share += stage.share
        end = round(epochs * share / total)
        yield stage, end - done
        done = end


def _order(size: int, options: TrainingConfig, epoch: int) -> Sequence[Tensor]:
    """The rows of each batch of an epoch, on every rank the same."""
    generator = torch.Generator().manual_seed(options.seed * 1_000_003 + epoch)
    parts: Sequence[Tensor] = torch.randperm(size, generator=generator).split(options.batch_size)
    return parts


def _plain(state: Mapping[str, Any]) -> dict[str, Any]:
    """A scheduler's state without what is no number, such as a function it was built with."""
    return {k: v for k, v in state.items() if v is None or isinstance(v, bool | int | float | str | list)}
