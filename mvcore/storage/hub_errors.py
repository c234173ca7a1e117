"""What the Hub's client raises, as errors of ours that say what to do."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import constants, errors
from huggingface_hub.errors import HfHubHTTPError

from mvcore.errors import FileAccessError, HubError, MvcoreError

#: The base of all errors of the HTTP client, which is httpx or httpx2, as the version of ``huggingface_hub`` has it.
HTTP_ERROR: type[Exception] = vars(errors)["HTTPError"]
#: What the client raises besides: on damaged answers, on faults of the transfer.
_OTHERS = (ValueError, RuntimeError, errors.EntryNotFoundError, errors.XetDownloadError)
_LOG_IN = "log in with `hf auth login`, set HF_TOKEN, or give token=…"


@contextmanager
def told_of_hub(address: str) -> Iterator[None]:
    """Tells in one sentence what the Hub did not do.

    Raises:
        HubError: In place of what the client raises.
        FileAccessError: If the cache, or a file to send, can't be read or written.
    """
    try:
        yield
    except MvcoreError:
        raise
    except (HTTP_ERROR, OSError, *_OTHERS) as error:
        if (cause := _of_system(error)) is not None:
            raise _unwritten(cause) from error
        raise HubError(f"{address}: {_sentence(error)}", address=address) from error


def is_unreachable(error: BaseException) -> bool:
    """Whether an error means that no Hub answered, so that what the cache holds may serve."""
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code >= 500
    return isinstance(error, (HTTP_ERROR, errors.OfflineModeIsEnabled))


def _sentence(error: Exception) -> str:
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set, so the Hub is not asked."
    if isinstance(error, errors.LocalTokenNotFoundError):
        return f"there is no token; {_LOG_IN}."
    if isinstance(error, HfHubHTTPError):
        return _of_status(error)
    if isinstance(error, HTTP_ERROR):
        return f"the Hub at {constants.ENDPOINT} or the endpoint given can't be reached: {_words(error)}."
    if isinstance(error.__cause__, (HTTP_ERROR, OSError)):  # of a file that was on its way
        return _sentence(error.__cause__)
    return f"the Hub did not do it: {_words(error)}."


def _of_status(error: HfHubHTTPError) -> str:
    status, said = error.response.status_code, error.server_message or error.response.reason_phrase
    if isinstance(error, errors.GatedRepoError):
        return "its owner gives access on request; ask on its page, then log in."
    if isinstance(error, errors.RevisionNotFoundError):
        return "the repository has no such branch, tag or commit."
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"there is no such repository, or it is private and not yours to see; if it is, {_LOG_IN}."
    if status == 401:
        return f"the Hub does not know who asks ({said}); {_LOG_IN}."
    if status == 403:
        return f"the token has not the right to do this ({said}); take one that may, of a user or group that may."
    if status in (409, 412):
        return f"someone changed the repository at the same time ({said}). Nothing was changed; do it again."
    if status == 429:
        return f"the Hub has had too many requests ({said}); wait some minutes."
    return f"the Hub answered with {status} ({said})."


def _of_system(error: BaseException) -> OSError | None:
    """The cause, where the system did not let a file be read or written."""
    if isinstance(error, RuntimeError) and error.__cause__ is not None:  # of a file that was on its way
        return _of_system(error.__cause__)
    if isinstance(error, (HTTP_ERROR, ConnectionError)) or not isinstance(error, OSError):
        return None
    return error if error.errno not in (None, errno.ENOENT) else None


def _unwritten(error: OSError) -> FileAccessError:
    file = str(error.filename or constants.HF_HUB_CACHE)
    why = f"{file!r} could not be read or written: {error.strerror or error}. HF_HUB_CACHE names the cache's folder."
    return FileAccessError(why, Path(file), error.errno)


def _words(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
