"""Files of one commit on the Hub, fetched into its cache by name, each only when its size is known and wanted."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, final

from huggingface_hub import HfApi, constants, hf_hub_download, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError
from huggingface_hub.utils.tqdm import tqdm

import mvcore
from mvcore.config.reading import JSON_LIMIT, read_bounded
from mvcore.errors import FileAccessError, HubError, ModelFileError
from mvcore.storage.address import MAIN, Address, Origin, is_commit
from mvcore.storage.hub_errors import HTTP_ERROR, is_unreachable, told_of_hub
from mvcore.storage.writing import write_whole

log = logging.getLogger(__name__)
#: Most bytes of the files that are not weights; of no other name is anything fetched.
LIMITS = {"config.json": JSON_LIMIT, "report.json": JSON_LIMIT, "README.md": 4 * 2**20}
WEIGHTS = "model.safetensors"
_SPARE = 2**26  # bytes that may come beyond what was said
_ETAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")  # the client makes it the name of a file


def client(endpoint: str | None, token: str | bool | None) -> HfApi:
    """The Hub's client; what is None is the environment's."""
    return HfApi(endpoint=endpoint, token=token, library_name="mvcore", library_version=mvcore.__version__)


@final
class Remote:
    """One commit of a repository.

    Args:
        api: The Hub's client.
        origin: The commit.
        reached: Whether the Hub was there to say so.
    """

    def __init__(self, api: HfApi, origin: Origin, *, reached: bool = True) -> None:
        self.api, self.origin, self.reached = api, origin, reached
        self.cache = Path(constants.HF_HUB_CACHE).expanduser()
        repo = "--".join(["models", *origin.repo.split("/")])
        self.folder = self.cache / repo / "snapshots" / origin.commit

    def fetch(self, name: str, check: Callable[[int], object] | None = None) -> Path | None:
        """The path of a file in the cache; None where the commit has none of this name.

        Args:
            name: A key of ``LIMITS``, or that of the weights.
            check: Told the size of weights before they are fetched; raises if they are not wanted.

        Raises:
            HubError: If it can't be fetched.
            ModelFileError: If it is larger than such a file needs to be.
        """
        if (cached := self._cached(name)) is not None:
            return cached if isinstance(cached, Path) else None
        if not self.reached:
            raise HubError(f"{self.origin}: the Hub can't be reached, and the cache has no {name}.")
        with told_of_hub(str(self.origin)), suppress(EntryNotFoundError):
            try:
                size = self._size(name)
            except EntryNotFoundError:
                return self._fetched(name, 0)  # which has the cache know that there is none
            _check_size(f"{self.origin}: {name}", size, LIMITS.get(name), check)
            return self._fetched(name, size)
        return None

    def knows(self, name: str) -> bool:
        """Whether it can be said if the commit has a file: the Hub can be asked, or the cache knows."""
        return self.reached or self._cached(name) is not None

    def size(self, name: str) -> int | None:
        """Bytes of a file, which is not fetched; None where the commit has none, or the Hub can't be asked."""
        cached = self._cached(name)
        if cached is not None or not self.reached:
            return os.stat(cached).st_size if isinstance(cached, Path) else None
        with told_of_hub(str(self.origin)):
            try:
                return self._size(name)
            except EntryNotFoundError:
                return None

    def _cached(self, name: str) -> Path | object | None:
        """The path of a file that the cache has; another object, if it knows that there is none; None: neither."""
        found = try_to_load_from_cache(self.origin.repo, name, revision=self.origin.commit, cache_dir=self.cache)
        return Path(found) if isinstance(found, str) else found

    def _size(self, name: str) -> int:
        about = self.api.get_hf_file_metadata(url=_url(self.api, self.origin.repo, name, self.origin.commit))
        if about.commit_hash != self.origin.commit or not _ETAG.fullmatch(about.etag or ""):
            raise HubError(f"{self.origin}: the answer for {name} is not that of a Hub; see the endpoint.")
        if about.size is not None:
            return about.size
        (entry,) = self.api.get_paths_info(self.origin.repo, name, revision=self.origin.commit)
        return int(getattr(entry, "size", 2**63))

    def _fetched(self, name: str, size: int) -> Path:
        """Fetches a file of a known size; the client asks for it again, and takes what comes."""
        path = Path(
            hf_hub_download(
                self.origin.repo,
                name,
                revision=self.origin.commit,
                cache_dir=self.cache,
                endpoint=self.api.endpoint,
                token=self.api.token,
                library_name=self.api.library_name,
                library_version=self.api.library_version,
                tqdm_class=_at_most(f"{self.origin}: {name}", size),
            )
        )
        if path != self.folder / name and path.resolve() != (self.folder / name).resolve():
            raise HubError(f"{self.origin}: {name} came from another commit; see the endpoint.")
        return path

    def note(self) -> None:
        """Has the cache know what the branch or tag stood for, for when there is no network."""
        if self.reached and self.origin.revision != self.origin.commit:
            file = self.folder.parents[1] / "refs" / self.origin.revision
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                write_whole(file, self.origin.commit.encode())
            except (OSError, FileAccessError) as error:
                log.debug("The cache did not take what %s is: %s", self.origin, error)


def find(address: Address, endpoint: str | None = None, token: str | bool | None = None) -> Remote:
    """The commit that an address means, with its config fetched; of the cache, where the Hub can't be reached.

    Raises:
        HubError: If there is no such repository or revision, or it is not known which commit is meant.
        ModelFileError: If it has no ``config.json``.
    """
    api, revision = client(endpoint, token), address.revision or MAIN
    with told_of_hub(str(address)):
        commit, reached = (revision, True) if address.is_fixed else _commit(api, address, revision)
    remote = Remote(api, Origin(address.repo, revision, commit), reached=reached)
    if remote.fetch("config.json") is None:
        raise ModelFileError(f"{address} holds no saved model: it has no config.json.")
    remote.note()
    return remote


def read(remote: Remote, name: str) -> bytes | None:
    """The content of a small file of a commit; None where it has none."""
    file = remote.fetch(name)
    return None if file is None else read_bounded(file, LIMITS[name], remote.cache)


def _commit(api: HfApi, address: Address, revision: str) -> tuple[str, bool]:
    """The commit that a branch or tag stands for, and whether the Hub said so."""
    try:
        found = api.get_hf_file_metadata(url=_url(api, address.repo, "config.json", revision)).commit_hash
    except EntryNotFoundError as error:
        raise ModelFileError(f"{address} holds no saved model: it has no config.json.") from error
    except (HTTP_ERROR, OSError) as error:
        noted = _noted(address.repo, revision) if is_unreachable(error) else None
        if noted is None:
            raise
        log.warning("The Hub can't be reached; of %s the cache's copy of commit %s is used.", address, noted)
        return noted, False
    if found is None or not is_commit(found):
        raise HubError(f"{address}: what answers at {api.endpoint} is no Hub; see the endpoint.")
    return found, True


def _noted(repo: str, revision: str) -> str | None:
    """The commit that the cache knows a branch or tag by."""
    found = try_to_load_from_cache(repo, "config.json", revision=revision, cache_dir=constants.HF_HUB_CACHE)
    return Path(found).parent.name if isinstance(found, str) else None


def _url(api: HfApi, repo: str, name: str, revision: str) -> str:
    return hf_hub_url(repo, name, revision=revision, endpoint=api.endpoint)


def _at_most(what: str, size: int) -> type[tqdm]:
    """A progress bar that ends what brings far more than it said it would; of parts some come twice."""
    left = 2 * size + _SPARE

    @final
    class AtMost(tqdm):
        def update(self, n: float | None = 1) -> bool | None:
            nonlocal left
            left -= int(n or 0)
            if left < 0:
                raise HubError(f"{what} was said to have {size:,} bytes, and more and more come; see the endpoint.")
            shown: bool | None = super().update(n)
            return shown

    return AtMost


def _check_size(what: str, size: int, limit: int | None, check: Callable[[int], Any] | None) -> None:
    if limit is not None and size > limit:
        raise ModelFileError(f"{what} has {size:,} bytes, more than such a file needs, and was not fetched.")
    if check is not None:
        check(size)
