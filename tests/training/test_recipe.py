"""What a training is like where its caller does not say: the recipe of the model's config."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from attrs import frozen
from click.testing import CliRunner

import mvcore
from mvcore import runs
from mvcore.cli import main
from mvcore.data.dataset import MultimodalDataset
from mvcore.likelihoods.specs import NormalConfig
from mvcore.models.specs import ComposedConfig, MultimodalVAEConfig
from mvcore.options import TrainingConfig
from mvcore.plugins.spec import ComponentSpec
from mvcore.training import loop
from mvcore.training.hooks import hookimpl


@frozen(kw_only=True)
class BriefConfig(ComposedConfig):
    """Trains for two epochs with a decay."""

    def recipe(self) -> TrainingConfig:
        """The recipe."""
        return TrainingConfig(epochs=2, batch_size=5, weight_decay=0.5, seed=3)


BRIEF = ComponentSpec(api=1, config=BriefConfig, build="mvcore.models:build_multimodal")


def toy() -> MultimodalDataset:
    rng = np.random.default_rng(0)
    return MultimodalDataset({"a": rng.normal(size=(20, 3)), "b": rng.normal(size=(20, 2))}, {"b": np.arange(20) > 4})


def options_of(model: Any, **options: Any) -> TrainingConfig:
    """The options that a training has in the end."""
    with pytest.MonkeyPatch.context() as patch:
        seen: list[TrainingConfig] = []
        patch.setattr(loop.Loop, "run", lambda self, stages, bar: seen.append(self.options))
        mvcore.fit(model, toy(), progress=False, **options)
    return seen[0]


def test_what_is_left_out_is_the_recipes_and_what_is_given_is_the_callers() -> None:
    with mvcore.local(BRIEF, name="brief"):
        model = mvcore.create("brief", toy(), latent_dim=2)
    assert options_of(model) == TrainingConfig(epochs=2, batch_size=5, weight_decay=0.5, seed=3)
    changed = options_of(model, epochs=4, weight_decay=0.0, seed=0)
    assert changed == TrainingConfig(epochs=4, batch_size=5, weight_decay=0.0, seed=0)
    steps = []

    class Count:
        @hookimpl
        def mvcore_step_end(self, step: int) -> None:
            steps.append(step)

    run = mvcore.fit(model, toy(), progress=False, callbacks=[Count()])
    assert (len(run.history), run.seed, steps[-1]) == (2, 3, 8)


def test_a_model_without_a_config_or_recipe_has_the_options_as_they_explain_themselves() -> None:
    model = mvcore.create("multimodal", toy(), latent_dim=2)
    assert options_of(model) == MultimodalVAEConfig().recipe() != TrainingConfig()
    model.config = None
    assert options_of(model) == TrainingConfig()
    assert ComposedConfig().recipe() == TrainingConfig()


def test_a_config_file_names_what_differs_from_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(
        """
        data = { use = "miniacc" }
        model = { use = "multimodal", latent_dim = 2 }
        training = { epochs = 1, batch_size = 64 }
        """
    )
    with pytest.MonkeyPatch.context() as patch:
        seen: dict[str, Any] = {}

        def fit(model: Any, data: Any, **options: Any) -> Any:
            seen.update(options)
            raise InterruptedError

        patch.setattr(mvcore, "fit", fit)
        with pytest.raises(InterruptedError):
            runs.train(tmp_path / "config.toml", tmp_path / "run", progress=False)
    assert {k: seen[k] for k in seen if k in TrainingConfig.__slots__} == {"epochs": 1, "batch_size": 64}


def test_describe_shows_the_recipe() -> None:
    text = CliRunner().invoke(main, ["describe", "multimodal", "--kind", "model"]).output
    recipe = MultimodalVAEConfig().recipe()
    assert f"lr={recipe.lr!r}, schedule={recipe.schedule!r}" in text


def test_the_composed_defaults_are_for_what_is_no_image_and_the_papers_models_keep_theirs() -> None:
    images = torch.zeros(4, 1, 8, 8).numpy()
    data = MultimodalDataset({"table": np.random.default_rng(0).normal(size=(4, 3)), "image": images})
    composed: Any = mvcore.create("multimodal", data).config
    assert composed.modalities["table"].encoder.layer_norm
    assert composed.modalities["table"].likelihood.learn_scale == "feature"
    assert composed.modalities["image"] == ComposedConfig().parts_for(data.schema["image"], NormalConfig())
    plain = ComposedConfig().parts_for(data.schema["table"], NormalConfig())
    assert (plain.encoder.layer_norm, plain.decoder.dropout, plain.likelihood.learn_scale) == (False, 0.0, "no")
