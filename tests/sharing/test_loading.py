"""Models come back from the Hub as they went there, of the commit that is meant, also from the cache alone."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi, constants

import mvcore
from mvcore import sharing
from mvcore.errors import FileAccessError, HubError, ModelFileError
from mvcore.models.base import Model
from mvcore.storage.address import Origin, is_address, parse
from mvcore.testing import StandInHub
from mvcore.testing._http import Answer, Request


def same(first: Model, second: Model) -> bool:
    a, b = first.state_dict(), second.state_dict()
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a) and first.config == second.config


def asked(hub: StandInHub, method: str) -> list[str]:
    """The files that were asked for; the client also asks for lists of its own."""
    return [r.path for r in hub.log if r.method == method and "/resolve/" in r.path]


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def test_a_model_comes_back_bit_by_bit_with_its_commit(hub: StandInHub, model: Model, files: dict[str, bytes]) -> None:
    commit = hub.add("ann/model", files)
    again = mvcore.load("hf://ann/model")
    assert same(again, model)
    assert again.origin is not None
    assert (again.origin.repo, again.origin.revision, again.origin.commit) == ("ann/model", "main", commit)
    assert str(again.origin) == f"hf://ann/model@{commit}"
    assert same(mvcore.load(str(again.origin)), model)
    assert model.origin is None


def test_endpoint_and_token_are_passed_through(
    hub: StandInHub, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    with StandInHub({"hf_bob": "bob"}) as other:
        other.add("bob/model", files, private=True)
        # the address that the client was imported with stays; the one that is given is asked
        assert mvcore.load("hf://bob/model", endpoint=other.url, token="hf_bob").origin is not None
        assert not hub.log
        with pytest.raises(HubError, match="no such repository, or it is private and not yours to see"):
            mvcore.load("hf://bob/model", endpoint=other.url)


def test_only_two_files_are_fetched_whatever_else_there_is(hub: StandInHub, files: dict[str, bytes]) -> None:
    more = {
        "evil.py": b"raise SystemExit",
        "pytorch_model.bin": b"\x80\x04",
        "data/x.csv": b"1",
        "config.json.bak": b"{}",
    }
    hub.add("ann/model", {**files, **more})
    mvcore.load("hf://ann/model")
    assert {path.rpartition("/")[2] for path in asked(hub, "GET")} == {"config.json", "model.safetensors"}
    hub.log.clear()
    mvcore.load("hf://ann/model")
    assert asked(hub, "GET") == []


def test_a_tag_a_branch_and_a_commit_each_give_their_model(
    hub: StandInHub, rows: Any, small: dict[str, Any], tmp_path: Path
) -> None:
    commits = []
    for size in (1, 2, 3):
        folder = mvcore.save(mvcore.create("multimodal", rows, **{**small, "latent_dim": size}), tmp_path / str(size))
        content = {file.name: file.read_bytes() for file in folder.iterdir()}
        commits.append(hub.add("ann/model", content, branch="dev/x" if size == 3 else "main"))
        if size == 1:
            HfApi().create_tag("ann/model", tag="v1.0")

    def size_of(address: str) -> int:
        return mvcore.load(address).latent_shapes["shared"][0]

    assert [size_of(f"hf://ann/model{at}") for at in ("", "@main", "@v1.0", "@dev/x")] == [2, 2, 1, 3]
    assert [size_of(f"hf://ann/model@{commit}") for commit in commits] == [1, 2, 3]
    assert mvcore.load("hf://ann/model@v1.0").origin == Origin("ann/model", "v1.0", commits[0])


def test_a_private_model_is_for_its_owner(
    hub: StandInHub, model: Model, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.tokens["hf_bob"] = "bob"
    hub.add("ann/model", files, private=True)
    assert same(mvcore.load("hf://ann/model"), model)
    for token in ("hf_bob", False):
        with pytest.raises(HubError, match="no such repository, or it is private"):
            mvcore.load("hf://ann/model", token=token)
    with pytest.raises(HubError, match="does not know who asks"):
        mvcore.load("hf://ann/model", token="hf_nobody")


@pytest.mark.parametrize("how", ["offline", "no server", "server down"])
def test_without_a_network_the_cache_serves(
    how: str, hub: StandInHub, files: dict[str, bytes], model: Model, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    hub.add("ann/older", files)
    commit = hub.add("ann/model", files)
    mvcore.load("hf://ann/model")
    if how == "offline":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    elif how == "no server":
        hub.__exit__()
        monkeypatch.setattr(hub._server, "stop", lambda: None)
    else:
        hub.before = lambda request: Answer(503, {}, b"")
    hub.log.clear()
    with caplog.at_level(logging.WARNING):
        again = mvcore.load("hf://ann/model")
    assert same(again, model)
    assert again.origin is not None
    assert again.origin.commit == commit
    assert f"the cache's copy of commit {commit} is used" in caplog.text
    assert same(mvcore.load(f"hf://ann/model@{commit}"), model)
    for address in ("hf://ann/model@v2", "hf://ann/older"):
        with pytest.raises(HubError, match=r"can't be reached|HF_HUB_OFFLINE is set|answered with 503"):
            mvcore.load(address)


def test_a_cache_that_holds_a_part_says_what_it_lacks(
    hub: StandInHub, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("ann/model", files)
    sharing.inspect("hf://ann/model")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match=r"the cache has no model\.safetensors"):
        mvcore.load("hf://ann/model")


def test_a_download_that_breaks_off_goes_on_where_it_was(
    hub: StandInHub, files: dict[str, bytes], model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)  # what came of a chunk of 10 MB is lost
    hub.add("ann/model", files)
    half, broken = len(files["model.safetensors"]) // 2, []

    def once(request: Request) -> Answer | None:
        if request.method == "GET" and request.path.endswith("safetensors") and not broken:
            broken.append(request)
            return Answer(200, {"Accept-Ranges": "bytes"}, files["model.safetensors"], cut=half)
        return None

    hub.before = once
    assert same(mvcore.load("hf://ann/model"), model)
    again = [r.headers["range"] for r in hub.log if r.method == "GET" and "range" in r.headers]
    assert again == [f"bytes={half // 1000 * 1000}-"]


def test_what_was_fetched_before_a_failure_is_not_fetched_again(hub: StandInHub, files: dict[str, bytes]) -> None:
    hub.add("ann/model", files)
    hub.before = lambda r: Answer(404, {}, b"") if r.method == "GET" and r.path.endswith("safetensors") else None
    with pytest.raises(HubError, match="404"):
        mvcore.load("hf://ann/model")
    hub.before = None
    hub.log.clear()
    mvcore.load("hf://ann/model")
    assert [path.rpartition("/")[2] for path in asked(hub, "GET")] == ["model.safetensors"]


def test_what_is_not_there_is_told(hub: StandInHub, files: dict[str, bytes]) -> None:
    hub.add("ann/model", files)
    hub.add("ann/empty", {"README.md": b"soon"})
    hub.add("ann/half", {"config.json": files["config.json"]})
    for address, error, message in [
        ("hf://ann/nothing", HubError, "hf://ann/nothing: there is no such repository"),
        ("hf://ann/model@v9", HubError, "hf://ann/model@v9: the repository has no such branch, tag or commit"),
        (f"hf://ann/model@{'0' * 40}", HubError, "no such branch, tag or commit"),
        ("hf://ann/empty", ModelFileError, "hf://ann/empty holds no saved model: it has no config.json"),
        ("hf://ann/half", ModelFileError, "model.safetensors' is missing"),
    ]:
        with pytest.raises(error, match=re.escape(message)):
            mvcore.load(address)


def test_an_endpoint_that_is_no_hub_is_told(hub: StandInHub, files: dict[str, bytes]) -> None:
    hub.add("ann/model", files)
    hub.before = lambda request: Answer(200, {}, b"<html>Welcome to the hotel</html>")
    with pytest.raises(HubError, match="is no Hub; see the endpoint"):
        mvcore.load("hf://ann/model")
    with pytest.raises(HubError, match="can't be reached"):
        mvcore.load("hf://ann/model", endpoint="http://127.0.0.1:9")


@pytest.mark.parametrize(
    "text",
    [
        "hf://", "hf://ann", "hf://ann/", "hf://ann/model/", "hf://ann/model/x", "hf:///model", "hf://ann/model@",
        "hf://ann/../x", "hf://../ann", "hf://ann/mod el", "hf://ann/m--x", "hf://ann/modél", "hf://ann/.git",
        "hf://ann/x.git", "hf://-ann/x", "hf://ann/model@../../x", "hf://ann/model@a/../b", "hf://ann/model@/etc",
        "hf://ann/model@a//b", "hf://ann/model@.x", "hf://ann/model@a/.x", "hf://ann/model@a\nb", "hf://ann/model@a b",
        "hf://ann/model@\x1b[31m", "hf://ann/" + "x" * 97, "hf://ann/model@" + "x" * 201, "hf://ann/model?x=1",
        "hf://ann%2Fx/y", "hf://ann/model#x",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused_before_anything_is_asked(text: str, hub: StandInHub, tmp_path: Path) -> None:
    with pytest.raises(HubError, match="is no address of a model on the Hub"):
        mvcore.load(text)
    assert not hub.log
    assert not (tmp_path / "cache").exists()


def test_addresses_say_what_they_say() -> None:
    assert (parse("ann/m.o-d_3l").repo, parse("ann/model").revision) == ("ann/m.o-d_3l", None)
    address = parse("hf://ann/model@refs/pr/1")
    assert (address.repo, address.revision, str(address)) == ("ann/model", "refs/pr/1", "hf://ann/model@refs/pr/1")
    assert parse(f"ann/model@{'a' * 40}").is_fixed
    assert not parse("ann/model@abc123").is_fixed


def test_a_plain_path_stays_a_path(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in ("ann/model", "./hf:/ann/model", Path("hf:") / "ann" / "other"):
        assert not is_address(path)
        assert same(mvcore.load(mvcore.save(model, path)), model)
    with pytest.raises(ModelFileError, match=r"on the Hub, where mvcore\.push puts a model"):
        mvcore.save(model, "hf://ann/model")
    with pytest.raises(HubError, match="is a folder, which has no endpoint and no token"):
        mvcore.load("ann/model", token="hf_ann")


def test_a_fitted_sampler_and_the_record_of_the_training_travel_along(
    hub: StandInHub, trained: Model, rows: Any
) -> None:
    mvcore.fit_sampler(trained, rows, {"use": "gaussian_mixture", "components": 2})
    mvcore.push(trained, "ann/model", license="mit")
    again = mvcore.load("hf://ann/model")
    assert again.sampler is not None
    for name, value in trained.generate(5).items():
        assert torch.equal(again.generate(5)[name], value)
    assert again.record == trained.record
    assert trained.record is not None
    assert (trained.record.rows, trained.record.epochs) == (24, 2)


FULL_DISK = """
import resource, signal, sys
import torch, mvcore
from mvcore.errors import MvcoreError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write past the limit then fails as one to a full disk does
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
try:
    mvcore.load(sys.argv[1])
except MvcoreError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
def test_a_disk_that_fills_up_is_told_and_leaves_no_half_of_a_file(
    hub: StandInHub, files: dict[str, bytes], tmp_path: Path
) -> None:
    """As a user runs it: a process whose environment names the Hub."""
    hub.add("ann/model", files)
    limit = str(len(files["model.safetensors"]) - 1000)
    env = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-c", FULL_DISK, "hf://ann/model", limit]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.stdout.startswith(FileAccessError.__name__), done.stdout + done.stderr
    assert "could not be read or written: File too large" in done.stdout
    assert not list((tmp_path / "home").rglob("*.incomplete"))
    assert json.loads(next((tmp_path / "home").rglob("config.json")).read_text())["mvcore"]["format"] == 1


@pytest.mark.network
def test_the_real_hub_answers_as_the_stand_in_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repository of others, which holds no model of ours, one that is not there, and a revision that is not."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelFileError, match="is not the config of a saved mvcore model"):
        mvcore.load("hf://hf-internal-testing/tiny-random-bert", token=False)
    with pytest.raises(HubError, match="no such branch, tag or commit"):
        mvcore.load("hf://hf-internal-testing/tiny-random-bert@no-such-revision", token=False)
    with pytest.raises(HubError, match="there is no such repository"):
        mvcore.load("hf://hf-internal-testing/there-is-no-such-model", token=False)
