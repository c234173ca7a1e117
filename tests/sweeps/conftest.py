"""What the tests of sweeps share: a plugin that is on disk alone, tables of small sweeps, and one Ray for all."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

Tables = Callable[..., dict[str, Any]]

SPECS = """
    from typing import Literal

    from attrs import field, frozen

    from mvcore.losses import ELBOConfig
    from mvcore.models import ComposedConfig
    from mvcore.plugins import ComponentSpec, LossConfig

    @frozen(kw_only=True)
    class SweetConfig(ComposedConfig):
        latent_dim: int = 3
        sugar: float = 0.5

    @frozen(kw_only=True)
    class SourLossConfig(ELBOConfig):
        def refuses(self, model):
            subsets = model.posterior.subsets
            return None if subsets == "observed" else f"the loss sour needs subsets='observed', got {subsets!r}"

    @frozen(kw_only=True)
    class SourConfig(ComposedConfig):
        latent_dim: int = 3
        loss: LossConfig = field(factory=SourLossConfig)

    @frozen(kw_only=True)
    class TroubleConfig(ComposedConfig):
        latent_dim: int = 2
        how: Literal["none", "die", "raise", "config", "data", "diverge", "write"] = "none"
        flag: str = ""
        step: int = 0

    sweet = ComponentSpec(api=1, config=SweetConfig, build="mvcore.models:build_multimodal")
    sour = ComponentSpec(api=1, config=SourConfig, build="mvcore.models:build_multimodal")
    sour_loss = ComponentSpec(api=1, config=SourLossConfig, build="mvcore.losses.elbo:build")
    trouble = ComponentSpec(api=1, config=TroubleConfig, build="zoo_trouble:build")
"""
TROUBLE = """
    import os
    import signal
    from pathlib import Path

    import mvcore
    from mvcore.models import build_multimodal

    def build(config, schema):
        if config.how == "config":
            raise mvcore.ConfigError(["how: 'config' was asked for"], "trouble")
        model, steps = build_multimodal(config, schema), [0]

        def before(module, args, kwargs):
            if not module.training:
                return
            steps[0] += 1
            flag = Path(config.flag)
            if config.how == "write":
                with flag.open("a") as file:
                    file.write("step\\n")
            if steps[0] != config.step:
                return
            if config.how == "data":
                raise mvcore.DataError("These data were asked to fail.")
            if config.how == "diverge":
                raise mvcore.TrainingError("This training was asked to diverge.")
            if not flag.exists():
                flag.write_text(str(os.getpid()))
                if config.how == "die":
                    os.kill(os.getpid(), signal.SIGKILL)
            if config.how == "raise":
                raise RuntimeError("a fault of the plugin")

        if config.how != "none":
            model.register_forward_pre_hook(before, with_kwargs=True)
        return model
"""
POINTS = """
[mvcore.model]
sweet = zoo:sweet
sour = zoo:sour
trouble = zoo:trouble

[mvcore.loss]
sour = zoo:sour_loss
"""


@pytest.fixture(scope="session")
def zoo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The distribution ``zoo``: the models sweet, sour (whose loss refuses mixtures) and trouble."""
    folder = tmp_path_factory.mktemp("zoo")
    info = folder / "zoo-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: zoo\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text(POINTS)
    (folder / "zoo.py").write_text(textwrap.dedent(SPECS))
    (folder / "zoo_trouble.py").write_text(textwrap.dedent(TROUBLE))
    return folder


@pytest.fixture(autouse=True)
def zoo(zoo_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The distribution, found here as an installed one is, and by the processes that a test starts."""
    monkeypatch.syspath_prepend(zoo_folder)
    monkeypatch.setenv("PYTHONPATH", path_with(zoo_folder))
    return zoo_folder


@pytest.fixture(scope="session")
def ray_cluster(zoo_folder: Path) -> Iterator[Any]:
    """Ray on this machine, one for all tests."""
    ray = pytest.importorskip("ray")
    before = os.environ.get("PYTHONPATH")
    settings = {"PYTHONPATH": path_with(zoo_folder), "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "OMP_NUM_THREADS": "1"}
    from mvcore.sweeps.connection import handlers_kept

    with pytest.MonkeyPatch.context() as patch, handlers_kept():
        for name, value in settings.items():
            patch.setenv(name, value)
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    assert os.environ.get("PYTHONPATH") == before
    yield ray
    ray.shutdown()


@pytest.fixture
def tables() -> Tables:
    """The tables of a sweep of small models of miniacc, which is trained in this process unless told otherwise."""

    def make(space: Mapping[str, Any], *, training: Mapping[str, Any] | None = None, **sweep: Any) -> dict[str, Any]:
        own = {"metric": {"log_likelihood": "max"}, "trials": 2, "search": "random", "address": "here", **sweep}
        parts = {"encoder": {"hidden": [4]}, "decoder": {"hidden": [4]}}
        names = ("rna", "cna", "protein", "mutation", "mirna")
        return {
            "data": {"use": "miniacc", "validation": 0.3, "hide": 0.2},
            "model": {"latent_dim": 2, "modalities": {name: parts for name in names}},
            "training": {"epochs": 4, "batch_size": 16, **(training or {})},
            "space": dict(space),
            "sweep": {name: value for name, value in own.items() if value is not None},
        }

    return make


def path_with(folder: Path) -> str:
    return os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH", "")]))
