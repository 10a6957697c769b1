"""What a user sees where the cluster is not there, or is too small: one line that says what to do."""

from __future__ import annotations

import importlib.util
import os
import socket
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from tiny import build_tiny_model, build_tiny_tokenizer

from tapir.config import Model, RaySettings
from tapir.errors import DataError, EndpointError, MissingExtra, ModelError, RecipeError
from tapir.executors import generation, vllm
from tapir.executors.cluster import actors, connect, disconnect, first_cause, require_workers
from tapir.models.calls import Request, Sampling
from tapir.types import Message

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

    def put(self, value: Any) -> Any:
        return value


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


@pytest.mark.parametrize("address", [None, "auto"])
def test_a_cluster_that_wants_a_token_is_one_line(
    environment: None, monkeypatch: pytest.MonkeyPatch, address: str | None
) -> None:
    import ray
    from ray.exceptions import AuthenticationError

    def refuse(**_: Any) -> None:
        raise AuthenticationError("Token authentication is enabled but no authentication token was found")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(EndpointError, match=r"cannot be joined .*no authentication token was found") as caught:
        connect(RaySettings(address=address))
    assert "\n" not in str(caught.value)


ON_A_WORKER = """\x1b[36mray::MapWorker(MapBatches(_Answering)).submit()\x1b[39m (pid=5751, ip=192.0.2.2)
  File "/site-packages/tapir/executors/generation.py", line 126, in done
    return self._engine.generate(work)
           ^^^^^^^^^^^^^^^^^^^^^^^^^^^
RuntimeError: CUDA out of memory.
Tried to allocate 2 GiB

The above exception was the direct cause of the following exception:

ray.exceptions.UserCodeException: UDF failed to process a data block."""


def test_of_rays_long_account_the_cause_is_told() -> None:
    assert first_cause(Exception(ON_A_WORKER)) == "RuntimeError: CUDA out of memory."
    assert first_cause(Exception("The actor died.\n\tclass_name: X\nIt never ran.")) == "The actor died."
    assert first_cause(ConnectionError()) == "ConnectionError"


def _failing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Work that fails on a cluster which is not there."""
    import ray.data

    def fail(blocks: Any) -> None:
        raise error

    monkeypatch.setattr(generation, "connect", lambda settings: Cluster({"CPU": 2.0}))
    monkeypatch.setattr(ray.data, "from_arrow_refs", fail)


def _answering() -> generation.RayBatches:
    return generation.RayBatches(lambda: None, RaySettings(), identity="x", batch_size=4)  # type: ignore[arg-type]


ASKED = [Request((Message("user", "a"),), Sampling(max_tokens=8))]


def _lost() -> list[Exception]:
    from ray.data.exceptions import ExecutionTimeoutError
    from ray.exceptions import RayActorError, RayTaskError

    task = RayTaskError("submit", ON_A_WORKER, RuntimeError("CUDA out of memory."))
    return [RayActorError(error_msg="The actor died"), task, ConnectionError("GCS is gone"), ExecutionTimeoutError("x")]


@pytest.mark.parametrize("number", range(4))
def test_a_lost_cluster_or_worker_is_one_line(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    _failing(monkeypatch, _lost()[number])
    with pytest.raises(ModelError, match=r"the work on Ray failed \(.*\); run again to go on") as caught:
        _answering().generate(ASKED)
    assert "\n" not in str(caught.value)


def test_a_cluster_lost_under_vllm_is_one_line_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def lost(*_: Any) -> None:
        raise _lost()[0]

    build_tiny_tokenizer(tmp_path)
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 64}')
    monkeypatch.setattr(vllm.RayVllm, "_answered", lost)
    with pytest.raises(ModelError, match="the work on Ray failed"):
        vllm.RayVllm(tmp_path, Model(kind="local"), RaySettings(gpus=1), identity="x").generate(ASKED)


def test_what_a_worker_refused_in_our_words_keeps_them(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.exceptions import RayTaskError

    mine = DataError("t.parquet: no such table; run `tapir run` first")
    _failing(monkeypatch, RayTaskError("submit", "a\nb", mine).as_instanceof_cause())
    with pytest.raises(DataError) as caught:
        _answering().generate(ASKED)
    assert str(caught.value) == str(mine)


def test_gpus_without_vllm_are_used_by_what_is_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    student = build_tiny_model(tmp_path / "student")
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "vllm" else found(name))
    model = Model(kind="local", model=str(student))
    opened = generation.open_on_ray(model, student, RaySettings(gpus=1))
    assert isinstance(opened, generation.RayBatches)
    assert " transformers " in opened.identity
    with pytest.raises(MissingExtra, match="engine vllm is not installed"):
        generation.open_on_ray(model.model_copy(update={"engine": "vllm"}), student, RaySettings(gpus=1))


def test_workers_without_gpus_do_not_get_the_drivers_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import torch

    student = build_tiny_model(tmp_path / "student")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(generation, "converted", lambda folder: folder)
    opened = generation.open_on_ray(Model(kind="local", model=str(student)), student, RaySettings())
    assert " ctranslate2 " in opened.identity
