"""A repository that a model is put into: as it is found, and the commit on top of that."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

from huggingface_hub import CommitOperationAdd, CommitOperationDelete
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

from mvcore.config.reading import parse_json
from mvcore.errors import HubError, ModelFileError
from mvcore.storage import hub
from mvcore.storage.address import MAIN, Address, Origin
from mvcore.storage.hub_errors import told_of_hub

FIGURE_NAME = re.compile(r"\w[\w.+-]{0,100}\.png", re.ASCII)
_OURS = (*hub.LIMITS, hub.WEIGHTS)


@final
class Target:
    """A branch of a repository.

    Args:
        address: The repository and the branch.
        endpoint: The Hub's address; None: the environment's.
        token: The caller's token; None: the environment's.
    """

    def __init__(self, address: Address, endpoint: str | None, token: str | bool | None) -> None:
        self.address, self.api = address, hub.client(endpoint, token)
        self.branch = address.revision or MAIN
        self.head, self.names = "", frozenset[str]()

    def open(self, private: bool | None) -> dict[str, bytes]:
        """The card and the config that it holds already; creates it, or the branch, if there is none.

        Raises:
            HubError: If that can't be, or it exists and is not as ``private`` says.
            ModelFileError: If it holds something other than a model of mvcore.
        """
        with told_of_hub(str(self.address)):
            self._find_or_create(private)
            self.head = self._head()
            self.names = frozenset(self.api.list_repo_files(self.address.repo, revision=self.head))
        return self._texts()

    def commit(self, files: Mapping[str, bytes | Path], message: str) -> tuple[str, str]:
        """Puts files there in one commit, and takes away older ones of mvcore's that are not among them.

        Returns:
            The commit that has them, which is the head where nothing has changed, and its page.

        Raises:
            HubError: If the Hub does not take it; nothing was changed then.
        """
        gone = [name for name in self.names if name not in files and (name in _OURS or _is_figure(name))]
        operations: list[Any] = [CommitOperationAdd(name, content) for name, content in files.items()]
        operations += [CommitOperationDelete(name) for name in sorted(gone)]
        with told_of_hub(str(self.address)), self._told_of_tags():
            done = self.api.create_commit(
                self.address.repo,
                operations,
                commit_message=message,
                revision=self.branch,
                parent_commit=self.head,
            )
            self._check_kept(files, done.oid)
        return done.oid, done.commit_url

    def _check_kept(self, files: Mapping[str, bytes | Path], commit: str) -> None:
        """The Hub leaves out, in silence, what the repository's own ``.gitignore`` names."""
        if ".gitignore" not in self.names:
            return
        if lost := sorted(set(files) - set(self.api.list_repo_files(self.address.repo, revision=commit))):
            raise HubError(f"{self.address}: its .gitignore keeps out {', '.join(lost)}; mend it, and push again.")

    @contextmanager
    def _told_of_tags(self) -> Iterator[None]:
        """Says why what can be read can't be pushed to."""
        try:
            yield
        except RevisionNotFoundError as error:
            raise HubError(f"{self.address}: {self.branch!r} is no branch, but a tag; name a branch.") from error

    def _find_or_create(self, private: bool | None) -> None:
        repo = self.address.repo
        try:
            found = self.api.model_info(repo, expand=["sha", "private"]).private
        except GatedRepoError:
            raise
        except RepositoryNotFoundError:
            self.api.create_repo(repo, private=private)
            return
        if private is not None and found is not None and found != private:
            raise HubError(
                f"hf://{repo} is {'private' if found else 'public'} already, and private={private!r} was asked for. "
                "Nothing was pushed; change it in the repository's settings, or leave private out."
            )

    def _head(self) -> str:
        try:
            return self._commit_of_branch()
        except RevisionNotFoundError:
            self.api.create_branch(self.address.repo, branch=self.branch)
            return self._commit_of_branch()

    def _commit_of_branch(self) -> str:
        return str(self.api.model_info(self.address.repo, revision=self.branch, expand=["sha"]).sha)

    def _texts(self) -> dict[str, bytes]:
        remote = hub.Remote(self.api, Origin(self.address.repo, self.branch, self.head))
        found = {name: hub.read(remote, name) for name in ("config.json", "README.md") if name in self.names}
        config = found.get("config.json")
        if (config is not None and not _is_ours(config)) or (config is None and hub.WEIGHTS in self.names):
            raise ModelFileError(
                f"{self.address} holds something other than a model of mvcore; choose a repository that is new or "
                "empty."
            )
        return {name: content for name, content in found.items() if content is not None}


def _is_figure(name: str) -> bool:
    folder, _, file = name.partition("/")
    return folder == "figures" and FIGURE_NAME.fullmatch(file) is not None


def _is_ours(content: bytes) -> bool:
    try:
        config = parse_json(content)
    except ValueError:
        return False
    return isinstance(config, dict) and isinstance(config.get("mvcore"), dict)
