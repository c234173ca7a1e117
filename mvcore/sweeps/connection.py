"""Ray for a sweep: joined or started, its own output off, and asked whether it has what a trial needs."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mvcore.errors import ConfigError
from mvcore.sweeps.config import Plan
from mvcore.sweeps.store import Store, store_of
from mvcore.sweeps.versions import version_faults, versions

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


@contextmanager
def quiet() -> Iterator[None]:
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
def handlers_kept() -> Iterator[None]:
    """Puts the handlers of signals back in the end: Ray leaves its own, and a later Ctrl-C would be lost."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    names = [name for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)]
    before = {name: signal.getsignal(getattr(signal, name)) for name in names}
    try:
        yield
    finally:
        for name, handler in before.items():
            if handler is not None:  # of one that is not Python's nothing is known
                signal.signal(getattr(signal, name), handler)


@contextmanager
def connected(plan: Plan) -> Iterator[None]:
    """Inside, Ray is there: the one that the caller is connected to, or one for this sweep."""
    if ray.is_initialized():
        yield
        return
    address = plan.sweep.address
    check_address(address)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == "local":
        options["include_dashboard"] = False
    try:
        with handlers_kept():
            ray.init(address=address, **options)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        raise _unreachable(address, _first_line(error)) from error
    try:
        yield
    finally:
        ray.shutdown()


def check_address(address: str) -> None:
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


def check_resources(plan: Plan) -> None:
    """Refuses a trial that would wait for ever."""
    have, each = _ray().cluster_resources(), plan.sweep.resources
    faults = []
    for name, kind, wanted in (("cpu", "CPU", each.cpu), ("gpu", "GPU", each.gpu)):
        each_has = [node["Resources"].get(kind, 0.0) for node in nodes()]
        total = have.get(kind, 0.0)
        if wanted > max(each_has, default=0.0) or wanted * each.workers > total:
            told = f"{wanted:g} for each of {each.workers} workers" if each.workers > 1 else f"{wanted:g}"
            faults.append(
                f"resources.{name}: a trial asks for {told}, and Ray has {total:g} on {len(each_has)} machines"
            )
    if faults:
        raise ConfigError(faults, "sweep")


def nodes() -> list[Any]:
    """The machines that are there, as Ray describes them."""
    return [node for node in _ray().nodes() if node["Alive"]]


def _ray() -> Any:
    """Ray, of which these functions have no types."""
    return ray


def check_nodes(store: Store) -> None:
    """Asks every machine whether it sees the storage and has the same plugins."""
    token, name = uuid.uuid4().hex, ".seen-by-all"
    store.write(name, token.encode())
    try:
        asked = {node["NodeManagerHostname"]: _asked_on(node["NodeID"], store.address, name) for node in nodes()}
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
