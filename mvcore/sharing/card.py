"""What people read of a shared model: what it is, how it was trained and measured, how it is used, where it ends.

All of it is computed from the model, from what ``mvcore.fit`` noted in it, and from the report of its evaluation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

from mvcore import config as configs
from mvcore.evaluation.report import Report, markdown
from mvcore.options import TrainingRecord
from mvcore.plugins import requires
from mvcore.plugins.registry import Registry
from mvcore.sharing.snippets import impute_and_embed, literal
from mvcore.storage.folder import cell

if TYPE_CHECKING:
    from mvcore.models.base import Model
    from mvcore.plugins.spec import ComponentSpec

_SHOWN = 20  # patterns, and pairs of modalities
_FEW = 100  # rows below which a modality is named among the limits


def blocks(
    model: Model, address: str, *, license: str | None, report: Report | None, figures: Sequence[str] = ()
) -> dict[str, str]:
    """The parts of a card by their names, in their order, as Markdown.

    Args:
        model: The model; it has a config.
        address: Where it will be, ``hf://user/name``.
        license: The licence that its repository will name.
        report: Its evaluation.
        figures: The paths of figures in the repository.
    """
    registry = Registry.installed()
    assert model.config is not None
    entry = registry.entry_of(type(model.config))
    spec, plain = registry.load(entry), configs.unstructure(model.config, registry)
    found = {
        "about": _about(address, entry.name, spec, plain, model),
        "use": _use(model, address, registry),
        "modalities": _modalities(model),
        "training": _training(model.record),
        "evaluation": "" if report is None else _evaluation(report, address, model.record, figures),
        "limits": _limits(model, report),
        "citation": _citation(spec, license),
    }
    return {name: text for name, text in found.items() if text}


def name_of(model: Model) -> str:
    """The name of the kind of a model that has a config."""
    assert model.config is not None
    return Registry.installed().entry_of(type(model.config)).name


def _about(address: str, name: str, spec: ComponentSpec, plain: Mapping[str, Any], model: Model) -> str:
    parts = {part: value["use"] for part, value in plain.items() if isinstance(value, dict) and "use" in value}
    if model.sampler is not None and model.sampler.config is not None:
        parts["sampler"] = configs.unstructure(model.sampler.config)["use"]
    weights = sum(p.numel() for p in model.parameters())
    facts = [("model", f"`{name}`"), ("parameters", f"{weights:,}"), ("latent dimensions", _latents(model))]
    facts += [(part, f"`{use}`") for part, use in parts.items()]
    paper = f" Paper: <{spec.paper}>." if spec.paper else ""
    return "\n\n".join(
        [
            f"# {address.rpartition('/')[2]}",
            f"{(spec.summary or name).rstrip('.')}: a multimodal variational autoencoder, exact on partially observed "
            f"rows, of the Python package mvcore.{paper}",
            *([spec.partial_data] if spec.partial_data else []),
            _table(("", ""), facts),
        ]
    )


def _latents(model: Model) -> str:
    return ", ".join(f"{cell(name)} {' × '.join(map(str, shape))}" for name, shape in model.latent_shapes.items())


def _use(model: Model, address: str, registry: Registry) -> str:
    configs_ = (model.config, None if model.sampler is None else model.sampler.config)
    impute, embed = impute_and_embed(model.schema, address)
    return "\n\n".join(
        [
            "## Use",
            f"```\n{install_line(requires.requirements(configs_, registry))}\n```",
            "What a row lacks, filled, with an interval:",
            f"```python\n{impute}\n```",
            "A point for each row:",
            f"```python\n{embed}\n```",
            f"On the command line: `mvcore impute {address} TABLES --out FILLED`, a file a modality; "
            f"`mvcore inspect {address}` shows the model without loading it.",
        ]
    )


def install_line(lines: Sequence[str]) -> str:
    """What installs mvcore and the distributions of a model."""
    return "pip install " + " ".join(f'"{line}"' for line in ("mvcore", *lines))


def _modalities(model: Model) -> str:
    rows = [(cell(m.name), " × ".join(map(str, m.shape)), _values(m.likelihood, m.categories)) for m in model.schema]
    told = [
        (cell(c.name), " × ".join(map(str, c.shape)) or "1", _values("", c.categories)) for c in model.schema.context
    ]
    tables = ["## Modalities", _table(("modality", "shape", "likelihood"), rows)]
    if told:
        tables += ["Covariates, which every row has:", _table(("covariate", "shape", "values"), told)]
    return "\n\n".join(tables)


def _values(likelihood: str, categories: int | None) -> str:
    return ", ".join(filter(None, (cell(likelihood), "" if categories is None else f"{categories} categories")))


def _training(record: TrainingRecord | None) -> str:
    if record is None:
        return "## Training\n\nHow it was trained was not recorded."
    chosen = f", of which the best on {record.validation_rows:,} others was kept" if record.validation_rows else ""
    loss = "" if record.loss is None else f"; mean loss of a row in the last epoch {record.loss:.4g} nats"
    early = " It was stopped before its time." if record.stopped else ""
    where = f"{cell(record.device)}, {record.processes} process{'es' if record.processes > 1 else ''}"
    versions = ", ".join(f"{cell(name)} {cell(version)}" for name, version in record.versions.items())
    data = "" if record.data is None else f" Data: {_data(record.data)}."
    return "\n\n".join(
        [
            "## Training",
            f"{record.epochs:,} epochs on {record.rows:,} rows{chosen}{loss}.{early}{data} On {where}; {versions}.",
            _table(("modalities of a row", "rows"), _patterns(record)),
            _table(("option", "value"), [(cell(k), f"`{cell(str(v))}`") for k, v in record.options.items()]),
        ]
    )


def _data(data: Mapping[str, Any]) -> str:
    return ", ".join(f"{cell(name)} = `{cell(str(value))}`" for name, value in data.items())


def _patterns(record: TrainingRecord) -> list[tuple[str, str]]:
    shown = [(" + ".join(map(cell, p.modalities)), f"{p.rows:,}") for p in record.patterns[:_SHOWN]]
    rest = sum(p.rows for p in record.patterns[_SHOWN:]) + record.other_rows
    return shown + ([("any other set", f"{rest:,}")] if rest else [])


def _evaluation(report: Report, address: str, record: TrainingRecord | None, figures: Sequence[str]) -> str:
    about = ", ".join(f"{cell(str(k))} {cell(str(v))}" for k, v in report.about.items() if v is not None)
    left_out = [(cell(name), cell(why)) for name, why in report.skipped.items()]
    return "\n\n".join(
        [
            "## Evaluation",
            markdown(("metric", "value"), ((cell(name), value) for name, value in report.finite().items())),
            f"{about}. What each metric is, and on which rows: mvcore's page on evaluation. All of it is in "
            "`report.json`. To compute it again:",
            f"```python\n{_again(report, address, record)}\n```",
            *(f"![{cell(name.rpartition('/')[2])}]({name})" for name in figures),
            *(["Left out:", _table(("metric", "why"), left_out)] if left_out else []),
        ]
    )


def _again(report: Report, address: str, record: TrainingRecord | None) -> str:
    """The call that gives the report's values."""
    named = {key: value for key, value in report.about.items() if key in ("seed", "K", "batch_size")}
    settings = ", ".join(f"{key}={value!r}" for key, value in named.items() if type(value) is int)
    lines = ["import mvcore", "", f"model = mvcore.load({address!r})"]
    if record is not None and record.data is not None and isinstance(record.data.get("use"), str):
        lines = [
            "import mvcore",
            "from mvcore import runs",
            "",
            lines[-1],
            f"rows = runs.run_data({literal(dict(record.data))})",
        ]
        test, train = "rows.test", "rows.train"
    else:
        test, train = "test", "train"
        lines.append("# test, train: the rows that it was measured and trained on, which are not shared here")
    given = "" if report.about.get("training rows") is None else f", train={train}"
    return "\n".join([*lines, f"report = mvcore.evaluate(model, {test}{given}, {settings})"])


def _limits(model: Model, report: Report | None) -> str:
    lines = [*_limits_of(model.record, model.schema.names)]
    if report is None:
        lines.append("It comes with no evaluation.")
    covered = report is not None and any(name.startswith("interval_coverage/") for name in report.values)
    known = "how often they held on test rows is above" if covered else "how often they hold was not measured"
    lines.append(f"Intervals are the model's own: {known}. They say nothing of rows that come from elsewhere.")
    lines.append("Whether it may be used for decisions about people was not examined.")
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in lines)


def _limits_of(record: TrainingRecord | None, names: Sequence[str]) -> Iterator[str]:
    if record is None:
        return
    counts = {name: sum(p.rows for p in record.patterns if name in p.modalities) for name in names}
    if few := [f"{cell(name)} ({count:,})" for name, count in counts.items() if count < _FEW]:
        yield f"Modalities that fewer than {_FEW} of the training rows have: {', '.join(few[:_SHOWN])}."
    together = {pair for p in record.patterns for pair in combinations([n for n in names if n in p.modalities], 2)}
    apart = [f"{cell(a)} and {cell(b)}" for a, b in combinations(names, 2) if (a, b) not in together]
    if apart and not record.other_rows:
        more = f" and {len(apart) - _SHOWN:,} more pairs" if len(apart) > _SHOWN else ""
        yield f"No training row has both of: {'; '.join(apart[:_SHOWN])}{more}. How they go together was never seen."


def _citation(spec: ComponentSpec, license: str | None) -> str:
    paper = f"the paper of the model, {spec.summary.rstrip('.')}, <{spec.paper}>, and " if spec.paper else ""
    terms = (
        f"Licence: {license}."
        if license
        else "Its authors named no licence, so the law grants you none: ask them before you use it."
    )
    return f"## Citation and licence\n\nPlease cite {paper}mvcore (its `CITATION.cff`).\n\n{terms}"


def _table(header: tuple[str, ...], rows: Sequence[Sequence[str]]) -> str:
    lines = [" | ".join(row) for row in (header, ("---",) * len(header), *rows)]
    return "\n".join(f"| {line} |" for line in lines)
