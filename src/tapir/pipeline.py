"""The rounds, on one screen (Algorithm 1). What a step reads and writes is in `tapir.steps`."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from tapir import steps
from tapir.config import Recipe
from tapir.progress import Progress
from tapir.store.rundir import RunDir, Step
from tapir.wiring import Session, StoppedHere, load_recipe, open_session


@dataclass(frozen=True, slots=True)
class Ground:
    """Round 0, done: what the rounds build on, and what every strategy is compared on."""

    seeds: Step
    pool: Step
    answers: Step
    student: Step
    hard: Step
    held_out: Step
    baseline: Step
    """student_0 on the held-out instructions."""
    benched: Step | None = None
    """And on the recipe's further benchmarks, where it asks for any."""


def lay_ground(session: Session) -> Ground:
    """Round 0: the pool, its labels and answers, student_0, what is hard for it, and how it does."""
    seeds = steps.gather_seeds(session)
    pool = steps.classify_seeds(session, seeds)
    answers = steps.annotate(session, seeds, pool)
    student = steps.train_student_0(session, pool, answers)
    attempts = steps.answer(session, pool, answers, student)
    verdicts = steps.judge_attempts(session, pool, answers, attempts)
    hard = steps.select_hard_seeds(session, pool, verdicts)
    held_out = steps.gather_held_out(session)
    baseline = steps.evaluate(session, 0, student, held_out, baseline=None)
    benched = steps.benchmark(session, 0, student, held_out, baseline)
    return Ground(seeds, pool, answers, student, hard, held_out, baseline, benched)


def distil(session: Session) -> None:
    """Run, or go on with, a whole distillation; finished steps that are still valid are passed over."""
    ground = lay_ground(session)
    student = ground.student
    curriculum = steps.Curriculum(ground.pool, ground.answers, ground.hard)
    for number in range(1, session.recipe.curriculum.rounds + 1):
        steps.expand(session, number, curriculum, student)
        steps.refine(session, number, curriculum)
        steps.enhance(session, number, curriculum)
        examples = steps.mix(session, number, curriculum)
        student = steps.train(session, number, student, examples)
        evaluated = steps.evaluate(
            session, number, student, ground.held_out, baseline=ground.baseline, curriculum=curriculum
        )
        steps.benchmark(session, number, student, ground.held_out, evaluated, baseline=ground.benched)


def run(
    recipe: Recipe | str | Path,
    root: str | Path | None = None,
    *,
    until: str | None = None,
    progress: Progress | None = None,
    source: str = "",
) -> RunDir:
    """Distil by a recipe (object, file or shipped name) into a run directory, or go on with it; returns the run."""
    loaded = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    folder = Path(root) if root is not None else Path("runs") / loaded.name
    source = source or ("" if isinstance(recipe, Recipe) else str(recipe))
    with open_session(loaded, folder, progress=progress, until=until, source=source) as session:
        with contextlib.suppress(StoppedHere):
            distil(session)
        return session.run
