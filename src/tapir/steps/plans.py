"""What a round, or a draw of some size, would take, leave and have to grow: looking ahead, before anything is spent.

Reads what a run has so far, or counts of a labelled pool. The arithmetic is `curriculum.mixture`'s.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tapir.config import Recipe
from tapir.curriculum.mixture import plan_round, quotas, targets_for
from tapir.errors import DataError
from tapir.steps.rounds import Curriculum, before_growth, growth_plan
from tapir.store.rundir import RunDir, Step
from tapir.tasks import load_taxonomy
from tapir.wiring import load_recipe

PLANNED_FROM = ("02_classified", "03_teacher_answers", "07_hard")


def round_table(run: RunDir, number: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A round's plan with what expansion would add, from the tables that a run has so far: a head, and rows by task."""
    recipe = load_recipe(run.recipe_path)
    taxonomy = load_taxonomy(run.named(recipe.taxonomy) if recipe.taxonomy else None)
    pool, answers, hard_step = (run.step(f"round_0/{name}", "") for name in PLANNED_FROM)
    if not hard_step.table().exists():
        raise DataError(f"{run.root}: what is hard is not known yet; run `tapir run … --until select` first")
    curriculum = Curriculum(pool, answers, hard_step, expanded=_earlier(run, number, "01_expanded"))
    if recipe.difficulty.rescore == "move":
        curriculum.rescored = _earlier(run, number, "06_evaluation", "rescored")
    plan = growth_plan(recipe, taxonomy, number, curriculum)
    have_hard, have_easy = (Counter(str(i.task) for i in part) for part in before_growth(recipe, curriculum))
    targets = targets_for(taxonomy.names, recipe.mix.targets)
    rows = [
        {
            "task": t,
            "target %": round(100 * targets[t], 1),
            "hard": have_hard[t],
            "grow": plan.grow.get(t, 0),
            "draw hard": plan.hard.get(t, 0),
            "easy": have_easy[t],
            "draw easy": plan.easy.get(t, 0),
            "unmet": plan.unmet.get(t, 0),
        }
        for t in taxonomy.names
    ]
    return {"round": number, "alpha": plan.alpha, "rows": plan.size}, rows


def _earlier(run: RunDir, number: int, name: str, table: str | None = None) -> list[Step]:
    """This step of the rounds before, where it has written that table. Round 0 moves and grows nothing."""
    steps = [run.step(f"round_{r}/{name}", "") for r in range(1, number)]
    return [step for step in steps if step.table(table).exists()]


def draw_table(
    supply: Mapping[str, int], rows: int, recipe: Recipe, size: int | None
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What a draw by the targets takes of a labelled pool, leaves, and would have to grow; by default the largest."""
    taxonomy = load_taxonomy(Path(recipe.taxonomy) if recipe.taxonomy else None)
    if not any(task in taxonomy for task in supply):
        raise DataError("no row carries a task type of the taxonomy; label them with `tapir stage classify`")
    targets = targets_for(taxonomy.names, recipe.mix.targets)
    wanted = size or plan_round({}, supply, targets, 0.0).size
    quota = quotas(supply, targets, wanted)
    table = [
        {
            "task": t,
            "target %": round(100 * targets[t], 1),
            "have": supply.get(t, 0),
            "draw": quota.draw[t],
            "drawn %": round(100 * quota.draw[t] / max(1, quota.size), 1),
            "undrawn": quota.undrawn.get(t, 0),
            "grow": quota.grow.get(t, 0),
        }
        for t in taxonomy.names
    ]
    unlabelled = rows - sum(n for t, n in supply.items() if t in taxonomy)
    return {"rows": rows, "without a type of the taxonomy": unlabelled, "draw": quota.size}, table
