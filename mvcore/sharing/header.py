"""The header of a card: what the Hub itself reads of it. What others wrote there stays."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from huggingface_hub import EvalResult
from huggingface_hub.repocard_data import eval_results_to_model_index

from mvcore.arguments import shown
from mvcore.errors import DataError, HubError
from mvcore.evaluation.report import Report

_BLOCK = re.compile(r"\A\ufeff?\s*---[ \t]*\r?\n(.*?)(?:\A|^)---[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE)
_TAGS = ("mvcore", "multimodal", "variational-autoencoder", "missing-data")
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,60}")


def split(text: str) -> tuple[dict[str, Any], str]:
    """The fields of a card's header, and the text below it.

    Raises:
        HubError: If there is a header that is no table of YAML.
    """
    found = _BLOCK.match(text)
    if found is None:
        return {}, text
    try:
        fields = yaml.safe_load(found[1]) or {}
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise HubError(f"The header of the README.md on the Hub is no YAML: {error}. Mend it there.") from error
    if not isinstance(fields, dict):
        raise HubError(
            f"The header of the README.md on the Hub is no table, but {type(fields).__name__}. Mend it there."
        )
    return fields, text[found.end() :]


def written(fields: Mapping[str, Any]) -> str:
    """The text of a header."""
    text = yaml.safe_dump(dict(fields), sort_keys=False, allow_unicode=True, width=10**6)
    return f"---\n{text}---\n"


def merged(
    before: Mapping[str, Any],
    *,
    name: str,
    model: str,
    license: str | None,
    datasets: Sequence[str],
    base: str | None,
    report: Report | None,
) -> dict[str, Any]:
    """The fields of a model's header over those that the repository has.

    Args:
        before: The fields that the repository has; those that mvcore knows nothing of stay as they are.
        name: The repository's name.
        model: The name of the kind of model.
        license: Its licence; None: the one that the repository names, if it does.
        datasets: What it was trained on; none: those that the repository names.
        base: The repository of the model that its training started from.
        report: Its evaluation; what the repository says of an earlier one goes.
    """
    tags = [tag for tag in _listed(before.get("tags")) if isinstance(tag, str)]
    new: dict[str, Any] = {"library_name": "mvcore", "tags": list(dict.fromkeys([*_TAGS, model, *tags]))}
    for key, value in {"license": license, "datasets": list(datasets), "base_model": base}.items():
        if value:
            new[key] = value
    entries = [entry for entry in _listed(before.get("model-index")) if isinstance(entry, dict)]
    others = [entry for entry in entries if entry.get("name") != name]
    ours = [] if report is None else _index(name, report, (datasets or ["unnamed"])[0])
    return {
        **new,
        **{key: value for key, value in before.items() if key not in {*new, "model-index"}},
        **({"model-index": [*ours, *others]} if ours or others else {}),
    }


def check_license(license: object) -> None:
    """Raises a DataError for what can be no licence of the Hub's list."""
    if license is not None and not (isinstance(license, str) and _LICENSE.fullmatch(license)):
        raise DataError(
            f"license must be an identifier of the Hub's list, such as 'apache-2.0', 'cc-by-4.0' or 'other'; got "
            f"{shown(license)}."
        )


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _index(name: str, report: Report, dataset: str) -> list[dict[str, Any]]:
    """The metrics as the Hub's model index has them; a value that is not finite is none."""
    results = [
        EvalResult(
            task_type="other",
            task_name="multimodal inference",
            dataset_type=dataset,
            dataset_name=dataset,
            metric_type=metric.partition("/")[0],
            metric_name=metric,
            metric_value=value,
        )
        for metric, value in report.finite().items()
    ]
    return eval_results_to_model_index(name, results) if results else []
