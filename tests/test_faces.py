"""What is public: each package's face, and that plugins, template, docs and benchmarks import nothing else."""

from __future__ import annotations

import ast
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import mvcore

ROOT = Path(mvcore.__file__).parent
PACKAGES = ["mvcore", *(f"mvcore.{m.name}" for m in pkgutil.iter_modules(mvcore.__path__) if m.ispkg)]
#: Modules beside the packages that are public too.
MODULES = ["mvcore.build", "mvcore.errors", "mvcore.options", "mvcore.validators"]
#: The repository around these tests, where they run in it.
REPOSITORY = Path(__file__).parents[1]
OUTSIDE = [*REPOSITORY.glob("plugins/*"), REPOSITORY / "contrib", REPOSITORY / "benchmarks", REPOSITORY / "docs"]


def declared(package: str) -> set[str]:
    """The names that a face imports for type checkers."""
    path = Path(str(import_module(package).__file__))
    tree = ast.parse(path.read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    return {alias.asname or "" for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}


def imported(source: str) -> Iterator[tuple[str, str]]:
    """Each name that a source imports from mvcore, with the module it is imported from."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "mvcore":
            yield from ((str(node.module), alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names if alias.name.startswith("mvcore."))


def sources(path: Path) -> Iterator[tuple[Path, str]]:
    for file in sorted(path.rglob("*.py")):
        yield file, file.read_text(encoding="utf-8")
    for file in sorted(path.rglob("*.md")):
        for block in re.findall(r"^```python\n(.*?)^```", file.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
            yield file, block


@pytest.mark.parametrize("package", [p for p in PACKAGES if p != "mvcore.cli"])
def test_a_face_names_what_it_loads_and_nothing_else(package: str) -> None:
    module = import_module(package)
    assert dir(module) == sorted(module.__all__)
    assert all(getattr(module, name) is not None for name in module.__all__)
    assert not {m.name for m in pkgutil.iter_modules(module.__path__)} & set(module.__all__)
    if module.__getattr__.__module__ == "mvcore.faces":
        assert declared(package) == set(module.__all__)
        with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
            _ = module.nothing


def test_the_package_exports_what_users_catch_and_subclass() -> None:
    errors = {name for name in mvcore.errors.__all__ if name.endswith("Error")}
    assert errors | {"Batch", "Model", "Report", "hookimpl"} <= set(dir(mvcore))


def test_no_face_and_no_room_of_specs_imports_torch() -> None:
    """One process imports them one after the other: what was imported stays, so the first that brings torch shows."""
    specs = [".".join(p.relative_to(ROOT.parent).with_suffix("").parts) for p in sorted(ROOT.glob("*/specs.py"))]
    code = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
    if "torch" in sys.modules:
        sys.exit(f"importing {name} imports torch")
"""
    done = subprocess.run([sys.executable, "-c", code, *PACKAGES, *specs], capture_output=True, text=True, check=False)
    assert specs
    assert not done.returncode, done.stderr


@pytest.mark.skipif(not OUTSIDE[-1].is_dir(), reason="the tests run without the repository")
@pytest.mark.parametrize("path", OUTSIDE, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_what_stands_outside_the_core_imports_public_names_alone(path: Path) -> None:
    private = []
    for file, source in sources(path):
        for module, name in imported(source):
            public = getattr(import_module(module), "__all__", ()) if module.count(".") <= 1 else ()
            if name not in public and not (module == "mvcore" and f"mvcore.{name}" in PACKAGES):
                private.append(f"{file.relative_to(REPOSITORY)}: from {module} import {name}")
    assert not private


def test_every_public_name_has_a_line_in_the_contract() -> None:
    page = REPOSITORY / "docs" / "protocols.md"
    if not page.is_file():
        pytest.skip("the tests run without the repository")
    text = page.read_text(encoding="utf-8")
    listed = {}
    for package, names in re.findall(r"^\| `(mvcore[\w.]*)` \| (.*) \|$", text, re.MULTILINE):
        listed[package] = set(re.findall(r"`(\w+)`", names))
    for package in PACKAGES + MODULES:
        assert listed.get(package, set()) == set(import_module(package).__all__), package
