"""Every error that mvcore raises on purpose; each carries its parts as attributes and says what to do next.

The parts are what an error is constructed from, and the text is made from them: an error therefore crosses a process
boundary (a data loader's worker, a Ray trial) whole.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mvcore.text import LINES, capped, clean, clean_lines

__all__ = [
    "AmbiguousComponentError",
    "BrokenPluginError",
    "CheckpointError",
    "ConfigError",
    "DataError",
    "HubError",
    "MissingExtraError",
    "MissingPluginError",
    "ModelFileError",
    "MvcoreError",
    "NotApplicableError",
    "NotFittedError",
    "NotPackagedError",
    "TrainingError",
    "UnknownComponentError",
    "nearest",
]

_LONGEST_NAME = 200  # of longer ones none is a slip of the keyboard, and comparing them takes long


class MvcoreError(Exception):
    """Base of every error that mvcore raises on purpose.

    Its text may hold what a stranger's file says, and is cleaned here, once for all: no control characters, at most ten
    lines, none of them endless. The attributes keep everything. A subclass writes ``text``.
    """

    def text(self) -> str:
        """What is wrong, as it is; ``str`` gives it cleaned."""
        return super().__str__()

    def __str__(self) -> str:
        return clean_lines(self.text())


class UnknownComponentError(MvcoreError, LookupError):
    """No installed distribution declares a component of this kind and name."""

    def __init__(self, kind: str, name: str, known: Sequence[str]) -> None:
        super().__init__(kind, name, known)
        self.kind, self.name, self.known = kind, name, list(known)

    def text(self) -> str:
        """What is wrong, and what to do."""
        near = nearest(self.name, self.known)
        hint = f" Did you mean {near!r}?" if near else ""
        return f"No {self.kind} is named {self.name!r}.{hint} Installed: {', '.join(self.known) or 'none'}."


class AmbiguousComponentError(MvcoreError, LookupError):
    """Several distributions declare a component of this kind and name."""

    def __init__(self, kind: str, name: str, ids: Sequence[str]) -> None:
        super().__init__(kind, name, ids)
        self.kind, self.name, self.ids = kind, name, list(ids)

    def text(self) -> str:
        """What is wrong, and what to do."""
        return (
            f"{len(self.ids)} distributions have a component called {self.name!r} of the kind {self.kind}. "
            f"Write one of these instead: {', '.join(self.ids)}."
        )


class BrokenPluginError(MvcoreError, ImportError):
    """A plugin is installed, but what it registered cannot be used.

    Args:
        entry_id: The component, as ``"dist:name"``.
        version: The version of its distribution.
        target: The object that the entry point names, as ``"module:attribute"``.
        why: The cause, as a sentence without its full stop.
    """

    def __init__(self, entry_id: str, version: str, target: str, why: str) -> None:
        super().__init__(entry_id, version, target, why)
        self.entry_id, self.version, self.target, self.why = entry_id, version, target, why

    def text(self) -> str:
        """What is wrong, and what to do."""
        dist = self.entry_id.partition(":")[0]
        return (
            f"{self.entry_id} (version {self.version}) cannot be loaded from {self.target!r}: {self.why}. "
            f"Upgrade {dist}, or report this to its authors."
        )


class MissingPluginError(MvcoreError, ImportError):
    """A saved model needs distributions that are absent, or installed in a version that does not fit.

    Args:
        unmet: Each unmet requirement (``"mvcore-mopoe>=0.1,<0.2"``) with the version installed, None if it is absent.
        unknown: Those of them whose distribution mvcore has not heard of, and hence does not tell anyone to install.
    """

    def __init__(self, unmet: Mapping[str, str | None], unknown: Sequence[str] = ()) -> None:
        super().__init__(unmet, unknown)
        self.unmet, self.unknown = dict(unmet), list(unknown)

    def text(self) -> str:
        """What is wrong, and what to do."""
        found = [f"{line} ({have} is installed)" if have else line for line, have in self.unmet.items()]
        lines = ["This model needs distributions that are not installed here, or not in a version that fits:"]
        lines += capped([clean(line) for line in found], LINES - 3)
        if known := [line for line in self.unmet if line not in self.unknown]:
            lines.append("Install with: pip install " + " ".join(f'"{line}"' for line in known))
        if self.unknown:
            names = clean(", ".join(self.unknown), 300)
            lines.append(
                f"mvcore does not know {names}: to install it is to run its code; see who publishes it before you do."
            )
        return "\n  ".join(lines)


class ConfigError(MvcoreError, ValueError):
    """Values that do not fit the config classes they are meant for.

    Args:
        problems: One line a fault, each ``"dotted.path: what is wrong"``.
        where: What was read: a kind of component, a class, a file.
    """

    def __init__(self, problems: Sequence[str], where: str = "config") -> None:
        super().__init__(problems, where)
        self.problems, self.where = list(problems), where

    def text(self) -> str:
        """What is wrong, and what to do."""
        plural = "" if len(self.problems) == 1 else "s"
        shown = capped([clean(problem) for problem in self.problems], LINES - 1)
        return "\n  ".join([f"{len(self.problems)} problem{plural} in {clean(self.where)}", *shown])


class DataError(MvcoreError, ValueError):
    """Data that cannot be used: a shape, a dtype, an empty row, an unknown modality.

    Args:
        message: What is wrong, what was expected, what to do.
        modality: The modality it was found in, if it was one.
    """

    def __init__(self, message: str, *, modality: str | None = None) -> None:
        super().__init__(message)
        self.modality = modality


class ModelFileError(MvcoreError, ValueError):
    """A folder of a saved model that cannot be read.

    Args:
        message: What is wrong, what was expected, what to do.
        path: The file or folder it was found in.
    """

    def __init__(self, message: str, *, path: Path | None = None) -> None:
        super().__init__(message)
        self.path = path


class FileAccessError(MvcoreError, OSError):
    """A file that the system does not let be read or written: a full disk, no permission, a folder that is gone.

    Args:
        message: What could not be done, and why.
        path: The file or folder.
        code: The system's number of the cause, as in ``errno``.
    """

    def __init__(self, message: str, path: Path | None = None, code: int | None = None) -> None:
        super().__init__(message, path, code)
        self.message, self.path, self.errno = message, path, code

    def text(self) -> str:
        """What could not be done, and why."""
        return self.message

    def __reduce__(self) -> tuple[type[FileAccessError], tuple[str, Path | None, int | None]]:
        return type(self), (self.message, self.path, self.errno)


class HubError(MvcoreError, RuntimeError):
    """Something that the Hugging Face Hub did not do, or that can't be asked of it.

    Args:
        message: What was asked, what came of it, what to do.
        address: The model, as ``"hf://user/name@revision"``.
    """

    def __init__(self, message: str, *, address: str | None = None) -> None:
        super().__init__(message)
        self.address = address


class CheckpointError(MvcoreError, ValueError):
    """A checkpoint that cannot be read, or is of another training.

    Args:
        message: What is wrong, what was expected, what to do.
        path: The file or folder it was found in.
    """

    def __init__(self, message: str, *, path: Path | None = None) -> None:
        super().__init__(message)
        self.path = path


class NotFittedError(MvcoreError, RuntimeError):
    """Something was used before it was fitted.

    Args:
        message: What was used, and what to call first.
        what: The thing that is not fitted, as a config names it.
    """

    def __init__(self, message: str, *, what: str | None = None) -> None:
        super().__init__(message)
        self.what = what


class NotPackagedError(MvcoreError, TypeError):
    """A component that no installed distribution registers: it can be trained, but not written to a file.

    Args:
        what: The object or class.
        group: The entry-point group to register it in, such as ``"mvcore.encoder"``.
    """

    def __init__(self, what: str, group: str = "mvcore.model") -> None:
        super().__init__(what, group)
        self.what, self.group = what, group

    def text(self) -> str:
        """What is wrong, and what to do."""
        return (
            f"{self.what} is registered by no installed distribution, so a saved file could not name it. "
            f"Declare a ComponentSpec for it under the entry-point group {self.group!r} of a distribution and "
            "install that (contrib/template is a start), or keep its state_dict() only."
        )


class MissingExtraError(MvcoreError, ImportError):
    """Something needs a package that an extra of mvcore installs.

    Args:
        package: The package.
        extra: The extra of mvcore that brings it.
        what: What needs it, as a sentence starts.
    """

    def __init__(self, package: str, extra: str, what: str = "This") -> None:
        super().__init__(package, extra, what)
        self.package, self.extra, self.what = package, extra, what

    def text(self) -> str:
        """What is wrong, and what to do."""
        return f'{self.what} needs the package {self.package!r}. Install it with: pip install "mvcore[{self.extra}]"'


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that ``name`` most likely stands for, None if there is none near; ``lr`` is near learning_rate."""
    if len(name) > _LONGEST_NAME:
        return None
    names = list(known)
    initials = [other for other in names if _initials(other) == name or _initials(name) == other]
    return next(iter([*difflib.get_close_matches(name, names, n=1), *initials]), None)


def _initials(name: str) -> str:
    words = name.replace("-", "_").split("_")
    return "".join(word[:1] for word in words) if len(words) > 1 else ""


class TrainingError(MvcoreError, ArithmeticError):
    """A training that cannot go on, such as one whose loss is not finite."""


class NotApplicableError(MvcoreError, ValueError):
    """What does not apply: a metric on this data with these resources, a density that a model does not have.

    Args:
        message: What is lacking, and what to give.
    """
