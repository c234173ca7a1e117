"""The short form of a spec."""

from __future__ import annotations

from typing import Any

from mvcore.plugins.spec import ComponentSpec, DatasetConfig, MetricConfig, ModelConfig, ModelFacts


def spec(
    config: type[Any],
    build: str,
    summary: str,
    paper: str | None = None,
    partial: str = "",
    facts: ModelFacts | None = None,
) -> ComponentSpec:
    """The spec of a core component.

    Its builder stands in ``mvcore.builders``, a model's in ``mvcore.build``, a data set's in ``mvcore.data.shipped``, a
    metric's in ``mvcore.evaluation.builders``.
    """
    homes = {ModelConfig: "build", DatasetConfig: "data.shipped", MetricConfig: "evaluation.builders"}
    module = next((home for base, home in homes.items() if issubclass(config, base)), "builders")
    return ComponentSpec(
        api=1,
        config=config,
        build=f"mvcore.{module}:{build}",
        summary=summary,
        paper=paper,
        partial_data=partial,
        facts=facts,
    )
