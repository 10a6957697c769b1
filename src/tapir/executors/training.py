"""A round trained by Ray Train: workers on any nodes run the same `train_round` as `accelerate`'s children do.

Ray starts and joins the processes; how they share the work (DDP, or FSDP by `train.accelerate_config`) they are told by
the same environment that accelerate's launcher would give them.

The job folder and the student's folder must be on a disk that all nodes share, as for any training on several
machines. A worker or node that is lost starts the round again from its last whole checkpoint.
"""

from __future__ import annotations

import os
import threading
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from tapir.config import RaySettings, Train
from tapir.errors import ModelError, RecipeError
from tapir.executors.cluster import connect, first_cause, here, require_workers
from tapir.training.launch import Job, child_error, error_left, follow, launchers_environment, main
from tapir.training.result import Progress, read_log

SHARING = ("ACCELERATE_", "FSDP_", "MEGATRON_LM_", "PARALLELISM_CONFIG_")
"""How the names begin by which accelerate is told how processes share the work. Ranks and ports are none of them."""
PLACES = frozenset({"ACCELERATE_TORCH_DEVICE", "ACCELERATE_USE_CPU"})
"""Which device a worker has is for Ray to say: the driver's may be another one."""


def environment(settings: Train, ray: RaySettings) -> dict[str, str]:
    """How the workers share the work, in accelerate's words; refuses a config that cannot be had on Ray."""
    made = launchers_environment(settings, Path("job"))
    told = {name: value for name, value in made.items() if name.startswith(SHARING) and name not in PLACES}
    if told.get("ACCELERATE_USE_DEEPSPEED") == "true":
        raise RecipeError(
            f"train.accelerate_config: {settings.accelerate_config} is for DeepSpeed, which does not train on Ray; "
            "take fsdp, or train.launcher: accelerate"
        )
    if _sharded(told) and not ray.gpus:
        # accelerate would not say a word, and give every process the whole model.
        raise RecipeError(
            f"train.accelerate_config: {settings.accelerate_config} shards over GPUs only; set ray.gpus: 1, or leave "
            "accelerate_config out"
        )
    return told


def _sharded(told: dict[str, str]) -> bool:
    return told.get("ACCELERATE_USE_FSDP") == "true"


def run(job: Job, folder: Path, settings: RaySettings, progress: Progress | None) -> None:
    """Train the job, which lies in `folder`; its log is followed here."""
    told = environment(job.settings, settings)
    require_workers(connect(settings), settings)
    from ray import train as ray_train
    from ray.train.torch import TorchConfig, TorchTrainer

    gpus = settings.gpus > 0
    resources = {"CPU": settings.cpus} | ({"GPU": settings.gpus} if gpus else {})
    trainer: Any = TorchTrainer(
        _work,
        train_loop_config={
            "folder": str(folder.resolve()),
            "student": str(job.student.resolve()),
            "gpus": gpus,
            "environment": told,
        },
        torch_config=TorchConfig(backend=_backend(gpus, told)),
        scaling_config=ray_train.ScalingConfig(
            num_workers=settings.training_workers, use_gpu=gpus, resources_per_worker=resources
        ),
        # Our own checkpoints are what a failed round goes on from; Ray's account of the run goes beside the job.
        run_config=ray_train.RunConfig(
            name="ray",
            storage_path=str(folder.resolve()),
            failure_config=ray_train.FailureConfig(max_failures=settings.retries),
        ),
    )
    with _Following(job.log, progress):
        try:
            trainer.fit()
        except Exception as error:
            if (folder / "error.json").exists():
                raise child_error(folder, 1) from error
            raise ModelError(
                f"training on Ray failed ({first_cause(error)}); start the same command again to go on from "
                "the last whole checkpoint"
            ) from error


def _backend(gpus: bool, told: dict[str, str]) -> str:
    """What the processes speak. Sharded weights are gathered for saving through the CPU, which NCCL does not reach."""
    if not gpus:
        return "gloo"
    return "cuda:nccl,cpu:gloo" if _sharded(told) else "nccl"


def _work(config: dict[str, Any]) -> None:
    """What every worker runs. Ray has joined the processes already; accelerate finds them so."""
    os.environ.update(config["environment"])
    if not config["gpus"]:
        os.environ["ACCELERATE_USE_CPU"] = "true"
    folder = here(Path(config["folder"]))
    with error_left(folder):
        here(Path(config["student"]))
    main(folder)


class _Following(AbstractContextManager["_Following"]):
    """Tells of a log's new steps while Ray holds this thread."""

    def __init__(self, log: Path, progress: Progress | None) -> None:
        self._stop = threading.Event()
        self._log, self._progress, self._shown = log, progress, len(read_log(log))
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.wait(1.0):
            self._shown = follow(self._log, self._shown, self._progress)
        follow(self._log, self._shown, self._progress)

    def __enter__(self) -> _Following:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
