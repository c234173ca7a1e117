"""Repositories that were made to do harm: each is refused or harmless, soon, with nothing touched outside the cache."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
import resource
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from huggingface_hub import constants

import mvcore
from mvcore import sharing
from mvcore.cli import main
from mvcore.errors import ConfigError, HubError, MissingPluginError, ModelFileError, MvcoreError
from mvcore.testing import StandInHub
from mvcore.testing._http import Answer, Request

Files = dict[str, bytes]


class Trap:
    """A pickle that leaves a file behind where it is loaded."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.file),)


def everything(folder: Path) -> dict[str, Any]:
    return {
        str(p): (p.lstat().st_mtime_ns, p.lstat().st_size) for p in sorted(folder.rglob("*")) if "cache" not in p.parts
    }


@contextmanager
def harmless(tmp_path: Path) -> Iterator[None]:
    """Within seconds, without memory, no plugin imported, nothing installed, no file outside the cache changed."""
    before, modules, installed = everything(tmp_path), set(sys.modules), {d.name for d in metadata.distributions()}
    began, memory = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert time.monotonic() - began < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 400_000  # kilobytes
    assert everything(tmp_path) == before
    assert {d.name for d in metadata.distributions()} == installed
    new = {name: str(getattr(sys.modules[name], "__file__", "")) for name in set(sys.modules) - modules}
    assert not [name for name, file in new.items() if name.startswith("mvcore_") or file.startswith(str(tmp_path))]


def refused(match: str, tmp_path: Path, error: type[MvcoreError] = MvcoreError, address: str = "hf://eve/model") -> str:
    """One error of ours that a terminal can show."""
    with harmless(tmp_path), pytest.raises(error, match=match) as caught:
        mvcore.load(address)
    text = str(caught.value)
    assert len(text.splitlines()) <= 10
    assert len(text) < 10_000
    assert all(line.isprintable() for line in text.split("\n"))
    return text


def fetched(hub: StandInHub) -> set[str]:
    return {request.path.partition("/resolve/")[2].partition("/")[2] for request in hub.log if request.method == "GET"}


def edited(files: Files, change: Callable[[dict[str, Any]], object]) -> Files:
    config = json.loads(files["config.json"])
    change(config)
    return {**files, "config.json": json.dumps(config).encode()}


def with_weights(files: Files, content: bytes) -> Files:
    """Weights with the digest that they have, as who means harm would write it."""
    digest = hashlib.sha256(content).hexdigest()
    return {**edited(files, lambda c: c["weights"].update(sha256=digest)), "model.safetensors": content}


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("form", ["pickle", "torch"])
def test_a_pickle_under_a_known_name_is_not_unpickled(
    name: str, form: str, hub: StandInHub, files: Files, tmp_path: Path
) -> None:
    trap = tmp_path / "trapped"
    if form == "torch":
        torch.save({"x": Trap(trap)}, tmp_path / "evil.pt")
        content = (tmp_path / "evil.pt").read_bytes()
    else:
        content = pickle.dumps(Trap(trap))
    content += b"\0" * (len(files["model.safetensors"]) - len(content))  # as long as the true weights
    hub.add("eve/model", {**files, name: content})
    refused("is damaged", tmp_path, ModelFileError)
    assert not trap.exists()


def test_code_and_pickles_beside_the_known_files_are_not_even_fetched(
    hub: StandInHub, files: Files, tmp_path: Path
) -> None:
    trap = pickle.dumps(Trap(tmp_path / "trapped"))
    names = ("pytorch_model.bin", "model.pkl", "mvcore.py", "config.py", "setup.py", "sampler.pt", "conftest.py")
    hub.add("eve/model", {**files, **dict.fromkeys(names, trap)})
    with harmless(tmp_path):
        mvcore.load("hf://eve/model")
        sharing.inspect("hf://eve/model")
    assert fetched(hub) == {"config.json", "model.safetensors", "README.md"}


def test_names_that_lead_out_of_the_cache_are_never_asked_for(hub: StandInHub, files: Files, tmp_path: Path) -> None:
    names = ("../../evil", "/etc/evil", "..\\evil", "a/../../evil", "config.json/../../evil", "CONFIG.JSON", "C:evil")
    hub.add("eve/model", {**files, **dict.fromkeys(names, b"evil")})
    with harmless(tmp_path):
        mvcore.load("hf://eve/model")
    assert fetched(hub) == {"config.json", "model.safetensors"}
    assert not list(tmp_path.rglob("*evil*"))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_symbolic_link_in_a_repository_is_a_small_text(
    name: str, hub: StandInHub, files: Files, tmp_path: Path
) -> None:
    """Git keeps a link as a file that holds where it leads, and so does the Hub give it."""
    (tmp_path / "secret").write_bytes(files[name])
    hub.add("eve/model", {**files, name: os.fsencode(tmp_path / "secret")})
    refused("is damaged|is not fetched", tmp_path, ModelFileError)


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("ETag", '"../../../../evil"'),
        ("ETag", '"/tmp/evil"'),
        ("ETag", '""'),
        ("ETag", f'"{"a" * 300}"'),
        ("X-Linked-Etag", '"../../evil"'),
        ("X-Repo-Commit", "../../../evil"),
        ("X-Repo-Commit", "main"),
        ("X-Repo-Commit", "0" * 40),
    ],
)
def test_an_answer_that_would_name_files_elsewhere_is_refused(
    header: str, value: str, hub: StandInHub, files: Files, tmp_path: Path
) -> None:
    commit = hub.add("eve/model", files)

    def lie(request: Request) -> Answer | None:
        if "/resolve/" not in request.path or (
            header == "X-Repo-Commit" and "/main/" in request.path and value == "0" * 40
        ):
            return None
        content = files[request.path.rpartition("/")[2]]
        headers = {"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha256(content).hexdigest()}"', header: value}
        return Answer(200, headers, content)

    hub.before = lie
    refused("see the endpoint|no such branch", tmp_path, HubError)
    assert not list(tmp_path.rglob("*evil*"))
    assert not [request for request in hub.log if request.method == "GET"]


@pytest.mark.parametrize(("name", "size"), [("config.json", 2**40), ("README.md", 2**33), ("report.json", 2**40)])
def test_a_text_that_is_far_too_large_is_not_fetched(
    name: str, size: int, hub: StandInHub, files: Files, tmp_path: Path
) -> None:
    hub.add("eve/model", {**files, "report.json": b"{}"})

    def lie(request: Request) -> Answer | None:
        if request.method == "HEAD" and request.path.endswith(name):
            headers = {"X-Repo-Commit": hub.repos["eve/model"].at().sha, "ETag": '"abc"', "X-Linked-Size": str(size)}
            return Answer(200, headers, b"")
        return None

    hub.before = lie
    with (
        harmless(tmp_path),
        pytest.raises(ModelFileError, match=f"{name} has {size:,} bytes, more than such a file needs"),
    ):
        sharing.inspect("hf://eve/model")
    assert name not in fetched(hub)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("length", ["honest", "left out"])
def test_a_file_that_does_not_end_is_not_waited_for(
    name: str, length: str, hub: StandInHub, files: Files, tmp_path: Path
) -> None:
    hub.add("eve/model", files)
    flood = bytes(200 * 2**20)

    def lie(request: Request) -> Answer | None:
        if request.method == "GET" and request.path.endswith(name):
            return Answer(200, {} if length == "honest" else {"Content-Length": str(2**50)}, flood)
        return None

    hub.before = lie
    text = refused(f"{name} was said to have [0-9,]+ bytes, and more and more come", tmp_path, HubError)
    assert f"{len(files[name]):,} bytes" in text
    assert sum(p.stat().st_size for p in tmp_path.rglob("*") if p.is_file()) < 2**20


@pytest.mark.parametrize("size", [10**12, 2**62, 10, 0])
def test_weights_of_another_size_than_the_config_s_are_not_fetched(
    size: int, hub: StandInHub, files: Files, tmp_path: Path
) -> None:
    hub.add("eve/model", files)

    def lie(request: Request) -> Answer | None:
        if request.method == "HEAD" and request.path.endswith("model.safetensors"):
            headers = {"X-Repo-Commit": hub.repos["eve/model"].at().sha, "ETag": '"abc"', "X-Linked-Size": str(size)}
            return Answer(200, headers, b"")
        return None

    hub.before = lie
    refused(re.escape(f"has {size:,} bytes, the model of its config has"), tmp_path, ModelFileError)
    assert fetched(hub) == {"config.json"}


def header_of(content: bytes) -> tuple[dict[str, Any], bytes]:
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def with_header(content: bytes, text: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(text) if length is None else length) + text + header_of(content)[1]


def lying(**fields: Any) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        table, _ = header_of(content)
        table["encoders.a.body.0.bias"] |= fields
        return with_header(content, json.dumps(table).encode())

    return change


@pytest.mark.parametrize(
    "change",
    [
        lambda content: with_header(content, b"{}", 10**9),
        lambda content: with_header(content, b"{}", 2**63),
        lambda content: with_header(content, b"[" * 100_000),
        lambda content: with_header(content, b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
        lambda content: with_header(content, b'{"a": 1, "a": 2}'),
        lying(shape=[10**6, 10**6]),
        lying(shape=[2**62, 4]),
        lying(shape=[-1]),
        lying(data_offsets=[0, 2**60]),
        lying(data_offsets=[8, 0]),
        lying(dtype="F64"),
        lambda content: content[:-1],
        lambda content: content + b"x",
    ],
)
def test_a_header_that_lies_is_damage(
    change: Callable[[bytes], bytes], hub: StandInHub, files: Files, tmp_path: Path
) -> None:
    hub.add("eve/model", with_weights(files, change(files["model.safetensors"])))
    refused("is damaged", tmp_path, ModelFileError)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["model"].update(use="os:system"), "No model is named 'os:system'"),
        (lambda c: c["model"].update(use="subprocess"), "No model is named 'subprocess'"),
        (lambda c: c["model"].update(use="mvcore.models.specs:multimodal"), "No model is named"),
        (lambda c: c["model"].update(use="../evil"), "No model is named"),
        (lambda c: c["model"]["loss"].update(use="torch:load"), "No loss is named 'torch:load'"),
        (lambda c: c["model"].update(latent_dim=10**12), "."),
        (lambda c: c["model"]["modalities"]["a"]["encoder"].update(hidden=[10**6, 10**6]), "."),
        (lambda c: c["model"]["modalities"]["a"]["encoder"].update(hidden=[1] * 90_000), "."),
        (lambda c: c["schema"]["modalities"][0].update(shape=[10**12]), "."),
        (lambda c: c["schema"]["modalities"][3].update(categories=10**12), "."),
        (lambda c: c.update(training=[1] * 200_000), "more than 100,000 values"),
        (lambda c: c.update(training={"rows": 1}), "validation_rows: required"),
        (lambda c: c.update(sampler={"use": "posix:fork"}), "No sampler is named 'posix:fork'"),
        (lambda c: c.update(sampler={"use": "gaussian_mixture", "components": 10**9}), "."),
        (lambda c: c.update(code="print(1)"), "part of it is missing"),
    ],
)
def test_a_config_that_names_code_or_asks_for_too_much_is_refused_before_weights_are_fetched(
    change: Callable[[dict[str, Any]], object], message: str, hub: StandInHub, files: Files, tmp_path: Path
) -> None:
    hub.add("eve/model", edited(files, change))
    refused(message, tmp_path)
    assert "model.safetensors" not in fetched(hub)


@pytest.mark.parametrize(
    ("line", "said", "offered"),
    [
        ("mvcore-mopoe @ https://evil.example/x.whl", "expected a name and versions only", False),
        ("mvcore-mopoe @ git+ssh://evil.example/x", "expected a name and versions only", False),
        ("mvcore-mopoe @ file:///tmp/x", "expected a name and versions only", False),
        ('mvcore-mopoe>=99; python_version > "3"', "expected a name and versions only", False),
        ("mvcore-mopoe[evil]>=99", "expected a name and versions only", False),
        ("mvcore-mopoe===`reboot`", "expected versions, not '==='", False),
        ("mvcore-mopoe>=99 --index-url https://evil.example", "is no requirement", False),
        ("--index-url=https://evil.example", "is no requirement", False),
        ("-r /etc/passwd", "is no requirement", False),
        ("./evil", "is no requirement", False),
        ("https://evil.example/x.whl", "is no requirement", False),
        ("mvcore-mopoë>=1", "is no requirement", False),
        ("mvcore-mopоe>=1", "is no requirement", False),  # a Cyrillic о
        ("mvcore_mopoe2>=1", "does not know mvcore_mopoe2>=1: to install it is to run its code", False),
        ("mvcore-mopoe-plus", "does not know mvcore-mopoe-plus", False),
        ("mvcore-rnopoe>=1", "does not know mvcore-rnopoe>=1", False),
        ("mvcore.mopoe>=99", 'pip install "mvcore.mopoe>=99"', True),  # the same distribution, by PEP 503
        ("mvcore-mopoe>=99", 'pip install "mvcore-mopoe>=99"', True),
    ],
)
def test_requirements_are_names_and_versions_and_only_known_ones_are_offered(
    line: str, said: str, offered: bool, hub: StandInHub, files: Files, tmp_path: Path
) -> None:
    hub.add("eve/model", edited(files, lambda c: c.update(requires=[line])))
    text = refused(re.escape(said), tmp_path)
    assert ("pip install" in text) is offered
    assert "model.safetensors" not in fetched(hub)


def test_all_that_is_missing_is_one_error(hub: StandInHub, files: Files, tmp_path: Path) -> None:
    version = metadata.version("attrs")
    lines = ["mvcore-mopoe>=99", "mvcore-jnf>=98,<99", "acme-nets>=1", "attrs<1"]
    hub.add("eve/model", edited(files, lambda c: c.update(requires=lines)))
    text = refused("needs distributions", tmp_path, MissingPluginError)
    assert f"attrs<1 ({version} is installed)" in text
    install = next(line for line in text.split("\n") if "pip install" in line)
    assert install.strip().endswith('pip install "mvcore-mopoe>=99" "mvcore-jnf<99,>=98"')
    assert "mvcore does not know acme-nets>=1, attrs<1: to install it is to run its code" in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000 + "]" * 100_000, "deep"),
        ('{"mvcore":' * 100_000 + "1" + "}" * 100_000, "deep"),
        ('{"mvcore": {"format": 1, "format": 1}}', "'format' stands twice"),
        ('{"mvcore": {"format": NaN}}', "NaN is no number"),
        ('{"mvcore": {"format": "\\u001b[31m\\u202e"}}', "has format"),
        ("null", "not the config"),
        ('{"mvcore": {"format": 2}, "model": 5}', "Update mvcore"),
    ],
)
def test_json_is_read_strictly(text: str, message: str, hub: StandInHub, files: Files, tmp_path: Path) -> None:
    hub.add("eve/model", {**files, "config.json": text.encode()})
    refused(message, tmp_path, ModelFileError)
    with harmless(tmp_path), pytest.raises(ModelFileError, match=message):
        sharing.inspect("hf://eve/model")


@pytest.mark.parametrize("as_json", [True, False])
def test_a_card_can_not_speak_to_a_terminal(as_json: bool, hub: StandInHub, files: Files, tmp_path: Path) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egnp.exe\rhidden\x00" + "x" * 100_000
    report = {"about": {evil: evil}, "values": {evil: 1.0}, "skipped": {evil: evil}}
    content = edited(files, lambda c: c["mvcore"].update(version=evil))
    hub.add("eve/model", {
        **content, "README.md": (evil + "\n" * 5_000 + evil).encode() + b"\xff\xfe",
        "report.json": json.dumps(report).encode(),
    })  # fmt: skip
    done = CliRunner().invoke(main, ["inspect", "hf://eve/model", *(["--json"] if as_json else [])])
    assert done.exit_code == 0, done.output
    assert all(line.isprintable() for line in done.output.split("\n"))
    if not as_json:
        assert len(done.output) < 200_000
        assert len(done.output.splitlines()) < 2_500
    assert fetched(hub) == {"config.json", "README.md", "report.json"}


def test_a_card_is_text_whatever_its_header_says(hub: StandInHub, files: Files, tmp_path: Path) -> None:
    """Its YAML is not read: not its tags of Python objects, nor its nine lists of nine lists."""
    bomb = "a: &a [x]\n" + "".join(
        f"{c}: &{c} [{', '.join([f'*{b}'] * 9)}]\n" for b, c in zip("abcdefgh", "bcdefghi", strict=True)
    )
    card = f"---\n!!python/object/apply:os.mkdir ['{tmp_path}/trapped']\n{bomb}---\n"
    hub.add("eve/model", {**files, "README.md": card.encode()})
    with harmless(tmp_path):
        assert sharing.inspect("hf://eve/model").card == card
        mvcore.load("hf://eve/model")


@pytest.mark.parametrize("what", ["the link", "its target", "the folder of its target"])
def test_a_link_swapped_between_check_and_read_is_not_followed(
    what: str, hub: StandInHub, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time once it is known where the path leads, and before it is opened."""
    commit = hub.add("eve/model", files)
    mvcore.load("hf://eve/model")
    snapshot = Path(constants.HF_HUB_CACHE) / "models--eve--model" / "snapshots" / commit
    link, target = snapshot / "config.json", (snapshot / "config.json").resolve()
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / target.name).write_text('{"secret": 1}')
    real, swaps = os.path.realpath, []

    def swap(path: Any, **more: Any) -> Any:
        found = real(path, **more)
        if Path(path) == link and not swaps:
            swaps.append(what)
            swapped = {"the link": link, "its target": target, "the folder of its target": target.parent}[what]
            swapped.rename(tmp_path / "kept")
            swapped.symlink_to(secret if swapped == target.parent else secret / target.name)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(os.path, "realpath", swap)
        with pytest.raises(MvcoreError, match=r"is a link|holds no saved model") as caught:
            mvcore.load("hf://eve/model")
    assert "secret" not in str(caught.value)
    assert swaps == [what]


def test_a_cache_whose_files_are_links_elsewhere_is_not_followed(hub: StandInHub, files: Files, tmp_path: Path) -> None:
    commit = hub.add("eve/model", files)
    mvcore.load("hf://eve/model")
    snapshot = Path(constants.HF_HUB_CACHE) / "models--eve--model" / "snapshots" / commit
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes(files[name])
        (snapshot / name).unlink()
        (snapshot / name).symlink_to(tmp_path / name)
        refused("is a link out of", tmp_path, ModelFileError)
        with suppress(FileNotFoundError):
            (snapshot / name).unlink()
        (snapshot / name).write_bytes(files[name])
    mvcore.load("hf://eve/model")


def test_a_repository_of_a_million_names_costs_nothing(hub: StandInHub, files: Files, tmp_path: Path) -> None:
    """What it lists is never asked for; the stand-in would take seconds and the answer a hundred megabytes."""
    hub.add("eve/model", files)
    listing = re.compile(r"/api/")
    with harmless(tmp_path):
        mvcore.load("hf://eve/model")
        sharing.inspect("hf://eve/model")
    assert not [request for request in hub.log if listing.match(request.path)]


def test_a_refused_model_is_a_config_error_for_a_requirement_that_is_none(hub: StandInHub, files: Files) -> None:
    hub.add("eve/model", edited(files, lambda c: c.update(requires=["a b c"])))
    with pytest.raises(ConfigError, match="'a b c' is no requirement"):
        mvcore.load("hf://eve/model")
