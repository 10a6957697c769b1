"""The report as data: what the page shows, as numbers with their names, for scripts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tapir.curriculum.difficulty import delta_table
from tapir.report.bins import bins_of, counted, thresholds
from tapir.report.facts import Case, Facts
from tapir.report.judge import trust_json
from tapir.report.quality import qualities
from tapir.tasks import OTHERS
from tapir.training.result import StepLog

TERMINAL_BINS = 20
"""A window is lower than a page: few enough to be seen at once."""


def as_json(facts: Facts) -> dict[str, Any]:
    """Everything the report says about one run."""
    best, worst = facts.cases()
    return {
        "run": facts.run.root.name,
        "manifest": facts.manifest,
        "recipe": facts.recipe_text,
        "students": facts.students,
        "results": [asdict(r) for r in facts.results],
        "relative_quality": [
            {"reference": q.reference, "rows": q.rows, "scores": {name: s.to_json() for name, s in q.scores.items()}}
            for q in qualities(facts)
        ],
        "difficulty": difficulty_json(facts),
        "mix": {"target": facts.targets, "rows": {name: dict(c) for name, c in facts.mixes.items()}},
        "receipts": facts.receipts,
        "training": {name: _training(log) for name, log in facts.training_logs.items()},
        "judge": trust_json(facts.trust),
        "cases": {"best": [_case(c) for c in best], "worst": [_case(c) for c in worst]},
    }


def difficulty_json(facts: Facts, deltas: Sequence[float] | None = None) -> dict[str, Any]:
    """By kind: δ, the distribution, and how many seeds of each task every threshold (`deltas`) would keep."""
    found: dict[str, Any] = {}
    for kind in sorted({d.kind for d in facts.difficulties}):
        rows = [d for d in facts.difficulties if d.kind == kind]
        values, delta = [d.value for d in rows], facts.delta(kind)
        scale = bins_of(values, 0.0 if delta is None else delta, kind, most=TERMINAL_BINS)
        kept = delta_table(rows, facts.task_of, deltas or thresholds(values, kind))
        tasks = Counter(facts.task_of.get(d.instruction_id, OTHERS) for d in rows)
        found[kind] = {
            "seeds": len(rows),
            "tasks": dict(sorted(tasks.items(), key=lambda item: (-item[1], item[0]))),
            "delta": delta,
            "hard": None if delta is None else sum(v > delta for v in values),
            "bin_width": scale.width,
            "bins": [
                {"middle": middle, "label": scale.label(middle), "seeds": n}
                for middle, n in counted(values, scale).items()
            ],
            "kept": [{"delta": d, "seeds": sum(t.values()), "by_task": t} for d, t in kept.items()],
        }
    return found


def _training(log: list[StepLog]) -> Mapping[str, Any]:
    return {"steps": log[-1].steps, "done": log[-1].step, "first": asdict(log[0]), "last": asdict(log[-1])}


def _case(case: Case) -> dict[str, Any]:
    return {
        "instruction_id": case.instruction.id, "task": case.instruction.task, "instruction": case.instruction.text,
        "gap": case.gap, "student_0": case.first, "last_student": case.last, "teacher": case.teacher,
    }  # fmt: skip
