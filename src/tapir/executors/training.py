"""A round trained by Ray Train: workers on any nodes run the same `train_round` as `accelerate`'s children do.

The job folder and the student's folder must be on a disk that all nodes share, as for any training on several
machines. A worker or node that is lost starts the round again from its last whole checkpoint.
"""

from __future__ import annotations

import os
import threading
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from tapir.config import RaySettings
from tapir.errors import ModelError
from tapir.executors.cluster import connect, require_workers
from tapir.training.launch import child_error, follow, main
from tapir.training.result import Progress, read_log


def run(folder: Path, log: Path, settings: RaySettings, progress: Progress | None) -> None:
    """Train the job in `folder`; its log is followed here."""
    require_workers(connect(settings), settings)
    from ray import train as ray_train
    from ray.train.torch import TorchConfig, TorchTrainer

    gpus = settings.gpus > 0
    resources = {"CPU": settings.cpus} | ({"GPU": settings.gpus} if gpus else {})
    trainer: Any = TorchTrainer(
        _work,
        train_loop_config={"folder": str(folder.resolve()), "gpus": gpus},
        torch_config=TorchConfig(backend="nccl" if gpus else "gloo"),
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
    with _Following(log, progress):
        try:
            trainer.fit()
        except Exception as error:
            if (folder / "error.json").exists():
                raise child_error(folder, 1) from error
            raise ModelError(
                f"training on Ray failed ({str(error).splitlines()[0]}); start the same command again to go on from "
                "the last whole checkpoint"
            ) from error


def _work(config: dict[str, Any]) -> None:
    """What every worker runs. Ray has joined the processes already; accelerate finds them so."""
    if not config["gpus"]:
        os.environ["ACCELERATE_USE_CPU"] = "true"
    main(Path(config["folder"]))


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
