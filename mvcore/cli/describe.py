"""``mvcore describe``: what one component is, and what can be set."""

from __future__ import annotations

import ast
import inspect
import json
import re
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, get_args, get_type_hints

import attrs
import click

from mvcore.cli import table
from mvcore.config.converter import default_of
from mvcore.errors import UnknownComponentError
from mvcore.options import TrainingConfig
from mvcore.plugins.registry import Entry, Registry
from mvcore.plugins.spec import KINDS, ComponentConfig, ComponentSpec, ModelConfig


@click.command("describe")
@click.argument("name")
@click.option("--kind", type=click.Choice(list(KINDS)), help="Only the component of this kind.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
def command(name: str, kind: str | None, as_json: bool) -> None:
    """Describe the components called NAME, or DIST:NAME, and their fields."""
    registry = Registry.installed()
    entries = _called(registry, name, [kind] if kind else list(KINDS))
    described = [_facts(entry, registry.load(entry)) for entry in entries]
    click.echo(json.dumps(described, indent=2, ensure_ascii=False) if as_json else "\n\n".join(map(_text, described)))


def _called(registry: Registry, name: str, kinds: list[str]) -> list[Entry]:
    """A name may be used once in each kind; it is unknown if no kind has it."""
    if len(kinds) == 1:
        return [registry.find(kinds[0], name)]
    found = [registry.find(kind, name) for kind in kinds if registry.matching(kind, name)]
    if not found:
        known = {entry.id if ":" in name else entry.name for entry in registry.entries()}
        raise UnknownComponentError("component", name, sorted(known))
    return found


def _facts(entry: Entry, spec: ComponentSpec) -> dict[str, Any]:
    """What a component is and what can be set, as plain values."""
    about = {
        "kind": entry.kind,
        "name": entry.name,
        "distribution": f"{entry.dist} {entry.version}",
        "revision": spec.revision,
        "summary": spec.summary,
        "paper": spec.paper or "",
        "partial data": spec.partial_data,
        "training": _recipe(spec.config),
    }
    return {**about, "fields": _fields(spec.config)}


def _recipe(config: type[Any]) -> str:
    """What the recipe of a model's config has of its own; nothing of other kinds, or where a field is required."""
    if not issubclass(config, ModelConfig) or any(f.default is attrs.NOTHING for f in _attributes(config)):
        return ""
    recipe, plain = config().recipe(), TrainingConfig()
    own = {f.name: getattr(recipe, f.name) for f in attrs.fields(TrainingConfig)}
    return ", ".join(f"{name}={value!r}" for name, value in own.items() if value != getattr(plain, name))


def _text(facts: dict[str, Any]) -> str:
    order = ("summary", "paper", "distribution", "revision", "partial data", "training")
    about = [(key, str(facts[key])) for key in order if facts[key]]
    fields = [list(field.values()) for field in facts["fields"]]
    listed = table([["field", "type", "default", "meaning"], *fields]) if fields else "It has no fields."
    return "\n\n".join([table([(facts["kind"], facts["name"]), *about]), listed])


def _fields(config: type[Any]) -> list[dict[str, str]]:
    types = get_type_hints(config)
    # a field that is declared again without a docstring means what it meant
    docs = {name: doc for cls in reversed(config.__mro__) for name, doc in _docstrings(cls) if doc}
    return [
        {
            "field": field.alias or field.name,
            "type": _type_name(types[field.name]),
            "default": _default(field),
            "meaning": docs.get(field.name, ""),
        }
        for field in _attributes(config)
    ]


def _type_name(type_: Any) -> str:
    """A type without its modules, and with its aliases spelled out: what may be written, not how it is called."""
    if inspect.isclass(type_) and not get_args(type_):
        return type_.__name__
    return re.sub(r"(?<!['\w.])(?:\w+\.)+", "", repr(type_))


def _default(field: attrs.Attribute[Any]) -> str:
    if field.default is attrs.NOTHING:
        return "required"
    computed = getattr(field.default, "takes_self", False)
    return "computed" if computed else _shown(default_of(field, None))


def _shown(value: Any) -> str:
    """A component as its class and what differs from the class's defaults, anything else as Python writes it."""
    if not isinstance(value, ComponentConfig):
        return repr(value)
    fields = ((field, getattr(value, field.name)) for field in _attributes(type(value)))
    set_ = [f"{field.alias}={_shown(part)}" for field, part in fields if part != default_of(field, value)]
    return f"{type(value).__name__}({', '.join(set_)})"


def _attributes(cls: type[Any]) -> tuple[attrs.Attribute[Any], ...]:
    return tuple(field for field in attrs.fields(cls) if field.init)


def _docstrings(cls: type[Any]) -> Iterator[tuple[str, str]]:
    """The docstring under each field that the source of a class declares; none without the source."""
    try:
        source = textwrap.dedent(inspect.getsource(cls))
    except (OSError, TypeError):
        return
    (node,) = ast.parse(source).body
    body = node.body if isinstance(node, ast.ClassDef) else []
    for statement, after in pairwise(body):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            yield statement.target.id, _docstring(after)


def _docstring(node: ast.stmt) -> str:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
        return " ".join(node.value.value.split())
    return ""
