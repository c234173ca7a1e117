"""Fake distributions on disk, found by their metadata as installed ones are."""

import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from mvcore.errors import AmbiguousComponentError, BrokenPluginError, NotPackagedError, UnknownComponentError
from mvcore.models.specs import MultimodalVAEConfig
from mvcore.plugins.registry import Registry
from mvcore.plugins.spec import KINDS, ComponentSpec, LossConfig

GOOD = """
    from attrs import frozen
    from mvcore.plugins import ComponentSpec, EncoderConfig, ModelConfig, PriorConfig

    @frozen(kw_only=True)
    class Config({base}):
        {field}

    spec = ComponentSpec(api={api}, config=Config, build="{module}:build")

    def build(config):
        return config
"""

Install = Callable[..., Path]


def good(module: str, base: str = "EncoderConfig", api: int = 1, field: str = "hidden: int = 3") -> str:
    return GOOD.format(module=module, base=base, api=api, field=field)


def only(dist: str) -> Registry:
    return Registry(entry for entry in Registry.installed().entries() if entry.dist == dist)


def test_metadata_is_enough_to_list_and_find(install: Install) -> None:
    install("acme-nets", "acme_nets:spec", "raise RuntimeError('imported')", name="acme")
    entry = Registry.installed().find("encoder", "acme")
    assert (entry.kind, entry.id, entry.version) == ("encoder", "acme-nets:acme", "0.1")
    assert "acme_nets" not in sys.modules


@pytest.mark.parametrize("ref", ["acme", "acme-nets:acme", "Acme_Nets:acme"])
def test_finds_by_name_and_by_distribution(install: Install, ref: str) -> None:
    install("acme-nets", "acme_nets:spec", good("acme_nets"), name="acme")
    spec = Registry.installed().spec("encoder", ref)
    assert spec.builder()(spec.config()) == spec.config(hidden=3)  # type: ignore[call-arg]


def test_a_broken_plugin_hurts_only_who_asks_for_it(install: Install) -> None:
    install("acme-nets", "acme_nets:spec", good("acme_nets"), name="acme")
    install("bad-hook", "bad_hook:spec", "raise RuntimeError('no licence')", name="bad", version="2.5")
    registry = Registry.installed()
    config = registry.spec("encoder", "acme").config
    assert registry.entry_of(config).id == "acme-nets:acme"
    with pytest.raises(BrokenPluginError, match=r"bad-hook:bad \(version 2.5\).*RuntimeError: no licence") as caught:
        registry.spec("encoder", "bad")
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert (caught.value.entry_id, caught.value.version) == ("bad-hook:bad", "2.5")


@pytest.mark.parametrize(
    ("code", "why"),
    [
        (None, "ModuleNotFoundError: No module named 'odd'"),
        ("spect = 1", "has no attribute 'spec'"),
        ("spec = 1", "expected a ComponentSpec, got 1"),
        (good("odd", api=2), "it was written for plugin API 2, this mvcore has 1"),
        (good("odd", base="PriorConfig"), "Config must derive from EncoderConfig"),
        (good("odd", base="EncoderConfig, ModelConfig"), "and from the base of no other kind"),
        (good("odd", field="use: int = 3"), "has a field 'use', a name that the file format needs"),
        (good("odd", field="hidden: 'Tensor' = 3"), "name 'Tensor' is not defined"),
        (good("odd").replace("@frozen(kw_only=True)", ""), "its config must be an attrs class"),
        (good("odd").replace("odd:build", "odd.build"), "build is 'odd.build', expected 'module:function'"),
        (good("odd").replace("api=1, ", ""), "api"),
    ],
)
def test_what_is_no_spec_is_refused_and_reported(install: Install, code: str | None, why: str) -> None:
    install("acme-odd", "odd:spec", code)
    registry = Registry.installed()
    with pytest.raises(BrokenPluginError) as caught:
        registry.spec("encoder", "acme-odd:it")
    assert why in str(caught.value)
    assert [str(fault) for fault in only("acme-odd").broken()] == [str(caught.value)]


def test_a_builder_that_is_not_there_is_reported_though_the_spec_is_good(install: Install) -> None:
    install("acme-nets", "acme_nets:spec", good("acme_nets").replace("def build", "def biuld"))
    registry = only("acme-nets")
    assert registry.spec("encoder", "acme-nets:it").build == "acme_nets:build"
    (fault,) = registry.broken()
    assert "its builder 'acme_nets:build' cannot be imported" in str(fault)


def test_one_name_in_two_distributions_is_settled_by_the_long_name(install: Install) -> None:
    install("one", "one_nets:spec", good("one_nets"))
    install("two", "two_nets:spec", good("two_nets"))
    registry = Registry.installed()
    with pytest.raises(
        AmbiguousComponentError, match=r"2 distributions have .* of the kind encoder.*one:it, two:it"
    ) as caught:
        registry.find("encoder", "it")
    assert caught.value.ids == ["one:it", "two:it"]
    assert registry.spec("encoder", "two:it").config.__module__ == "two_nets"
    with pytest.raises(UnknownComponentError):
        registry.find("prior", "it")  # kinds are name spaces of their own


def test_a_distribution_that_is_twice_on_the_path_counts_once_the_first(install: Install) -> None:
    install("acme", "acme_old:spec", good("acme_old"), version="0.1", site="behind")
    install("acme", "acme_new:spec", good("acme_new"), version="0.2", site="before")
    assert [e.version for e in Registry.installed().entries("encoder") if e.dist == "acme"] == ["0.2"]


def test_what_the_first_of_two_no_longer_offers_is_not_found(install: Install) -> None:
    install("acme", "acme_old:spec", good("acme_old"), version="0.1", site="behind")
    install("acme", "acme_new:spec", good("acme_new"), version="0.2", site="before", kind="somebody_elses")
    assert not Registry.installed().matching("encoder", "acme:it")


@pytest.mark.parametrize("lost", ["METADATA", "entry_points.txt"])
def test_a_half_removed_distribution_is_left_out_with_a_warning(
    install: Install, lost: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = install("acme-nets", "acme_nets:spec", good("acme_nets"))
    install("half", "half_nets:spec", good("half_nets"))
    path = folder / "half-0.1.dist-info" / lost
    path.unlink() if lost == "METADATA" else path.write_text("[mvcore.encoder]\nnonsense\n")
    entries = [entry for entry in Registry.installed().entries("encoder") if entry.name == "it"]
    assert [entry.id for entry in entries] == ["acme-nets:it"]
    assert f"A distribution in {folder} is left out" in caplog.text


@pytest.mark.parametrize(
    ("ref", "hint"), [("acmee", "Did you mean 'acme'?"), ("acme-net:acme", "Did you mean 'acme-nets:acme'?")]
)
def test_an_unknown_name_gets_the_nearest(install: Install, ref: str, hint: str) -> None:
    install("acme-nets", "acme_nets:spec", None, name="acme")
    with pytest.raises(UnknownComponentError) as caught:
        Registry.installed().find("encoder", ref)
    assert f"No encoder is named {ref!r}. {hint} Installed: " in str(caught.value)


def test_an_unknown_kind_gets_the_nearest() -> None:
    with pytest.raises(UnknownComponentError, match=r"No kind is named 'encodr'\. Did you mean 'encoder'"):
        Registry().find("encodr", "mlp")


def test_a_class_that_was_imported_directly_finds_its_entry_and_imports_no_other_plugin(install: Install) -> None:
    install("acme-nets", "acme_nets:spec", good("acme_nets"), name="acme")
    install("other", "other_nets:spec", good("other_nets"))
    config = __import__("acme_nets").Config
    assert Registry.installed().entry_of(config).id == "acme-nets:acme"
    assert "other_nets" not in sys.modules


def test_a_class_that_another_distribution_registers_is_found_past_a_broken_one(install: Install) -> None:
    install("a-bad", "bad_nets:spec", "1 / 0")
    folder = install("zoo", "zoo_nets:spec", "from their_nets import spec", name="acme")
    (folder / "their_nets.py").write_text(textwrap.dedent(good("their_nets")))
    config = __import__("their_nets").Config
    assert Registry.installed().entry_of(config).id == "zoo:acme"


def test_a_class_that_nothing_registers_is_told_where_to_go(install: Install) -> None:
    folder = install("other", "other_nets:spec", good("other_nets"))
    (folder / "loose_nets.py").write_text(textwrap.dedent(good("loose_nets")))
    with pytest.raises(NotPackagedError, match=r"loose_nets.Config is registered by no .*'mvcore.encoder'"):
        Registry.installed().entry_of(__import__("loose_nets").Config)


def test_a_spec_hidden_by_a_module_of_its_name_is_named(install: Install) -> None:
    install("acme", "acme_nets:spec", good("acme_nets"))
    module = __import__("acme_nets")
    config, module.spec = module.Config, sys
    with pytest.raises(BrokenPluginError, match=r"expected a ComponentSpec, got <module 'sys'"):
        Registry.installed().entry_of(config)


def test_a_class_under_two_names_is_ambiguous(install: Install) -> None:
    install("one", "acme_nets:spec", good("acme_nets"))
    install("two", "acme_nets:spec", None)
    with pytest.raises(AmbiguousComponentError, match="one:it, two:it"):
        Registry.installed().entry_of(__import__("acme_nets").Config)


def test_the_order_of_the_entries_does_not_matter(install: Install) -> None:
    install("one", "one_nets:spec", None)
    install("two", "two_nets:spec", None)
    one, two = only("one").entries(), only("two").entries()
    assert Registry(two + one).entries() == Registry(one + two).entries() == one + two


def test_a_registry_does_not_change_after_it_was_made(install: Install) -> None:
    registry = Registry.installed()
    install("acme-nets", "acme_nets:spec", good("acme_nets"), name="acme")
    assert not registry.matching("encoder", "acme")
    assert Registry.installed().matching("encoder", "acme")


def test_a_loss_refuses_nothing_unless_it_says_so() -> None:
    assert LossConfig().refuses(MultimodalVAEConfig()) is None


def test_the_groups_are_named_after_the_kinds() -> None:
    kinds = "model encoder decoder likelihood posterior prior loss sampler metric dataset"
    assert list(KINDS) == kinds.split()
    with pytest.raises(TypeError):
        KINDS["model"] = int  # type: ignore[index]


def test_a_spec_needs_an_api_number() -> None:
    with pytest.raises(TypeError, match="api"):
        ComponentSpec(config=LossConfig, build="a:b")  # type: ignore[call-arg]


def test_importing_and_listing_imports_no_torch() -> None:
    code = "import sys, mvcore.config, mvcore.plugins as p; p.Registry.installed(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
