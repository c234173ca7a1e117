"""A trial in a process of Ray: alone, or with others that divide each batch among them."""

from __future__ import annotations

import os
import queue
import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import ray
import torch
from ray.util import get_current_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from mvcore.sweeps.config import Plan, plan_of
from mvcore.sweeps.packing import unpack
from mvcore.sweeps.records import Said
from mvcore.sweeps.space import Answers
from mvcore.sweeps.store import store_of
from mvcore.sweeps.trial import Report, trial


def train_here(
    plan: Plan, shared: Mapping[str, Any], number: int, answers: Answers, report: Report, restore: Path | None
) -> None:
    """Trains a trial in this process, with as many threads as it has CPUs."""
    torch.set_num_threads(max(1, int(plan.sweep.resources.cpu)))
    trial(plan, store_of(shared["storage"]), number, answers, unpack(shared["rows"]), report, restore)


def train_together(
    plan: Plan, shared: Mapping[str, Any], number: int, answers: Answers, report: Report, restore: Path | None
) -> None:
    """Trains a trial in several processes of the placement group, joined by torch.distributed; the first one reports.

    The death of one ends the others, and the trial with them: it goes on from its checkpoint.
    """
    rows, ranks = ray.put(shared["rows"]), _started(plan)
    try:
        ray.get([rank.join.remote() for rank in ranks])
        address, port = ray.get(ranks[0].address.remote())
        about = {"tables": shared["tables"], "storage": shared["storage"], "number": number, "answers": answers}
        running = [rank.run.remote(about, rows, i, len(ranks), address, port) for i, rank in enumerate(ranks)]
        _listen(ranks[0], running, report)
    finally:
        for rank in ranks:
            ray.kill(rank)


def _started(plan: Plan) -> list[Any]:
    group, each = get_current_placement_group(), plan.sweep.resources
    assert group is not None
    maker = ray.remote(_Rank).options
    return [
        maker(
            num_cpus=each.cpu, num_gpus=each.gpu, max_concurrency=4,
            scheduling_strategy=PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=i),
        ).remote()
        for i in range(each.workers)
    ]  # fmt: skip


def _listen(first: Any, running: list[Any], report: Report) -> None:
    """Hands on what the first process says until all have ended; the error of one is raised."""
    heard, left = first.heard.remote(), list(running)
    while left:
        ready, _ = ray.wait([heard, *left], num_returns=1)
        if heard in ready:
            said = ray.get(heard)
            if said is not None:
                report(Said(**said), None)
                first.go_on.remote()
                heard = first.heard.remote()
                continue
        for reference in [reference for reference in left if reference in ready]:
            ray.get(reference)
            left.remove(reference)
        if heard in ready:  # the first process has ended
            ray.get(left)
            return


@final
class _Rank:
    """One of the processes of a trial."""

    def __init__(self) -> None:
        self._said: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._free = threading.Event()

    def join(self) -> None:
        """Returns once the process is there."""

    def address(self) -> tuple[str, int]:
        """Where the others find this one."""
        with socket.socket() as found:
            found.bind(("", 0))
            where: Any = ray.util
            return str(where.get_node_ip_address()), int(found.getsockname()[1])

    def run(self, about: Mapping[str, Any], rows: Any, rank: int, ranks: int, address: str, port: int) -> None:
        """Trains its share of each batch."""
        # a process sees its own GPU alone, so that each is the first on its machine
        os.environ |= {
            "RANK": str(rank), "WORLD_SIZE": str(ranks), "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1",
            "MASTER_ADDR": address, "MASTER_PORT": str(port),
        }  # fmt: skip
        plan = plan_of(about["tables"])
        torch.set_num_threads(max(1, int(plan.sweep.resources.cpu)))
        try:
            trial(plan, store_of(about["storage"]), about["number"], about["answers"], unpack(rows), self._report)
        finally:
            self._said.put(None)

    def heard(self) -> dict[str, Any] | None:
        """What it says next; None when it has ended."""
        return self._said.get()

    def go_on(self) -> None:
        """Lets it go on after what it said."""
        self._free.set()

    def _report(self, said: Said, checkpoint: Path | None) -> None:
        from attrs import asdict

        if os.environ["RANK"] != "0":
            return
        self._free.clear()
        self._said.put(asdict(said))
        self._free.wait()
