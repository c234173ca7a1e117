"""Calls that any number of plugins may answer during a training; components are found by name instead (registry).

::

    fit_start ─▶ [ step_end … step_end ─▶ epoch_end ─▶ checkpoint ] … ─▶ fit_end

A hook that raises ``StopTraining`` ends the training: its checkpoint is saved, and ``fit`` returns as usual.

Each fit has a manager of its own: hooks of installed distributions, under the entry-point group ``mvcore.hooks``, and
the caller's ``callbacks`` register in it. No hook takes part in reading a config.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from importlib import metadata
from typing import TYPE_CHECKING, Any

import pluggy

from mvcore.errors import ConfigError, nearest

if TYPE_CHECKING:
    from pathlib import Path

    from mvcore.data.rows import Rows
    from mvcore.losses.base import LossOutput
    from mvcore.models.base import Model
    from mvcore.training.fit import Run

hookspec = pluggy.HookspecMarker("mvcore")
hookimpl = pluggy.HookimplMarker("mvcore")
log = logging.getLogger(__name__)

GROUP = "mvcore.hooks"


class StopTraining(Exception):  # no error: nothing went wrong
    """Raised by a hook to end the training.

    ``fit`` saves the checkpoint, where there is a folder for it, closes the trackers and returns a run that is
    ``stopped``; the model has the weights of that moment, with validation rows those of the best epoch of the stage so
    far. No step is made after it; of several ranks all stop, inside an epoch within ten steps. Hooks that would be
    called after the one that raised it are not called.
    """


class Hooks:
    """What a hook may answer; take only the arguments you need, by name."""

    @hookspec
    def mvcore_fit_start(self, model: Model, data: Rows, epochs: int) -> None:
        """A training is about to start; transforms are fitted."""

    @hookspec
    def mvcore_step_end(self, model: Model, output: LossOutput, step: int) -> None:
        """The optimizer made a step; ``output`` is on the device, reading its values waits for it."""

    @hookspec
    def mvcore_epoch_end(self, model: Model, row: Mapping[str, Any]) -> None:
        """An epoch ended; ``row`` is its line of the history."""

    @hookspec
    def mvcore_checkpoint(self, model: Model, row: Mapping[str, Any] | None, folder: Path) -> None:
        """A checkpoint was saved in the folder; called on every rank, with the last line of the history, if any."""

    @hookspec
    def mvcore_fit_end(self, run: Run) -> None:
        """A training ended, or was stopped."""


def make_manager(callbacks: Iterable[object] = (), *, installed: bool = True) -> pluggy.PluginManager:
    """The hooks of one training.

    Args:
        callbacks: Objects with functions marked by ``hookimpl``; one with a misspelt name is an error.
        installed: Whether the hooks of installed distributions take part.

    Raises:
        ConfigError: If a callback answers no call, one that does not exist, or takes an unknown argument.
    """
    manager = pluggy.PluginManager("mvcore")
    manager.add_hookspecs(Hooks)
    if installed:
        _load_installed(manager)
    given: object = callbacks
    if not isinstance(given, Iterable) or isinstance(given, (str, Mapping)):
        raise ConfigError([f"expected a list of objects, got {given!r}"], "callbacks")
    for callback in callbacks:
        _register(manager, callback)
    return manager


def _register(manager: pluggy.PluginManager, callback: object) -> None:
    """Registers a callback that answers something; pluggy keeps others, and never calls them."""
    if isinstance(callback, type):
        raise ConfigError([f"{callback.__name__} is a class; give an instance, {callback.__name__}()"], "callbacks")
    try:
        manager.register(callback)
        manager.check_pending()
    except (pluggy.PluginValidationError, ValueError) as fault:  # ValueError: registered twice
        raise ConfigError([f"{_called(callback)}: {' '.join(str(fault).split())}"], "callbacks") from fault
    answered = {caller.name for caller in manager.get_hookcallers(callback) or ()}
    calls = (name for name in vars(Hooks) if name.startswith("mvcore_"))
    if answered and (left := [name for name in calls if hasattr(callback, name) and name not in answered]):
        raise ConfigError(
            [f"{_called(callback)} is never asked {left[0]}: it is not marked by @mvcore.hookimpl; {_HOW}"], "callbacks"
        )
    if not answered:
        raise ConfigError([f"{_called(callback)} answers no call{_meant(callback)}; {_HOW}"], "callbacks")


def _called(callback: object) -> str:
    return f"a {type(callback).__name__}"


def _meant(callback: object) -> str:
    """Which call a function without the mark, or of another name, may have been meant for."""
    calls = [name for name in vars(Hooks) if name.startswith("mvcore_")]
    own = [name for name in dir(callback) if not name.startswith("_") and callable(getattr(callback, name, None))]
    if unmarked := [name for name in own if name in calls]:
        return f": its {unmarked[0]} is not marked by @mvcore.hookimpl"
    near = {name: nearest(f"mvcore_{name.removeprefix('on_')}", calls) for name in own}
    found = next(((name, call) for name, call in near.items() if call), None)
    return f": did you mean {found[1]!r} by its {found[0]!r}?" if found else ""


_HOW = "write a class with @mvcore.hookimpl over def mvcore_epoch_end(self, model, row): …, and give an instance"


def _load_installed(manager: pluggy.PluginManager) -> None:
    """Registers each installed hook on its own: pluggy's way stops at the first broken one."""
    for point in sorted(metadata.entry_points(group=GROUP)):
        name = f"{point.dist.name}:{point.name}" if point.dist else point.name
        try:
            found = point.load()
            manager.register(found, name=name)
            manager.check_pending()
            if not manager.get_hookcallers(found):
                log.warning("The hooks of %s answer no call; mark its functions by mvcore.hookimpl.", name)
        except Exception as cause:
            manager.unregister(name=name)  # register may have stopped half-way
            log.warning("The hooks of %s are left out: %s: %s", name, type(cause).__name__, cause)


def names(manager: pluggy.PluginManager) -> list[str]:
    """What takes part in a training, for its record."""
    return [name for name, _ in manager.list_name_plugin()]
