"""Metrics built by hand take no text that they would take for something else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mvcore.errors import ConfigError
from mvcore.metrics import Clustering, Coherence, ConditionalLogLikelihood


@pytest.mark.parametrize(
    ("metric", "fields", "message"),
    [
        (Coherence, {"average": "mikro"}, "average: expected 'micro' or 'macro', got 'mikro', did you mean 'micro'?"),
        (Clustering, {"clusters": "kmeans"}, "clusters: expected 'k_means' or 'resource', got 'kmeans'"),
        (ConditionalLogLikelihood, {"estimators": ["ratios"]}, "got 'ratios', did you mean 'ratio'?"),
        (ConditionalLogLikelihood, {"estimators": "ratio"}, "estimators: expected 'predictive', 'ratio' or"),
    ],
)
def test_a_choice_that_there_is_not_is_refused(
    metric: Callable[..., Any], fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        metric(**fields)
    assert message in str(caught.value)
