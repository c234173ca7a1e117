"""The loop over stages, epochs and batches, and its state, which a checkpoint holds."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, final

import attrs
import torch
from accelerate import Accelerator, DistributedType
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.optim import lr_scheduler
from tqdm.auto import tqdm

from mvcore.data.batch import Batch
from mvcore.data.rows import Rows, batches
from mvcore.errors import CheckpointError, TrainingError
from mvcore.inference.isolation import isolated
from mvcore.losses.base import LossOutput
from mvcore.models.base import Model, Stage
from mvcore.options import TrainingConfig
from mvcore.training import checkpoint, whole
from mvcore.training.draws import Draws
from mvcore.training.feed import on_device
from mvcore.training.graphs import Graphs, graphs_of
from mvcore.training.hooks import StopTraining
from mvcore.training.interrupts import Interrupts
from mvcore.training.monitor import Monitor
from mvcore.training.optimizers import make_optimizer, make_schedule, plain_state
from mvcore.training.ranks import same_buffers
from mvcore.training.stages import frozen, order
from mvcore.training.state import Progress, State
from mvcore.training.sums import Sums
from mvcore.training.threads import few_threads
from mvcore.training.watch import NotFiniteError, Watch, check_after, check_validation

_PLAIN = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU)  #: Steps are the optimizer's own.
_TOGETHER = 10  #: Steps between two points inside an epoch at which several ranks may stop.


class _Halt(Exception):
    """Leaves the loops of a training that is to stop, between two steps, its checkpoint saved."""


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
        interrupts: Whether it is to stop at the end of the step under way.
    """

    def __init__(
        self,
        model: Model,
        data: Rows,
        validation: Rows | None,
        options: TrainingConfig,
        accelerator: Accelerator,
        hook: Any,
        folder: Path | None,
        interrupts: Interrupts,
    ) -> None:
        self.model, self.data, self.validation, self.options = model, data, validation, options
        self.accelerator, self.hook, self.folder, self.interrupts = accelerator, hook, folder, interrupts
        self.at, self.sums = Progress(), Sums()
        self.stopped = False  # by a hook or an interrupt, before its time
        self.fingerprint: dict[str, Any] = {}
        self.draws = Draws(options.seed, accelerator.process_index, accelerator.num_processes)
        self.watch = Watch(model, accelerator)
        self.monitor = Monitor(options, data, validation)
        self._optimizer: torch.optim.Optimizer | None = None
        self._schedule: Any = None
        self._graphs: Graphs | None = None
        self._loaded: State | None = None
        self._forked: tuple[str, ...] = ()
        self._saved_step: int | None = None  # of the checkpoint
        self._asked = False  # whether a hook wants to stop
        self._settled = False  # whether the state is one that a checkpoint may hold

    def resume(self, state: State, forked: Sequence[str] = ()) -> None:
        """Takes over the state of a checkpoint; optimizer and random states follow when the stage starts.

        Args:
            state: The state.
            forked: The options of the optimizer that are to be as they are here, not as they are there.
        """
        file = self._file
        whole.check_parts(file, state.model, self.model.state_dict())
        self.at = Progress.of(state.progress, file)
        ended = self.at.ended or {}
        for weights in (self.at.kept, ended.get("kept"), ended.get("weights")):
            if weights is not None:
                whole.check_parts(file, weights, self.model.state_dict())
        if len(state.ranks) != self.accelerator.num_processes:
            whole.refuse(file, [f"it has {len(state.ranks)} ranks"])
        own = state.ranks[self.accelerator.process_index]
        whole.check_parts(file, own, whole.rank_parts(own, self.draws.states()))
        self.model.load_state_dict(state.model)
        self.sums = Sums(own["names"], own["totals"], own["first"])
        self._loaded, self._forked, self._saved_step = state, tuple(forked), self.at.step

    @property
    def _file(self) -> Path:
        assert self.folder is not None
        return self.folder / checkpoint.FILE

    def extended(self, stages: Sequence[tuple[Stage, int]]) -> Sequence[tuple[Stage, int]]:
        """The stages, the last one with all epochs that are left, where a finished training has more epochs now."""
        done = len(self.at.history)
        if self.at.stage < len(stages) or self.at.ended is None or "epochs" not in self._forked:
            return stages
        self.model.load_state_dict(self.at.reopen())
        if self.options.patience is not None and self.at.waited >= self.options.patience:
            self.at.waited = 0
        return [*stages[:-1], (stages[-1][0], self.options.epochs - done + self.at.epoch)]

    def tell(self, call: str, **what: Any) -> None:
        """Calls a hook, which may ask to stop."""
        try:
            getattr(self.hook, call)(**what)
        except StopTraining:
            self._asked = True

    def run(self, stages: Sequence[tuple[Stage, int]], bar: tqdm[Any]) -> None:
        """Trains the stages that are left; a stage with validation data ends as it was after its best epoch."""
        bar.update(len(self.at.history))
        try:
            self._run(stages, bar)
        except _Halt:
            self.stopped = True
            if self.at.kept is not None:
                self.model.load_state_dict(self.at.kept)
        except NotFiniteError as fault:
            self._back(fault)
            raise
        except KeyboardInterrupt:  # raised by a hook; one from the terminal waits for the end of the step
            if self._settled and self.accelerator.num_processes == 1:
                with suppress(TrainingError):
                    self._checked_save(stages[self.at.stage][0])
            raise

    def _run(self, stages: Sequence[tuple[Stage, int]], bar: tqdm[Any]) -> None:
        while self.at.stage < len(stages):
            stage, epochs = stages[self.at.stage]
            with frozen(stage):
                self._stage(stage, epochs, bar, last=self.at.stage == len(stages) - 1)
            self.at.next_stage()
            if self.at.stage == len(stages):
                self._save()  # a finished training has nothing left to do when it is asked to go on
            self._optimizer = self._schedule = self._loaded = self._graphs = None

    def _stage(self, stage: Stage, epochs: int, bar: tqdm[Any], *, last: bool) -> None:
        self.model.to(self.accelerator.device)
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        chosen = make_optimizer(parameters, self.options)
        self._optimizer, self._schedule = (
            chosen,
            make_schedule(chosen, self.options, epochs * math.ceil(len(self.data) / self.options.batch_size)),
        )
        module, optimizer = self.accelerator.prepare(self.model, chosen)
        if self._loaded is not None:
            self._restore(chosen)
        self.watch.keep()
        self._graphs = graphs_of(self.model, module, self.accelerator, self.data, stage.name, self.options)
        self._settled = True
        self._halt_if_asked(stage)
        while self.at.epoch < epochs and not self._waited_enough(last):
            with few_threads(self.accelerator.device, selects=not on_device(self.data, self.accelerator.device)):
                means = self._epoch(module, optimizer, stage, final=self.at.epoch == epochs - 1)
            row = {"epoch": len(self.at.history), "stage": stage.name, **means}
            self._close(row, stage, last=last)
            self._track(row)
            self.tell("mvcore_epoch_end", model=self.model, row=row)
            shown = {"stage": stage.name} | {k: f"{row[k]:.4g}" for k in ("loss", "validation_loss") if k in row}
            bar.set_postfix(shown, refresh=False)
            bar.update()
            ends = self.at.epoch == epochs or self._waited_enough(last)
            saves = ends or self.at.epoch % self.options.checkpoint_epochs == 0
            if saves and not (ends and last):  # at the very end the finished training is saved instead
                self._save()
            self._halt_if_asked(stage, saved=saves and not (ends and last))
        if last and self.folder is not None:
            self.at.end(self.model.state_dict())
        if self.at.kept is not None:
            self.model.load_state_dict(self.at.kept)

    def _close(self, row: dict[str, Any], stage: Stage, *, last: bool) -> None:
        """Ends an epoch: its row of the history is complete."""
        self._settled = False
        same_buffers(self.model, self.accelerator)
        if self.validation is not None:
            row["validation_loss"] = judged = self._validate(stage)
            if last and self.monitor.metric is not None:
                row[f"validation_{self.monitor.metric}"] = judged = self.monitor.measure(self.model)
            self._judge(self.monitor.score(judged) if last else judged)
        self.at.history.append(row)
        self.at.epoch, self.at.batch, self.sums = self.at.epoch + 1, 0, Sums()
        if isinstance(self._schedule, lr_scheduler.ReduceLROnPlateau):
            self._schedule.step(row.get("validation_loss", row["loss"]))
        self._settled = True

    def _track(self, row: Mapping[str, Any]) -> None:
        numbers = {name: value for name, value in row.items() if isinstance(value, float)}
        self.accelerator.log(numbers, step=int(row["epoch"]))

    def _waited_enough(self, last: bool) -> bool:
        return last and self.options.patience is not None and self.at.waited >= self.options.patience

    def _judge(self, score: float) -> None:
        if score < self.at.best:
            self.at.best, self.at.kept = score, copy.deepcopy(self.model.state_dict())
        if score < self.at.reference - self.options.tolerance:
            self.at.reference, self.at.waited = score, 0
        else:
            self.at.waited += 1

    def _epoch(self, module: nn.Module, optimizer: Any, stage: Stage, *, final: bool) -> dict[str, float]:
        self.model.train()
        for part in stage.frozen:
            part.eval()
        parts = order(len(self.data), self.options, len(self.at.history))
        for i in range(self.at.batch, len(parts)):
            self._settled = False
            output = self._batch(module, optimizer, parts[i], self.at.epoch + i / len(parts), stage)
            if self._schedule is not None and not isinstance(self._schedule, lr_scheduler.ReduceLROnPlateau):
                self._schedule.step()
            self.at.step, self.at.batch = self.at.step + 1, i + 1
            self._settled = True
            self.tell("mvcore_step_end", model=self.model, output=output, step=self.at.step)
            if self.at.batch < len(parts):
                self._between(stage)
        if final and self.watch.is_far():  # no later step would show what the last one made of the weights
            with isolated(self.model, None):
                first = self.data.batch(parts[0]).to(self.accelerator.device)
                check_after(self.model(first, stage=stage.name), self.at.step, self._where(stage))
        self._check(stage)
        return self._means()

    def _between(self, stage: Stage) -> None:
        """What may come between two steps of an epoch."""
        steps = self.options.checkpoint_steps
        saves = steps is not None and self.at.step % steps == 0
        if saves:
            self._checked_save(stage)
        # ranks agree seldom, for each time they wait for each other
        if self.accelerator.num_processes == 1 or self.at.step % _TOGETHER == 0:
            self._halt_if_asked(stage, saved=saves)

    def _batch(self, module: nn.Module, optimizer: Any, rows: Tensor, epoch: float, stage: Stage) -> LossOutput:
        """One optimizer step, its rows divided among the ranks and into micro-batches that all ranks have alike."""
        captured = None if self._graphs is None else self._graphs.step(rows, epoch)
        output = self._passes(module, optimizer, rows, epoch, stage) if captured is None else captured
        if captured is not None:
            self.sums.add(captured, len(rows), self.at.step)
        if self.options.clip_norm is not None:
            self.accelerator.clip_grad_norm_(self.model.parameters(), self.options.clip_norm)
        plain = self.accelerator.scaler is None and self.accelerator.distributed_type in _PLAIN
        # accelerate's step looks for a package on the path twice, a tenth of a step on small tables
        (self._optimizer if plain and self._optimizer is not None else optimizer).step()
        return output

    def _passes(self, module: nn.Module, optimizer: Any, rows: Tensor, epoch: float, stage: Stage) -> LossOutput:
        """The passes of one step, launched operation by operation."""
        ranks, rank = self.accelerator.num_processes, self.accelerator.process_index
        pieces = rows[rank::ranks].tensor_split(self.options.accumulate)
        optimizer.zero_grad(set_to_none=True)
        for i, piece in enumerate(pieces):
            batch: Batch = self.data.batch(piece).to(self.accelerator.device)
            last = i == len(pieces) - 1
            with nullcontext() if last else self.accelerator.no_sync(module), self.draws.shared(self.at.step):
                output: LossOutput = module(batch, epoch=epoch, stage=stage.name)
                self.sums.check(self.model, output)
                # the factor makes the mean over ranks and the sum over micro-batches the mean over all rows
                self.accelerator.backward(output.loss * (len(piece) * ranks / len(rows)))
            self.sums.add(output, len(batch), self.at.step)
        return output

    def _means(self) -> dict[str, float]:
        """Means over all rows and ranks, in one transfer from the device."""
        assert self.sums.totals is not None
        values = self.accelerator.reduce(self.sums.totals, reduction="sum") / len(self.data)
        return dict(zip(self.sums.names, values.tolist(), strict=True))

    def _check(self, stage: Stage) -> None:
        self.watch.check(self.sums, self.at.step, self._where(stage))

    def _where(self, stage: Stage) -> str:
        return f"epoch {self.at.epoch} of stage {stage.name!r}"

    def _validate(self, stage: Stage) -> float:
        """Mean loss of the validation rows, after every warm-up; every rank takes all of them."""
        assert self.validation is not None
        total = 0.0
        with isolated(self.model, None):
            for batch in batches(self.validation, self.options.batch_size):
                output = self.model(batch.to(self.accelerator.device), stage=stage.name)
                total += check_validation(output, self.at.step, self._where(stage)) * len(batch)
        return total / len(self.validation)

    def _halt_if_asked(self, stage: Stage, *, saved: bool = False) -> None:
        """Ends the training if a hook or an interrupt asked for it, on any rank; the checkpoint is saved."""
        asked = self._asked or self.interrupts.asked
        if self.accelerator.num_processes > 1:
            asked = any(gather_object([asked]))
        if asked:
            if not saved:
                self._checked_save(stage)
            raise _Halt

    def _checked_save(self, stage: Stage) -> None:
        if self.at.batch:  # at the ends of epochs it was looked at
            self._check(stage)
        self._save()

    def _save(self) -> None:
        if self.folder is None:
            return
        same_buffers(self.model, self.accelerator)
        own = {"random": self.draws.states(), **vars(self.sums)}
        ranks = gather_object([own])
        if self.accelerator.is_main_process:
            scaler = self.accelerator.scaler
            state = State(
                fingerprint=json.dumps(self.fingerprint),
                progress=self.at.plain(),
                model=self.model.state_dict(),
                optimizer=None if self._optimizer is None else self._optimizer.state_dict(),
                schedule=plain_state(self._schedule),
                scaler=None if scaler is None else scaler.state_dict(),
                ranks=tuple(ranks),
            )
            checkpoint.write(self.folder, state)
        self._saved_step = self.at.step
        self.accelerator.wait_for_everyone()
        row = self.at.history[-1] if self.at.history else None
        self.tell("mvcore_checkpoint", model=self.model, row=row, folder=self.folder)

    def _back(self, fault: NotFiniteError) -> None:
        """Back to what was sound: a checkpoint whose next step fails can't be gone on from."""
        self.watch.put_back()
        if self.folder is not None and self.accelerator.is_main_process and fault.step == self._saved_step:
            checkpoint.roll_back(self.folder)

    def _forked_fields(self) -> list[str]:
        """What the optimizer's groups keep of the options that a fork changes."""
        fields = {
            "lr": ["lr", "initial_lr"],
            "schedule": list(_MOVED),
            "weight_decay": ["weight_decay", "decoupled_weight_decay"],
        }
        return [field for name in self._forked for field in fields.get(name, [])]

    def _without_schedule(self, state: State, optimizer: torch.optim.Optimizer) -> State:
        """The state of a training whose schedule has ended, as if it had had the one that begins now."""
        own = plain_state(self._schedule)
        if state.optimizer is None:
            return attrs.evolve(state, schedule=own)
        groups = zip(state.optimizer["param_groups"], optimizer.state_dict()["param_groups"], strict=True)
        mixed = [{name: there.get(name, value) if name not in _MOVED else value for name, value in here.items()}
                 for there, here in groups]  # fmt: skip
        return attrs.evolve(state, schedule=own, optimizer={**state.optimizer, "param_groups": mixed})

    def _restore(self, optimizer: torch.optim.Optimizer) -> None:
        assert self._loaded is not None
        state, self._loaded = self._loaded, None
        if "schedule" in self._forked:
            state = self._without_schedule(state, optimizer)
        self._check_loaded(state, optimizer)
        if state.optimizer is not None:
            own = [{name: group[name] for name in self._forked_fields() if name in group} for group in
                   optimizer.param_groups]  # fmt: skip
            optimizer.load_state_dict(dict(state.optimizer))
            for group, here in zip(optimizer.param_groups, own, strict=True):
                group.update(here)
        if self._schedule is not None and state.schedule is not None:
            self._schedule.load_state_dict(state.schedule)
        if self.accelerator.scaler is not None and state.scaler is not None:
            self.accelerator.scaler.load_state_dict(dict(state.scaler))
        self.sums.to(self.accelerator.device)
        try:
            self.draws.restore(state.ranks[self.accelerator.process_index]["random"])
        except RuntimeError as fault:  # numbers that no generator has
            raise CheckpointError(f"{str(self._file)!r} is no whole checkpoint: {fault}", path=self._file) from fault

    def _check_loaded(self, state: State, optimizer: torch.optim.Optimizer) -> None:
        """Refuses a state of the optimizer, its schedule or scaler that none of this training could have."""
        scaler = self.accelerator.scaler
        wanted = {
            "optimizer": whole.optimizer_parts(optimizer, state.optimizer, self._forked_fields()),
            "schedule": plain_state(self._schedule),
            "scaler": None if scaler is None else scaler.state_dict(),
        }
        found = {"optimizer": state.optimizer, "schedule": state.schedule, "scaler": state.scaler}
        whole.check_parts(self._file, found, wanted)


#: What schedules move in the groups of an optimizer.
_MOVED = ("lr", "initial_lr", "max_lr", "min_lr", "betas", "momentum")
