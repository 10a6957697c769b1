"""A connection to Ray: joined or started when first needed, left when the session ends.

Also how a student's weights are found on another machine, and how Ray's own errors are told.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tapir.config import RaySettings
from tapir.errors import EndpointError, MissingExtra, ModelError, RecipeError, TapirError

KNOCK_S = 10.0
"""Longest wait for the head to take a connection."""

_started: set[str] = set()
"""Holds `here` once this process has joined a cluster that nobody else in it had."""


def connect(settings: RaySettings) -> Any:
    """The `ray` module, connected; a connection that is already there is used as it is."""
    # Reports of usage would leave the machine.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise MissingExtra("executor: ray needs its extra: pip install 'tapir-distill[ray]'") from None
    module: Any = ray
    if module.is_initialized():
        return module
    # `ray job submit` names its cluster so; a second one beside it would have none of its GPUs.
    address = settings.address or os.environ.get("RAY_ADDRESS")
    options: dict[str, Any] = {"logging_level": logging.WARNING, "log_to_driver": False}
    if address is None:
        options |= {
            "address": "local",
            "include_dashboard": False,
            "object_store_memory": settings.object_store_bytes,
            # Nothing of a cluster that serves this process alone need be reached from outside.
            "_node_ip_address": "127.0.0.1",
        }
    else:
        _knock(address)
    from ray.exceptions import RayError

    try:
        module.init(**({"address": address} | options))
    except RayError as error:
        # A cluster that wants a token, say: it is there, and does not take us.
        raise EndpointError(f"Ray at {address or 'this machine'} cannot be joined ({first_cause(error)})") from error
    except (ConnectionError, ValueError, RuntimeError) as error:
        if address is None:
            raise EndpointError(f"Ray cannot start here ({first_cause(error)})") from error
        if address == "auto":
            raise EndpointError(
                "ray.address: auto, but no Ray runs on this machine; start it with `ray start --head`, or leave "
                "ray.address out for a cluster of this process alone"
            ) from error
        raise EndpointError(
            f"ray.address: no Ray cluster at {address} ({first_cause(error)}); `ray status` on its head tells more"
        ) from error
    _started.add("here")
    return module


def _knock(address: str) -> None:
    """Refuse an address where nobody listens: Ray itself goes on trying for minutes, in the log's words."""
    if address in ("auto", "local"):
        return
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdigit():
        raise RecipeError(f"ray.address: {address!r} is neither HOST:PORT of a cluster's head nor auto")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK_S).close()
    except (OSError, OverflowError) as error:
        raise EndpointError(
            f"ray.address: nobody answers at {address} ({error}); `ray status` on the cluster's head names its address"
        ) from error


def disconnect() -> None:
    """Leave the cluster, if `connect` joined or started it."""
    if "here" in _started:
        import ray

        ray.shutdown()
        _started.clear()


@contextmanager
def failures_told() -> Generator[None]:
    """Ray's own errors as one line of ours; an error of ours that a worker met keeps its words."""
    from ray.data.exceptions import ExecutionTimeoutError
    from ray.exceptions import RayError

    try:
        yield
    except (RayError, ExecutionTimeoutError, ConnectionError) as error:
        cause: Any = getattr(error, "cause", None)
        if isinstance(cause, TapirError):
            raise cause from error
        raise ModelError(f"the work on Ray failed ({first_cause(error)}); run again to go on") from error


def first_cause(error: Exception) -> str:
    """The line that says what went wrong: the first that follows the frames of a traceback, where Ray sends one."""
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    frames = next((n for n, line in enumerate(lines) if line.startswith('  File "')), None)
    if frames is None:
        return lines[0]
    return next((line for line in lines[frames:] if not line.startswith(" ")), lines[0])


def actors(ray: Any, settings: RaySettings) -> int:
    """How many engines to start: as many as the cluster holds, and not more than the recipe says."""
    fitting = engines_that_fit(ray, settings)
    if not fitting:
        raise ModelError(f"{_holding(ray)}: no node has room for one engine with {_wanted(settings)}")
    return fitting if settings.actors is None else min(settings.actors, fitting)


def require_workers(ray: Any, settings: RaySettings) -> None:
    """Refuse a training for which the cluster is too small: Ray would wait for more nodes without a word."""
    fitting = engines_that_fit(ray, settings)
    if fitting < settings.training_workers:
        raise ModelError(
            f"{_holding(ray)}: ray.training_workers {settings.training_workers} with {_wanted(settings)}; {fitting} fit"
        )


def engines_that_fit(ray: Any, settings: RaySettings) -> int:
    """Processes with the recipe's cores and GPUs that the nodes have room for; none is spread over two nodes."""
    return sum(_on_one(node["Resources"], settings) for node in ray.nodes() if node["Alive"])


def _on_one(has: Mapping[str, float], settings: RaySettings) -> int:
    rooms = [has.get("CPU", 0.0) / settings.cpus]
    if settings.gpus:
        rooms.append(has.get("GPU", 0.0) / settings.gpus)
    return int(min(rooms) + 1e-9)


def _holding(ray: Any) -> str:
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus, cpus = (sum(has.get(kind, 0.0) for has in nodes) for kind in ("GPU", "CPU"))
    return f"the Ray cluster is too small, with {gpus:g} GPUs and {cpus:g} cores on {len(nodes)} nodes"


def _wanted(settings: RaySettings) -> str:
    return f"ray.gpus {settings.gpus:g} and ray.cpus {settings.cpus:g} each; lower them or add nodes"


def here(folder: Path) -> Path:
    """A folder of weights, or of a training's job, as this node sees it."""
    if not folder.exists():
        raise ModelError(
            f"{folder} is not on the node {os.uname().nodename}; put the run (--out) and the models (TAPIR_HOME, "
            "HF_HOME) on a disk that all nodes share"
        )
    return folder


def require_everywhere(ray: Any, folder: Path, settings: RaySettings) -> None:
    """Look for the folder on every node that may hold an engine, for engines that do not look themselves."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    look = ray.remote(num_cpus=0)(here)
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"] and _on_one(node["Resources"], settings)]
    places = [NodeAffinitySchedulingStrategy(node, soft=False) for node in nodes]
    ray.get([look.options(scheduling_strategy=place).remote(folder) for place in places])
