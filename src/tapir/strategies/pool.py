"""Plain fine-tuning on the pool: "Full Alpaca"."""

from __future__ import annotations

import random
from collections.abc import Sequence

from tapir.config import Recipe
from tapir.errors import DataError
from tapir.pipeline import Ground
from tapir.steps.common import answers_of, instructions_of
from tapir.store.rundir import Step
from tapir.strategies.strategy import OneSet, annotated, drawn, examples
from tapir.types import Example
from tapir.wiring import Session


class WholePool(OneSet):
    """All of D, with the teacher's answers or with those that came with it (the paper's)."""

    name = "pool"
    says = "the whole pool"
    starts_from = "base"
    thousands = 52

    def answers_by(self, recipe: Recipe) -> str:
        return "pool" if recipe.ablate.pool_answers == "original" else super().answers_by(recipe)

    def choose(self, session: Session, ground: Ground, gathered: Sequence[Step], rng: random.Random) -> list[Example]:
        size = session.recipe.mix.size
        if session.recipe.ablate.pool_answers == "teacher":
            rows, answers = annotated(ground)
            return examples(drawn(rows, size, rng), answers)
        given = answers_of(ground.seeds, "answers")
        rows = [i for i in instructions_of(ground.pool) if i.id in given]
        if not rows:
            raise DataError("the pool carries no answers of its own; set ablate.pool_answers: teacher")
        return examples(drawn(rows, size, rng), given)
