"""The command in a process of its own, with fake distributions on its path."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

SPEC = """
    from __future__ import annotations
    {first}
    from attrs import field, frozen
    from typing import Literal
    from mvcore.plugins import ComponentSpec, LossConfig, {base}

    Activation = Literal["relu", "a.b"]

    @frozen(kw_only=True)
    class Loss(LossConfig):
        weight: float = 1.0
        draws: int = 1

    @frozen(kw_only=True)
    class Parent({base}):
        latent_dim: int
        \"""Shared latent
        dimensions.\"""
        hidden: tuple[int, ...] = (512, 512)

    @frozen(kw_only=True)
    class Config(Parent):
        beta: float | None = 2.5
        \"""Weight of the KL.\"""
        activation: Activation = "relu"
        loss: LossConfig = field(factory=lambda: Loss(draws=5))

    spec = ComponentSpec(
        api={api}, config=Config, build="{module}:build", revision=3, summary="A fake one.",
        paper="https://example.org/paper", partial_data="Rows train what they have.",
    )

    def build(config):
        return config
"""


def install(site: Path, dist: str, kind: str = "model", first: str = "", api: int = 1) -> None:
    """A distribution ``dist`` with one component ``fake`` of a kind."""
    module = dist.replace("-", "_")
    info = site / f"{module}-0.4.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: 0.4\n")
    (info / "entry_points.txt").write_text(f"[mvcore.{kind}]\n{kind}fake = {module}:spec\n")
    code = SPEC.format(first=first, base=f"{kind.title()}Config", api=api, module=module)
    (site / f"{module}.py").write_text(textwrap.dedent(code))


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "torch.py").write_text("import sys\nprint('torch was imported', file=sys.stderr)\n")
    install(tmp_path, "acme-vae")
    return tmp_path


def mvcore(site: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Runs the command; the torch of ``site`` stands before the real one and shows itself on stderr."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), *sys.path]), "COLUMNS": "200"}
    command = [sys.executable, "-c", "from mvcore.cli import main; main(prog_name='mvcore')", *args]
    return subprocess.run(command, env=env, text=True, capture_output=True, check=False)


def acme(site: Path, *args: str) -> list[dict[str, str]]:
    """The components of the fake distributions, as ``mvcore plugins --json`` lists them."""
    found = json.loads(mvcore(site, "plugins", "--json", *args).stdout)["components"]
    return [row for row in found if row["dist"].startswith("acme")]


@pytest.mark.parametrize("args", [["--help"], ["plugins"], ["plugins", "--long"], ["describe", "modelfake"]])
def test_nothing_that_only_looks_imports_torch(site: Path, args: list[str]) -> None:
    done = mvcore(site, *args)
    assert (done.returncode, done.stderr) == (0, "")


def test_help_lists_the_commands(site: Path) -> None:
    assert "  describe  Describe the components" in mvcore(site, "--help").stdout


def test_plugins_reads_the_metadata_only(site: Path) -> None:
    (site / "acme_vae.py").write_text("raise RuntimeError")
    assert acme(site) == [{"kind": "model", "name": "modelfake", "dist": "acme-vae", "version": "0.4"}]
    lines = mvcore(site, "plugins").stdout.splitlines()
    assert lines[0].split() == ["kind", "name", "dist", "version"]
    assert ["model", "modelfake", "acme-vae", "0.4"] in [line.split() for line in lines]


def test_plugins_of_one_kind(site: Path) -> None:
    install(site, "acme-nets", kind="encoder")
    assert [row["name"] for row in acme(site, "--kind", "encoder")] == ["encoderfake"]
    assert [row["name"] for row in acme(site)] == ["encoderfake", "modelfake"]


def test_the_long_list_has_the_summaries_and_goes_on_past_a_broken_plugin(site: Path) -> None:
    install(site, "acme-bad", first="raise RuntimeError('no licence')")
    assert [row["summary"] for row in acme(site, "--long")] == ["broken: RuntimeError: no licence", "A fake one."]


def test_check_names_every_broken_plugin(site: Path) -> None:
    install(site, "acme-old", api=7)
    install(site, "acme-heavy", kind="encoder", first="import torch")
    install(site, "acme-gone", kind="prior")
    (site / "acme_gone.py").unlink()
    done = mvcore(site, "plugins", "--check")
    assert done.returncode == 1
    assert "acme-old:modelfake (version 0.4) cannot be loaded from 'acme_old:spec': it was written for" in done.stderr
    assert "acme-heavy:encoderfake (version 0.4) cannot be loaded from 'acme_heavy:spec': its spec imports torch" in (
        done.stderr
    )
    assert "ModuleNotFoundError: No module named 'acme_gone'" in done.stderr
    assert "acme-vae" not in done.stderr
    assert "Traceback" not in done.stderr
    broken = json.loads(mvcore(site, "plugins", "--check", "--json").stdout)["broken"]
    assert sum(fault.startswith("acme-") for fault in broken) == 3


def test_describe_tells_what_it_is_and_what_can_be_set(site: Path) -> None:
    lines = [line.split() for line in mvcore(site, "describe", "modelfake").stdout.splitlines()]
    for line in [
        "model modelfake",
        "summary A fake one.",
        "paper https://example.org/paper",
        "distribution acme-vae 0.4",
        "revision 3",
        "partial data Rows train what they have.",
        "field type default meaning",
        "latent_dim int required Shared latent dimensions.",
        "hidden tuple[int, ...] (512, 512)",
        "beta float | None 2.5 Weight of the KL.",
        "activation Literal['relu', 'a.b'] 'relu'",
        "loss LossConfig Loss(draws=5)",
    ]:
        assert line.split() in lines


def test_describe_takes_a_long_name_or_a_kind(site: Path) -> None:
    assert mvcore(site, "describe", "acme-vae:modelfake").stdout.startswith("model")
    assert mvcore(site, "describe", "modelfake", "--kind", "model").stdout.startswith("model")
    assert "No encoder is named 'modelfake'" in mvcore(site, "describe", "modelfake", "--kind", "encoder").stderr


def test_an_error_is_one_paragraph_and_code_1(site: Path) -> None:
    done = mvcore(site, "describe", "modelfak")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: No component is named 'modelfak'. Did you mean 'modelfake'? Installed: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("args", [["--traceback", "describe", "no"], ["describe", "no", "--traceback"]])
def test_traceback_shows_the_rest(site: Path, args: list[str]) -> None:
    done = mvcore(site, *args)
    assert done.returncode == 1
    assert "Traceback (most recent call last)" in done.stderr
    assert "UnknownComponentError: No component is named 'no'." in done.stderr


def test_an_unknown_command_is_a_usage_error(site: Path) -> None:
    done = mvcore(site, "descrbe")
    assert done.returncode == 2
    assert "No such command 'descrbe'" in done.stderr


@pytest.mark.parametrize("args", [["--help"], ["plugins"]])
def test_what_only_looks_imports_nothing_heavy(args: list[str]) -> None:
    code = (
        "import sys\nfrom mvcore.cli import main\n"
        f"main({args!r}, standalone_mode=False)\n"
        "print(sorted({'torch', 'numpy', 'pandas', 'scipy', 'sklearn'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1:] == ["[]"]


def test_describe_as_json_has_every_field_with_its_type_default_and_meaning() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from mvcore.cli import main; main(['describe', 'elbo', '--json'])"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    (elbo,) = json.loads(done.stdout)
    assert (elbo["kind"], elbo["name"], elbo["revision"]) == ("loss", "elbo", 1)
    assert elbo["fields"][0] == {
        "field": "beta", "type": "float", "default": "1.0", "meaning": "Weight β of all divergences.",
    }  # fmt: skip
