"""The space of a sweep: which paths of a config vary, and how one config is taken from it by asking for each value."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, final

from attrs import frozen

from mvcore.errors import ConfigError
from mvcore.sweeps.domains import Choice, Domain, Fixed, Node, Plugin, nodes_of, parse

Answers = dict[str, Any]  #: The value of each name that was asked for.
Ask = Callable[[str, Domain], Any]  #: Gives the value of a name, out of its domain.


@final
@frozen
class Space:
    """Paths of a config, each with what its value may be."""

    nodes: Mapping[str, Node]

    @classmethod
    def read(cls, table: Any) -> tuple[Space, list[str]]:
        """The space of plain values, and what is wrong with it, each fault with its path."""
        if not isinstance(table, Mapping):
            return cls({}), [f"space: expected a table, got {table!r}"]
        faults: list[str] = []
        space = cls({path: parse(value, f"space.{path}", faults) for path, value in table.items()})
        faults += [f"space.{path}: {fault}" for path in table if (fault := _misplaced(path))]
        if not faults and not any(not isinstance(node, Fixed) for _, node in space.all()):
            faults.append(
                'space: nothing varies; add a path, such as "training.lr" = {float = [1e-4, 1e-2], log = true}'
            )
        return space, faults

    def all(self) -> Iterator[tuple[str, Node]]:
        """Each node with its name."""
        return nodes_of(self.nodes)

    def varies(self, path: str) -> Node | None:
        """What stands at a path outside the branches."""
        return self.nodes.get(path)


def walk(space: Space, ask: Ask) -> Answers:
    """The values by path that an asker's answers give; it is asked for a plugin before the paths of its branch.

    A name is a path with the branches that lead to it in brackets, ``model[mvtcae].loss.beta``, so that fields of one
    name of two plugins stay apart; the path of its value is ``model.loss.beta``. ``*`` stands for all modalities.
    """
    values: Answers = {}

    def visit(nodes: Mapping[str, Node], name: str, path: str) -> None:
        for key, node in nodes.items():
            own, where = f"{name}{key}", f"{path}{key}"
            if isinstance(node, Fixed):
                values[where] = node.value
            elif isinstance(node, Plugin):
                values[where] = chosen = ask(own, node.names)
                visit(node.branches[chosen], f"{own}[{chosen}].", f"{where}.")
            else:
                values[where] = ask(own, node)

    visit(space.nodes, "", "")
    return values


def answered(space: Space, ask: Ask) -> Answers:
    """The answers of an asker by name, such as ``replay`` takes them."""
    answers: Answers = {}

    def asked(name: str, domain: Domain) -> Any:
        answers[name] = value = ask(name, domain)
        return value

    walk(space, asked)
    return answers


def replay(answers: Mapping[str, Any]) -> Ask:
    """An asker that gives recorded answers.

    Raises:
        ConfigError: When it is asked for a name that has none, or whose answer is not of its domain.
    """

    def ask(name: str, domain: Domain) -> Any:
        if name not in answers:
            raise ConfigError([f"{name}: there is no answer; the answers are of another space"], "answers")
        if not domain.holds(answers[name]):
            raise ConfigError([f"{name}: {answers[name]!r} is none of {domain!r}"], "answers")
        return answers[name]

    return ask


def values_of(space: Space, answers: Mapping[str, Any]) -> Answers:
    """The values by path of recorded answers.

    Raises:
        ConfigError: If they are answers of another space.
    """
    values = walk(space, replay(answers))
    if left := set(answers) - set(answered(space, replay(answers))):
        raise ConfigError([f"{name}: the space does not ask for it" for name in sorted(left)], "answers")
    return values


def domains_of(space: Space, answers: Mapping[str, Any]) -> dict[str, Domain]:
    """The domain of each recorded answer, by name."""
    domains: dict[str, Domain] = {}
    given = replay(answers)

    def ask(name: str, domain: Domain) -> Any:
        domains[name] = domain
        return given(name, domain)

    walk(space, ask)
    return domains


def names_model(space: Space) -> tuple[str, ...]:
    """The models that the space chooses among; none where it leaves the choice to [model]."""
    node = space.varies("model")
    if isinstance(node, Plugin):
        return tuple(node.branches)
    return tuple(node.values) if isinstance(node, Choice) else (node.value,) if isinstance(node, Fixed) else ()


def _misplaced(path: str) -> str | None:
    """Why a path can't be one of the space, if it can't."""
    root, dot, rest = path.partition(".")
    if root == "data":
        return "the data are the same for all trials; set it in [data]"
    if root not in ("model", "training"):
        return "a path starts with model or training, such as model.latent_dim"
    if path == "model":
        return None
    if not dot or not rest or "" in path.split("."):
        return "expected the path of a field, such as training.lr"
    if path == "model.use":
        return 'models are chosen at "model" = {plugin = {…}}'
    return None
