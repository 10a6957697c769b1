"""What a published student's cards say about its run, gathered from the run's files.

The wording is `training.cards`'. A licence that nobody declared is unknown, never guessed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import PurePath

from tapir.config import Recipe, Role
from tapir.errors import DataError
from tapir.models.catalogue import Entry, catalogue
from tapir.report.facts import Facts
from tapir.store.rundir import RunDir
from tapir.training.cards import CardFacts, CardRound
from tapir.types import Example

OUR_POOL = "the seed pool that comes with tapir"
OUR_LICENCE = "Apache-2.0"


def card_facts(run: RunDir, number: int, examples: Iterable[Example] = ()) -> CardFacts:
    """The facts about student_`number` of this run, and about the examples it was trained on."""
    facts = Facts(run)
    if facts.recipe is None:
        raise DataError(f"{run.root}: {facts.recipe_problem}; a card needs the recipe the run was made by")
    recipe = facts.recipe
    student, teacher = _entry(recipe, "student"), _entry(recipe, "teacher")
    pool_licence = OUR_LICENCE if recipe.seeds.source == "builtin" else None
    return CardFacts(
        name=f"{recipe.name}, student_{number}",
        base_model=student.upstream if student else _name(recipe, "student"),
        teacher=teacher.upstream if teacher else _name(recipe, "teacher"),
        seed_pool=OUR_POOL if recipe.seeds.source == "builtin" else recipe.seeds.source,
        licences={
            "base model": student.licence if student else None,
            "teacher": teacher.licence if teacher else None,
            "seed pool": pool_licence,
        },
        rounds=[found for r in range(1, number + 1) if (found := _round(facts, recipe, r)) is not None],
        evaluations=[r.sentence for r in facts.results if r.student == f"student_{number}" and r.sentence],
        recipe_yaml=facts.recipe_text or "",
        version=str(facts.manifest.get("tapir") or ""),
        commit=facts.manifest.get("git_commit"),
        tasks=Counter(example.task for example in examples),
        hub_base_model=student.upstream if student else _hub_name(recipe),
    )


def _entry(recipe: Recipe, role: Role) -> Entry | None:
    model = recipe.models.resolved(role).on_this_machine()
    return catalogue().get(model.model) if model.kind == "local" else None


def _name(recipe: Recipe, role: Role) -> str:
    model = recipe.models.resolved(role).on_this_machine()
    # Of a folder only its name: where it lies says nothing to others, and may say too much.
    return PurePath(model.model).name if model.kind == "local" else model.model or f"a {model.kind} model"


def _hub_name(recipe: Recipe) -> str | None:
    """The base model as the hub knows it, unless it is a folder of this machine."""
    name = recipe.models.resolved("student").on_this_machine().model
    return name if name.count("/") == 1 and not name.startswith((".", "/", "~")) else None


def _round(facts: Facts, recipe: Recipe, number: int) -> CardRound | None:
    receipt = facts.receipts.get(f"round_{number}/05_student_{number}")
    if receipt is None:
        return None
    notes = receipt["notes"]
    return CardRound(
        number,
        recipe.curriculum.alpha(number),
        int(receipt["rows_out"]),
        notes.get("hard_share_of_rows"),
        int(notes["steps"]),
        float(notes["final_loss"]),
    )
