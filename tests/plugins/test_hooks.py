"""Hooks: which calls a training makes, and that a broken distribution harms nobody."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mvcore
from mvcore.errors import ConfigError
from mvcore.training.hooks import hookimpl, make_manager, names

Install = Callable[..., Path]

COUNTING = """
    from mvcore.training.hooks import hookimpl

    @hookimpl
    def mvcore_epoch_end(row):
        row["seen"] = True
"""


class Diary:
    def __init__(self) -> None:
        self.lines: list[Any] = []

    @hookimpl
    def mvcore_fit_start(self, epochs: int) -> None:
        self.lines.append(("start", epochs))

    @hookimpl
    def mvcore_step_end(self, step: int) -> None:
        self.lines.append(step)

    @hookimpl
    def mvcore_epoch_end(self, row: dict[str, Any]) -> None:
        self.lines.append(("epoch", row["epoch"]))

    @hookimpl
    def mvcore_fit_end(self, run: mvcore.Run) -> None:
        self.lines.append(("end", len(run.history)))


def train(**options: Any) -> mvcore.Run:
    data = mvcore.dataset("miniacc").select(range(20))
    model = mvcore.create("multimodal", data, latent_dim=2)
    return mvcore.fit(model, data, epochs=2, batch_size=10, progress=False, **options)


def test_a_training_calls_its_hooks_in_order() -> None:
    diary = Diary()
    run = train(callbacks=[diary])
    expected = [("start", 2), 1, 2, ("epoch", 0), 3, 4, ("epoch", 1), ("end", 2)]
    assert diary.lines == expected
    assert len(run.hooks) == 1


def test_installed_hooks_take_part_are_listed_and_can_be_left_out(install: Install) -> None:
    install("acme", "acme_hooks", COUNTING, kind="hooks", name="count")
    assert train().hooks == ("acme:count",)
    assert train().history[0]["seen"]
    assert train(hooks=False).hooks == ()


def test_a_broken_distribution_is_left_out_and_named(install: Install, caplog: pytest.LogCaptureFixture) -> None:
    install("bad", "bad_hooks", "1 / 0", kind="hooks", name="oops")
    install("good", "good_hooks", COUNTING, kind="hooks", name="count")
    with caplog.at_level(logging.WARNING):
        assert names(make_manager()) == ["good:count"]
    assert "bad:oops are left out: ZeroDivisionError" in caplog.text


def test_an_installed_hook_with_a_misspelt_name_is_left_out_whole(
    install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    install("acme", "acme_hooks", COUNTING.replace("epoch_end", "epoch_stop"), kind="hooks", name="count")
    with caplog.at_level(logging.WARNING):
        assert names(make_manager()) == []
    assert "mvcore_epoch_stop" in caplog.text


def test_a_callback_with_a_misspelt_name_or_argument_is_an_error() -> None:
    class Misspelt:
        @hookimpl
        def mvcore_fit_stop(self) -> None: ...

    class Unknown:
        @hookimpl
        def mvcore_fit_end(self, result: object) -> None: ...

    for callback in (Misspelt(), Unknown()):
        with pytest.raises(ConfigError, match=r"fit_stop|result"):
            make_manager([callback])


class Unmarked:
    def mvcore_epoch_end(self, row: object) -> None: ...


class Foreign:
    def on_epoch_end(self, row: object) -> None: ...


@pytest.mark.parametrize(
    ("callback", "message"),
    [
        (Unmarked(), "Unmarked answers no call: its mvcore_epoch_end is not marked by @mvcore.hookimpl"),
        (Foreign(), "did you mean 'mvcore_epoch_end' by its 'on_epoch_end'"),
        (Unmarked, "Unmarked is a class; give an instance"),
        (lambda row: None, "a function answers no call"),
        (print, "answers no call"),
        ("tqdm", "answers no call"),
        (None, "answers no call"),
    ],
)
def test_a_callback_that_is_never_called_is_refused_and_told_how(callback: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        make_manager([callback])
    assert "@mvcore.hookimpl" in str(caught.value) or "give an instance" in str(caught.value)


def test_callbacks_that_are_no_list_are_refused() -> None:
    for callbacks in (Diary(), "x", {"a": Diary()}):
        with pytest.raises(ConfigError, match="expected a list of objects"):
            make_manager(callbacks)  # type: ignore[arg-type]


def test_two_trainings_share_no_hooks() -> None:
    diary = Diary()
    train(callbacks=[diary])
    count = len(diary.lines)
    train()
    assert len(diary.lines) == count
