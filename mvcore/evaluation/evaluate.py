"""All metrics of a model in one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

import mvcore
from mvcore import arguments
from mvcore.arguments import shown
from mvcore.config.plain import structure
from mvcore.data.rows import Rows
from mvcore.errors import ConfigError, DataError, MissingExtraError, NotApplicableError
from mvcore.evaluation.evaluation import Evaluation
from mvcore.evaluation.report import Report
from mvcore.models.base import Model
from mvcore.plugins.registry import Registry
from mvcore.plugins.spec import MetricConfig

if TYPE_CHECKING:
    from mvcore.metrics.base import Metric


def evaluate(
    model: Model,
    test: Rows,
    *,
    train: Rows | None = None,
    metrics: Sequence[str | Mapping[str, Any] | MetricConfig] | None = None,
    resources: Mapping[str, Any] | None = None,
    seed: int = 0,
    K: int = 100,
    batch_size: int = 256,
    progress: bool = True,
) -> Report:
    """Measures a trained model on test rows, complete or partial; each modality is encoded once for all metrics.

    Args:
        model: A trained model; it is left as it was.
        test: The rows to measure on.
        train: The rows that the model was trained on, for metrics that train a probe or compare with simple predictors.
        metrics: Names (``"linear_probe"``), tables (``{"use": "log_likelihood", "K": 1000}``) or configs of metrics.
            By default all that are installed, as their configs are by default; those that can't be computed are left
            out, and the report says why.
        resources: What is not JSON and some metrics need, such as ``{"classifiers": {"image": classify}}``.
        seed: Seed of all draws.
        K: Draws of each row, for metrics whose config does not say how many.
        batch_size: Rows encoded and decoded at once.
        progress: Whether to show a progress bar.

    Raises:
        ConfigError: If a metric is not installed, or its config does not fit.
        NotApplicableError: If a metric that was asked for can't be computed.
        MissingExtraError: If it needs a package that is not installed.
        DataError: If the data does not fit the model, or two metrics give one name.

    Example:
        >>> import mvcore
        >>> train, test = mvcore.dataset("miniacc").split(0.8)
        >>> model = mvcore.create("multimodal", train, latent_dim=4)
        >>> run = mvcore.fit(model, train, epochs=1, progress=False)
        >>> report = mvcore.evaluate(run.model, test, metrics=["log_likelihood"])
        >>> sorted(report.values)[0]
        'log_likelihood'
    """
    if metrics is not None and (isinstance(metrics, (str, Mapping)) or not isinstance(metrics, Sequence)):
        raise ConfigError([f"expected a list of metrics, got {shown(metrics)}"], "metrics")
    registry = Registry.installed()
    asked = [entry.id for entry in registry.entries("metric")] if metrics is None else metrics
    with tqdm(total=len(asked), disable=not arguments.flag("progress", progress), unit="metric") as bar:
        watch = partial(_show, bar)
        e = Evaluation(model, test, train, seed=seed, K=K, batch_size=batch_size, resources=resources, watch=watch)
        values = _values(e, asked, registry, bar, every=metrics is None)
    about = {
        "model": type(model).__name__,
        "rows": len(test),
        "training rows": None if train is None else len(train),
        "seed": seed,
        "K": K,
        "batch_size": batch_size,
        "mvcore": mvcore.__version__,
    }
    return Report(values=values, skipped=dict(e.skipped), about=about)


def _values(
    e: Evaluation, asked: Sequence[Any], registry: Registry, bar: tqdm[Any], *, every: bool
) -> dict[str, float]:
    """The values of all metrics; of every one that is installed those are left out that can't be computed."""
    values: dict[str, float] = {}
    for what in asked:
        config = what if isinstance(what, MetricConfig) else structure("metric", what, registry, "metric")
        entry = registry.entry_of(type(config))
        bar.set_description(entry.name)
        metric: Metric = registry.load(entry).builder()(config)
        try:
            found = metric(e)
        except MissingExtraError as error:
            if not every:
                raise
            found, e.skipped[entry.name] = {}, str(error)
        except NotApplicableError as error:
            if not every:
                raise NotApplicableError(f"The metric {entry.name!r} can't be computed. {error}") from error
            found, e.skipped[entry.name] = {}, str(error)
        if twice := sorted(set(found) & set(values)):
            raise DataError(f"Two metrics give the name {twice[0]!r}; evaluate them in two calls.")
        values |= found
        bar.update()
    return values


def _show(bar: tqdm[Any], batch: int, batches: int) -> None:
    bar.set_postfix_str(f"batch {batch} of {batches}")
