"""What the stages are called: by the tables they write in a run, or by verbs, as in `tapir stage` and `--until`."""

from __future__ import annotations

import difflib

ROUND_0 = ("seeds", "classified", "teacher_answers", "student_0", "student_answers", "verdicts", "hard", "held_out",
           "evaluation", "benchmarks")  # fmt: skip
ROUND = ("expanded", "refined", "enhanced_answers", "mix", "student_{r}", "evaluation", "benchmarks")
VERBS = {
    "annotate": "teacher_answers",
    "classify": "classified",
    "train": "student_0",
    "answer": "student_answers",
    "judge": "verdicts",
    "select": "hard",
    "expand": "expanded",
    "refine": "refined",
    "enhance": "enhanced_answers",
    "evaluate": "evaluation",
    "benchmark": "benchmarks",
}
BESIDE = ("direct_answers", "refiner", "second_judge", "gold", "chat")
"""Under which calls outside of a run's own stages are counted: those of an ablation, and of single commands."""


def table_of(stage: str) -> str:
    """One name for a stage, however it is named: `round_1/verdicts`, `verdicts` or `judge`."""
    kind = stage.rsplit("/", 1)[-1]
    return VERBS.get(kind, kind)


def refusal_of(stage: str) -> str | None:
    """Why a cap cannot be for a stage of this name; None where it can."""
    known = list(dict.fromkeys([*VERBS, *ROUND_0, *(s for s in ROUND if "{" not in s), *BESIDE]))
    if stage in known:
        return None
    near = difflib.get_close_matches(stage, known, n=1)
    return f"{stage}: no such stage; " + (f"did you mean `{near[0]}`?" if near else f"known here: {', '.join(known)}")
