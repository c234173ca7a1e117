"""How a model is trained: the options of ``mvcore.fit``, checked, and what it notes. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, final, get_args

from attrs import field, frozen, validators

from mvcore.checked import Checked
from mvcore.validators import ranged

__all__ = [
    "Estimator",
    "Graphs",
    "Optimizer",
    "Pattern",
    "Precision",
    "Schedule",
    "Tracker",
    "TrainingConfig",
    "TrainingRecord",
]

Estimator = Literal["predictive", "ratio", "reweighted"]  #: See ``Model.conditional_log_likelihood``.
Optimizer = Literal["adam", "adamw", "nadam", "radam", "rmsprop", "sgd"]
Precision = Literal["no", "bf16", "fp16"]
Graphs = Literal["auto", "off"]
Schedule = Literal["constant", "cosine", "one_cycle", "plateau"]
Tracker = Literal["tensorboard", "mlflow", "wandb"]
_COUNT = ranged(1, 10**9)


@final
@frozen(kw_only=True)
class TrainingConfig(Checked):
    """The options of a training."""

    epochs: int = field(default=100, validator=_COUNT)
    """Passes over the rows in all, divided among the model's stages."""
    batch_size: int = field(default=128, validator=_COUNT)
    """Rows of an optimizer step, over all ranks and micro-batches."""
    lr: float = field(default=1e-3, validator=ranged(0, 1e30, above=True))
    """Learning rate; with a schedule the highest."""
    optimizer: Optimizer = field(default="adam", validator=validators.in_(get_args(Optimizer)))
    """``adam``, ``nadam`` and ``radam`` decouple a weight decay, so that ``adam`` is ``adamw`` where there is one;
    ``sgd`` has a momentum of 0.9, ``rmsprop`` none. All other settings are torch's."""
    seed: int = field(default=0, validator=ranged(0, 2**63 - 1))
    """Seed of torch's global generators and of the order of the rows."""
    weight_decay: float = field(default=0.0, validator=ranged(0, 1e30))
    """Decoupled weight decay (AdamW)."""
    schedule: Schedule = field(default="constant", validator=validators.in_(get_args(Schedule)))
    """The learning rate in each stage: ``cosine`` falls to 0; ``one_cycle`` rises over three tenths and falls (Smith &
    Topin, 2018); ``plateau`` is halved after 10 epochs without a better validation loss."""
    clip_norm: float | None = field(default=None, validator=ranged(0, 1e30, above=True))
    """Largest norm of the gradient; None: any."""
    accumulate: int = field(default=1, validator=ranged(1, 10_000))
    """Micro-batches that a batch is divided into, to save memory. Each is weighted by its rows, so the gradient is that
    of the whole batch."""
    precision: Precision = field(default="no", validator=validators.in_(get_args(Precision)))
    """Mixed precision of the networks; fusion, divergences and densities stay in float32."""
    graphs: Graphs = field(default="auto", validator=validators.in_(get_args(Graphs)))
    """On a CUDA device, whether steps are captured as CUDA graphs: ``auto``, where the model's can be. Rows are then
    padded, which adds nothing to loss and gradients; noise is another than of steps that are launched one by one."""
    patience: int | None = field(default=None, validator=_COUNT)
    """Epochs without a better ``monitor`` after which the last stage ends; None: it has all its epochs."""
    tolerance: float = field(default=0.0, validator=ranged(0, 1e30))
    """By how much the monitor has to become better within the patience. The weights are those of the best epoch
    whatever the tolerance."""
    monitor: str = "validation_loss"
    """What the best epoch is chosen by, and the patience waits for: the validation loss, or in the last stage a value
    of a metric on the validation rows, by the name that ``mvcore.evaluate`` gives it, such as ``imputation/labs``."""
    mode: Literal["min", "max"] | None = None
    """Whether smaller or greater values of the monitor are better; None: smaller of the loss, greater of a metric."""
    checkpoint_epochs: int = field(default=1, validator=_COUNT)
    """Epochs between two checkpoints, where there is a folder for them."""
    checkpoint_steps: int | None = field(default=None, validator=_COUNT)
    """Steps between two checkpoints inside an epoch; None: at the ends of epochs only."""
    trackers: tuple[Tracker, ...] = field(
        default=(), validator=validators.deep_iterable(validators.in_(get_args(Tracker)))
    )
    """Where accelerate also writes each epoch's row to; the packages are the user's to install."""


@final
@frozen(kw_only=True)
class Pattern(Checked):
    """A set of modalities, and how many rows have these and no other."""

    modalities: tuple[str, ...]
    rows: int


@final
@frozen(kw_only=True)
class TrainingRecord(Checked):
    """How a model was trained, as ``mvcore.fit`` notes it in ``Model.record``; numbers and names, no data."""

    rows: int
    """Rows that it was trained on."""
    validation_rows: int
    """Rows that the best epoch was chosen by; 0: the last epoch was kept."""
    patterns: tuple[Pattern, ...]
    """The sets of modalities that the rows have, the most frequent first, at most 100."""
    other_rows: int = 0
    """Rows with any other set."""
    epochs: int
    """Epochs that were trained."""
    loss: float | None
    """The mean loss of a row in the last of them; None if none came to its end."""
    stopped: bool
    """Whether a hook ended it before its time."""
    device: str
    """The kind of device, such as ``cuda``."""
    processes: int
    """Processes that the batches were divided among."""
    options: Mapping[str, str | int | float | bool | None]
    """The options of the training, those of the model's recipe included."""
    versions: Mapping[str, str]
    """The versions of mvcore, torch and Python."""
    data: Mapping[str, str | int | float | bool | None] | None = None
    """The table ``[data]`` of a training by ``mvcore train``, without folders and tables; None for other trainings."""
