"""A training described in one TOML file: its data, its model, its options; and the folder that it leaves.

::

    runs/mopoe/  config.json   what was asked for
                 model/        the trained model, as ``mvcore.save`` writes it
                 history.json  one row an epoch
                 checkpoint/   where an interrupted training goes on
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from attrs import Attribute, field, frozen

from mvcore import config as configs
from mvcore.checked import Checked
from mvcore.config.converter import unknown_key
from mvcore.data.reading import Reading
from mvcore.errors import ConfigError, ModelFileError
from mvcore.options import TrainingConfig
from mvcore.plugins.spec import DatasetConfig
from mvcore.runs.folder import check_folder, check_near, config_of_run, read_json
from mvcore.runs.rows import with_data
from mvcore.storage.address import is_address
from mvcore.storage.lock import locked
from mvcore.storage.writing import write_whole
from mvcore.validators import not_negative, share

if TYPE_CHECKING:
    from mvcore.data.dataset import MultimodalDataset
    from mvcore.training.fit import Run


def _share_of_rows(instance: Any, attribute: Attribute[Any], value: Any) -> None:
    if not 0 < value <= 1:
        raise ValueError(f"{attribute.name} must be in (0, 1], got {value!r}")


@final
@frozen(kw_only=True)
class DataTable(Checked):
    """The table ``[data]``: a registered data set, or a folder with a table for each modality."""

    use: DatasetConfig | None = None
    """A registered data set: its name, or a table with ``use`` and its fields."""
    folder: str | None = None
    """A folder with one file a modality, ``labs.csv``, ``rna.parquet``, ``x.tsv``, ``y.csv.gz``, ``z.xlsx``; ids, which
    are text, in the first column."""
    likelihoods: Mapping[str, str] = field(factory=dict)
    """The likelihood of each modality of a folder; normal for those that are not named. Text needs ``categorical``."""
    ids: str | None = None
    """The column of the ids in each table of a folder; None: the first."""
    labels: str | None = None
    """A column of a table that holds labels, for evaluation alone; the model is not told it. Rows may lack theirs."""
    categories: tuple[str, ...] = ()
    """Columns that hold categories, text or numbers."""
    context: tuple[str, ...] = ()
    """Columns that are covariates, which every row needs; text is categories."""
    separator: str | None = None
    """Between the columns of ``.csv`` files; None: a comma."""
    decimal: str = "."
    """Before the decimals of a number."""
    thousands: str | None = None
    """Between the thousands of a number."""
    encoding: str = "utf-8"
    """Of text files."""
    missing: tuple[str, ...] = ()
    """Codes of unknown values, such as ``"<0.1"`` or ``"."``, beside nothing at all, NA, NaN, null and the like."""
    sheets: Mapping[str, str] = field(factory=dict)
    """The sheet of a spreadsheet that has several, by the name of the file without its ending."""
    train: float = field(default=0.8, validator=_share_of_rows)
    """Share of the rows to train on; the others are for evaluation. 1: there are none."""
    validation: float = field(default=0.0, validator=share)
    """Share of the training rows by which the best epoch is chosen; 0: the last epoch is kept."""
    hide: float = field(default=0.0, validator=share)
    """Probability with which each modality of a training row is hidden, completely at random."""
    seed: int = field(default=0, validator=not_negative)
    """Seed of the split and of what is hidden."""

    def __attrs_post_init__(self) -> None:
        """Refuses two sources, or none."""
        if (self.use is None) == (self.folder is None):
            raise ValueError("name one source, either use = '…' (a registered data set) or folder = '…'")
        reading = self.reading
        if self.use is not None and (reading != Reading() or self.labels or self.categories or self.context):
            raise ValueError("how files are written, labels, categories and context are of a folder, not of use = '…'")

    @property
    def reading(self) -> Reading:
        """How the files are written."""
        return Reading(
            ids=self.ids, separator=self.separator, decimal=self.decimal, thousands=self.thousands,
            encoding=self.encoding, missing=self.missing, sheets=self.sheets,
        )  # fmt: skip


@final
@frozen(kw_only=True)
class RunData:
    """The rows of a run: to train on, to choose the best epoch by, to evaluate on."""

    train: MultimodalDataset
    validation: MultimodalDataset | None
    test: MultimodalDataset | None


def read(path: str | Path, changes: Sequence[str] = ()) -> dict[str, Any]:
    """The tables of a config file, some values replaced.

    Args:
        path: A TOML file with the tables ``[data]``, ``[model]`` and ``[training]``.
        changes: Values to set, each ``"table.field=value"``, the value as in TOML; what is no TOML is a string.

    Raises:
        ConfigError: If the file cannot be read, or has a table that no run has.
    """
    tables = changed(path, changes)
    if faults := table_faults(tables, ("data", "model"), ("training",)):
        raise ConfigError(faults, str(path))
    return tables


def changed(path: str | Path, changes: Sequence[str]) -> dict[str, Any]:
    """The tables of a TOML file, some values replaced, as for ``read``."""
    tables = configs.read_toml(path)
    for change in changes:
        _set(tables, change)
    return tables


def table_faults(tables: Mapping[str, Any], required: Sequence[str], optional: Sequence[str]) -> list[str]:
    """Which tables a file has too many, and which are missing or no tables."""
    known = (*required, *optional)
    faults = [f"{name}: {unknown_key(name, known)}" for name in tables if name not in known]
    asked = [*required, *(name for name in optional if name in tables)]
    return faults + [
        f"{name}: expected a table, got {tables.get(name)!r}" for name in asked if not _is_table(tables, name)
    ]


def run_data(table: Mapping[str, Any], say: Callable[[str], object] | None = None) -> RunData:
    """The rows that the table ``[data]`` asks for; ``say`` as for ``read_tables``.

    Raises:
        ConfigError: If the table does not fit; it has all problems.
        DataError: If the data cannot be used.
    """
    import mvcore
    from mvcore.data.folders import with_categories
    from mvcore.data.roles import as_categories, taken_out
    from mvcore.plugins.registry import Registry

    wanted = configs.structure_as(DataTable, table, path="data")
    if wanted.use is not None:
        data: MultimodalDataset = Registry.installed().build(wanted.use)
    else:
        categorical = [m for m, likelihood in wanted.likelihoods.items() if likelihood == "categorical"]
        read = read_tables(str(wanted.folder), say, wanted.reading)
        tables, labels, context = taken_out(read, wanted.labels, wanted.context)
        tables = with_categories(as_categories(tables, wanted.categories), categorical, wanted.reading)
        data = mvcore.from_frames(tables, likelihoods=wanted.likelihoods, labels=labels, context=context)
    test = validation = None
    if wanted.train < 1:
        data, test = data.split(wanted.train, seed=wanted.seed)
    if wanted.validation:
        data, validation = data.split(1 - wanted.validation, seed=wanted.seed + 1)
    if wanted.hide:
        data = mvcore.mcar(data, wanted.hide, seed=wanted.seed)
    return RunData(train=data, validation=validation, test=test)


def train(
    path: str | Path,
    out: str | Path,
    changes: Sequence[str] = (),
    *,
    progress: bool = True,
    say: Callable[[str], object] | None = None,
) -> Run:
    """Trains what a config file describes and leaves the run's folder; an interrupted one goes on where it stopped.

    A run that is finished is given back as it is. Under ``torchrun`` the first process alone writes the folder.

    Args:
        path: The config file.
        out: The run's folder.
        changes: Values to set, as for ``read``.
        progress: Whether to show a progress bar.
        say: Told the ``summary`` of the rows, and what ``read_tables`` has to say, before the training starts.

    Raises:
        ConfigError: If the file does not fit.
        ModelFileError: If the folder holds something else, or a run of another config.
        FileAccessError: If another process trains into the folder.
    """
    tables, folder = read(path, changes), Path(out)
    options = configs.structure_as(TrainingConfig, tables.get("training", {}), path="training")
    check_folder(folder, tables)
    if (folder / "model").exists():
        return _finished(folder)
    return _trained(tables, options, folder, progress, say)


def _finished(folder: Path) -> Run:
    """The run of a folder that has its model already."""
    import mvcore

    history = read_json(folder / "history.json")
    return mvcore.Run(model=mvcore.load(folder / "model"), history=history, seed=0)


def _trained(
    tables: dict[str, Any], options: TrainingConfig, folder: Path, progress: bool, say: Callable[[str], object] | None
) -> Run:
    import torch

    import mvcore
    from mvcore.build import create_from

    told: list[str] = []
    rows = run_data(tables["data"], None if say is None else told.append)
    fields = {name: value for name, value in tables["model"].items() if name != "use"}
    torch.manual_seed(options.seed)
    model = create_from(tables["model"].get("use", "multimodal"), rows.train, fields)
    if say is not None:
        say("\n".join([*told, summary(rows)]))
    main = int(os.environ.get("RANK", 0)) == 0  # as torchrun says; all processes end with the same weights
    with locked(folder) if main else nullcontext():
        check_folder(folder, tables)  # which another process may have filled meanwhile
        if main:
            write_whole(folder / "config.json", json.dumps(tables, indent=1).encode())
        run = mvcore.fit(
            model, rows.train, validation=rows.validation, checkpoint=folder / "checkpoint", resume=True,
            progress=progress, **{name: getattr(options, name) for name in tables.get("training", {})},
        )  # fmt: skip
        run.model.record = with_data(run.model.record, tables["data"])
        if main:
            write_whole(folder / "history.json", json.dumps(run.history, indent=1).encode())
            mvcore.save(run.model, folder / "model")
    return run


def model_folder(path: str | Path) -> str | Path:
    """The saved model in a run's folder, or the folder itself; an address on the Hub as it is.

    Raises:
        ModelFileError: If the run's model is a link, which could lead anywhere.
    """
    if isinstance(path, str) and is_address(path):
        return path
    folder = Path(path) / "model"
    if not (folder / "config.json").exists():
        return Path(path)
    if folder.is_symlink():
        raise ModelFileError(f"{str(folder)!r} is a link, which is not followed; give the model's folder.", path=folder)
    return folder


def data_of(path: str | Path, tables: str | Path | None = None) -> RunData:
    """The rows of a run, as its config asks for them.

    Args:
        path: The folder of the run.
        tables: A folder of tables to read in place of the data that the run names.

    Raises:
        ModelFileError: If it is not the folder of a run.
        DataError: If the run names a folder that is neither below the current one nor beside the run; a stranger's run
            could name any.
    """
    data = config_of_run(Path(path))["data"]
    if tables is not None:
        kept = {name: value for name, value in data.items() if name != "use"}
        return run_data({**kept, "folder": str(tables)})
    if isinstance(data.get("folder"), str):
        check_near(data["folder"], Path(path))
    return run_data(data)


def read_tables(
    folder: str | Path, say: Callable[[str], object] | None = None, reading: Reading | None = None
) -> dict[str, Any]:
    """The DataFrames of a folder by the names of their files, ``labs.csv`` as ``labs``; the first column is the index.

    Args:
        folder: The folder.
        say: Told of what is not read and of tables that share no id; by default a warning is logged.
        reading: How the files are written.

    Raises:
        DataError: If the folder has no table, two of one name, or one that cannot be read.
    """
    from mvcore.data.folders import read_folder

    if say is None:
        return read_folder(Path(folder), reading=reading)
    return read_folder(Path(folder), say, reading)


def summary(rows: RunData) -> str:
    """What a training reads, in a few lines: modalities, rows, and how many rows have each set of modalities."""
    lines = []
    for spec in rows.train.schema:
        kind = spec.likelihood if spec.categories is None else f"{spec.likelihood}, {spec.categories} categories"
        have = int(rows.train.batch().column(spec.name).sum())
        lines.append(f"  {spec.name}: {' × '.join(map(str, spec.shape))}, {kind}, in {have} rows")
    patterns = list(rows.train.patterns().items())
    lines += [f"  {count} rows have {' + '.join(names)}" for names, count in patterns[:8]]
    lines += [f"  and {len(patterns) - 8} more sets of modalities"] if len(patterns) > 8 else []
    sizes = {"validation": rows.validation, "evaluation": rows.test}
    others = "".join(f", {len(part)} for {what}" for what, part in sizes.items() if part is not None)
    return "\n".join([f"{len(rows.train)} rows to train on{others}", *lines])


def _set(tables: dict[str, Any], change: str) -> None:
    path, equals, text = change.partition("=")
    # a key with dots in it stands in quotes, as in TOML
    *parents, last = [key.strip("\"'") for key in re.findall(r"\"[^\"]*\"|'[^']*'|[^.]+", path.strip())] or [""]
    if not equals or not parents:
        raise ConfigError([f"{change!r} is not of the form table.field=value"], "--set")
    try:
        value = configs.parse_toml(f"value = {text}".encode())["value"]
    except ValueError:
        value = text.strip()
    if problem := configs.put(tables, [*parents, last], value):
        raise ConfigError([problem], "--set")


def _is_table(tables: Mapping[str, Any], name: str) -> bool:
    return isinstance(tables.get(name), dict)
