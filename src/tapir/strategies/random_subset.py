"""As many rows as D_S is given, drawn at random: what a selection must beat."""

from __future__ import annotations

import random
from collections.abc import Sequence

from tapir.pipeline import Ground
from tapir.store.rundir import Step
from tapir.strategies.strategy import OneSet, annotated, drawn, examples
from tapir.types import Example
from tapir.wiring import Session


class RandomSubset(OneSet):
    """Drawn anew with every training seed, so that its interval holds the luck of the draw."""

    name = "random"
    says = "a random part of the pool, as many rows as `seed`"
    starts_from = "base"
    thousands = 11

    def choose(self, session: Session, ground: Ground, gathered: Sequence[Step], rng: random.Random) -> list[Example]:
        rows, answers = annotated(ground)
        return examples(drawn(rows, session.recipe.mix.size, rng), answers)
