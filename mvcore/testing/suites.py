"""Conformance suites for pytest, one a kind: an author names the component and some configs.

::

    class TestMoPoE(ModelSuite):
        component = "mvcore-mopoe:mopoe"
        configs = [{"loss.stratified": True}, {"latent_dim": 3, "loss.stratified": True}]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from mvcore.errors import MvcoreError
from mvcore.testing.conformance import CHECKS, CUDA, SLOW, Case, Check
from mvcore.testing.ranks import Job, job_of, ranks


class SuiteError(MvcoreError, TypeError):
    """A suite that leaves out or replaces a test, or expects the failure of one that does not exist."""


class Suite:
    """Base of the suites; a test of it cannot be overridden, only be expected to fail."""

    kind: ClassVar[str] = ""
    component: ClassVar[str] = ""
    """``name`` or ``dist:name`` of the component."""
    configs: ClassVar[Sequence[Mapping[str, Any]]] = ({},)
    """Fields of each config to test, by name or dotted path."""
    shapes: ClassVar[Sequence[Sequence[int]] | None] = None
    """Of encoders and decoders: the shapes of the observations that they must take, such as ``[(3, 64, 64)]``. None: a
    table, an image, a signal and a volume, of which they may refuse all but one."""
    expected_failures: ClassVar[Mapping[str, str]] = {}
    """Tests that must fail, each with the reason; one that passes is a failure."""

    def __init_subclass__(cls, kind: str | None = None) -> None:
        if kind is not None:
            cls.kind = kind
            for check in CHECKS[kind]:
                setattr(cls, f"test_{check.__name__}", _ranks if check is ranks else _test_of(check))
            return
        tests = {f"test_{check.__name__}" for check in CHECKS[cls.kind]}
        if replaced := sorted(tests & set(vars(cls))):
            raise SuiteError(
                f"{cls.__name__} overrides {replaced[0]!r}, a test of its suite. Give it another name, or state "
                "in expected_failures why the component fails it."
            )
        if unknown := sorted(set(cls.expected_failures) - tests):
            raise SuiteError(
                f"{cls.__name__} expects {unknown[0]!r} to fail, which is no test of its suite; "
                f"there are {', '.join(sorted(tests))}."
            )

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """Runs each test of the suite on each config."""
        import pytest

        if "fields" not in metafunc.fixturenames:
            return
        reason = self.expected_failures.get(metafunc.function.__name__)
        marks: list[Any] = [] if reason is None else [pytest.mark.xfail(reason=reason, strict=True)]
        if metafunc.function.__name__ in {f"test_{check.__name__}" for check in CUDA}:
            marks.append(pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"))
        slow = {f"test_{check.__name__}" for check in SLOW}
        chosen = self.configs[:1] if metafunc.function.__name__ in slow else self.configs
        metafunc.parametrize("fields", [pytest.param(fields, marks=marks) for fields in chosen])


def _test_of(check: Check) -> Any:
    def test(self: Suite, fields: Mapping[str, Any]) -> None:
        with torch.random.fork_rng(devices=[]):
            check(Case(self.kind, self.component, fields, self.shapes))

    test.__name__, test.__doc__ = f"test_{check.__name__}", check.__doc__
    return test


def _ranks(self: Suite, fields: Mapping[str, Any], request: Any) -> None:
    """Two processes, one start of them for all models of this run of pytest, train to the same finite weights."""
    jobs = [_job(item) for item in request.session.items if getattr(item, "originalname", None) == "test_ranks"]
    ranks(Case(self.kind, self.component, fields), among=tuple(dict.fromkeys(jobs)))


def _job(item: Any) -> Job:
    return job_of(item.cls.component, item.callspec.params["fields"])


class ModelSuite(Suite, kind="model"):
    """What every model must do."""


class EncoderSuite(Suite, kind="encoder"):
    """What every encoder must do."""


class DecoderSuite(Suite, kind="decoder"):
    """What every decoder must do."""


class LikelihoodSuite(Suite, kind="likelihood"):
    """What every likelihood must do."""


class PosteriorSuite(Suite, kind="posterior"):
    """What every joint posterior must do."""


class PriorSuite(Suite, kind="prior"):
    """What every prior must do."""


class LossSuite(Suite, kind="loss"):
    """What every loss must do."""


class SamplerSuite(Suite, kind="sampler"):
    """What every sampler must do."""


class MetricSuite(Suite, kind="metric"):
    """What every metric must do."""


class DatasetSuite(Suite, kind="dataset"):
    """What every data set must do."""
