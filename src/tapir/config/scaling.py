"""Where a run's batch work goes when it leaves this process."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tapir.config.part import Part, Positive


class RaySettings(Part):
    """A Ray cluster, and what one engine takes of it (`executor: ray`). Nothing here changes a row."""

    address: str | None = None
    """`HOST:PORT` of a running cluster's head, or `auto` on one of its nodes; by default that of RAY_ADDRESS, which
    Ray's jobs have, or else one is started here."""
    actors: Positive | None = None
    """At most so many engines at work at once; by default as many as fit on the cluster's nodes."""
    cpus: Annotated[float, Field(gt=0)] = 1
    """Cores reserved for each, and threads it computes with."""
    gpus: Annotated[float, Field(ge=0)] = 0
    """GPUs reserved for each; above 0, `engine: auto` is vLLM where installed."""
    training_workers: Positive = 1
    """Processes that train together (`train.launcher: ray`)."""
    object_store_bytes: Annotated[int, Field(ge=78_643_200)] | None = None
    """Shared memory of a cluster that is started here; by default Ray's 30 % of the machine."""
    retries: Annotated[int, Field(ge=0)] = 3
    """Times that a training is started again after a worker or node is lost; batch work always is."""
