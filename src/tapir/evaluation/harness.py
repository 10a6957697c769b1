"""Multiple choice through lm-eval (an extra), before and after training: does distilling do harm (appendix E)?

Owns which tasks run with how many shots, and the comparison. The tasks themselves, their prompts and their metrics are
lm-eval's; task files of one's own stand in a folder and run without a network.
"""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from tapir.curriculum.statistics import Z95, wilson
from tapir.errors import DataError, MissingExtra, RecipeError
from tapir.evaluation.rows import Estimate, Row

LEADERBOARD_SHOTS: Mapping[str, int] = {"arc_challenge": 25, "hellaswag": 10, "mmlu": 5, "truthfulqa_mc2": 0}
"""The four benchmarks of appendix E with the Open LLM Leaderboard's examples in the prompt."""
HARM_ERRORS = 2.0
"""A drop of more standard errors than this is called one."""
_METRICS = ("acc_norm", "acc", "exact_match", "mc2")
"""In order of preference: the leaderboard takes the normalised accuracy where there is one."""


@dataclass(frozen=True, slots=True)
class TaskScore:
    """One task's accuracy in percent, with its standard error in points."""

    task: str
    metric: str
    shots: int
    accuracy: Estimate
    standard_error: float | None

    def to_json(self) -> Row:
        return {
            "task": self.task, "metric": self.metric, "shots": self.shots, "accuracy": self.accuracy.to_json(),
            "standard_error": self.standard_error,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Change:
    """A task before and after. `harm`: it fell by more than two standard errors; None where no error is known."""

    task: str
    shots: int
    before: float
    after: float
    change: Estimate
    standard_error: float | None
    harm: bool | None
    sentence: str

    def to_json(self) -> Row:
        return {
            "task": self.task, "shots": self.shots, "before": self.before, "after": self.after,
            "change": self.change.to_json(), "standard_error": self.standard_error, "harm": self.harm,
            "sentence": self.sentence,
        }  # fmt: skip


def evaluate(
    model: Path | str, tasks: Mapping[str, int], *, task_files: Path | None = None, device: str = "cpu",
    batch_size: int = 8, limit: int | None = None, allow_code: bool = False,
) -> list[TaskScore]:  # fmt: skip
    """Run `tasks` (name → shots) on local weights. Tasks of `task_files` need no network; public ones fetch data.

    `limit` takes that many questions of each task, for a trial. `allow_code` lets task files run code of their own.
    """
    if task_files is not None and not allow_code:
        refuse_code(task_files)
    lm_eval = _import("lm_eval")
    manager = _task_manager(tasks, task_files)
    # Loaded once for all numbers of shots.
    weights = _import("lm_eval.models.huggingface").HFLM(
        pretrained=str(model), device=device, batch_size=batch_size, trust_remote_code=False
    )
    found: list[TaskScore] = []
    for shots in sorted(set(tasks.values())):
        names = [name for name, wanted in tasks.items() if wanted == shots]
        results = lm_eval.simple_evaluate(
            model=weights,
            tasks=names,
            num_fewshot=shots,
            limit=limit,
            task_manager=manager,
            log_samples=False,
            confirm_run_unsafe_code=allow_code,
        )
        found += read_results(cast("dict[str, Any]", results), names, shots)
    return found


def device() -> str:
    """Where to run: the accelerator if there is one."""
    return "cuda" if _import("torch").cuda.is_available() else "cpu"


def _task_manager(tasks: Mapping[str, int], task_files: Path | None) -> Any:
    """lm-eval's index of tasks: of the folder alone where that suffices, since indexing thousands takes seconds."""
    manager_of = _import("lm_eval.tasks").TaskManager
    unknown: list[str] = []
    for with_public in (False, True) if task_files else (True,):
        manager = manager_of(include_path=str(task_files) if task_files else None, include_defaults=with_public)
        unknown = sorted(set(tasks) - set(cast("Sequence[str]", manager.all_tasks)))
        if not unknown:
            return manager
    raise RecipeError(f"lm-eval knows no task {', '.join(unknown)}; `lm-eval ls tasks` lists them")


def _import(name: str) -> Any:
    """By name, so that the core needs neither lm-eval nor its types."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtra(
            f"multiple choice needs lm-eval: pip install 'tapir-distill[eval,local]' ({error})"
        ) from None


_RUNS_CODE = re.compile(r"!function|trust_remote_code|unsafe_code|__\w+__|\|\s*attr\b|^\s*class:", re.MULTILINE)
"""Python by name, or a way out of a Jinja template: lm-eval fills templates without a sandbox."""
_INCLUDE = re.compile(r"^\s*include:\s*[\"']?([^\s\"'#]+)", re.MULTILINE)


def refuse_code(folder: Path) -> None:
    """Task files are data from somewhere; one that could run code, itself or by what it includes, needs leave."""
    if not folder.is_dir():
        raise DataError(f"{folder}: give the folder that holds lm-eval's task files (YAML)")
    to_read = sorted(p for ending in ("yaml", "yml") for p in folder.rglob(f"*.{ending}"))
    seen: set[Path] = set()
    while to_read:
        path = to_read.pop()
        if path in seen or not path.is_file():
            continue
        seen.add(path)
        text = path.read_text(encoding="utf-8", errors="replace")
        named = _RUNS_CODE.search(text)
        if named:
            raise RecipeError(
                f"{path}: the task file would run code ({named[0].strip()}); read it, then allow it with --allow-code"
            )
        to_read += [path.parent / included for included in _INCLUDE.findall(text)]


def read_results(results: Mapping[str, Any], names: Sequence[str], shots: int) -> list[TaskScore]:
    """The scores of these tasks (or groups) from what lm-eval returns."""
    return [_task_score(results, name, shots) for name in names]


def _task_score(results: Mapping[str, Any], name: str, shots: int) -> TaskScore:
    numbers = cast("Mapping[str, Any]", results["results"].get(name) or results.get("groups", {}).get(name) or {})
    # Keys read "metric,filter"; an error may be "N/A".
    metric = next((m for m in _METRICS if any(k.split(",")[0] == m for k in numbers)), None)
    if metric is None:
        raise DataError(f"task {name} reports none of {', '.join(_METRICS)}; it has {', '.join(map(str, numbers))}")
    key = next(k for k in numbers if k.split(",")[0] == metric)
    error = numbers.get(key.replace(metric, f"{metric}_stderr", 1))
    points = 100 * float(error) if isinstance(error, int | float) and math.isfinite(error) else None
    return TaskScore(name, metric, shots, _accuracy(float(numbers[key]), points, _count(results, name)), points)


def _count(results: Mapping[str, Any], name: str) -> int:
    """Questions asked; a group's are its members'."""
    counts = cast("Mapping[str, Any]", results.get("n-samples", {}))
    members = cast("Sequence[str]", results.get("group_subtasks", {}).get(name, []))
    if name in counts:
        return int(counts[name]["effective"])
    return sum(_count(results, member) for member in members)


def _accuracy(share: float, error: float | None, n: int) -> Estimate:
    """lm-eval gives means and standard errors, not rows. A mean of rows between 0 and 1 spreads at most as hits do,
    so Wilson's interval holds for every metric here; the normal one leaves the scale for few rows."""
    if n == 0:
        return Estimate(100 * share, n)
    low, high = wilson(share * n, n)
    return Estimate(100 * share, n, 100 * low, 100 * high)


def _change_estimate(change: float, error: float | None, n: int) -> Estimate:
    """Normal, and never beyond what a change between two percentages can be."""
    if error is None:
        return Estimate(change, n)
    return Estimate(change, n, max(-100.0, change - Z95 * error), min(100.0, change + Z95 * error))


def compare(before: Sequence[TaskScore], after: Sequence[TaskScore]) -> list[Change]:
    """Task by task. The error of a change takes both runs for independent, which overstates it for equal questions:
    what is flagged is a drop, what is not may still be a small one."""
    earlier = {(s.task, s.shots, s.metric): s for s in before}
    lacking = [s.task for s in after if (s.task, s.shots, s.metric) not in earlier]
    if lacking or len(after) != len(earlier):
        raise DataError(
            f"before and after are not the same tasks ({', '.join(lacking) or 'some ran before only'}); run both alike"
        )
    return [_change(earlier[s.task, s.shots, s.metric], s) for s in after]


def _change(before: TaskScore, after: TaskScore) -> Change:
    change = after.accuracy.value - before.accuracy.value
    error = None
    if before.standard_error is not None and after.standard_error is not None:
        error = math.hypot(before.standard_error, after.standard_error)
    harm = None if error is None else change < -HARM_ERRORS * error
    return Change(
        after.task, after.shots, before.accuracy.value, after.accuracy.value,
        _change_estimate(change, error, after.accuracy.n), error, harm, _sentence(after, change, error, harm),
    )  # fmt: skip


def _sentence(after: TaskScore, change: float, error: float | None, harm: bool | None) -> str:
    said = f"{after.task} ({after.shots} shots) changes by {change:+.1f} points"
    if error is None:
        return f"{said}; its error is not known"
    if harm:
        return f"{said}: a drop of more than two standard errors ({error:.1f})"
    noise = "" if change > HARM_ERRORS * error else ", a difference inside the noise"
    return f"{said} (standard error {error:.1f}{noise})"
