"""Training: one function, whose devices, precision and ranks come from accelerate."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import torch
from accelerate import Accelerator
from attrs import evolve, field, frozen
from tqdm.auto import tqdm

from mvcore.data.align import aligned
from mvcore.data.dataset import MultimodalDataset
from mvcore.errors import CheckpointError, DataError
from mvcore.models.base import Model
from mvcore.options import Precision, Schedule, Tracker, TrainingConfig
from mvcore.training import checkpoint as checkpoints
from mvcore.training.hooks import make_manager, names
from mvcore.training.joining import check_joined, make_accelerator
from mvcore.training.loop import Loop, lengths


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
    validation: MultimodalDataset | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    seed: int | None = None,
    weight_decay: float | None = None,
    schedule: Schedule | None = None,
    clip_norm: float | None = None,
    accumulate: int | None = None,
    precision: Precision | None = None,
    patience: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
    checkpoint_epochs: int | None = None,
    checkpoint_steps: int | None = None,
    trackers: Sequence[Tracker] = (),
    progress: bool = True,
    callbacks: Sequence[object] = (),
    hooks: bool = True,
    accelerator: Accelerator | None = None,
) -> Run:
    """Trains a model on complete or partial rows with Adam.

    The model is trained in place and returned in the run. Under ``torchrun`` each batch is divided among the ranks.
    An option that is left out is as the recipe of the model's config has it (``mvcore describe`` shows it), which is
    ``mvcore.options.TrainingConfig`` as it explains itself unless the config says more.

    Args:
        model: Any model.
        data: Training rows. Transforms that are not fitted yet are fitted to them.
        validation: Rows to choose the best epoch by.
        epochs: Passes over the rows in all, divided among the model's stages.
        batch_size: Rows of an optimizer step.
        lr: Adam's learning rate.
        seed: Seed of torch's global generators and of the order of the rows.
        weight_decay: Decoupled weight decay.
        schedule: ``constant``, ``cosine``, ``one_cycle`` or ``plateau``.
        clip_norm: Largest norm of the gradient.
        accumulate: Micro-batches that a batch is divided into.
        precision: ``no``, ``bf16`` or ``fp16``.
        patience: Epochs without a better validation loss after which the last stage ends.
        checkpoint: A folder for checkpoints; None for none.
        resume: Whether to go on from the folder's checkpoint, if it has one; the run then ends with the weights and
            the history of one that was never interrupted, bit by bit on one machine.
        checkpoint_epochs: Epochs between two checkpoints.
        checkpoint_steps: Steps between two checkpoints inside an epoch.
        trackers: ``tensorboard``, ``mlflow``, ``wandb``, through accelerate.
        progress: Whether to show a progress bar.
        callbacks: Objects with functions marked by ``mvcore.training.hooks.hookimpl``.
        hooks: Whether the hooks of installed distributions take part.
        accelerator: Where to train; by default what accelerate finds. It then has the precision and the trackers.

    Raises:
        DataError: If the data does not fit the model.
        ConfigError: If an option is out of its range, or a callback is never called.
        CheckpointError: If the folder's checkpoint is damaged or of another training, or may not be resumed.
        TrainingError: If processes of a launcher are not joined, or if the loss is not finite. The last checkpoint is
            kept; the model holds the weights that gave it.
    """
    options = _options(
        model, epochs=epochs, batch_size=batch_size, lr=lr, seed=seed, weight_decay=weight_decay, schedule=schedule,
        clip_norm=clip_norm, accumulate=accumulate, precision=precision, patience=patience,
        checkpoint_epochs=checkpoint_epochs, checkpoint_steps=checkpoint_steps, trackers=tuple(trackers) or None,
    )  # fmt: skip
    data, validation = _check(model, data, validation, options)
    folder = None if checkpoint is None else Path(checkpoint)
    _check_accelerator(accelerator, options)
    accelerator = accelerator or make_accelerator(options, folder)
    manager = make_manager(callbacks, installed=hooks)
    model.fit_transforms(data)
    torch.manual_seed(options.seed)
    loop = Loop(model, data, validation, options, accelerator, manager.hook, folder)
    if folder is not None:
        _take_up(loop, folder, resume)
    if options.trackers:
        accelerator.init_trackers(
            "mvcore", {k: v for k, v in loop.fingerprint.get("options", {}).items() if v is not None}
        )
    manager.hook.mvcore_fit_start(model=model, data=data, epochs=options.epochs)
    with tqdm(total=options.epochs, disable=not (progress and accelerator.is_main_process), unit="epoch") as bar:
        loop.run(list(lengths(model.stages(), options.epochs)), bar)
    model.eval()
    run = Run(model=model, history=loop.history, seed=options.seed, hooks=tuple(names(manager)))
    manager.hook.mvcore_fit_end(run=run)
    if options.trackers:
        accelerator.end_training()
    return run


def _options(model: Model, **given: Any) -> TrainingConfig:
    """The recipe of the model's config with what the caller gave in its place."""
    recipe = TrainingConfig() if model.config is None else model.config.recipe()
    return evolve(recipe, **{name: value for name, value in given.items() if value is not None})


def _check_accelerator(accelerator: Accelerator | None, options: TrainingConfig) -> None:
    """An accelerator of the caller's has its own precision and trackers: others would be left out in silence."""
    if accelerator is None:
        return
    if options.precision not in ("no", accelerator.mixed_precision):
        raise ValueError(
            f"precision is {options.precision!r}, but the accelerator that was given has "
            f"{accelerator.mixed_precision!r}; set it in Accelerator(mixed_precision=…) alone."
        )
    if options.trackers:
        raise ValueError(
            f"trackers is {options.trackers!r}, but an accelerator was given; name them in Accelerator(log_with=…)."
        )
    check_joined(accelerator)


def _check(
    model: Model, data: MultimodalDataset, validation: MultimodalDataset | None, options: TrainingConfig
) -> tuple[MultimodalDataset, MultimodalDataset | None]:
    """The rows as the model has them."""
    if options.patience is not None and validation is None:
        raise DataError("Early stopping needs validation rows; give fit validation=…, or leave patience out.")
    data = aligned(data, model.schema, every=True)
    validation = None if validation is None else aligned(validation, model.schema, every=True)
    for part in [data] if validation is None else [data, validation]:
        model.check(part)
    model.check_training(data.observed)
    return data, validation


def _take_up(loop: Loop, folder: Path, resume: bool) -> None:
    """Goes on from the folder's checkpoint, if there is one and that was asked for."""
    ranks = loop.accelerator.num_processes
    loop.fingerprint = checkpoints.fingerprint(loop.model, loop.data, loop.validation, loop.options, ranks)
    if (folder / checkpoints.FILE).exists() and not resume:
        raise CheckpointError(
            f"{str(folder)!r} holds the checkpoint of a training; go on with resume=True, or choose another folder.",
            path=folder,
        )
    state = checkpoints.read(folder, loop.fingerprint)
    if state is not None:
        loop.resume(state)
    loop.accelerator.wait_for_everyone()
