"""A sweep on Ray Tune: on this machine, or on a cluster. What it needs is checked before a trial starts."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ray import tune

from mvcore.errors import ConfigError
from mvcore.plugins.registry import Registry
from mvcore.runs.run import RunData
from mvcore.sweeps.combinations import combinations
from mvcore.sweeps.config import Plan
from mvcore.sweeps.connection import check_nodes, check_resources, connected, handlers_kept, nodes, quiet
from mvcore.sweeps.packing import pack
from mvcore.sweeps.schedulers import forkable, scheduler_of
from mvcore.sweeps.search import Book
from mvcore.sweeps.store import FolderStore, Store
from mvcore.sweeps.tuning import HandsOut, KeepsBook, all_at_once, called, train
from mvcore.sweeps.versions import versions
from mvcore.sweeps.watch import Watch


def run_on_ray(book: Book, rows: RunData, watch: Watch) -> None:
    """Trains every trial that is left.

    Raises:
        ConfigError: If a cluster can't be reached, has not the resources of a trial, or a machine of it has other
            plugins or does not see the storage; or if a scheduler has nothing to change.
        KeyboardInterrupt: After Ctrl-C; the sweep goes on from the checkpoints of its trials.
    """
    plan = book.plan
    if plan.sweep.scheduler == "pbt" and not any(forkable(plan, answers) for answers in combinations(plan)):
        raise ConfigError(
            ["scheduler: 'pbt' changes learning rate, weight decay, clip_norm and loss weights; the space has none"],
            "sweep",
        )
    with quiet(), handlers_kept(), connected(plan):
        check_resources(plan)
        several = len(nodes()) > 1
        if several:
            check_nodes(book.store)
        _tune(book, rows, watch, versions() if several else None)
    if book.left:
        raise KeyboardInterrupt("The sweep was interrupted; the same call goes on.")


def _tune(book: Book, rows: RunData, watch: Watch, expected: Mapping[str, str] | None) -> None:
    plan, each = book.plan, book.plan.sweep.resources
    shared = {"tables": dict(plan.plain), "storage": book.store.address, "rows": pack(rows), "versions": expected}
    trainable = tune.with_resources(tune.with_parameters(train, shared=shared), _bundles(plan))
    scheduler = scheduler_of(plan, _epochs(plan), book.records)
    together = plan.sweep.scheduler == "pbt"
    with _tunes_folder(book.store) as folder:
        tuner = tune.Tuner(
            trainable,
            param_space=all_at_once(book) if together else {},
            tune_config=tune.TuneConfig(
                search_alg=None if together else HandsOut(book), scheduler=scheduler,
                num_samples=1 if together else book.left, max_concurrent_trials=plan.sweep.concurrent,
                reuse_actors=each.workers == 1, trial_name_creator=called, trial_dirname_creator=called,
            ),
            run_config=tune.RunConfig(
                name="tune", storage_path=folder, verbose=0, callbacks=[KeepsBook(book, watch)],
                failure_config=tune.FailureConfig(max_failures=plan.sweep.retries),
                # the scheduler may want one that is not the newest
                checkpoint_config=tune.CheckpointConfig(num_to_keep=4 if plan.sweep.scheduler == "pbt" else None),
            ),
        )  # fmt: skip
        tuner.fit()


def _bundles(plan: Plan) -> Any:
    each = plan.sweep.resources
    one = {"CPU": each.cpu, "GPU": each.gpu}
    return tune.PlacementGroupFactory([one] if each.workers == 1 else [{}, *([one] * each.workers)])


def _epochs(plan: Plan) -> int:
    """The most epochs that a trial may have."""
    registry, most = Registry.installed(), 1
    for answers in combinations(plan):
        tables = plan.tables(answers, ())
        recipe = registry.spec("model", tables["model"]["use"]).config().recipe()  # type: ignore[attr-defined]
        most = max(most, tables["training"].get("epochs", recipe.epochs))
    return most


@contextmanager
def _tunes_folder(store: Store) -> Iterator[str]:
    """Where Tune keeps its state while it runs: beside the trials, where every machine sees it."""
    if not isinstance(store, FolderStore):
        address = f"{store.address}/.tune"
        yield address
        store.remove(".tune")
        return
    store.root.mkdir(parents=True, exist_ok=True)
    for left in store.root.glob(".tune-*"):  # a driver was killed
        shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=".tune-", dir=store.root))
    try:
        yield str(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
