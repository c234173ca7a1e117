"""Unpackaged work: found in its block alone, trained, and not saved."""

import threading
from pathlib import Path

import pytest
from attrs import field, frozen

import mvcore
from mvcore.errors import NotPackagedError, UnknownComponentError
from mvcore.losses.specs import ELBOConfig
from mvcore.models.specs import ComposedConfig
from mvcore.plugins.registry import Registry
from mvcore.plugins.spec import ComponentSpec, LossConfig


@frozen(kw_only=True)
class MineConfig(ComposedConfig):
    loss: LossConfig = field(factory=lambda: ELBOConfig(beta=3.0))


SPEC = ComponentSpec(api=1, config=MineConfig, build="mvcore.models:build_multimodal")
SCHEMA = mvcore.Schema.from_shapes({"a": (3,), "b": (2,)})


def test_a_local_model_is_created_by_name_in_its_block_and_cannot_be_saved(tmp_path: Path) -> None:
    with mvcore.local(SPEC, "mine"):
        model = mvcore.create("mine", SCHEMA, latent_dim=2, **{"loss.samples": 2})
        with pytest.raises(NotPackagedError, match=r"MineConfig .*'mvcore.model'"):
            mvcore.save(model, tmp_path / "model")
    assert model.config.loss == ELBOConfig(beta=3.0, samples=2)  # type: ignore[union-attr]
    with pytest.raises(NotPackagedError, match=r"MineConfig .*'mvcore.model'"):
        mvcore.save(model, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_other_threads_and_what_follows_the_block_do_not_see_it() -> None:
    seen: list[int] = []
    with mvcore.local(SPEC, "mine"):
        assert len(Registry.installed().matching("model", "mine")) == 1
        thread = threading.Thread(target=lambda: seen.append(len(Registry.installed().matching("model", "mine"))))
        thread.start()
        thread.join()
    assert seen == [0]
    with pytest.raises(UnknownComponentError, match="'mine'"):
        mvcore.create("mine", SCHEMA)
