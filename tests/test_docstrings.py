"""The examples in docstrings run and give what they show; none is skipped."""

from __future__ import annotations

import ast
import doctest
import importlib
from pathlib import Path

import pytest

import mvcore

ROOT = Path(mvcore.__file__).parent
#: Modules with examples, by their text: to import all would slow every collection down.
FILES = [path for path in sorted(ROOT.rglob("*.py")) if ">>> " in path.read_text(encoding="utf-8")]


def written(path: Path) -> int:
    """How many docstrings of a file have an example."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    documented = (node for node in nodes if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)))
    return sum(">>> " in (ast.get_docstring(node) or "") for node in documented)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_examples_of_a_module_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner(optionflags=doctest.ELLIPSIS, verbose=False)
    found = [test for test in finder.find(importlib.import_module(name)) if test.examples]
    assert len(found) == written(path)
    said: list[str] = []
    for test in found:
        assert not any(doctest.SKIP in example.options for example in test.examples), f"{test.name} skips an example"
        runner.run(test, out=said.append)
    assert runner.failures == 0, "".join(said)
