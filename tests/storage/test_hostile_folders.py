"""Folders of saved models that are damaged, or were made to do harm: one error, soon, and nothing else."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import mvcore
from mvcore.config.reading import parse_json
from mvcore.data.schema import ModalitySpec, Schema
from mvcore.errors import ConfigError, FileAccessError, ModelFileError, MvcoreError
from mvcore.models.base import Model
from mvcore.plugins.registry import Registry
from mvcore.storage import blueprint, models as files

SCHEMA = Schema(
    (
        ModalitySpec(name="a", shape=(3,)),
        ModalitySpec(name="b", shape=(2,), likelihood="bernoulli"),
        ModalitySpec(name="image", shape=(1, 8, 8)),
    )
)
SMALL: dict[str, Any] = {
    "latent_dim": 2,
    **{f"modalities.{m}.{part}.hidden": [4] for m in ("a", "b") for part in ("encoder", "decoder")},
    **{f"modalities.image.{part}.channels": [2] for part in ("encoder", "decoder")},
}


def make(**fields: Any) -> Model:
    torch.manual_seed(0)
    return mvcore.create("multimodal", SCHEMA, **{**SMALL, **fields})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return mvcore.save(make(), tmp_path / "model")


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


def sign(folder: Path) -> None:
    """Gives the folder the digest of the weights that it has, as who means harm would."""
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    edit(folder, lambda c: c["weights"].update(sha256=digest))


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = {name: value.clone() for name, value in load_file(folder / "model.safetensors").items()}
    change(weights)
    save_file(weights, folder / "model.safetensors")
    sign(folder)


def refused(folder: Path, match: str, error: type[MvcoreError] = ModelFileError) -> None:
    """One error of ours, within seconds, in at most ten lines that a terminal can show."""
    began = time.monotonic()
    with pytest.raises(error, match=match) as caught:
        mvcore.load(folder)
    text = str(caught.value)
    assert time.monotonic() - began < 5
    assert len(text.splitlines()) <= 10
    assert len(text) < 10_000
    assert all(line.isprintable() for line in text.split("\n"))


def test_every_flipped_bit_of_the_weights_is_found(folder: Path) -> None:
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    generator = torch.Generator().manual_seed(0)
    for place in torch.randint(8 * len(whole), (100,), generator=generator).tolist():
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        file.write_bytes(damaged)
        with pytest.raises(ModelFileError):
            mvcore.load(folder)
    file.write_bytes(whole)
    mvcore.load(folder)


def test_a_folder_from_before_there_were_digests_is_read(folder: Path) -> None:
    edit(folder, lambda c: c.pop("weights"))
    assert set(json.loads((folder / "config.json").read_text())) == {"mvcore", "requires", "schema", "model"}
    for name, value in mvcore.load(folder).state_dict().items():
        assert torch.equal(value, make().state_dict()[name])


@pytest.mark.parametrize("dtype", [torch.int64, torch.float64, torch.float16, torch.bool])
def test_weights_of_another_type_are_refused_and_named(folder: Path, dtype: torch.dtype) -> None:
    rewrite(
        folder,
        lambda w: w.update({"decoders.a.network.body.0.weight": w["decoders.a.network.body.0.weight"].to(dtype)}),
    )
    refused(folder, r"'decoders.a.network.body.0.weight' is \w+ \(4, 2\), the model has float32 \(4, 2\)")
    rewrite(folder, lambda w: w.update({name: value.to(dtype) for name, value in w.items()}))
    refused(folder, "does not hold the weights of its config")


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_model_in_another_precision_comes_back_in_it(dtype: torch.dtype, tmp_path: Path) -> None:
    model = make().to(dtype)
    again = mvcore.load(mvcore.save(model, tmp_path / "model"))
    for name, value in model.state_dict().items():
        assert again.state_dict()[name].dtype == value.dtype
        assert torch.equal(again.state_dict()[name], value)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_weights_that_are_not_finite_are_neither_saved_nor_loaded(folder: Path, value: float) -> None:
    name = "encoders.b.body.0.bias"
    rewrite(folder, lambda w: w[name].__setitem__(1, value))
    refused(folder, f"no finite numbers: '{name}'")
    model = make()
    with torch.no_grad():
        model.state_dict()[name][0] = value
    with pytest.raises(ModelFileError, match=f"not saved: its weights '{name}' are no finite numbers"):
        mvcore.save(model, folder.parent / "new")
    assert os.listdir(folder.parent) == ["model"]


def test_a_model_that_its_config_does_not_build_is_not_saved(tmp_path: Path) -> None:
    model = make()
    model.encoders["a"] = torch.nn.Linear(3, 4)
    with pytest.raises(ModelFileError, match=r"not what its config builds: 'encoders\.a"):
        mvcore.save(model, tmp_path / "model")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [entry.id for entry in Registry.installed().entries("model")])
def test_the_weights_of_every_model_are_known_before_they_are_allocated(name: str) -> None:
    model = mvcore.create(name, SCHEMA, latent_dim=2)
    state, builder = model.state_dict(), Registry.installed().spec("model", name).builder()
    before = torch.get_rng_state()
    assert blueprint.expected(lambda: builder(model.config, SCHEMA), blueprint.outlines(state), None) == (
        blueprint.outlines(state)
    )
    assert torch.equal(torch.get_rng_state(), before)


def header(folder: Path) -> dict[str, Any]:
    raw = (folder / "model.safetensors").read_bytes()
    table: dict[str, Any] = json.loads(raw[8 : 8 + struct.unpack("<Q", raw[:8])[0]])
    return table


def with_header(folder: Path, text: bytes, length: int | None = None) -> None:
    raw = (folder / "model.safetensors").read_bytes()
    values = raw[8 + struct.unpack("<Q", raw[:8])[0] :]
    size = struct.pack("<Q", len(text) if length is None else length)
    (folder / "model.safetensors").write_bytes(size + text + values)
    sign(folder)


def changed(folder: Path, **fields: Any) -> bytes:
    table = header(folder)
    table["encoders.a.body.0.bias"] |= fields
    return json.dumps(table).encode()


@pytest.mark.parametrize(
    "text",
    [
        lambda f: b"",
        lambda f: b"[]",
        lambda f: b"{",
        lambda f: b"\xff{}",
        lambda f: b"{}",
        lambda f: b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        lambda f: b"[" * 1_000_000,
        lambda f: json.dumps(header(f)).encode()[:-1] + b', "encoders.a.body.0.bias": {}}',
        lambda f: changed(f, dtype="F12"),
        lambda f: changed(f, dtype=["F32"]),
        lambda f: changed(f, dtype="F64"),
        lambda f: changed(f, shape=[2**62, 2**62]),
        lambda f: changed(f, shape=[-4]),
        lambda f: changed(f, shape=[True, 4]),
        lambda f: changed(f, shape=4),
        lambda f: changed(f, shape=[1] * 100 + [4]),
        lambda f: changed(f, data_offsets=[0, 2**80]),
        lambda f: changed(f, data_offsets=[16, 0]),
        lambda f: changed(f, data_offsets=[0]),
        lambda f: changed(f, data_offsets=[1.0, 17.0]),
        lambda f: changed(f, more=1),
        lambda f: json.dumps({**header(f), "__metadata__": [1]}).encode(),
        lambda f: json.dumps({**header(f), "x": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode(),
    ],
)
def test_a_header_that_lies_is_damage(folder: Path, text: Callable[[Path], bytes]) -> None:
    with_header(folder, text(folder))
    refused(folder, "model.safetensors' is damaged")


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 10**9, 0, 3])
def test_a_header_of_an_impossible_length_is_damage(folder: Path, length: int) -> None:
    with_header(folder, b"{}", length)
    refused(folder, "model.safetensors' is damaged")


def test_an_empty_tensor_and_surplus_ones_are_told(folder: Path) -> None:
    rewrite(folder, lambda w: w.update({"more": torch.empty(0, 3)}))
    refused(folder, "'more' belongs to no part of the model")


def hidden(size: int, depth: int) -> Callable[[dict[str, Any]], object]:
    return lambda c: c["model"]["modalities"]["a"]["encoder"].update(hidden=[size] * depth)


@pytest.mark.parametrize(
    "change",
    [
        hidden(1, 90_000),
        hidden(1, 1_000_000),
        hidden(10**9, 2),
        hidden(2**62, 3),
        hidden(300_000, 20),
        lambda c: c["schema"]["modalities"][0].update(shape=[10**9]),
        lambda c: c["schema"]["modalities"][0].update(shape=[10**9, 10**9]),
        lambda c: c["schema"]["modalities"][0].update(shape=[2**63 - 1]),
        lambda c: c["schema"]["modalities"][2].update(shape=[1, 2**40, 2**40]),
        lambda c: c["schema"]["modalities"][0].update(categories=10**12),
        lambda c: c["model"].update(latent_dim=10**12),
        lambda c: c["model"].update(private_dim=10**15),
        lambda c: c["schema"].update(modalities=[{**SPEC, "name": f"m{i}"} for i in range(100_000)]),
        lambda c: c["schema"].update(context=[{**COVARIATE, "name": f"c{i}"} for i in range(2_000)]),
        lambda c: c["schema"].update(context=[{**COVARIATE, "name": "c", "categories": 10**12}]),
    ],
)
def test_a_config_that_asks_for_too_much_is_refused_before_memory_is_taken(
    folder: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    edit(folder, change)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes
    refused(folder, ".", MvcoreError)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000


SPEC = {"shape": [1], "likelihood": "normal"}
COVARIATE = {"shape": [], "categories": None}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000 + "]" * 100_000, "deep"),
        ('{"mvcore":' * 100_000 + "1" + "}" * 100_000, "deep"),
        ('{"mvcore":' * 500 + "1" + "}" * 500, "deep"),
        ('{"mvcore": {"format": 1, "format": 1}}', "'format' stands twice"),
        ('{"mvcore": {"format": NaN}}', "NaN is no number"),
        ('{"mvcore": {"format": -Infinity}}', "-Infinity is no number"),
        ('{"mvcore": {"format": 1e999}}', "1e999 is too large"),
        ('{"mvcore": {"format": 9223372036854775808}}', "64 bits"),
        ('{"mvcore": {"format": ' + "9" * 5_000 + "}}", "damaged"),
        ('{"mvcore": {"format": "\\ud800"}}', "damaged"),
        ('{"mvcore": {"\\udfff": 1}}', "damaged"),
        ('{"mvcore": {"format": true}}', "has format True"),
        ('{"mvcore": {"format": 1.0}}', "has format 1.0"),
        ('{"mvcore": {"format": "' + "9" * 1_000_000 + '"}}', "has format '99"),
        ('{"mvcore": {"format": "\\u001b[31m\\u202e"}}', "has format"),
        ('\ufeff{"mvcore": {"format": 1}}', "damaged"),
        ("", "damaged"),
        ("null", "not the config"),
    ],
)
def test_json_is_read_strictly(folder: Path, text: str, message: str) -> None:
    (folder / "config.json").write_text(text)
    refused(folder, message)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.update(model=5),
        lambda c: c.update(model=[]),
        lambda c: c["model"].update(use=5),
        lambda c: c["model"].update(use=["a"]),
        lambda c: c["model"].update(loss=5),
        lambda c: c["model"].update(modalities=[]),
        lambda c: c["model"].update(modalities={"a": None}),
        lambda c: c["model"].update(latent_dim=True),
        lambda c: c["model"].update(latent_dim=2.0),
        lambda c: c["model"]["modalities"].pop("a"),
        lambda c: c["model"].update({"\x1b[31m\u202eevil" + "x" * 1_000_000: 1}),
        lambda c: c["model"].update(use="x" * 1_000_000),
        lambda c: c["model"].update({f"key{i}": i for i in range(5_000)}),
        lambda c: c.update(schema={}),
        lambda c: c["schema"].update(modalities=[]),
        lambda c: c["schema"].update(modalities=5),
        lambda c: c["schema"]["modalities"].append(c["schema"]["modalities"][0]),
        lambda c: c["schema"]["modalities"][0].update(name=5),
        lambda c: c["schema"]["modalities"][0].update(shape=[0]),
        lambda c: c["schema"]["modalities"][0].update(shape="3"),
        lambda c: c.update(requires=["mvcore-mopoe @ https://example.org/x.whl"]),
        lambda c: c.update(requires=["\x1b[31m" + "x" * 1_000_000]),
        lambda c: c.update(requires=[f"unknown-{i}>=1" for i in range(1_000)]),
        lambda c: c.update(requires=[5]),
        lambda c: c.update(weights=5),
        lambda c: c["weights"].update(sha256=5),
        lambda c: c["weights"].update(precision="int8"),
        lambda c: c["weights"].pop("sha256"),
        lambda c: c.update({"\u202e": 1}),
    ],
)
def test_wrong_values_are_one_error_that_a_terminal_can_show(
    folder: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    edit(folder, change)
    refused(folder, ".", MvcoreError)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("what", ["pipe", "zero", "link", "link inside", "folder", "loop"])
def test_what_is_no_regular_file_is_neither_read_nor_waited_for(folder: Path, name: str, what: str) -> None:
    file = folder / name
    kept = file.rename(folder.parent / name)
    make_it: dict[str, Callable[[], object]] = {
        "pipe": lambda: os.mkfifo(file),
        "zero": lambda: file.symlink_to("/dev/zero"),
        "link": lambda: file.symlink_to(kept),
        "link inside": lambda: (kept.rename(folder / "other"), file.symlink_to("other")),
        "folder": lambda: file.mkdir(),
        "loop": lambda: file.symlink_to(file),
    }
    make_it[what]()
    refused(folder, "is a link|no regular file")


def test_files_that_are_far_too_large_are_not_read(folder: Path) -> None:
    with (folder / "config.json").open("ab") as file:
        file.truncate(2**40)  # a sparse file takes no space
    refused(folder, "more than")


def test_weights_longer_than_their_header_are_not_read(folder: Path) -> None:
    with (folder / "model.safetensors").open("ab") as file:
        file.truncate(2**40)
    refused(folder, "damaged: its tensors do not fill it")


def test_links_into_a_folder_that_the_caller_names_are_followed_and_others_not(folder: Path) -> None:
    cache = folder.parent / "cache"
    (cache / "blobs").mkdir(parents=True)
    (cache / "snapshots/main").mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (folder / name).rename(cache / "blobs" / name)
        (cache / "snapshots/main" / name).symlink_to(f"../../blobs/{name}")
    snapshot = cache / "snapshots/main"
    assert files.load_linked(snapshot, cache).config == make().config
    refused(snapshot, "is a link, which is not followed")
    (cache / "blobs/config.json").rename(folder.parent / "config.json")
    (cache / "blobs/config.json").symlink_to(folder.parent / "config.json")
    with pytest.raises(ModelFileError, match="is a link out of"):
        files.load_linked(snapshot, cache)


def load_unless_not_the_config(folder: Path, cache: Path) -> None:
    try:
        files.load_linked(folder, cache)
    except MvcoreError as error:
        if "not the config of a saved" in str(error):
            raise AssertionError("the secret was read") from error
        raise


def test_a_file_that_becomes_a_link_between_two_looks_is_not_followed(folder: Path) -> None:
    cache, secret = folder.parent / "cache", folder.parent / "secret"
    (cache / "blobs").mkdir(parents=True)
    (cache / "away").symlink_to(secret)
    secret.mkdir()
    (secret / "config.json").write_text('{"secret": 1}')
    for name in ("config.json", "model.safetensors"):
        (cache / "blobs" / name).write_bytes((folder / name).read_bytes())
        (folder / name).unlink()
        (folder / name).symlink_to(cache / "blobs" / name)
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            (cache / "blobs").rename(cache / "kept")
            (cache / "away").rename(cache / "blobs")
            (cache / "blobs").rename(cache / "away")
            (cache / "kept").rename(cache / "blobs")

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(100):
            with suppress(ModelFileError, FileAccessError):  # "not the config" is what the secret would be called
                load_unless_not_the_config(folder, cache)
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("path", [5, None, "a\0b", b"\xff\0", object()])
def test_what_is_no_path_is_told(path: Any) -> None:
    for act in (mvcore.load, lambda p: mvcore.save(make(), p)):
        with pytest.raises(MvcoreError, match="no path"):
            act(path)


def test_a_name_that_no_file_can_have_is_told() -> None:
    for act in (mvcore.load, lambda p: mvcore.save(make(), p)):
        with pytest.raises(FileAccessError, match="cannot be reached: File name too long"):
            act("x" * 5_000)


@pytest.mark.parametrize("text", ['{"a": 1, "b": [1.5, "ü", null, true, -9223372036854775808]}', "[]", "5", '"x"'])
def test_what_strict_json_allows_is_what_json_gives(text: str) -> None:
    assert parse_json(text) == parse_json(text.encode()) == json.loads(text)


def test_a_card_holds_no_text_of_its_own_making(tmp_path: Path) -> None:
    name = "a|b\x1b[31m\u202e<script>\n# heading"
    schema = Schema((ModalitySpec(name="x", shape=(2,)), ModalitySpec(name="y", shape=(2,))))
    config = {"mvcore": {"version": "1"}, "requires": [], "model": {"use": "u"}, "schema": {
        "modalities": [{"name": name, "shape": [2], "likelihood": "normal"} for _ in schema]}}  # fmt: skip
    text = files.card(config)
    assert all(line.isprintable() for line in text.split("\n"))
    assert "<script>" not in text
    assert "\n# heading" not in text


def test_configs_with_problems_keep_all_of_them_but_show_ten_lines(folder: Path) -> None:
    edit(folder, lambda c: c["model"].update({f"key{i}": i for i in range(50)}))
    with pytest.raises(ConfigError) as caught:
        mvcore.load(folder)
    assert len(caught.value.problems) == 50
    assert len(str(caught.value).splitlines()) == 10
    assert "and 42 more" in str(caught.value)
