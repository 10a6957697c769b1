"""What a user sees where the cluster is not there, or is too small: one line that says what to do."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Generator
from typing import Any

import pytest

from tapir.config import RaySettings
from tapir.errors import EndpointError, ModelError, RecipeError
from tapir.executors.cluster import actors, connect, disconnect, require_workers

pytest.importorskip("ray", reason="needs the extra ray: pip install -e '.[ray]'")
pytestmark = [
    pytest.mark.ray,
    pytest.mark.xdist_group("ray"),
    # Ray's own, not ours to mend.
    pytest.mark.filterwarnings("default"),
]


class Cluster:
    """A cluster by its nodes' resources."""

    def __init__(self, *nodes: dict[str, float], lost: tuple[dict[str, float], ...] = ()) -> None:
        self._nodes = [(n, True) for n in nodes] + [(n, False) for n in lost]

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Resources": resources, "Alive": alive} for resources, alive in self._nodes]


GPU_NODE = {"CPU": 16.0, "GPU": 8.0}


@pytest.mark.parametrize(
    ("cluster", "settings", "expected"),
    [
        (Cluster({"CPU": 4.0}), RaySettings(), 4),
        # Three cores hold one engine of two; six on two nodes are not three engines.
        (Cluster({"CPU": 3.0}, {"CPU": 3.0}), RaySettings(cpus=2), 2),
        (Cluster({"CPU": 0.0}, GPU_NODE), RaySettings(gpus=1), 8),
        # Cores run out before GPUs do.
        (Cluster(GPU_NODE), RaySettings(gpus=1, cpus=4), 4),
        (Cluster({"CPU": 1.0}), RaySettings(cpus=0.1), 10),
        (Cluster({"CPU": 2.0}, lost=({"CPU": 8.0},)), RaySettings(), 2),
        # More than fit are never there; the work is done by those that are.
        (Cluster({"CPU": 2.0}), RaySettings(actors=8), 2),
        (Cluster({"CPU": 8.0}), RaySettings(actors=3), 3),
    ],
)
def test_as_many_engines_as_the_nodes_hold(cluster: Cluster, settings: RaySettings, expected: int) -> None:
    assert actors(cluster, settings) == expected


def test_a_cluster_without_room_for_one_engine_is_an_error_with_both_numbers() -> None:
    with pytest.raises(ModelError) as caught:
        actors(Cluster({"CPU": 2.0}, {"CPU": 2.0}), RaySettings(gpus=1, cpus=4))
    assert str(caught.value) == (
        "the Ray cluster is too small, with 0 GPUs and 4 cores on 2 nodes: no node has room for one engine with "
        "ray.gpus 1 and ray.cpus 4 each; lower them or add nodes"
    )


def test_a_training_that_would_wait_for_ever_is_refused() -> None:
    cluster = Cluster(GPU_NODE, GPU_NODE)
    require_workers(cluster, RaySettings(gpus=1, training_workers=16))
    with pytest.raises(ModelError, match=r"16 GPUs and 32 cores on 2 nodes: ray\.training_workers 64 .*; 16 fit"):
        require_workers(cluster, RaySettings(gpus=1, training_workers=64))


def test_an_address_where_nobody_listens_is_an_error_at_once() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(EndpointError, match=f"ray.address: nobody answers at {address}"):
            connect(RaySettings(address=address))
    assert time.monotonic() - began < 30  # Ray itself takes minutes, and says so in its own log alone


@pytest.mark.parametrize("address", ["nonsense", "head:", ":6379", "ray://head:10001", "http://head:8265"])
def test_an_address_that_is_none_says_how_to_write_one(address: str) -> None:
    with pytest.raises(RecipeError, match="is neither HOST:PORT of a cluster's head nor auto"):
        connect(RaySettings(address=address))


def test_a_jobs_own_cluster_is_joined_rather_than_another_started(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(EndpointError, match=address):
            connect(RaySettings())


@pytest.fixture
def environment() -> Generator[None]:
    before = dict(os.environ)
    yield
    disconnect()
    os.environ.clear()
    os.environ.update(before)


def test_auto_where_no_cluster_runs_is_one_line(environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(EndpointError, match=r"auto, but no Ray runs on this machine; start it with `ray start --head`"):
        connect(RaySettings(address="auto"))
