"""What Ray Train's workers are told, without a cluster."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest

from tapir.config import RaySettings, Train
from tapir.errors import ModelError, RecipeError
from tapir.executors import training
from tapir.training.launch import child_error

GPUS = RaySettings(gpus=1, training_workers=64)
RAYS = {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "64", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "20001",
        "ACCELERATE_TORCH_DEVICE": "cuda:1"}  # fmt: skip
"""What Ray has said in a worker before our function begins."""


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Generator[dict[str, str]]:
    """A worker's environment as `main` finds it."""
    found: dict[str, str] = {}
    before = dict(os.environ)
    monkeypatch.setattr(training, "main", lambda folder: found.update(os.environ))
    yield found
    os.environ.clear()
    os.environ.update(before)


def _told(name: str | None, ray: RaySettings = GPUS) -> dict[str, str]:
    return training.environment(Train(launcher="ray", accelerate_config=name), ray)


def _work(told: dict[str, str], folder: Path, *, gpus: bool = True) -> None:
    os.environ.update(RAYS)
    training._work({"folder": str(folder), "student": str(folder), "gpus": gpus, "environment": told})


def test_workers_shard_as_the_recipes_accelerate_config_says(worker: dict[str, str], tmp_path: Path):
    _work(_told("fsdp"), tmp_path)
    assert {name: worker[name] for name in ("ACCELERATE_USE_FSDP", "ACCELERATE_MIXED_PRECISION", "FSDP_VERSION",
            "FSDP_AUTO_WRAP_POLICY", "FSDP_STATE_DICT_TYPE", "FSDP_CPU_RAM_EFFICIENT_LOADING")} == {
        "ACCELERATE_USE_FSDP": "true", "ACCELERATE_MIXED_PRECISION": "bf16", "FSDP_VERSION": "2",
        "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP", "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
        "FSDP_CPU_RAM_EFFICIENT_LOADING": "true",
    }  # fmt: skip
    assert {name: worker[name] for name in RAYS} == RAYS


def test_the_config_says_nothing_of_ranks_ports_or_devices():
    told = _told("fsdp")
    assert told
    assert not [name for name in told if not name.startswith(("ACCELERATE_", "FSDP_"))]
    assert not {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "ACCELERATE_TORCH_DEVICE"} & set(told)


def test_what_the_driver_has_already_reaches_the_workers_but_for_its_device(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FSDP_VERSION", "2")  # as the config says
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")  # a head without a GPU
    told = _told("fsdp")
    assert told["FSDP_VERSION"] == "2"
    assert "ACCELERATE_USE_CPU" not in told


def test_without_a_config_workers_are_told_nothing(worker: dict[str, str], tmp_path: Path):
    assert _told(None) == {}
    _work({}, tmp_path, gpus=False)
    assert worker["ACCELERATE_USE_CPU"] == "true"
    assert "ACCELERATE_USE_FSDP" not in worker


def test_a_student_that_a_node_lacks_is_the_error_of_the_training(tmp_path: Path):
    with pytest.raises(ModelError, match="no-such-disk is not on the node"):
        training._work({"folder": str(tmp_path), "student": "/no-such-disk", "gpus": True, "environment": {}})
    assert "/no-such-disk is not on the node" in str(child_error(tmp_path, 1))


def test_a_job_that_a_node_lacks_says_where_to_put_the_run():
    with pytest.raises(ModelError, match=r"no-such-disk/.job is not on the node .*; put the run \(--out\) and"):
        training._work({"folder": "/no-such-disk/.job", "student": "/", "gpus": True, "environment": {}})


def test_whole_weights_can_be_gathered_from_their_shards():
    # accelerate opens both itself where nobody has joined the processes before it; on Ray somebody has.
    assert training._backend(True, _told("fsdp")) == "cuda:nccl,cpu:gloo"
    assert (training._backend(True, {}), training._backend(False, {})) == ("nccl", "gloo")


def test_a_deepspeed_config_is_refused_by_whatever_name(tmp_path: Path):
    path = tmp_path / "zero.yaml"
    path.write_text("compute_environment: LOCAL_MACHINE\ndistributed_type: DEEPSPEED\nnum_processes: 8\n"
                    "num_machines: 1\ndeepspeed_config: {zero_stage: 3}\n")  # fmt: skip
    for name in ("deepspeed", str(path)):
        with pytest.raises(RecipeError, match="is for DeepSpeed, which does not train on Ray; take fsdp"):
            _told(name)


def test_a_config_for_several_machines_is_taken_whatever_uses_its_port(tmp_path: Path):
    path = tmp_path / "many.yaml"
    path.write_text("compute_environment: LOCAL_MACHINE\ndistributed_type: FSDP\nnum_processes: 64\nnum_machines: 8\n"
                    "machine_rank: 0\nfsdp_config: {fsdp_version: 2}\n")  # fmt: skip
    import socket

    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", 29500))
        taken.listen()
        assert _told(str(path))["ACCELERATE_USE_FSDP"] == "true"


def test_sharding_without_gpus_is_refused_rather_than_left_out():
    with pytest.raises(RecipeError, match=r"shards over GPUs only; set ray\.gpus: 1"):
        _told("fsdp", RaySettings(training_workers=2))
