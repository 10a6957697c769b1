"""What a training tells others: its log lines and its outcome. Plain data, free of torch: anyone may read it."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tapir.errors import DataError

RESULT_NAME = "tapir_training.json"
"""File in the trained student's folder that holds its `TrainResult`."""


@dataclass(frozen=True, slots=True)
class StepLog:
    """One optimiser step. `loss` is the weighted objective; the parts are plain means of NLL a trained token."""

    step: int
    steps: int
    loss: float
    grad_norm: float | None
    learning_rate: float
    trained_tokens: int
    seconds: float
    """Since this training first started, pauses between a kill and a resumption not counted."""
    hard: float | None
    """None where the step held no such token."""
    easy: float | None
    by_task: dict[str, float] = field(default_factory=lambda: dict[str, float]())


@dataclass(slots=True)
class Pace:
    """How fast a training goes, by its latest steps: a resumed one begins to count where it goes on."""

    recent: deque[StepLog] = field(default_factory=lambda: deque[StepLog](maxlen=20))
    left_s: int | None = None
    """Until the last step; None while it cannot be known."""

    def observe(self, step: StepLog) -> str:
        """What a bar says beside itself: the loss, and trained tokens a second once they are known."""
        if self.recent and self.recent[-1].step >= step.step:
            self.recent.clear()
        self.recent.append(step)
        first = self.recent[0]
        seconds, steps = step.seconds - first.seconds, step.step - first.step
        if not steps or seconds <= 0:
            self.left_s = None
            return f"loss {step.loss:.3f}"
        self.left_s = round((step.steps - step.step) * seconds / steps)
        tokens = sum(later.trained_tokens for later in self.recent) - first.trained_tokens
        return f"loss {step.loss:.3f}, {tokens / seconds:.0f} tokens/s"


Progress = Callable[[StepLog], None]
"""Called after every step, on the main process."""


@dataclass(frozen=True, slots=True)
class TrainResult:
    """A trained student and the account of its training."""

    folder: Path
    steps: int
    examples: int
    """Encoded examples of the round's set."""
    tokens: int
    """Tokens of the set, prompts included, once."""
    trained_tokens: int
    """Trained tokens over all steps."""
    final_loss: float
    seconds: float
    dropped: dict[str, int]
    cut: int
    hard_rows: float | None
    """Realised hard share of rows, beside α."""
    hard_weight: float | None
    """Realised hard share of Σ w over trained tokens."""
    adapters: Path | None = None
    resumed_at: int = 0
    """Step the last process went on from; 0 when undisturbed."""

    @property
    def tokens_per_s(self) -> float | None:
        return self.trained_tokens / self.seconds if self.seconds else None

    def write(self, folder: Path) -> None:
        plain = asdict(self)
        plain.pop("folder")
        plain["adapters"] = self.adapters.name if self.adapters else None
        (folder / RESULT_NAME).write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")


def read_result(folder: Path) -> TrainResult:
    """The result that `TrainResult.write` left in a student's folder."""
    path = folder / RESULT_NAME
    try:
        plain: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); train this student again") from error
    adapters = plain.pop("adapters")
    return TrainResult(folder=folder, adapters=folder / adapters if adapters else None, **plain)


def read_log(path: Path) -> list[StepLog]:
    """All steps of a training log, in order; a torn last line (the process was killed) is left out."""
    steps: list[StepLog] = []
    if not path.exists():
        return steps
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            steps.append(StepLog(**json.loads(line)))
        except (ValueError, TypeError) as error:
            if number == len(lines):
                break
            raise DataError(f"{path}: line {number} is not a step of a training log ({error})") from error
    return steps


def write_log(path: Path, steps: list[StepLog]) -> None:
    """The whole log anew; a resumed training keeps only the steps before its checkpoint."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(asdict(step)) + "\n" for step in steps), encoding="utf-8")


def append_log(path: Path, step: StepLog) -> None:
    with path.open("a", encoding="utf-8") as out:
        out.write(json.dumps(asdict(step)) + "\n")
