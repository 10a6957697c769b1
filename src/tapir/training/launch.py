"""Where a round is trained: in this process, in several started by `accelerate`, or on a Ray cluster.

One process by default, and it is this one: a child would read torch in anew for every round (ten seconds) and could
keep no weights in memory. Several processes are children that run the same `train_round`, told what to do by a job
folder; their log is followed here, and their errors are raised here.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tapir import errors
from tapir.config import RaySettings, Train
from tapir.errors import ModelError, RecipeError, TapirError
from tapir.training.folder import NOTHING, Allowed
from tapir.training.needs import check_machine
from tapir.training.pack import idle_processes
from tapir.training.result import Progress, TrainResult, read_log, read_result
from tapir.types import Example, Message

if TYPE_CHECKING:
    from tapir.training.resident import Resident

SHIPPED = ("fsdp", "deepspeed")
_POLL_S = 1.0


def train(
    student_folder: Path,
    examples: Sequence[Example],
    out_folder: Path,
    settings: Train,
    *,
    seed: int,
    template: str | None = None,
    allowed: Allowed = NOTHING,
    progress: Progress | None = None,
    show: Callable[[str], None] | None = None,
    log_path: Path | None = None,
    resident: Resident | None = None,
    processes: int | None = None,
    ray: RaySettings | None = None,
) -> TrainResult:
    """Train one round where `settings.launcher` says; otherwise the same as `sft.train_round`.

    `processes` overrides how many are started; by default the accelerate config or the GPUs decide. `ray` is for the
    launcher of that name.
    """
    if settings.launcher == "single":
        from tapir.training.sft import train_round

        return train_round(
            student_folder,
            examples,
            out_folder,
            settings,
            seed=seed,
            template=template,
            allowed=allowed,
            progress=progress,
            show=show,
            log_path=log_path,
            resident=resident,
        )
    from tapir.training.prepare import prepare

    if settings.launcher == "accelerate":
        check_machine(settings)
    # The children do the same, each for itself; what they would refuse starts none, and the example is shown once.
    prepare(student_folder, examples, settings, template=template, allowed=allowed, show=show)
    log = log_path or out_folder.with_name(f".{out_folder.name}.log.jsonl")
    job = Job(student_folder, out_folder, log, settings, seed, template, allowed)
    folder = out_folder.with_name(f".{out_folder.name}.job")
    job.write(folder, examples)
    try:
        if settings.launcher == "ray":
            from tapir.executors import training

            training.run(job, folder, ray or RaySettings(), progress)
        else:
            _run(command(settings, folder, processes), folder, log, progress)
    finally:
        shutil.rmtree(folder)
    if log_path is None:
        log.unlink(missing_ok=True)
    return read_result(out_folder)


@dataclass(frozen=True, slots=True)
class Job:
    """What the children are told."""

    student: Path
    out: Path
    log: Path
    settings: Train
    seed: int
    template: str | None
    allowed: Allowed = NOTHING

    def write(self, folder: Path, examples: Sequence[Example]) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        plain = {
            "student": str(self.student.resolve()),
            "out": str(self.out.resolve()),
            "log": str(self.log.resolve()),
            "settings": self.settings.model_dump(mode="json"),
            "seed": self.seed,
            "template": self.template,
            "allowed": asdict(self.allowed),
        }
        (folder / "job.json").write_text(json.dumps(plain), encoding="utf-8")
        lines = (json.dumps(asdict(example)) + "\n" for example in examples)
        (folder / "examples.jsonl").write_text("".join(lines), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> tuple[Job, list[Example]]:
        plain: dict[str, Any] = json.loads((folder / "job.json").read_text(encoding="utf-8"))
        paths = {name: Path(plain.pop(name)) for name in ("student", "out", "log")}
        settings = Train.model_validate(plain.pop("settings"))
        allowed = Allowed(**plain.pop("allowed"))
        with (folder / "examples.jsonl").open(encoding="utf-8") as lines:
            examples = [_example(json.loads(line)) for line in lines]
        return cls(**paths, settings=settings, allowed=allowed, **plain), examples


def _example(plain: dict[str, Any]) -> Example:
    messages = tuple(Message(**message) for message in plain.pop("messages"))
    return Example(messages=messages, **plain)


def config_file(settings: Train) -> Path | None:
    """The accelerate config that the recipe names: a shipped one, a file, or none."""
    name = settings.accelerate_config
    if name in SHIPPED:
        return Path(str(resources.files("tapir.data") / "accelerate" / f"{name}.yaml"))
    if name is None or Path(name).is_file():
        return None if name is None else Path(name)
    raise RecipeError(f"train.accelerate_config: {name!r} is neither a file nor one of {', '.join(SHIPPED)}")


def check_config(settings: Train, ray: RaySettings) -> None:
    """Refuse an accelerate config that cannot be had, before a run has spent anything: training comes late in it."""
    if settings.launcher == "ray":
        from tapir.executors import training

        training.environment(settings, ray)
    elif settings.launcher == "accelerate":
        config_file(settings)


def idle_note(settings: Train, ray: RaySettings) -> str | None:
    """Where a recipe starts more processes than a step has work for, one line: the rest cost money and do nothing."""
    count = process_count(settings, ray)
    idle = idle_processes(
        batch=settings.batch, micro_batch=settings.micro_batch, processes=count, packed=settings.packing
    )
    if not idle:
        return None
    lower = "" if settings.packing or settings.micro_batch == 1 else "lower train.micro_batch, "
    return (
        f"{idle} of {count} training processes have no example in any step (train.batch {settings.batch}, "
        f"train.micro_batch {settings.micro_batch}); raise train.batch, {lower}or start fewer"
    )


def process_count(settings: Train, ray: RaySettings) -> int:
    """How many processes train together, by the launcher's own rules."""
    if settings.launcher == "ray":
        return ray.training_workers
    if settings.launcher == "single":
        return 1
    config = config_file(settings)
    if config is None:
        return max(1, _gpus())
    plain: Any = yaml.safe_load(config.read_text(encoding="utf-8"))
    # What else is wrong with the file, accelerate says.
    return int(plain.get("num_processes") or 1) if isinstance(plain, dict) else 1


def command(settings: Train, job: Path, processes: int | None = None) -> list[str]:
    """The command line that starts the children."""
    target = ["--module", "tapir.training.launch", str(job)]
    config = config_file(settings)
    gpus = _gpus()
    if config is not None:
        count = ["--num_processes", str(processes)] if processes else []
        return [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config), *count, *target]
    if not gpus:
        # accelerate starts several CPU processes by MPI only; torchrun does it alone, and accelerate joins in.
        count = ["--standalone", "--nproc_per_node", str(processes or 1)]
        return [sys.executable, "-m", "torch.distributed.run", *count, *target]
    plain = ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    many = ["--multi_gpu"] if (processes or gpus) > 1 else []
    return [
        *(sys.executable, "-m", "accelerate.commands.launch", "--num_processes", str(processes or gpus)),
        *plain,
        *many,
        *target,
    ]


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()


def _run(line: list[str], folder: Path, log: Path, progress: Progress | None) -> None:
    shown = len(read_log(log))
    environment = os.environ | ({} if _gpus() else {"ACCELERATE_USE_CPU": "true"})
    with subprocess.Popen(line, stdout=sys.stderr.fileno() if _has_fileno() else None, env=environment) as child:
        try:
            while child.poll() is None:
                time.sleep(_POLL_S)
                shown = follow(log, shown, progress)
        except BaseException:
            child.terminate()
            raise
    follow(log, shown, progress)
    if child.returncode:
        raise child_error(folder, child.returncode)


def _has_fileno() -> bool:
    try:
        return sys.stderr.fileno() >= 0
    except (OSError, ValueError, AttributeError):
        return False


def follow(log: Path, shown: int, progress: Progress | None) -> int:
    """Tell of the log's steps beyond the first `shown`; how many there are now."""
    steps = read_log(log)
    # A resumed child first cuts the log back to its checkpoint.
    for step in steps[min(shown, len(steps)) :]:
        if progress:
            progress(step)
    return len(steps)


def child_error(folder: Path, code: int) -> TapirError:
    """What made the children fail, as the error that one of them met."""
    note = folder / "error.json"
    if not note.exists():
        return ModelError(
            f"the training processes ended with exit code {code}; their own messages are above. Start the same "
            "command again to go on from the last whole checkpoint"
        )
    plain: dict[str, str] = json.loads(note.read_text(encoding="utf-8"))
    kind: type[TapirError] = getattr(errors, plain["kind"])
    return kind(plain["message"])


def dry_start(settings: Train, job: Path) -> dict[str, str]:
    """Check the recipe's accelerate config by accelerate's own launcher, up to where it would start processes.

    Returns what their environment would have beside ours.
    """
    made = launchers_environment(settings, job)
    return {name: value for name, value in made.items() if os.environ.get(name) != value}


def launchers_environment(settings: Train, job: Path) -> dict[str, str]:
    """The whole environment that accelerate's launcher would give to the processes; empty without a config.

    GPUs are not looked for: a config for eight can be checked on none.
    """
    from accelerate.commands import launch
    from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env

    config = config_file(settings)
    if config is None:
        return {}
    accelerate: Any = launch
    # Nothing is started, so whatever holds the config's port is no hindrance.
    line = ["--config_file", str(config), "--main_process_port", "0", "--module", "tapir.training.launch", str(job)]
    try:
        arguments = accelerate._validate_launch_command(accelerate.launch_command_parser().parse_args(line))[0]
        if arguments.use_deepspeed:
            arguments.deepspeed_fields_from_accelerate_config = ""
            made: dict[str, str] = prepare_deepspeed_cmd_env(arguments)[1]
        else:
            made = prepare_multi_gpu_env(arguments)
        return made
    except (ValueError, TypeError, AttributeError) as error:
        raise RecipeError(f"{config}: accelerate refuses it ({error}); mend it with `accelerate config`") from error


def main(folder: Path) -> None:
    """What every child runs."""
    from tapir.training.sft import train_round

    job, examples = Job.read(folder)
    with error_left(folder):
        train_round(
            job.student,
            examples,
            job.out,
            job.settings,
            seed=job.seed,
            template=job.template,
            allowed=job.allowed,
            log_path=job.log,
        )


@contextmanager
def error_left(folder: Path) -> Generator[None]:
    """Leave an error of ours in the job's folder, for the parent to raise."""
    try:
        yield
    except TapirError as error:
        plain = {"kind": type(error).__name__, "message": str(error)}
        (folder / "error.json").write_text(json.dumps(plain), encoding="utf-8")
        raise


if __name__ == "__main__":
    main(Path(sys.argv[1]))
