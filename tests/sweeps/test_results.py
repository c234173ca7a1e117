"""What a sweep shows: the leaderboard, the Pareto front, the table of a sweep under way."""

from __future__ import annotations

import csv
import io
from itertools import pairwise
from typing import Any

import pytest

from mvcore.sweeps.config import Plan, read
from mvcore.sweeps.leaderboard import front, rows, write_csv, write_markdown
from mvcore.sweeps.records import Evaluated, Record, Said
from mvcore.sweeps.results import kept
from mvcore.sweeps.validation import check
from mvcore.sweeps.watch import Watch, ranking

SPACE = {"model": {"plugin": {"sweet": {"loss.beta": {"float": [0.1, 3.0]}}, "sour": {}}}}


@pytest.fixture
def plan(tables: Any) -> Plan:
    goals = {"log_likelihood": "max", "linear_probe/observed": "min"}
    return check(read(tables(SPACE, metric=goals, trials=6, keep=1)), "here")


def record(number: int, one: float, two: float, status: Any = "finished", *, earlier: float | None = None) -> Record:
    values = {"log_likelihood": one, "linear_probe/observed": two}
    before = [] if earlier is None else [Evaluated(epoch=2, seconds=1.0, values={**values, "log_likelihood": earlier})]
    reports = (*before, Evaluated(epoch=4, seconds=2.0, values=values))
    return Record(number=number, answers={"model": "sour"}, reports=reports, status=status)


#: The first metric is to be large, the second small: 1 is worse than 0 in both, 4 in one and as good in the other.
RECORDS = [
    record(0, -5.0, 0.2),
    record(1, -6.0, 0.3),
    record(2, -4.0, 0.5),
    record(3, -9.0, 0.1, earlier=-10.0),
    record(4, -5.0, 0.25),
    record(5, -1.0, 0.0, "stopped"),
    Record(number=6, answers={"model": "sweet", "model[sweet].loss.beta": 0.5}, status="failed", error="it | broke\na"),
]


def test_the_front_has_what_nothing_is_better_than(plan: Plan) -> None:
    assert [r.number for r in front(plan, RECORDS)] == [0, 2, 3]


def test_equal_trials_are_both_on_the_front(plan: Plan) -> None:
    assert [r.number for r in front(plan, [record(0, -5.0, 0.2), record(1, -5.0, 0.2)])] == [0, 1]


def test_the_leaderboard_has_the_finished_trials_by_the_first_metric(plan: Plan) -> None:
    assert [r.number for r in ranking(plan, RECORDS)] == [2, 0, 4, 1, 3]
    found = rows(plan, RECORDS)
    assert [row["trial"] for row in found] == [2, 0, 4, 1, 3, 5, 6]
    assert found[4]["log_likelihood@2"] == -10.0
    assert found[0]["log_likelihood@2"] is None
    assert "log_likelihood@4" not in found[0]
    assert found[6]["model[sweet].loss.beta"] == 0.5
    read_again = list(csv.DictReader(io.StringIO(write_csv(found).decode())))
    assert [row["trial"] for row in read_again] == ["2", "0", "4", "1", "3", "5", "6"]
    assert read_again[6]["error"] == "it | broke\na"
    table = write_markdown(plan, found).decode().splitlines()
    assert len(table) == 4 + 2 + len(RECORDS)  # a line each, whatever an error holds
    assert "@" not in table[4]


def test_models_of_the_best_and_of_the_front_are_kept(plan: Plan) -> None:
    assert kept(plan, RECORDS) == {2, 0, 3}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_has_one_table_drawn_in_its_place(plan: Plan) -> None:
    stream = Terminal()
    watch = Watch(plan, {0: RECORDS[0]}, 6, stream=stream)
    watch.begun(1)
    watch.reported(Said(number=1, epoch=2, seconds=1.0, values={"log_likelihood": -7.0}))
    lines = watch.table()
    assert lines[0] == "trials  1 finished, 1 running, 4 waiting"
    assert lines[1] == "best    0000  finished  log_likelihood -5, linear_probe/observed 0.2"
    assert lines[3] == "  0001  epoch 2  log_likelihood -7"
    watch.ended(RECORDS[2])
    watch.ended(RECORDS[6])
    watch.close()
    assert watch.table()[0] == "trials  2 finished, 1 failed, 1 running, 2 waiting"
    assert "best    0002" in watch.table()[1]
    drawn = stream.getvalue().split("\x1b[J")[:-1]
    for before, after in pairwise(drawn):
        assert after.startswith(f"\x1b[{before.count(chr(10))}A")  # as many lines up as there were


def test_elsewhere_each_trial_has_a_line_as_it_ends(plan: Plan) -> None:
    stream = io.StringIO()
    watch = Watch(plan, {}, 6, stream=stream)
    watch.begun(2)
    watch.ended(RECORDS[2])
    watch.ended(RECORDS[6])
    assert stream.getvalue() == (
        "0002  finished  log_likelihood -4, linear_probe/observed 0.5\n0006  failed  it | broke\\na\n"
    )
    silent = io.StringIO()
    Watch(plan, {}, 6, show=False, stream=silent).ended(RECORDS[2])
    assert silent.getvalue() == ""
