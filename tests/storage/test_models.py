"""Saved models: what is loaded is what was saved, bit by bit, and nothing that is not ours is touched."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mvcore
from mvcore import config as configs
from mvcore.data.dataset import MultimodalDataset
from mvcore.errors import ConfigError, MissingPluginError, ModelFileError, MvcoreError
from mvcore.models.base import Model
from mvcore.plugins.registry import Registry
from mvcore.storage import models as files

RNG = np.random.default_rng(0)
N = 12
DATA = MultimodalDataset(
    {
        "table": RNG.normal(size=(N, 3)) * 10 + 100,
        "bits": RNG.integers(0, 2, size=(N, 4)),
        "word": np.arange(N).repeat(2).reshape(N, 2) % 3,
        "count": RNG.poisson(4, size=(N, 5)),
        "image": RNG.random(size=(N, 1, 9, 8)),
        "größe": RNG.normal(size=(N, 1)),
        "signal": RNG.normal(size=(N, 1, 8)),
        "volume": RNG.normal(size=(N, 1, 8, 8, 8)),
    },
    {
        m: np.arange(N) % k != 0
        for m, k in {"table": 2, "bits": 3, "count": 4, "image": 5, "größe": 6, "volume": 7}.items()
    },
    likelihoods={"bits": "bernoulli", "count": "negative_binomial"},
    cells={"table": RNG.random((N, 3)) < 0.9},
    columns={"größe": ["Länge/µm"], "table": ["x", "y", "z"]},
)
SETTINGS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "laplace, learned scales": {
        "modalities": {
            "table": {
                "likelihood": {"use": "laplace", "learn_scale": "feature"}, "target": "minmax", "input": "minmax",
            },
            "größe": {"likelihood": {"use": "normal", "learn_scale": "predicted"}, "target": "none"},
        },
        "posterior": {
            "use": "product", "subsets": "each", "prior_expert": "none", "family": "laplace", "scale": "softmax",
        },
        "prior": {"use": "standard", "family": "laplace", "learn_scale": True, "scale": "softmax"},
        "loss": {"use": "dreg", "samples": 3},
    },
    "private, other networks": {
        "private_dim": {"table": 2, "image": 3},
        "modalities": {
            "image": {"encoder": "mlp", "decoder": {"use": "mlp", "layer_norm": True}, "weight": "dimension"},
            "count": {"encoder": {"use": "mlp", "hidden": [], "dropout": 0.1}, "input": "log1p", "weight": 2.5},
        },
        "posterior.subsets": "all",
        "loss": "iwae",
    },
    "residual networks, outliers, zeros": {
        "modalities": {
            "image": {"encoder": {"use": "resnet", "channels": [3, 4]}, "decoder": {"use": "resnet", "channels": [4]}},
            "table": {"likelihood": {"use": "student_t", "df": 3.5, "learn_scale": "feature"}},
            "count": {"likelihood": "zero_inflated_negative_binomial"},
        },
    },
    "poisson": {"modalities": {"count": {"likelihood": "poisson"}}},
    "positive numbers, signals, volumes": {
        "modalities": {
            "table": {"likelihood": "log_normal"},
            "signal": {"encoder": {"use": "conv1d", "channels": [3]}, "decoder": {"use": "conv1d", "channels": [3]}},
            "volume": {"encoder": {"use": "conv3d", "channels": [2]}, "decoder": {"use": "conv3d", "channels": [2]}},
        },
    },
    "transforms not fitted": {},
}  # fmt: skip


def make(setting: str = "defaults", **fields: Any) -> Model:
    torch.manual_seed(0)
    model = mvcore.create("multimodal", DATA, **{"latent_dim": 3, **SETTINGS[setting], **fields})
    if setting != "transforms not fitted":
        model.fit_transforms(DATA)
    return model


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with torch.random.fork_rng(devices=[]):
        return mvcore.save(make(), tmp_path_factory.mktemp("saved") / "model")


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    """A copy of a saved model, to damage."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name, data in content(saved).items():
        (folder / name).write_bytes(data)
    return folder


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    change(config)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def test_the_settings_use_every_registered_likelihood_network_prior_and_loss() -> None:
    text = json.dumps([configs.unstructure(make(s).config) for s in SETTINGS])
    for kind in ("likelihood", "encoder", "decoder", "prior", "loss", "posterior"):
        for entry in Registry.installed().entries(kind):
            assert entry.dist != "mvcore" or f'"{entry.id}"' in text, entry


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_loaded_model_is_the_saved_one_bit_by_bit(setting: str, tmp_path: Path) -> None:
    model = make(setting).train()
    again = mvcore.load(mvcore.save(model, tmp_path / "model"))
    assert model.training
    assert not any(module.training for module in again.modules())
    assert again.config == model.config
    assert again.schema == model.schema
    weights = model.state_dict()
    assert list(again.state_dict()) == list(weights)
    for name, value in again.state_dict().items():
        assert value.dtype == weights[name].dtype
        assert torch.equal(value, weights[name]), name
    if setting != "transforms not fitted":
        batch = DATA.batch()
        assert torch.equal(again.log_likelihood(batch, 3), model.log_likelihood(batch, 3))
        for name, values in again.impute(batch, K=2).items():
            assert torch.equal(values, model.impute(batch, K=2)[name])


def test_partly_fitted_transforms_come_back_as_they_were(tmp_path: Path) -> None:
    model = make("transforms not fitted")
    model.inputs["table"].fit(lambda: DATA.stream("table"))  # type: ignore[operator]
    again = mvcore.load(mvcore.save(model, tmp_path / "model"))
    fitted = {name: bool(v) for name, v in again.state_dict().items() if name.endswith("fitted")}
    assert fitted.pop("inputs.table.affine.fitted")
    assert fitted
    assert not any(fitted.values())
    assert torch.equal(again.inputs["table"].affine.loc, model.inputs["table"].affine.loc)  # type: ignore[union-attr]


def test_saving_twice_writes_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    assert content(mvcore.save(mvcore.load(saved), tmp_path / "again")) == content(saved)


def test_a_saved_model_is_three_files_with_all_defaults_and_nothing_that_runs(saved: Path) -> None:
    assert set(content(saved)) == {"config.json", "model.safetensors", "README.md"}
    config = json.loads((saved / "config.json").read_text(encoding="utf-8"))
    assert set(config) == {"mvcore", "requires", "schema", "model", "weights"}
    digest = hashlib.sha256((saved / "model.safetensors").read_bytes()).hexdigest()
    assert config["weights"] == {"precision": "float32", "sha256": digest}
    assert config["mvcore"] == {"format": 1, "version": mvcore.__version__}
    assert config["requires"] == []  # the core alone
    model = config["model"]
    assert (model["use"], model["loss"]["use"]) == ("mvcore:multimodal", "mvcore:elbo")
    assert model["loss"]["warmup"] == 0.0  # a default, written out
    assert model["modalities"]["image"]["encoder"] == {"use": "mvcore:conv", "revision": 1, "channels": [32, 64, 128]}
    columns = {m["name"]: m.get("columns") for m in config["schema"]["modalities"]}
    assert columns["größe"] == ["Länge/µm"]
    names = set()

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            for part in value.values():
                walk(part)
            names.update(v for k, v in value.items() if k == "use")
        elif isinstance(value, list):
            for part in value:
                walk(part)
        else:
            assert value is None or isinstance(value, (str, int, float, bool))

    walk(config)
    assert all(":" in name and "." not in name for name in names)  # components by name; no import path
    for name, data in content(saved).items():
        assert not name.endswith((".pkl", ".pt", ".pth", ".bin", ".py"))
        assert not data.startswith((b"\x80", b"PK"))  # the first bytes of a pickle, and of an archive of torch.save
    assert os.stat(saved).st_mode & 0o055 == 0o055  # others may read it, though it was staged in a private folder


def test_a_config_is_utf_8_whatever_the_locale(saved: Path) -> None:
    text = (saved / "config.json").read_bytes().decode("utf-8")
    assert "größe" in text


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (lambda f: (f / "config.json").unlink(), ModelFileError, "holds no saved model: it has no config.json"),
        (lambda f: (f / "config.json").write_text("{"), ModelFileError, "config.json' is damaged"),
        (lambda f: (f / "config.json").write_bytes(b"\xff\xfe"), ModelFileError, "config.json' is damaged"),
        (lambda f: (f / "config.json").write_text("[1]"), ModelFileError, "not the config of a saved mvcore model"),
        (lambda f: (f / "config.json").write_text('{"mvcore": 1}'), ModelFileError, "not the config of a saved mvcore"),
        (lambda f: (f / "config.json").write_text('{"model_type": "bert"}'), ModelFileError, "not the config"),
        (lambda f: edit(f, lambda c: c.pop("schema")), ModelFileError, "part of it is missing"),
        (lambda f: edit(f, lambda c: c.update(requires=None)), ModelFileError, "part of it is missing"),
        (
            lambda f: edit(f, lambda c: c["mvcore"].update(format=2)),
            ModelFileError,
            "has format 2; .* reads format 1. Upd",
        ),
        (
            lambda f: edit(f, lambda c: (c["mvcore"].update(format=2), c.update(more=1))),
            ModelFileError,
            "has format 2; .* Update mvcore",
        ),
        (
            lambda f: edit(f, lambda c: c.update(requires=["mvcore-mopoe>=99", "acme-nets>=1"])),
            MissingPluginError,
            '(?s)mvcore-mopoe>=99.*acme-nets>=1.*pip install "mvcore-mopoe>=99".*does not know acme-nets>=1',
        ),
        (lambda f: edit(f, lambda c: c.update(requires=["a b c"])), ConfigError, "'a b c' is no requirement"),
        (lambda f: edit(f, lambda c: c["model"].update(betta=1)), ConfigError, "betta: unknown key"),
        (lambda f: edit(f, lambda c: c["model"].update(use="acme:net")), MvcoreError, "No model is named 'acme:net'"),
        (lambda f: edit(f, lambda c: c["model"].update(revision=9)), ConfigError, "revision: expected 1"),
        (
            lambda f: edit(f, lambda c: c["model"].update(latent_dim=4)),
            ModelFileError,
            "does not hold the weights of its config",
        ),
        (
            lambda f: edit(f, lambda c: c["schema"]["modalities"][0].update(shape=[4], columns=None)),
            ModelFileError,
            "does not hold the weights of its config",
        ),
        (lambda f: edit(f, lambda c: c["schema"]["modalities"][0].update(shape=5)), ConfigError, "shape"),
        (lambda f: (f / "model.safetensors").unlink(), ModelFileError, "model.safetensors' is missing"),
        (
            lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-100]),
            ModelFileError,
            "model.safetensors' is damaged",
        ),
        (lambda f: (f / "model.safetensors").write_bytes(b""), ModelFileError, "model.safetensors' is damaged"),
        (lambda f: torch.save({}, f / "model.safetensors"), ModelFileError, "model.safetensors' is damaged"),
    ],
)
def test_a_damaged_or_foreign_folder_is_told(
    damage: Callable[[Path], object], error: type[Exception], message: str, copy: Path
) -> None:
    damage(copy)
    with pytest.raises(error, match=message):
        mvcore.load(copy)


def test_what_is_no_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("hello")
    for path in (tmp_path / "nothing", tmp_path / "file", str(tmp_path)):
        with pytest.raises(ModelFileError, match="holds no saved model"):
            mvcore.load(path)


def test_an_older_model_is_replaced_whole(copy: Path) -> None:
    model = make("private, other networks")
    mvcore.save(model, copy)
    assert mvcore.load(copy).config == model.config
    assert [p.name for p in copy.parent.iterdir()] == [copy.name]


def test_a_model_is_saved_into_new_and_empty_folders(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "runs" / "today" / "model"):
        assert mvcore.load(mvcore.save(make(), path)).config == make().config
    assert {p.name for p in tmp_path.iterdir()} == {"empty", "runs"}


@pytest.mark.parametrize(
    "files_of_others",
    [
        {"thesis.tex": "years of work"},
        {"config.json": '{"model_type": "bert"}', "model.safetensors": "weights of something else"},
        {"config.json": "{", "README.md": "mine"},
    ],
)
def test_a_folder_that_is_something_else_is_refused_and_untouched(
    files_of_others: dict[str, str], tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for name, text in files_of_others.items():
        (folder / name).write_text(text)
    with pytest.raises(ModelFileError, match="holds something other than a saved model"):
        mvcore.save(make(), folder)
    assert content(folder) == {name: text.encode() for name, text in files_of_others.items()}
    assert list(tmp_path.iterdir()) == [folder]


def test_a_model_with_notes_beside_it_is_not_replaced(copy: Path) -> None:
    (copy / "notes.txt").write_text("what I tried")
    before = content(copy)
    with pytest.raises(ModelFileError, match="something other"):
        mvcore.save(make(), copy)
    assert content(copy) == before


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model").write_text("mine")
    with pytest.raises(ModelFileError, match="something other"):
        mvcore.save(make(), tmp_path / "model")
    assert (tmp_path / "model").read_text() == "mine"


@pytest.mark.parametrize("exists", [True, False])
def test_a_failing_write_leaves_the_old_model_and_no_litter(
    exists: bool, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(weights: dict[str, torch.Tensor], path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    before = content(copy)
    target = copy if exists else copy.parent / "new"
    monkeypatch.setattr(files, "save_file", full_disk)
    with pytest.raises(OSError, match="No space left"):
        mvcore.save(make("private, other networks"), target)
    assert content(copy) == before
    assert list(copy.parent.iterdir()) == [copy]


@pytest.mark.parametrize("fails_at", [1, 2])
def test_a_failing_rename_puts_the_old_model_back(fails_at: int, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "exchange", lambda first, second: False)  # a system that cannot
    before, rename, calls = content(copy), Path.rename, 0

    def sometimes(self: Path, target: Path) -> Path:
        nonlocal calls
        calls += 1
        if calls == fails_at:
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", sometimes)
    with pytest.raises(OSError, match="Input/output"):
        mvcore.save(make("private, other networks"), copy)
    assert content(copy) == before
    assert list(copy.parent.iterdir()) == [copy]


@pytest.mark.parametrize("killed_at", range(1, 5))
def test_a_kill_at_each_step_of_a_replacement_leaves_a_model_and_the_next_save_tidies_up(
    killed_at: int, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    steps = 0

    def step(function: Callable[..., Any]) -> Callable[..., Any]:
        def stepped(*args: Any, **options: Any) -> Any:
            nonlocal steps
            steps += 1
            if steps >= killed_at:  # nothing runs after a kill, nor does any cleaning up
                raise Killed
            return function(*args, **options)

        return stepped

    new = make("private, other networks")
    before = mvcore.load(copy).config
    with monkeypatch.context() as patch:
        patch.setattr(files, "exchange", lambda first, second: False)
        patch.setattr(Path, "rename", step(Path.rename))
        patch.setattr(files.shutil, "rmtree", step(files.shutil.rmtree))
        with pytest.raises(Killed):
            mvcore.save(new, copy)
    # steps: the old folder aside, the new one in, the old one removed, the staging folder removed
    assert mvcore.load(copy).config == (before if killed_at <= 2 else new.config)
    os.utime(copy.parent)
    for path in copy.parent.iterdir():
        if path != copy:
            os.utime(path, (0, 0))
    mvcore.save(new, copy)
    assert list(copy.parent.iterdir()) == [copy]
    assert mvcore.load(copy).config == new.config


def test_what_others_keep_beside_a_model_and_a_save_at_work_are_left_alone(copy: Path) -> None:
    names = {f".{copy.name}-backup", f".{copy.name}.mvcore-new-abc", f".{copy.name}2.mvcore-new-abc"}
    for name in names:
        (copy.parent / name).mkdir()
    os.utime(copy.parent / f".{copy.name}-backup", (0, 0))
    mvcore.save(make(), copy)
    assert {path.name for path in copy.parent.iterdir()} == names | {copy.name}


FULL_DISK = """
import resource, signal, sys
import mvcore
from mvcore.errors import MvcoreError
model = mvcore.load(sys.argv[1])
with __import__("torch").no_grad():
    for parameter in model.parameters():
        parameter.fill_(0.5)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write past the limit then fails as one to a full disk does
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    mvcore.save(model, sys.argv[2])
except (OSError, MvcoreError) as error:
    sys.exit(f"failed: {error}")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
@pytest.mark.parametrize("exists", [True, False])
def test_a_disk_that_fills_up_leaves_the_old_model_and_no_litter(exists: bool, copy: Path) -> None:
    before = content(copy)
    assert len(before["model.safetensors"]) > 20_000
    target = copy if exists else copy.parent / "new"
    done = subprocess.run([sys.executable, "-c", FULL_DISK, copy, target], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr[:7]) == (1, "failed:"), done.stderr
    assert content(copy) == before
    assert list(copy.parent.iterdir()) == [copy]


@pytest.mark.parametrize("saves", [1, 3])
def test_a_model_that_is_replaced_while_it_is_read_comes_back_whole(
    saves: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = [make(latent_dim=size) for size in range(1, saves + 2)]
    folder, read, count = mvcore.save(models[0], tmp_path / "model"), files.load_file, iter(models[1:])

    def meanwhile(file: Path) -> Any:
        if (model := next(count, None)) is not None:
            mvcore.save(model, folder)
        return read(file)

    monkeypatch.setattr(files, "load_file", meanwhile)
    again = mvcore.load(folder)
    assert again.config == models[-1].config
    for name, value in models[-1].state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_a_model_that_is_replaced_all_the_time_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, read = make(), files.load_file
    folder = mvcore.save(model, tmp_path / "model")

    def meanwhile(file: Path) -> Any:
        mvcore.save(model, folder)
        return read(file)

    monkeypatch.setattr(files, "load_file", meanwhile)
    with pytest.raises(ModelFileError, match="was replaced 10 times while it was read"):
        mvcore.load(folder)
