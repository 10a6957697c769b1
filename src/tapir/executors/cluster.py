"""A connection to Ray: joined or started when first needed, left when the session ends.

Also how a student's weights are found on another machine.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from tapir.config import RaySettings
from tapir.errors import EndpointError, MissingExtra, ModelError

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
    options: dict[str, Any] = {"logging_level": logging.WARNING, "log_to_driver": False}
    if settings.address is None:
        options |= {
            "address": "local",
            "include_dashboard": False,
            "object_store_memory": settings.object_store_bytes,
            # Nothing of a cluster that serves this process alone need be reached from outside.
            "_node_ip_address": "127.0.0.1",
        }
    try:
        module.init(**({"address": settings.address} | options))
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise EndpointError(
            f"ray.address: no Ray cluster at {settings.address or 'this machine'} ({error}); `ray status` on its head "
            "tells more"
        ) from error
    _started.add("here")
    return module


def disconnect() -> None:
    """Leave the cluster, if `connect` joined or started it."""
    if "here" in _started:
        import ray

        ray.shutdown()
        _started.clear()


def actors(ray: Any, settings: RaySettings) -> int:
    """How many engines to start: as the recipe says, else what the cluster holds."""
    if settings.actors is not None:
        return settings.actors
    has: dict[str, float] = ray.cluster_resources()
    fitting = has.get("GPU", 0) / settings.gpus if settings.gpus else has.get("CPU", 1) / settings.cpus
    if fitting < 1:
        raise ModelError(
            f"the Ray cluster has {has.get('GPU', 0):g} GPUs and {has.get('CPU', 0):g} cores, too few for one engine "
            f"with ray.gpus {settings.gpus:g} and ray.cpus {settings.cpus:g}; lower them or add a node"
        )
    return int(fitting)


def weights_here(folder: Path) -> Path:
    """The student's folder as this node sees it."""
    if not folder.exists():
        raise ModelError(
            f"{folder}: these weights are not on the node {os.uname().nodename}; put the run and the pulled models on "
            "a disk that all nodes share"
        )
    return folder
