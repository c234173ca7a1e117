"""Training: one function, whose devices, precision and ranks come from accelerate."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, final

import torch
from accelerate import Accelerator
from attrs import evolve, field, frozen
from tqdm.auto import tqdm

from mvcore.arguments import shown
from mvcore.data.align import aligned
from mvcore.data.rows import Rows
from mvcore.errors import CheckpointError, ConfigError, DataError
from mvcore.models.base import Model
from mvcore.options import Graphs, Optimizer, Precision, Schedule, Tracker, TrainingConfig
from mvcore.storage.lock import locked
from mvcore.training import checkpoint as checkpoints
from mvcore.training.arguments import check_flags, check_kind, folder_of, known_arguments, plain_number
from mvcore.training.hooks import make_manager, names
from mvcore.training.interrupts import Interrupts
from mvcore.training.loop import Loop
from mvcore.training.monitor import LOSS
from mvcore.training.ranks import check_ranks, make_accelerator
from mvcore.training.record import record_of
from mvcore.training.stages import lengths
from mvcore.training.tracking import check_trackers, tracked


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
    stopped: bool = False
    """Whether a hook ended it before its time, by ``StopTraining``; ``fit`` with ``resume=True`` goes on from there."""


@known_arguments
def fit(
    model: Model,
    data: Rows,
    *,
    validation: Rows | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    seed: int | None = None,
    optimizer: Optimizer | None = None,
    weight_decay: float | None = None,
    schedule: Schedule | None = None,
    clip_norm: float | None = None,
    accumulate: int | None = None,
    precision: Precision | None = None,
    graphs: Graphs | None = None,
    patience: int | None = None,
    tolerance: float | None = None,
    monitor: str | None = None,
    mode: Literal["min", "max"] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
    fork: bool = False,
    checkpoint_epochs: int | None = None,
    checkpoint_steps: int | None = None,
    trackers: Sequence[Tracker] = (),
    progress: bool = True,
    callbacks: Sequence[object] = (),
    hooks: bool = True,
    accelerator: Accelerator | None = None,
) -> Run:
    """Trains a model on complete or partial rows.

    The model is trained in place and returned in the run. Under ``torchrun`` each batch is divided among the ranks.
    An option that is left out is as the recipe of the model's config has it (``mvcore describe`` shows it), which is
    ``mvcore.options.TrainingConfig`` as it explains itself unless the config says more.

    Args:
        model: Any model.
        data: Training rows: a ``MultimodalDataset``, or other ``mvcore.data.Rows``, which may stay on disk. Transforms
            that are not fitted yet are fitted to them.
        validation: Rows to choose the best epoch by.
        epochs: Passes over the rows in all, divided among the model's stages.
        batch_size: Rows of an optimizer step.
        lr: The learning rate.
        seed: Seed of torch's global generators and of the order of the rows.
        optimizer: ``adam``, ``adamw``, ``nadam``, ``radam``, ``rmsprop`` or ``sgd``.
        weight_decay: Weight decay, decoupled but for ``rmsprop`` and ``sgd``.
        schedule: ``constant``, ``cosine``, ``one_cycle`` or ``plateau``.
        clip_norm: Largest norm of the gradient.
        accumulate: Micro-batches that a batch is divided into.
        precision: ``no``, ``bf16`` or ``fp16``.
        graphs: ``auto`` or ``off``: whether steps on a CUDA device are captured, where they can be.
        patience: Epochs without a better monitor after which the last stage ends.
        tolerance: By how much it has to become better for that.
        monitor: What the best epoch is chosen by: ``validation_loss``, or the name of a metric's value.
        mode: ``min`` or ``max``: which values of the monitor are better.
        checkpoint: A folder for checkpoints; None for none.
        resume: Whether to go on from the folder's checkpoint, if it has one; the run then ends with the weights and
            the history of one that was never interrupted, bit by bit on one machine.
        fork: Like ``resume``, but ``lr``, ``weight_decay``, ``clip_norm`` and the weights of the loss in the model's
            config may differ from those of the checkpoint; the training goes on with those given here. ``epochs`` may
            be more, and a finished training has these more, in its last stage; its ``schedule`` and ``patience`` may
            differ, too. The schedule must be ``constant`` or ``plateau``.
        checkpoint_epochs: Epochs between two checkpoints.
        checkpoint_steps: Steps between two checkpoints inside an epoch.
        trackers: ``tensorboard``, ``mlflow``, ``wandb``, through accelerate.
        progress: Whether to show a progress bar.
        callbacks: Objects with functions marked by ``mvcore.hookimpl``.
        hooks: Whether the hooks of installed distributions take part.
        accelerator: Where to train; by default what accelerate finds. It then has the precision and the trackers.

    Raises:
        DataError: If the data does not fit the model.
        ConfigError: If an option is unknown or out of its range, or a callback is never called.
        CheckpointError: If the folder's checkpoint is damaged or of another training, or may not be resumed.
        TrainingError: If other processes were launched that accelerate did not join; if the loss is not finite. The
            last checkpoint is kept; the model holds the weights that gave it.
    """
    check_flags(resume=resume, fork=fork, progress=progress, hooks=hooks)
    check_kind(accelerator, trackers)
    options = _options(
        model, epochs=epochs, batch_size=batch_size, lr=lr, seed=seed, optimizer=optimizer, weight_decay=weight_decay,
        schedule=schedule, clip_norm=clip_norm, accumulate=accumulate, precision=precision, patience=patience,
        graphs=graphs, tolerance=tolerance, monitor=monitor, mode=mode, checkpoint_epochs=checkpoint_epochs,
        checkpoint_steps=checkpoint_steps, trackers=trackers or None,
    )  # fmt: skip
    folder = folder_of(checkpoint)
    data, validation = _check(model, data, validation, options)
    stages = lengths(model.stages(), options.epochs)
    _check_accelerator(accelerator, options)
    if fork:
        _check_fork(folder, options)
    manager = make_manager(callbacks, installed=hooks)
    model.fit_transforms(data)
    model.sampler = model.record = None  # they are of other weights
    accelerator = accelerator or make_accelerator(options, folder)
    check_ranks(accelerator)
    with ExitStack() as stack:
        if folder is not None and accelerator.is_main_process:
            stack.enter_context(locked(folder))
        interrupts = stack.enter_context(Interrupts(active=folder is not None))
        loop = Loop(model, data, validation, options, accelerator, manager.hook, folder, interrupts)
        if loop.monitor.metric is not None:
            loop.monitor.measure(model)  # a name that there is not is found before the training
        if folder is not None:
            _take_up(loop, folder, resume=resume or fork, fork=fork)
            stages = list(loop.extended(stages))
        stack.enter_context(tracked(accelerator, model, options))
        loop.tell("mvcore_fit_start", model=model, data=data, epochs=options.epochs)
        silent = not (progress and accelerator.is_main_process)
        bar = stack.enter_context(tqdm(total=options.epochs, disable=silent, unit="epoch"))
        loop.run(stages, bar)
        model.eval()
        model.record = record_of(loop, data, validation, options)
        if interrupts.asked and loop.stopped:
            raise KeyboardInterrupt(f"The checkpoint in {str(folder)!r} is that of the last step; see fit's resume.")
        run = Run(
            model=model, history=loop.at.history, seed=options.seed, hooks=tuple(names(manager)), stopped=loop.stopped
        )
        loop.tell("mvcore_fit_end", run=run)
    return run


def _options(model: Model, **given: Any) -> TrainingConfig:
    """The recipe of the model's config with what the caller gave in its place."""
    if not isinstance(model, Model):
        raise DataError(f"model must be a mvcore.Model; got {shown(model)}. mvcore.create makes one.")
    recipe = TrainingConfig() if model.config is None else model.config.recipe()
    return evolve(recipe, **{name: plain_number(value) for name, value in given.items() if value is not None})


def _check_accelerator(accelerator: Accelerator | None, options: TrainingConfig) -> None:
    """An accelerator of the caller's has its own precision and trackers: others would be left out in silence."""
    on_cpu = not torch.accelerator.is_available() if accelerator is None else accelerator.device.type == "cpu"
    precision = options.precision if accelerator is None else accelerator.mixed_precision
    faults = []
    if precision == "fp16" and on_cpu:
        faults.append("precision: 'fp16' needs a GPU, and here is a CPU; 'bf16' works on both")
    if accelerator is not None and options.precision not in ("no", accelerator.mixed_precision):
        faults.append(
            f"precision is {options.precision!r}, but the accelerator that was given has "
            f"{accelerator.mixed_precision!r}; set it in Accelerator(mixed_precision=…) alone"
        )
    if accelerator is not None and options.trackers:
        faults.append(
            f"trackers is {options.trackers!r}, but an accelerator was given; name them in Accelerator(log_with=…)"
        )
    if faults:
        raise ConfigError(faults, "training")
    check_trackers(options.trackers)


def _check_fork(folder: Path | None, options: TrainingConfig) -> None:
    if folder is None:
        raise ConfigError(["fork: it goes on from a checkpoint, so fit needs checkpoint=…"], "training")
    if options.schedule in ("one_cycle", "cosine"):
        raise ConfigError(
            [f"fork: the schedule {options.schedule!r} has planned every step; take 'constant' or 'plateau'"],
            "training",
        )


def _check(model: Model, data: Rows, validation: Rows | None, options: TrainingConfig) -> tuple[Rows, Rows | None]:
    """The rows as the model has them."""
    for name, rows in {"data": data, "validation": data if validation is None else validation}.items():
        if not isinstance(rows, Rows):
            raise DataError(
                f"{name} must be a mvcore.MultimodalDataset; got {shown(rows)}. mvcore.from_frames makes one of tables."
            )
    if validation is None and (options.patience is not None or options.monitor != LOSS):
        raise DataError(
            "Early stopping needs validation rows, and so does a monitor; give fit validation=…, or leave patience and "
            "monitor out."
        )
    data = aligned(data, model.schema, every=True)
    validation = None if validation is None else aligned(validation, model.schema, every=True)
    for part in [data] if validation is None else [data, validation]:
        model.check(part)
    model.check_training(data.observed)
    return data, validation


def _take_up(loop: Loop, folder: Path, *, resume: bool, fork: bool) -> None:
    """Goes on from the folder's checkpoint, if there is one and that was asked for."""
    ranks = loop.accelerator.num_processes
    loop.fingerprint = checkpoints.fingerprint(loop.model, loop.data, loop.validation, loop.options, ranks)
    if (folder / checkpoints.FILE).exists() and not resume:
        raise CheckpointError(
            f"{str(folder)!r} holds the checkpoint of a training; go on with resume=True, or choose another folder.",
            path=folder,
        )
    state = checkpoints.read(folder, loop.fingerprint, fork=fork)
    if state is not None:
        loop.resume(state, checkpoints.forked(state, loop.fingerprint) if fork else ())
    loop.accelerator.wait_for_everyone()
