"""A Ray cluster of two nodes on loopback, and engines that fail on purpose. Imported by the workers too."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tapir.models.calls import Reply, Request

STORE_BYTES = 80 * 2**20
PATIENCE = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # A busy machine starts Python slowly, and Ray would take that for a failure.
    "RAY_agent_register_timeout_ms": "600000",
    "RAY_worker_register_timeout_seconds": "600",
    "RAY_gcs_rpc_server_connect_timeout_s": "120",
    "RAY_gcs_server_request_timeout_seconds": "600",
    # Workers that nobody asked for cost more than they save here.
    "RAY_enable_worker_prestart": "0",
    "RAY_prestart_worker_first_driver": "0",
    # Beside the suite's other processes, workers at Ray's own niceness of 15 get next to nothing of a busy core.
    "RAY_worker_niceness": "0",
    "OMP_NUM_THREADS": "1",
}


LOOPBACK = "127.0.0.2"
"""Ray would put the machine's own address in place of 127.0.0.1."""
AGENT_PORTS = ("dashboard_agent_listen_port", "metrics_agent_port", "metrics_export_port", "runtime_env_agent_port")


def add_node(cluster: Any) -> Any:
    # Ports that are given need not be waited for: a node dies where its agents take 15 s to name theirs.
    with contextlib.ExitStack() as stack:
        taken = [stack.enter_context(socket.socket()) for _ in AGENT_PORTS]
        for one in taken:
            one.bind((LOOPBACK, 0))
        ports = {name: one.getsockname()[1] for name, one in zip(AGENT_PORTS, taken, strict=True)}
    return cluster.add_node(
        num_cpus=1,
        object_store_memory=STORE_BYTES,
        node_ip_address=LOOPBACK,
        include_dashboard=False,
        include_log_monitor=False,
        no_monitor=True,
        **ports,
    )


@contextmanager
def two_nodes() -> Generator[Any]:
    """A head and another node, with one core each for actors."""
    from ray.cluster_utils import Cluster

    before = dict(os.environ)
    os.environ.update(PATIENCE)
    # Workers import this module too.
    os.environ["PYTHONPATH"] = os.pathsep.join(p for p in (str(Path(__file__).parent), before.get("PYTHONPATH")) if p)
    cluster: Any = Cluster()
    try:
        add_node(cluster)
        add_node(cluster)
        yield cluster
    finally:
        cluster.shutdown()
        os.environ.clear()
        os.environ.update(before)


class Echo:
    """Says each prompt backwards, slowly; dies once, on its second batch, where it is told to."""

    identity, batch_size = "echo", 4

    def __init__(self, dies_once: Path | None = None, pause_s: float = 0.05) -> None:
        self._dies_once, self._pause_s, self._batches = dies_once, pause_s, 0

    def generate(self, batch: Sequence[Request]) -> list[Reply]:
        self._batches += 1
        time.sleep(self._pause_s)
        if self._dies_once is not None and self._batches == 2:
            try:
                self._dies_once.touch(exist_ok=False)
                os.kill(os.getpid(), signal.SIGKILL)
            except FileExistsError:
                pass
        return [Reply(text=request.messages[-1].content[::-1], completion_tokens=1) for request in batch]

    def close(self) -> None: ...
