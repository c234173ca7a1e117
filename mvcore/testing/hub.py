"""A Hugging Face Hub in memory, on this machine's loopback address, to test sharing without a network."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Mapping
from typing import Any, Self, final
from urllib.parse import unquote

from mvcore.testing._http import Answer, Request, Server
from mvcore.testing._repos import HubCommit, HubRepo, Refusal, as_json, blob_id


@final
class StandInHub:
    """What ``huggingface_hub`` asks of a Hub to share models, and nothing else.

    Its address is ``url``, for ``endpoint=`` or ``HF_ENDPOINT``. Files whose name ends in one of ``large`` are stored
    by LFS; ``huggingface_hub`` must then have Xet switched off (``HF_HUB_DISABLE_XET=1``).

    Args:
        tokens: The user of each token. A user writes into what begins with the own name, and sees the own private
            repositories; who has no token sees what is public.
        large: Endings of the names of files that are stored by LFS.

    Example:
        >>> from mvcore.testing import StandInHub
        >>> with StandInHub() as hub:
        ...     sha = hub.add("ann/model", {"README.md": b"A card."})
        ...     hub.repos["ann/model"].at("main").sha == sha
        True
    """

    def __init__(self, tokens: Mapping[str, str] | None = None, large: tuple[str, ...] = (".safetensors",)) -> None:
        self.tokens = {"hf_ann": "ann"} if tokens is None else dict(tokens)
        self.repos: dict[str, HubRepo] = {}
        self.lfs: dict[str, bytes] = {}
        self.large = large
        #: Each request so far.
        self.log: list[Request] = []
        #: Asked before each request is answered; what it gives is the answer, if not None.
        self.before: Callable[[Request], Answer | None] | None = None
        self._server = Server(self._answer)
        self.url = self._server.url

    def __enter__(self) -> Self:
        self._lock = threading.Lock()
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()

    def add(self, repo: str, files: Mapping[str, bytes], *, private: bool = False, branch: str = "main") -> str:
        """Puts files into a repository, past all checks, as a stranger's could be; the commit's hash."""
        return self.repos.setdefault(repo, HubRepo(private)).commit(files, branch=branch)

    def _answer(self, request: Request) -> Answer:
        self.log.append(request)
        if self.before is not None and (answer := self.before(request)) is not None:
            return answer
        try:
            with self._lock:
                return self._routed(request)
        except Refusal as refusal:
            return refusal.answer

    def _routed(self, request: Request) -> Answer:
        for method, pattern, handler in _ROUTES:
            if request.method in method and (found := re.fullmatch(pattern, request.path)):
                parts = {name: unquote(part) for name, part in found.groupdict().items() if part is not None}
                return handler(self, request, **parts)
        raise Refusal(404, "EntryNotFound", f"no route {request.method} {request.path}")

    def _user(self, request: Request) -> str | None:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if token and token not in self.tokens:
            raise Refusal(401, "", "Invalid credentials in Authorization header")
        return self.tokens.get(token)

    def _repo(self, request: Request, name: str, *, write: bool = False) -> HubRepo:
        user, found = self._user(request), self.repos.get(name)
        mine = name.partition("/")[0] == user
        if found is None or (found.private and not mine):
            raise Refusal(401 if user is None else 404, "RepoNotFound", f"Repository not found: {name}")
        if write and not mine:
            raise Refusal(401 if user is None else 403, "", "You don't have the rights to write here")
        return found

    def _create(self, request: Request) -> Answer:
        asked = json.loads(request.body)
        user = self._user(request)
        name = f"{asked.get('organization') or user}/{asked['name']}"
        if user is None or name.partition("/")[0] != user:
            raise Refusal(401 if user is None else 403, "", f"You don't have the right to create {name}")
        url = f"{self.url}/{name}"
        if name in self.repos:
            return Answer(409, {}, as_json({"error": "You already created this repo", "url": url}))
        self.repos[name] = HubRepo(asked.get("visibility") == "private" or asked.get("private") is True)
        self.repos[name].commit({".gitattributes": b"*.safetensors filter=lfs\n"}, "initial commit")
        return Answer(200, {}, as_json({"url": url, "name": name, "id": name}))

    def _validate(self, request: Request) -> Answer:
        return Answer(200, {}, as_json({"errors": [], "warnings": []}))

    def _info(self, request: Request, repo: str, revision: str | None = None) -> Answer:
        found = self._repo(request, repo)
        commit = found.at(revision or "main")
        about = {"_id": commit.sha[:24], "id": repo, "modelId": repo, "sha": commit.sha, "private": found.private}
        return Answer(200, {}, as_json({**about, "tags": [], "siblings": [{"rfilename": n} for n in commit.files]}))

    def _tree(self, request: Request, repo: str, revision: str) -> Answer:
        files = self._repo(request, repo).at(revision).files
        return Answer(200, {}, as_json([self._entry(name, content) for name, content in sorted(files.items())]))

    def _paths(self, request: Request, repo: str, revision: str) -> Answer:
        files, asked = self._repo(request, repo).at(revision).files, json.loads(request.body)["paths"]
        return Answer(200, {}, as_json([self._entry(name, files[name]) for name in asked if name in files]))

    def _entry(self, name: str, content: bytes) -> dict[str, Any]:
        entry = {"type": "file", "path": name, "size": len(content), "oid": blob_id(content)}
        lfs = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
        return {**entry, "lfs": lfs} if name.endswith(self.large) else entry

    def _resolve(self, request: Request, repo: str, revision: str, path: str) -> Answer:
        commit = self._repo(request, repo).at(revision)
        if path not in commit.files:
            raise Refusal(404, "EntryNotFound", f"{path} does not exist in {repo}", {"X-Repo-Commit": commit.sha})
        content = commit.files[path]
        headers = {"X-Repo-Commit": commit.sha, "ETag": f'"{self._oid(path, content)}"', "Accept-Ranges": "bytes"}
        return Answer(200, headers, content).ranged(request.headers.get("range"))

    def _oid(self, path: str, content: bytes) -> str:
        return hashlib.sha256(content).hexdigest() if path.endswith(self.large) else blob_id(content)

    def _branch(self, request: Request, repo: str, name: str) -> Answer:
        found, asked = self._repo(request, repo, write=True), json.loads(request.body or b"{}")
        return self._refer(found, found.branches, name, asked.get("startingPoint") or "main")

    def _tag(self, request: Request, repo: str, revision: str) -> Answer:
        found = self._repo(request, repo, write=True)
        return self._refer(found, found.tags, json.loads(request.body)["tag"], revision)

    def _refer(self, repo: HubRepo, names: dict[str, str], name: str, start: str) -> Answer:
        if name in {**repo.branches, **repo.tags}:
            raise Refusal(409, "", f"Reference already exists: {name}")
        names[name] = repo.at(start).sha
        return Answer(200, {}, as_json({}))

    def _preupload(self, request: Request, repo: str, revision: str) -> Answer:
        files, out = self._repo(request, repo, write=True).at(revision).files, []
        ignored = files.get(".gitignore", b"").decode().split("\n")  # names alone, no patterns
        for asked in json.loads(request.body)["files"]:
            path = asked["path"]
            oid = self._oid(path, files[path]) if path in files else None
            mode = "lfs" if path.endswith(self.large) else "regular"
            out.append({"path": path, "uploadMode": mode, "shouldIgnore": path in ignored, "oid": oid})
        return Answer(200, {}, as_json({"files": out}))

    def _lfs_batch(self, request: Request, repo: str) -> Answer:
        self._repo(request, repo, write=True)
        out: list[dict[str, Any]] = []
        for asked in json.loads(request.body)["objects"]:
            item = {"oid": asked["oid"], "size": asked["size"]}
            upload = {"actions": {"upload": {"href": f"{self.url}/_lfs/{asked['oid']}"}}}
            out.append(item if asked["oid"] in self.lfs else {**item, **upload})
        return Answer(200, {}, as_json({"transfer": "basic", "objects": out}))

    def _lfs_put(self, request: Request, oid: str) -> Answer:
        if hashlib.sha256(request.body).hexdigest() != oid:
            raise Refusal(400, "", "sha256 mismatch")
        self.lfs[oid] = request.body
        return Answer(200, {"ETag": f'"{oid}"'}, b"")

    def _commit(self, request: Request, repo: str, revision: str) -> Answer:
        found = self._repo(request, repo, write=True)
        if revision not in found.branches:
            raise Refusal(404, "RevisionNotFound", f"{revision} is no branch")
        head = found.at(revision)
        files, message = dict(head.files), ""
        for line in request.body.splitlines():
            message = self._apply(json.loads(line), files, head) or message
        sha = found.commit(files, message, revision)
        url = f"{self.url}/{repo}/commit/{sha}"
        return Answer(200, {}, as_json({"success": True, "commitOid": sha, "commitUrl": url, "pullRequestUrl": None}))

    def _apply(self, operation: Mapping[str, Any], files: dict[str, bytes], head: HubCommit) -> str | None:
        """Carries one line of a commit out; its message, if the line is the header."""
        key, value = operation["key"], operation["value"]
        if key == "header":
            if value.get("parentCommit") not in (None, head.sha):
                raise Refusal(412, "", "A commit has happened since. Please refresh and try again.")
            return str(value["summary"])
        if key == "deletedFile":
            del files[value["path"]]
        else:
            inline = key == "file"
            files[value["path"]] = base64.b64decode(value["content"]) if inline else self.lfs[value["oid"]]
        return None


_R, _REV, _H = r"(?P<repo>[\w.-]+/[\w.-]+?)", r"(?P<revision>[^/]+)", StandInHub
_ROUTES: list[tuple[tuple[str, ...], str, Callable[..., Answer]]] = [
    (("POST",), r"/api/repos/create", _H._create),
    (("POST",), r"/api/validate-yaml", _H._validate),
    (("POST",), rf"/api/models/{_R}/preupload/{_REV}", _H._preupload),
    (("POST",), rf"/api/models/{_R}/commit/{_REV}", _H._commit),
    (("POST",), rf"/api/models/{_R}/branch/(?P<name>.+)", _H._branch),
    (("POST",), rf"/api/models/{_R}/tag/{_REV}", _H._tag),
    (("POST",), rf"/api/models/{_R}/paths-info/{_REV}", _H._paths),
    (("POST",), rf"/{_R}\.git/info/lfs/objects/batch", _H._lfs_batch),
    (("PUT",), r"/_lfs/(?P<oid>\w+)", _H._lfs_put),
    (("GET",), rf"/api/models/{_R}/tree/{_REV}", _H._tree),
    (("GET",), rf"/api/models/{_R}(?:/revision/{_REV})?", _H._info),
    (("GET", "HEAD"), rf"/{_R}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", _H._resolve),
]
