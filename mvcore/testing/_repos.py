"""The repositories of a Hub in memory, and its refusals."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, final

from attrs import define, field, frozen

from mvcore.testing._http import Answer


@final
@frozen
class HubCommit:
    """One state of a repository."""

    sha: str
    files: Mapping[str, bytes]
    message: str


@final
@define
class HubRepo:
    """A repository: its commits, and what branches and tags stand for."""

    private: bool = False
    commits: dict[str, HubCommit] = field(factory=dict)
    branches: dict[str, str] = field(factory=dict)
    tags: dict[str, str] = field(factory=dict)

    def commit(self, files: Mapping[str, bytes], message: str = "by hand", branch: str = "main") -> str:
        """Makes these the files of a branch, whatever their names and contents; the commit's hash."""
        listing = sorted((name, blob_id(content)) for name, content in files.items())
        sha = hashlib.sha1(repr((message, len(self.commits), listing)).encode()).hexdigest()
        self.commits[sha] = HubCommit(sha, dict(files), message)
        self.branches[branch] = sha
        return sha

    def at(self, revision: str = "main") -> HubCommit:
        """The state at a branch, a tag or a commit."""
        sha = self.branches.get(revision, self.tags.get(revision, revision))
        if sha not in self.commits:
            raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return self.commits[sha]


class Refusal(Exception):
    """An answer that is an error, as the Hub gives it."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] = MappingProxyType({})) -> None:
        super().__init__(message)
        told = {"X-Error-Code": code, "X-Error-Message": message, **headers}
        self.answer = Answer(status, told, as_json({"error": message}))


def blob_id(content: bytes) -> str:
    """Git's hash of a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()
