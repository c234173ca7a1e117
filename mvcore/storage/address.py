"""Where a shared model is: ``hf://user/name``, ``hf://user/name@revision``. A plain path stays a path."""

from __future__ import annotations

import os
import re
from typing import final

from attrs import frozen

from mvcore.errors import HubError

SCHEME = "hf://"
MAIN = "main"  #: The branch that an address without a revision means.
_COMMIT = re.compile(r"[0-9a-f]{40}")
_NAME = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"
_REPO = re.compile(f"{_NAME}/{_NAME}")
_REVISION = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._+-]|/(?![./]))*")  # a part of it becomes the name of a file


@final
@frozen
class Address:
    """A repository of the Hub, and a branch, tag or commit of it."""

    repo: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"{SCHEME}{self.repo}" + (f"@{self.revision}" if self.revision else "")

    @property
    def is_fixed(self) -> bool:
        """Whether it names a commit, which can't change."""
        return self.revision is not None and is_commit(self.revision)


@final
@frozen
class Origin:
    """Where a model was loaded from; its text is an address that always gives the same model."""

    repo: str
    """The repository, ``user/name``."""
    revision: str
    """The branch, tag or commit that was asked for."""
    commit: str
    """The commit that this was."""

    def __str__(self) -> str:
        return f"{SCHEME}{self.repo}@{self.commit}"


def is_address(path: object) -> bool:
    """Whether something means a model on the Hub, and no path."""
    return isinstance(path, str) and path.startswith(SCHEME)


def is_commit(text: str) -> bool:
    """Whether a text is the full hash of a commit."""
    return _COMMIT.fullmatch(text) is not None


def parse(text: str | os.PathLike[str]) -> Address:
    """An address of what is written as one, with or without ``hf://``.

    Raises:
        HubError: If it is none.
    """
    repo, at, revision = str(text).removeprefix(SCHEME).partition("@")
    if not isinstance(text, str) or not is_repo(repo) or (at and not _is_revision(revision)):
        raise HubError(
            f"{text!r} is no address of a model on the Hub, which is {SCHEME}user/name or {SCHEME}user/name@revision, "
            f"in letters, digits, '-', '_' and '.'. Write a folder of such a name as './…'."
        )
    return Address(repo, revision or None)


def is_repo(text: str) -> bool:
    """Whether a text is the name of a repository, ``user/name``."""
    bad = any(pair in text for pair in ("--", "..")) or text.endswith(".git")
    return _REPO.fullmatch(text) is not None and not bad


def _is_revision(text: str) -> bool:
    bad = ("..", "//", ".lock", "@{")
    return len(text) <= 200 and _REVISION.fullmatch(text) is not None and not any(part in text for part in bad)
