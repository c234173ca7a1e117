"""A sweep on Ray Tune: on this machine, or on a cluster. What it needs is checked before a trial starts."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mvcore.errors import ConfigError
from mvcore.plugins.registry import Registry
from mvcore.runs.run import RunData
from mvcore.sweeps.combinations import combinations
from mvcore.sweeps.config import Plan
from mvcore.sweeps.packing import pack
from mvcore.sweeps.schedulers import forkable, scheduler_of
from mvcore.sweeps.search import Book
from mvcore.sweeps.store import FolderStore, Store, store_of
from mvcore.sweeps.tuning import HandsOut, KeepsBook, all_at_once, called, train
from mvcore.sweeps.versions import version_faults, versions
from mvcore.sweeps.watch import Watch

#: Ray's own output, folders and writings, which a sweep has its own in the place of.
_QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_WARN_THRESHOLD_S": "3600",
}


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
    with _quiet(), _connected(plan):
        _check_resources(plan)
        several = len(_nodes()) > 1
        if several:
            _check_nodes(book.store)
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


@contextmanager
def _quiet() -> Iterator[None]:
    """Inside, Ray's own output is off."""
    before = {name: os.environ.get(name) for name in _QUIET}
    os.environ |= _QUIET
    loggers = [logging.getLogger(name) for name in ("ray", "ray.tune", "ray.train", "ray.data")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _connected(plan: Plan) -> Iterator[None]:
    """Inside, Ray is there: the one that the caller is connected to, or one for this sweep."""
    if ray.is_initialized():
        yield
        return
    address = plan.sweep.address
    _check_address(address)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == "local":
        options["include_dashboard"] = False
    try:
        ray.init(address=address, **options)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        raise _unreachable(address, _first_line(error)) from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_address(address: str) -> None:
    """Asks whether anyone listens at ``host:port``: where nobody does, Ray ends the process."""
    host, colon, port = address.rpartition("//")[2].rpartition(":")
    if address in ("local", "auto"):
        return
    if not colon or not port.isdecimal():
        raise ConfigError([f"address: expected 'local', 'auto', 'here' or 'host:port', got {address!r}"], "sweep")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, OverflowError) as error:
        raise _unreachable(address, _first_line(error)) from error


def _unreachable(address: str, why: str) -> ConfigError:
    hint = "`ray start --head` starts one; address = 'local' needs none"
    return ConfigError([f"address: no Ray cluster can be reached at {address!r}: {why}. {hint}"], "sweep")


def _check_resources(plan: Plan) -> None:
    """Refuses a trial that would wait for ever."""
    have, each = _ray().cluster_resources(), plan.sweep.resources
    faults = []
    for name, kind, wanted in (("cpu", "CPU", each.cpu), ("gpu", "GPU", each.gpu)):
        nodes = [node["Resources"].get(kind, 0.0) for node in _nodes()]
        total = have.get(kind, 0.0)
        if wanted > max(nodes, default=0.0) or wanted * each.workers > total:
            told = f"{wanted:g} for each of {each.workers} workers" if each.workers > 1 else f"{wanted:g}"
            faults.append(f"resources.{name}: a trial asks for {told}, and Ray has {total:g} on {len(nodes)} machines")
    if faults:
        raise ConfigError(faults, "sweep")


def _nodes() -> list[Any]:
    return [node for node in _ray().nodes() if node["Alive"]]


def _ray() -> Any:
    """Ray, of which these functions have no types."""
    return ray


def _check_nodes(store: Store) -> None:
    """Asks every machine whether it sees the storage and has the same plugins."""
    token, name = uuid.uuid4().hex, ".seen-by-all"
    store.write(name, token.encode())
    try:
        asked = {node["NodeManagerHostname"]: _asked_on(node["NodeID"], store.address, name) for node in _nodes()}
        found = {host: ray.get(reference) for host, reference in asked.items()}
    finally:
        with suppress(OSError):
            store.remove(name)
    faults = [
        f"storage: the machine {host!r} does not see {store.address!r}; name a folder that all share, or a bucket"
        for host, (seen, _) in found.items()
        if seen != token
    ]
    for host, (_, theirs) in found.items():
        faults += [f"plugins: {fault}" for fault in version_faults(versions(), theirs, f"the machine {host!r}")]
    if faults:
        raise ConfigError(faults, "sweep")


def _asked_on(node: str, address: str, name: str) -> Any:
    strategy = NodeAffinitySchedulingStrategy(node_id=node, soft=False)
    return ray.remote(_seen).options(num_cpus=0, scheduling_strategy=strategy).remote(address, name)


def _seen(address: str, name: str) -> tuple[str | None, dict[str, str]]:
    """What a machine reads in the storage, and its plugins."""
    content = store_of(address).read(name)
    return None if content is None else content.decode(), versions()


def _first_line(error: BaseException) -> str:
    return next((line.strip().rstrip(".") for line in str(error).splitlines() if line.strip()), type(error).__name__)
