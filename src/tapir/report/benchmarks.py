"""Whether a benchmark's numbers of two runs are of one benchmark: the same settings on the same files."""

from __future__ import annotations

from typing import Any

from tapir.config import ON_FILES, Evaluation, file_names
from tapir.report import text
from tapir.report.facts import Facts

_MEASURED_BY = {
    "grade": "graded",
    "alpaca_win_rate": "alpaca",
    "following_strict": "following",
    "following_loose": "following",
    "exact_accuracy": "exact",
}
_SOURCES = ("prompts", "judge_prompt", "task_files")


def alike(first: Facts, other: Facts, metric: str) -> bool:
    """Whether a metric was measured alike in both runs, as far as their files say."""
    a, b = _benchmark(first, metric), _benchmark(other, metric)
    if a is None or b is None:
        return True
    # A task and its shots are part of its metric's name.
    if a.model_dump(exclude={"tasks", *_SOURCES}) != b.model_dump(exclude={"tasks", *_SOURCES}):
        return False
    names = _SOURCES if a.kind in ON_FILES else _SOURCES[1:]
    marks = sources(first), sources(other)
    return all(_same_source(marks, getattr(a, name), getattr(b, name)) for name in names)


def sources(facts: Facts) -> dict[str, Any]:
    """Content marks of the benchmarks' files, by the name that the recipe gives them."""
    found = [r for place, r in facts.receipts.items() if place.endswith("_benchmarks")]
    return found[-1].get("notes", {}).get("sources", {}) if found else {}


def _benchmark(facts: Facts, metric: str) -> Evaluation | None:
    """What of the recipe gave this metric; None for what is measured on the held-out rows, and without a recipe."""
    known, _, file = metric.partition(" (")
    on_held_out = metric in text.METRICS or metric in text.IN_WORDS
    kind = _MEASURED_BY.get(known) or (None if on_held_out else "choice")
    evaluate = facts.recipe.evaluate if facts.recipe else ()
    named = zip(evaluate, file_names(evaluate), strict=True)
    return next((e for e, name in named if e.kind == kind and (name or "") == file.removesuffix(")")), None)


def _same_source(marks: tuple[dict[str, Any], dict[str, Any]], mine: str | None, theirs: str | None) -> bool:
    """By the content that the runs noted; of an older run, which noted none, only the name is known."""
    if mine is None or theirs is None:
        return mine == theirs
    a, b = marks[0].get(mine), marks[1].get(theirs)
    return mine == theirs if a is None or b is None else a == b
