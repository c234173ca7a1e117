"""The space: what is asked for, under which name, and what becomes of the answers."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from mvcore.errors import ConfigError
from mvcore.sweeps.askers import at_random, corners, covering, grid, trial_at_random
from mvcore.sweeps.domains import Choice, Domain, Number
from mvcore.sweeps.space import Space, answered, replay, values_of, walk

SPACE = {
    "model": {
        "plugin": {
            "sweet": {"loss.beta": {"float": [0.1, 3.0], "log": True}, "sugar": {"choice": [0.1, 0.2]}},
            "sour": {"loss.beta": {"float": [0.5, 5.0]}, "latent_dim": 7},
        }
    },
    "model.modalities.*.encoder": {"plugin": {"mlp": {"hidden": {"choice": [[4], [4, 4]]}}}},
    "training.lr": {"float": [1e-4, 1e-2], "log": True},
    "training.epochs": {"int": [1, 3]},
}


def space(table: Any = SPACE) -> Space:
    found, faults = Space.read(table)
    assert not faults
    return found


def test_a_name_has_its_branches_in_brackets_and_a_value_its_path() -> None:
    asked: list[str] = []

    def ask(name: str, domain: Domain) -> Any:
        asked.append(name)
        return domain.values[-1] if isinstance(domain, Choice) else domain.low

    values = walk(space(), ask)
    assert asked == [
        "model", "model[sour].loss.beta", "model.modalities.*.encoder", "model.modalities.*.encoder[mlp].hidden",
        "training.lr", "training.epochs",
    ]  # fmt: skip
    assert values == {
        "model": "sour", "model.loss.beta": 0.5, "model.latent_dim": 7, "model.modalities.*.encoder": "mlp",
        "model.modalities.*.encoder.hidden": [4, 4], "training.lr": 1e-4, "training.epochs": 1,
    }  # fmt: skip


def test_parameters_of_one_name_of_two_plugins_stay_apart() -> None:
    draws = [trial_at_random(space(), 0, number) for number in range(60)]
    for answers in draws:
        own = {"sweet": "model[sweet].loss.beta", "sour": "model[sour].loss.beta"}
        other = own["sour" if answers["model"] == "sweet" else "sweet"]
        assert own[answers["model"]] in answers
        assert other not in answers
        assert ("model[sweet].sugar" in answers) == (answers["model"] == "sweet")


def test_a_bare_list_and_a_table_with_use_are_values() -> None:
    table = {"model.loss": {"use": "elbo"}, "training.lr": {"choice": [1e-3]}, "model.modalities.*.encoder.hidden": [4]}
    values = walk(space(table), lambda name, domain: domain.values[0])  # type: ignore[union-attr]
    assert values == {"model.loss": {"use": "elbo"}, "training.lr": 1e-3, "model.modalities.*.encoder.hidden": [4]}


def test_a_grid_has_every_point_once() -> None:
    table = {
        "model": {"plugin": {"sweet": {"sugar": {"choice": [1, 2, 3]}}, "sour": {}}},
        "training.epochs": {"int": [1, 2]},
        "training.schedule": {"choice": ["constant", "cosine"]},
    }
    points = list(grid(space(table)))
    assert len(points) == (3 + 1) * 2 * 2
    assert len({str(sorted(point.items())) for point in points}) == 16
    assert points == list(grid(space(table)))


def test_a_grid_over_floats_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"space.training.lr: a grid has no end over a range of floats"):
        list(grid(space({"training.lr": {"float": [0.1, 1]}})))


def test_corners_have_every_combination_of_choices_and_an_end_of_each_range() -> None:
    points = list(corners(space()))
    assert len(points) == 2 * 2 + 1 * 2  # sweet with two sugars, sour, each with two widths
    assert {point["training.lr"] for point in points} == {1e-4}
    ends = list(corners(space(), choices=False, high=True))
    assert len(ends) == 2
    assert {point["training.lr"] for point in ends} == {1e-2}


def test_covering_points_hold_every_value() -> None:
    table = {f"model.a{i}": {"choice": list(range(7))} for i in range(6)}  # 117,649 combinations
    points = list(covering(space(table), 70))
    for name in table:
        counts = [sum(point[name] == value for point in points) for value in range(7)]
        assert counts == [10] * 7


def test_answers_are_replayed_and_those_of_another_space_refused() -> None:
    answers = trial_at_random(space(), 3, 5)
    assert answered(space(), replay(answers)) == answers
    for changed, message in [
        ({**answers, "model": "bitter"}, "'bitter' is none of"),
        ({**answers, "training.lr": 1.0}, "1.0 is none of"),
        ({**answers, "training.epochs": 2.0}, "2.0 is none of"),
        ({**answers, "model.more": 1}, "the space does not ask for it"),
        ({name: value for name, value in answers.items() if name != "training.lr"}, "there is no answer"),
    ]:
        with pytest.raises(ConfigError, match=message):
            values_of(space(), changed)


def test_a_trial_is_drawn_by_seed_and_number_alone() -> None:
    assert trial_at_random(space(), 0, 4) == trial_at_random(space(), 0, 4)
    assert len({str(trial_at_random(space(), seed, number)) for seed in range(3) for number in range(10)}) == 30


@pytest.mark.parametrize(
    ("domain", "limit", "share"),
    [
        (Number(1, 9), 3.0, 2 / 8),
        (Number(0.01, 100.0, log=True), 0.1, 1 / 4),  # a decade of four
        (Number(1, 3, whole=True), 1.5, 1 / 3),
        (Number(1, 64, log=True, whole=True), 5.5, math.log(5.5 / 0.5) / math.log(64.5 / 0.5)),
    ],
)
def test_draws_are_uniform_or_uniform_in_the_logarithm(domain: Number, limit: float, share: float) -> None:
    draws = random.Random(0)
    found = [at_random(draws)("", domain) for _ in range(4000)]
    assert all(domain.holds(value) for value in found)
    below = sum(value < limit for value in found)
    assert abs(below - 4000 * share) < 4 * math.sqrt(4000 * share * (1 - share))


def test_whole_numbers_have_their_ends_as_often_as_the_others() -> None:
    draws = random.Random(1)
    found = [at_random(draws)("", Number(1, 4, whole=True)) for _ in range(8000)]
    # 2,000 each, the standard deviation √(8000 · 3/16) = 39
    assert all(abs(found.count(value) - 2000) < 160 for value in (1, 2, 3, 4))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"flaot": [0.1, 1]}, "space.training.lr: expected a table with one of .* did you mean 'float'"),
        ({"float": [0.1, 1], "int": [1, 2]}, "has two markers, int and float"),
        ({"float": [1.0, 0.1]}, r"the range is swapped: write \[0.1, 1.0\]"),
        ({"float": [0.1, 0.1]}, "the range has one value; write 0.1 alone"),
        ({"float": [0.0, 1.0], "log": True}, "a range with log = true must be above 0"),
        ({"float": [-1.0, 1.0], "log": True}, "a range with log = true must be above 0"),
        ({"int": [0, 5], "log": True}, "a range with log = true must be above 0"),
        ({"int": [1, 5], "log": 1}, "log: expected true or false, got 1"),
        ({"int": [1, 5], "lgo": True}, "lgo: unknown key, did you mean 'log'"),
        ({"int": [1.0, 5]}, "int takes the least and the greatest value, two ints"),
        ({"int": [True, 5]}, "int takes the least and the greatest value"),
        ({"float": [1.0]}, "float takes the least and the greatest value"),
        ({"float": 1.0}, "float takes the least and the greatest value"),
        ({"float": [0.1, float("inf")]}, "float takes the least and the greatest value"),
        ({"float": [0.1, float("nan")]}, "float takes the least and the greatest value"),
        ({"choice": []}, "choice takes a list of one value or more"),
        ({"choice": "abc"}, "choice takes a list of one value or more"),
        ({"choice": [1, 1]}, "choice has a value twice"),
        ({"choice": [1, 2], "log": True}, "log: unknown key"),
        ({"plugin": ["mlp"]}, "plugin takes a table with a table for each component"),
        ({"plugin": {}}, "plugin takes a table with a table for each component"),
        ({"plugin": {"mlp": [4]}}, r"space.training.lr\[mlp\]: expected a table of its paths"),
        ({"plugin": {"mlp": {"hidden": {"choise": [4]}}}}, r"space.training.lr\[mlp\].hidden: .*did you mean 'choice'"),
    ],
)
def test_markers_are_read_strictly(value: Any, message: str) -> None:
    _, faults = Space.read({"training.lr": value})
    assert len(faults) == 1
    with pytest.raises(ConfigError, match=message):
        raise ConfigError(faults)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("data.hide", "the data are the same for all trials"),
        ("modle.latent_dim", "a path starts with model or training"),
        ("training", "expected the path of a field"),
        ("model..latent_dim", "expected the path of a field"),
        ("model.use", "models are chosen at"),
    ],
)
def test_paths_begin_at_the_model_or_the_training(path: str, message: str) -> None:
    _, faults = Space.read({path: {"choice": [1, 2]}})
    assert len(faults) == 1
    assert message in faults[0]


def test_a_space_in_which_nothing_varies_is_refused() -> None:
    for table in ({}, {"training.lr": 0.1}):
        _, faults = Space.read(table)
        assert len(faults) == 1
        assert "nothing varies" in faults[0]
