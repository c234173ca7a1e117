from importlib import metadata
from pathlib import Path

import attrs
import pytest

from mvcore.errors import ConfigError, MissingPluginError, NotPackagedError
from mvcore.plugins.registry import Entry, Registry
from mvcore.plugins.requires import PUBLISHED, check, components, requirements
from mvcore.plugins.spec import ComponentSpec, EncoderConfig


@attrs.frozen
class Inner(EncoderConfig):
    pass


@attrs.frozen
class Outer(EncoderConfig):
    first: EncoderConfig = Inner()
    more: dict[str, tuple[EncoderConfig, ...]] = attrs.field(factory=dict)


@attrs.frozen
class Pair:
    left: EncoderConfig


inner = ComponentSpec(api=1, config=Inner, build="a:b")
outer = ComponentSpec(api=1, config=Outer, build="a:b")


def entry(name: str, dist: str, version: str) -> Entry:
    point = metadata.EntryPoint(name, f"{__name__}:{name}", "mvcore.encoder")
    return Entry("encoder", name, dist, version, point)


def registry(version: str = "0.1.0", outer_dist: str = "mvcore") -> Registry:
    return Registry([entry("inner", "acme-nets", version), entry("outer", outer_dist, "0.3.0")])


@pytest.mark.parametrize(
    ("version", "range_"),
    [
        ("0.1.0", ">=0.1,<0.2"),
        ("0.1.3", ">=0.1.3,<0.2"),
        ("0.0.4", ">=0.0.4,<0.1"),
        ("1.0.0", ">=1,<2"),
        ("2.5.1", ">=2.5.1,<3"),
        ("0.2.0.dev3+g12ab", ">=0.2.0.dev3,<0.3"),
        ("0.1.0.post1", ">=0.1,<0.2"),
        ("1!0.1.0", ">=1!0.1,<1!0.2"),
    ],
)
def test_the_range_starts_at_the_installed_version(version: str, range_: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = requirements(Inner(), registry(version))
    assert lines == [f"acme-nets{range_}"]
    monkeypatch.setattr(metadata, "version", lambda name: version)
    check(lines)  # whoever wrote the file can read it


def test_every_component_of_the_tree_counts_once_and_the_core_not() -> None:
    tree = Pair(Outer(more={"x": (Inner(), Outer())}))
    assert requirements(tree, registry()) == ["acme-nets>=0.1,<0.2"]
    assert requirements(tree, registry(outer_dist="zoo")) == ["acme-nets>=0.1,<0.2", "zoo>=0.3,<0.4"]
    assert [type(component) for component in components(tree)] == [Outer, Inner, Inner, Outer, Inner]


def test_a_component_that_nothing_registers_is_refused() -> None:
    with pytest.raises(NotPackagedError, match="Inner"):
        requirements(Outer(), Registry([entry("outer", "mvcore", "0.1")]))


def test_all_that_is_missing_or_does_not_fit_comes_in_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name not in (have := {"fits": "0.1.7", "old": "0.1.7", "mvcore-old": "0.1.7"}):
            raise metadata.PackageNotFoundError(name)
        return have[name]

    monkeypatch.setattr(metadata, "version", version)
    check(["fits>=0.1,<0.2"])
    with pytest.raises(MissingPluginError) as caught:
        check(["fits>=0.1,<0.2", "old>=0.2", "gone>=0.1", "mvcore-old>=0.2", "MVcore_Gone>=1"],
              published={"mvcore-old", "mvcore-gone"})  # fmt: skip
    error = caught.value
    assert error.unmet == {"old>=0.2": "0.1.7", "gone>=0.1": None, "mvcore-old>=0.2": "0.1.7", "MVcore_Gone>=1": None}
    assert error.unknown == ["old>=0.2", "gone>=0.1"]
    assert 'pip install "mvcore-old>=0.2" "MVcore_Gone>=1"\n' in str(error)
    assert "mvcore-old>=0.2 (0.1.7 is installed)" in str(error)
    assert "mvcore does not know old>=0.2, gone>=0.1" in str(error)


def test_lines_that_hold_more_than_a_name_and_versions_are_refused() -> None:
    lines = ["a @ https://example.org/a.zip", "b[all]>=1", "c>=1; python_version>'3'", "-r d", "pytest"]
    with pytest.raises(ConfigError) as caught:
        check(lines)
    assert [problem.split(" is no requirement")[0] for problem in caught.value.problems] == [repr(x) for x in lines[:4]]


def test_the_published_plugins_are_those_of_this_repository() -> None:
    folders = (Path(__file__).parents[2] / "plugins").glob("mvcore-*")
    assert {folder.name for folder in folders} | {"mvcore"} == PUBLISHED
