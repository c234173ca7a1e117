"""Components that are not what their kind must be: each error names the component, before any training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from attrs import frozen
from torch import Tensor, nn

import mvcore
from mvcore.data.batch import Batch
from mvcore.data.schema import Schema
from mvcore.distributions.encoded import Encoded
from mvcore.errors import BrokenPluginError, ConfigError, DataError
from mvcore.likelihoods.base import LikelihoodDecoder
from mvcore.likelihoods.real import NormalLikelihood
from mvcore.losses.base import LossOutput
from mvcore.models.multimodal import MultimodalVAE
from mvcore.nn.mlp import MLPDecoder, MLPEncoder
from mvcore.plugins.spec import ComponentSpec, EncoderConfig
from mvcore.posteriors.product import ProductOfExperts
from mvcore.posteriors.specs import ProductConfig

SCHEMA = Schema.from_shapes({"a": (3,), "b": (2,)})
D = 2


class Like(nn.Module):
    """An encoder that answers as told."""

    def __init__(self, answer: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.linear, self.answer = nn.Linear(3, D), answer

    def forward(self, x: Tensor, mask: Tensor | None = None, context: Tensor | None = None) -> Any:
        return self.answer(self.linear(x))


class Outputs(nn.Module):
    """A decoder that answers as told."""

    def __init__(self, answer: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.linear, self.answer = nn.Linear(D, 3), answer

    def forward(self, z: Tensor, context: Tensor | None = None) -> Any:
        return self.answer(self.linear(z))


def hand_made(encoder: nn.Module | None = None, decoder: nn.Module | None = None, **parts: Any) -> MultimodalVAE:
    encoders = {m.name: MLPEncoder(m.shape, D, hidden=(4,)) for m in SCHEMA}
    decoders = {
        m.name: LikelihoodDecoder(MLPDecoder(D, m.shape, 1, hidden=(4,)), NormalLikelihood(m.shape)) for m in SCHEMA
    }
    if encoder is not None:
        encoders["a"] = encoder  # type: ignore[assignment]
    if decoder is not None:
        decoders["a"] = LikelihoodDecoder(decoder, NormalLikelihood((3,)))
    return MultimodalVAE(SCHEMA, latent_dim=D, encoders=encoders, decoders=decoders, **parts)


def raises(error: Exception) -> Callable[[Tensor], object]:
    def answer(x: Tensor) -> object:
        raise error

    return answer


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda h: (h, h), "must return a .*Encoded.*; it returned tuple"),
        (lambda h: h, "it returned Tensor"),
        (lambda h: {"loc": h}, "it returned dict"),
        (lambda h: None, "it returned NoneType"),
        (lambda h: Encoded(h[:, :1], h), r"must give loc of shape \('n', 2\).*gave \(0, 1\)"),
        (lambda h: Encoded(h, h[:, :1]), r"must give log_scale of shape \('n', 2\)"),
        (lambda h: Encoded(h, None), r"must give log_scale .* gave NoneType"),  # type: ignore[arg-type]
        (lambda h: Encoded(h.amin(0), h), "can't be called with 0 rows.*IndexError|RuntimeError"),
        (raises(ZeroDivisionError("division")), "can't be called with 0 rows.*ZeroDivisionError: division"),
    ],
)
def test_an_encoder_that_gives_something_else_is_named(answer: Callable[[Tensor], object], message: str) -> None:
    with pytest.raises(DataError, match=f"The encoder of 'a' .*{message}"):
        hand_made(Like(answer))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda h: h, r"must give its output of shape \('n', 1, 3\).*gave \(0, 3\)"),
        (lambda h: (h[:, None],), "gave tuple"),
        (raises(KeyError("x")), "can't be called with 0 rows"),
    ],
)
def test_a_decoder_that_gives_something_else_is_named(answer: Callable[[Tensor], object], message: str) -> None:
    with pytest.raises(DataError, match=f"The decoder network of 'a' .*{message}"):
        hand_made(decoder=Outputs(answer))


@pytest.mark.parametrize("norm", [nn.BatchNorm1d(3), nn.SyncBatchNorm(3), nn.LazyBatchNorm1d()])
def test_batch_norm_is_found_by_its_type(norm: nn.Module) -> None:
    encoder = Like(lambda h: Encoded(h, h))
    encoder.add_module("inner", nn.Sequential(nn.Linear(3, 3), norm))
    with pytest.raises(DataError, match=r"The encoder of 'a' has a \w*BatchNorm\w* \(inner.1\)"):
        hand_made(encoder)
    encoder.add_module("inner", nn.GroupNorm(1, 3))
    hand_made(encoder)


class Loss(nn.Module):
    def __init__(self, answer: object) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, p: Any) -> Any:
        return self.answer


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (torch.tensor(1.0), "must return a .*LossOutput; it returned Tensor"),
        (None, ".*it returned NoneType"),
        ({"loss": torch.tensor(1.0)}, ".*it returned dict"),
        (LossOutput(torch.ones(3), {}), r"must give a loss of shape \(\); it gave \(3,\)"),
        (LossOutput(1.0, {}), "must give a loss of shape .* it gave float"),  # type: ignore[arg-type]
    ],
)
def test_a_loss_that_gives_something_else_is_named(answer: object, message: str) -> None:
    model = hand_made(loss=Loss(answer))
    batch = Batch.from_dense({"a": torch.randn(4, 3), "b": torch.randn(4, 2)}, {"a": torch.arange(4) > 1})
    with pytest.raises(DataError, match=f"The loss Loss {message}"):
        model(batch)


@frozen(kw_only=True)
class MineConfig(EncoderConfig):
    fails: bool = False


def build(config: MineConfig, *, modality: Any, latent_dim: int, private_dim: int, context_dim: int) -> nn.Module:
    if config.fails:
        raise ZeroDivisionError("no")
    return nn.Sequential(nn.Linear(3, D), nn.BatchNorm1d(D))


def build_for_others(config: MineConfig, *, modality: Any, size: int) -> nn.Module:
    raise AssertionError("never called")


def build_nothing(config: MineConfig, **sizes: Any) -> None:
    return None


@pytest.mark.parametrize(
    ("builder", "fields", "error", "message"),
    [
        ("build", {"fails": True}, ConfigError, "local:mine can't be built: ZeroDivisionError: no"),
        ("build", {}, DataError, "The encoder of 'a' has a BatchNorm1d"),
        ("build_for_others", {}, BrokenPluginError, "local:mine .*does not take the arguments of its kind"),
        ("build_nothing", {}, BrokenPluginError, "local:mine .*returned nothing"),
        ("nowhere", {}, BrokenPluginError, "local:mine .*cannot be imported"),
    ],
)
def test_a_builder_that_fails_is_named(
    builder: str, fields: dict[str, Any], error: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = ComponentSpec(api=1, config=MineConfig, build=f"{__name__}:{builder}")
    monkeypatch.setattr(ComponentSpec, "builder", lambda self: _builder_of(self, builder))
    with mvcore.local(spec, "mine"), pytest.raises(error, match=message):
        mvcore.create("multimodal", SCHEMA, **{"modalities.a.encoder": {"use": "mine", **fields}})


_BUILDER = ComponentSpec.builder


def _builder_of(spec: ComponentSpec, name: str) -> Callable[..., Any]:
    if spec.config is not MineConfig:
        return _BUILDER(spec)
    if name not in globals():
        raise AttributeError(name)
    found: Callable[..., Any] = globals()[name]
    return found


@pytest.mark.parametrize("fields", [{"latent_dim": 2**62}, {"latent_dim": 2**70}, {"private_dim": 2**63}])
def test_sizes_that_nothing_can_have_are_told(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="can't be built"):
        mvcore.create("multimodal", SCHEMA, **fields)


def test_all_subsets_of_too_many_modalities_are_refused_with_their_number_and_memory() -> None:
    many = Schema.from_shapes({f"m{i}": (1,) for i in range(18)})
    with pytest.raises(ConfigError, match=r"262,143 components.*2,147,475,456 bytes"):  # 2^18 − 1; × 128 · 64
        mvcore.create("multimodal", many, posterior=ProductConfig(subsets="all", prior_expert="none"))
    mvcore.create("multimodal", many, posterior=ProductConfig(subsets="each", prior_expert="none"))
    ProductOfExperts([f"m{i}" for i in range(16)], subsets="all")
    with pytest.raises(ConfigError, match="at most 65,535"):
        ProductOfExperts([f"m{i}" for i in range(17)], subsets="all")
