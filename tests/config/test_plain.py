"""The law of this module: what ``unstructure`` writes, ``structure`` reads into an equal config, and nothing else."""

import json
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import attrs
import pytest
from hypothesis import given, strategies as st

from mvcore.config.plain import edit, structure, structure_as, unstructure
from mvcore.errors import ConfigError, NotPackagedError, UnknownComponentError
from mvcore.plugins.registry import Entry, Registry
from mvcore.plugins.spec import ComponentSpec, EncoderConfig, LossConfig, ModelConfig, PosteriorConfig


def at_least_depth(instance: "Flow", attribute: "attrs.Attribute[int]", value: int) -> None:
    if value < instance.depth:
        raise ValueError(f"{attribute.name} must be at least depth, which is {instance.depth}, got {value}")


def magnitude(value: int) -> int:
    return abs(value)


@attrs.frozen(kw_only=True)
class MLP(EncoderConfig):
    hidden: tuple[int, ...] = (512, 512)
    activation: Literal["relu", "silu", 3] = "relu"
    dropout: float = attrs.field(default=0.0, validator=[attrs.validators.ge(0), attrs.validators.lt(1)])
    names: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Flow(EncoderConfig):
    inner: EncoderConfig = attrs.field(factory=MLP)
    depth: int = attrs.field(default=1, validator=attrs.validators.ge(1))
    width: int = attrs.field(default=8, validator=at_least_depth)
    range: tuple[float, float] = (0.0, 1.0)
    _doubled: int = attrs.field(
        default=attrs.Factory(lambda self: 2 * self.depth, takes_self=True), converter=magnitude
    )

    def __attrs_post_init__(self) -> None:
        if self.range[0] > self.range[1]:
            raise ValueError(f"range must rise, got {self.range}")


@attrs.frozen(kw_only=True)
class Product(PosteriorConfig):
    prior_expert: bool = True


@attrs.frozen(kw_only=True)
class Elbo(LossConfig):
    beta: float | Literal["dimension"] = 1.0
    draws: int | None = None


@attrs.frozen(kw_only=True)
class Modality:
    encoder: EncoderConfig = attrs.field(factory=MLP)
    decoder: EncoderConfig | None = None
    weight: float = 1.0


@attrs.frozen(kw_only=True)
class Multimodal(ModelConfig):
    modalities: Mapping[str, Modality]
    latent_dim: int
    posterior: Product = attrs.field(factory=Product)
    loss: LossConfig = attrs.field(factory=Elbo)


@attrs.frozen(kw_only=True)
class MoPoE(Multimodal):
    loss: LossConfig = attrs.field(factory=lambda: Elbo(beta=2.5))
    experts: int = 2


@attrs.frozen
class Loose(EncoderConfig):
    pass


@attrs.frozen
class Odd:
    anything: Any = None
    path: Path = Path()


def spec(config: type[Any], revision: int = 1) -> ComponentSpec:
    return ComponentSpec(api=1, config=config, build="a:b", revision=revision)


mlp, flow, product, elbo = spec(MLP), spec(Flow, 4), spec(Product), spec(Elbo)
multimodal, mopoe = spec(Multimodal), spec(MoPoE)


def entry(kind: str, name: str, dist: str = "mvcore") -> Entry:
    return Entry(kind, name, dist, "0.1.0", metadata.EntryPoint(name, f"{__name__}:{name}", f"mvcore.{kind}"))


REGISTRY = Registry(
    [
        entry("encoder", "mlp"),
        entry("encoder", "flow", "acme"),
        entry("posterior", "product"),
        entry("loss", "elbo"),
        entry("model", "multimodal"),
        entry("model", "mopoe", "mvcore-mopoe"),
    ]
)

floats = st.floats(allow_nan=False, allow_infinity=False)
mlps = st.builds(
    MLP,
    hidden=st.lists(st.integers()).map(tuple),
    activation=st.sampled_from(["relu", "silu", 3]),
    dropout=st.floats(0, 1, exclude_max=True),
    names=st.lists(st.text()).map(tuple),
)
encoders = st.recursive(mlps, lambda inner: st.builds(Flow, inner=inner, depth=st.integers(1, 8)), max_leaves=3)
losses = st.builds(Elbo, beta=floats | st.just("dimension"), draws=st.none() | st.integers())
modalities = st.builds(Modality, encoder=encoders, decoder=st.none() | encoders, weight=floats)
models = st.builds(
    lambda cls, **fields: cls(**fields),
    st.sampled_from([Multimodal, MoPoE]),
    modalities=st.dictionaries(st.text(), modalities, max_size=3),
    latent_dim=st.integers(),
    posterior=st.builds(Product, prior_expert=st.booleans()),
    loss=losses,
)


def problems(value: Any, kind: str = "model") -> list[str]:
    with pytest.raises(ConfigError) as caught:
        structure(kind, value, REGISTRY)
    return caught.value.problems


@given(models)
def test_round_trip_by_way_of_json_gives_an_equal_config_of_the_same_class(config: Multimodal) -> None:
    text = json.dumps(unstructure(config, REGISTRY), allow_nan=False)
    again = structure("model", json.loads(text), REGISTRY)
    assert type(again) is type(config)
    assert again == config
    assert unstructure(again, REGISTRY) == json.loads(text)


def test_all_defaults_are_written_out() -> None:
    config = MoPoE(modalities={"image": Modality(encoder=MLP(hidden=(7,)))}, latent_dim=2)
    image = {"use": "mvcore:mlp", "revision": 1, "hidden": [7], "activation": "relu", "dropout": 0.0, "names": []}
    assert unstructure(config, REGISTRY) == {
        "use": "mvcore-mopoe:mopoe",
        "revision": 1,
        "modalities": {"image": {"encoder": image, "decoder": None, "weight": 1.0}},
        "latent_dim": 2,
        "posterior": {"use": "mvcore:product", "revision": 1, "prior_expert": True},
        "loss": {"use": "mvcore:elbo", "revision": 1, "beta": 2.5, "draws": None},
        "experts": 2,
    }


def test_a_name_alone_is_a_component_with_its_defaults() -> None:
    assert structure("encoder", {"use": "flow", "inner": "mvcore:mlp"}, REGISTRY) == Flow()
    assert structure("loss", "elbo", REGISTRY) == Elbo()


def test_a_class_that_is_no_component_is_read_and_written_without_use() -> None:
    assert unstructure(Modality(), REGISTRY)["weight"] == 1.0
    assert "use" not in unstructure(Modality(), REGISTRY)
    assert structure_as(Modality, {"encoder": "flow", "weight": 3}, REGISTRY) == Modality(encoder=Flow(), weight=3.0)
    with pytest.raises(ConfigError, match=r"1 problem in Modality\n  weigth: unknown key, did you mean 'weight'\?"):
        structure_as(Modality, {"weigth": 3}, REGISTRY)


def test_the_message_has_one_line_a_fault() -> None:
    with pytest.raises(ConfigError) as caught:
        structure("model", {"use": "mopoe", "latent_dim": "8", "modalities": {}, "exprts": 2}, REGISTRY)
    assert str(caught.value) == (
        "2 problems in model\n  latent_dim: expected int, got '8'\n  exprts: unknown key, did you mean 'experts'?"
    )


def test_every_fault_comes_at_once_with_its_path() -> None:
    image = {"encoder": {"use": "mlp", "hidden": [512, "x"], "dropout": 2}, "decoder": "mpl", "wieght": 1.0}
    text = {"encoder": {"use": "flow", "revision": 3, "depth": 9, "inner": {"use": "mlp", "activation": "rellu"}}}
    model = {
        "use": "mopoe",
        "modalities": {"image": image, "text": text, "rna": 5},
        "posterior": "elbo",
        "loss": {"beta": 1.0},
    }
    assert problems(model) == [
        "modalities.image.encoder.hidden.1: expected int, got 'x'",
        "modalities.image.encoder.dropout: 'dropout' must be < 1: 2.0",
        "modalities.image.decoder: No encoder is named 'mpl'. Did you mean 'mlp'? Installed: flow, mlp.",
        "modalities.image.wieght: unknown key, did you mean 'weight'?",
        "modalities.text.encoder.revision: expected 4, which is the revision of the installed acme:flow 0.1.0, got 3",
        "modalities.text.encoder.inner.activation: expected 'relu', 'silu' or 3, got 'rellu', did you mean 'relu'?",
        "modalities.text.encoder.width: width must be at least depth, which is 9, got 8",
        "modalities.rna: expected a table, got 5",
        "latent_dim: required, but missing",
        "posterior: No posterior is named 'elbo'. Installed: product.",
        "loss: expected the name of a loss or a table with 'use', got {'beta': 1.0}",
    ]


@pytest.mark.parametrize(
    ("field", "value", "fault"),
    [
        ("depth", "3", "expected int, got '3'"),
        ("depth", True, "expected int, got True"),
        ("depth", 3.0, "expected int, got 3.0"),
        ("depth", None, "expected int, got None"),
        ("depth", 0, "'depth' must be >= 1: 0"),
        ("width", 0, "width must be at least depth, which is 1, got 0"),
        ("range", "ab", "expected a list of float, got 'ab'"),
        ("range", [1], "expected 2 values, got [1]"),
    ],
)
def test_values_are_not_coerced(field: str, value: Any, fault: str) -> None:
    assert problems({"use": "flow", field: value}, "encoder") == [f"{field}: {fault}"]


@pytest.mark.parametrize(
    ("field", "value", "fault"),
    [
        ("beta", "dimensoin", "expected float or 'dimension', got 'dimensoin'"),
        ("beta", True, "expected float or 'dimension', got True"),
        ("draws", 1.5, "expected int or None, got 1.5"),
    ],
)
def test_no_arm_of_a_union_coerces(field: str, value: Any, fault: str) -> None:
    assert problems({"use": "elbo", field: value}, "loss") == [f"{field}: {fault}"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 10**400])
def test_numbers_that_json_cannot_hold_are_refused(value: float) -> None:
    assert problems({"use": "mlp", "dropout": value}, "encoder")[0].startswith("dropout: expected a finite float")


def test_a_string_is_no_list_and_an_int_is_a_float() -> None:
    assert problems({"use": "mlp", "names": "ab"}, "encoder") == ["names: expected a list of str, got 'ab'"]
    config = structure("encoder", {"use": "mlp", "dropout": 0}, REGISTRY)
    assert isinstance(config, MLP)
    assert type(config.dropout) is float


def test_a_fault_of_the_whole_is_told_at_its_path() -> None:
    flow = {"use": "flow", "inner": {"use": "flow", "range": [2, 1]}}
    assert problems(flow, "encoder") == ["inner: range must rise, got (2.0, 1.0)"]


def test_what_needs_an_unreadable_field_waits() -> None:
    assert problems({"use": "flow", "depth": "x", "width": -3}, "encoder") == ["depth: expected int, got 'x'"]


def test_a_private_field_goes_by_its_public_name() -> None:
    assert structure("encoder", {"use": "flow", "depth": 4}, REGISTRY) == Flow(depth=4, doubled=8)
    assert structure("encoder", {"use": "flow", "doubled": -6}, REGISTRY) == Flow(doubled=6)
    assert unstructure(Flow(depth=4), REGISTRY)["doubled"] == 8


def test_a_literal_is_of_one_type() -> None:
    fault = "activation: expected 'relu', 'silu' or 3, got 3.0"
    assert problems({"use": "mlp", "activation": 3.0}, "encoder") == [fault]


def test_a_field_of_one_class_takes_no_other_component_of_its_kind() -> None:
    other = Registry([*REGISTRY.entries(), entry("posterior", "mixture")])
    with pytest.raises(ConfigError, match="posterior: expected a component with a Product, got 'mvcore:mixture'"):
        structure("model", {"use": "multimodal", "modalities": {}, "latent_dim": 1, "posterior": "mixture"}, other)


@attrs.frozen
class Mixture(PosteriorConfig):
    pass


mixture = spec(Mixture)


@pytest.mark.parametrize("value", [3, None, {}, {"use": 3}, []])
def test_what_names_no_component_is_refused(value: Any) -> None:
    assert problems(value) == [f"expected the name of a model or a table with 'use', got {value!r}"]


def test_an_unknown_kind_is_an_error_of_its_own() -> None:
    with pytest.raises(UnknownComponentError, match="Did you mean 'model'"):
        structure("modle", {}, REGISTRY)


def test_what_could_not_be_read_again_is_not_written() -> None:
    config = Multimodal(modalities={"image": Modality(weight=float("nan"))}, latent_dim=8)
    with pytest.raises(ConfigError) as caught:
        unstructure(config, REGISTRY)
    assert caught.value.problems == ["modalities.image.weight: expected a finite float, got nan"]


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"latent_dim": "8"}, "latent_dim: expected int, got '8'"),
        ({"latent_dim": True}, "latent_dim: expected int, got True"),
        ({"modalities": [Modality()]}, "modalities: expected a table of Modality, got [Modality("),
        ({"modalities": {"a": MLP()}}, "modalities: expected a table of Modality, got {'a': MLP("),
    ],
)
def test_a_config_made_by_hand_asks_for_its_types(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Multimodal(**{"modalities": {}, "latent_dim": 8, **fields})
    assert caught.value.problems[0].startswith(problem)


def test_types_that_json_cannot_hold_are_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        unstructure(Odd(), REGISTRY)
    said = "a field of type {} cannot be read from a file; give it one of the types of mvcore.config.converter"
    assert caught.value.problems == [
        "anything: " + said.format("typing.Any"),
        "path: " + said.format("<class 'pathlib.Path'>"),
    ]


def test_a_component_that_nothing_registers_is_not_written() -> None:
    with pytest.raises(NotPackagedError, match="Loose is registered by no installed distribution"):
        unstructure(Modality(encoder=Loose()), REGISTRY)


MODEL = MoPoE(modalities={"image": Modality(), "text": Modality(decoder=Flow())}, latent_dim=2)


def test_edit_replaces_fields_in_a_copy() -> None:
    before = unstructure(MODEL, REGISTRY)
    changes = {
        "latent_dim": 20,
        "loss.beta": "dimension",
        "modalities.image.encoder": MLP(hidden=(5,)),
        "modalities.text.decoder.depth": 3,
        "modalities.rna": {"weight": 2},
    }
    text = Modality(decoder=Flow(depth=3, doubled=2))  # a default that was computed is a value like any other
    assert edit(MODEL, changes, REGISTRY) == MoPoE(
        modalities={"image": Modality(encoder=MLP(hidden=(5,))), "text": text, "rna": Modality(weight=2.0)},
        latent_dim=20,
        loss=Elbo(beta="dimension"),
    )
    assert unstructure(MODEL, REGISTRY) == before


def test_edit_swaps_a_component_before_it_sets_the_fields_of_the_new_one() -> None:
    changes = {"modalities.image.encoder.depth": 2, "modalities.image.encoder": "flow"}
    assert edit(MODEL, changes, REGISTRY).modalities["image"].encoder == Flow(depth=2)


def test_edit_tells_all_faults_at_once() -> None:
    changes = {
        "latentdim": 3,
        "loss.betta": 1.0,
        "los.beta": 1.0,
        "modalities.imag.weight": 1.0,
        "latent_dim.x": 1,
        "modalities.image.weight": "1",
    }
    with pytest.raises(ConfigError) as caught:
        edit(MODEL, changes, REGISTRY)
    assert str(caught.value).startswith("6 problems in MoPoE")
    assert sorted(caught.value.problems) == [
        "latent_dim.x: latent_dim is 2, which has no fields",
        "latentdim: unknown key, did you mean 'latent_dim'?",
        "los: unknown key, did you mean 'loss'?",
        "loss.betta: unknown key, did you mean 'beta'?",
        "modalities.imag: unknown key, did you mean 'image'?",
        "modalities.image.weight: expected float, got '1'",
    ]


def test_edit_tells_a_path_that_leads_nowhere_though_the_rest_is_good() -> None:
    with pytest.raises(ConfigError, match=r"1 problem in MoPoE\n  los: unknown key, did you mean 'loss'\?"):
        edit(MODEL, {"los.beta": 1.0}, REGISTRY)


@attrs.frozen(kw_only=True)
class Renamed(LossConfig):
    samples: int = 1
    beta: float = 1.0


def from_earlier(fields: dict[str, Any], revision: int) -> dict[str, Any]:
    """Revision 1 called ``samples`` ``draws``; revision 2 wrote β in per cent, as 1 did."""
    if revision == 1:
        fields["samples"] = fields.pop("draws")
    return {**fields, "beta": fields["beta"] / 100}


renamed = ComponentSpec(api=1, config=Renamed, build="a:b", revision=3, migrate=f"{__name__}:from_earlier")
MIGRATING = Registry([entry("loss", "renamed")])


@pytest.mark.parametrize(
    "written",
    [
        {"revision": 1, "draws": 5, "beta": 50.0},
        {"revision": 2, "samples": 5, "beta": 50.0},
        {"revision": 3, "samples": 5, "beta": 0.5},
    ],
)
def test_a_spec_may_read_its_earlier_revisions(written: dict[str, Any]) -> None:
    table = {"use": "renamed", **written}
    before = dict(table)
    assert structure("loss", table, MIGRATING) == Renamed(samples=5, beta=0.5)
    assert table == before


@pytest.mark.parametrize(
    ("written", "fault"),
    [
        ({"revision": 4, "samples": 5}, "revision: expected 3, .*got 4"),
        ({"revision": 0, "samples": 5}, "revision: expected 3, .*got 0"),
        ({"revision": "2", "samples": 5}, "revision: expected 3, .*got '2'"),
        ({"revision": 1, "samples": 5}, "revision: .*from_earlier' cannot read revision 1: KeyError: 'draws'"),
        ({"revision": 2, "beta": 10.0, "smaples": 5}, "smaples: unknown key, did you mean 'samples'"),
    ],
)
def test_what_no_migration_reads_is_told(written: dict[str, Any], fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        structure("loss", {"use": "renamed", **written}, MIGRATING)
