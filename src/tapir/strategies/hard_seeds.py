"""D_S alone, with the teacher's direct answers or the enhanced ones: "Seed Alpaca" and "Seed Alpaca (RW)"."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from tapir import steps
from tapir.config import Recipe, rewritten
from tapir.pipeline import Ground
from tapir.steps.common import answers_of
from tapir.store.rundir import Step
from tapir.strategies.strategy import OneSet, annotated, drawn, examples, hard_seeds
from tapir.types import Answer, Example
from tapir.wiring import Session


class HardSeeds(OneSet):
    """The hard seeds with y. Table 5 does not say what it starts from: the base student (ours), as the whole pool."""

    name = "seed"
    says = "the hard seeds, direct answers"
    starts_from = "base"
    thousands = 11

    def choose(self, session: Session, ground: Ground, gathered: Sequence[Step], rng: random.Random) -> list[Example]:
        answers = self.answers(ground, gathered)
        known = [i for i in hard_seeds(ground) if i.id in answers]
        # The same draw as with enhanced answers, where all of them could be had: only the answers differ.
        rows = drawn(known, session.recipe.mix.size, random.Random(session.recipe.rounds_seed))
        return examples(rows, answers, (i.id for i in rows))

    def answers(self, ground: Ground, gathered: Sequence[Step]) -> Mapping[str, Answer]:
        return annotated(ground)[1]


class RefinedHardSeeds(HardSeeds):
    """The hard seeds with ŷ."""

    name = "seed_refined"
    says = "the hard seeds, refined answers"

    def answers_by(self, recipe: Recipe) -> str:
        return f"{super().answers_by(recipe)}, refined"

    def arrange(self, recipe: Recipe, rows: int) -> Recipe:
        return rewritten(super().arrange(recipe, rows), "expand.per_round=0")

    def gather(self, session: Session, ground: Ground) -> Sequence[Step]:
        curriculum = steps.Curriculum(ground.pool, ground.answers, ground.hard)
        steps.expand(session, 1, curriculum, ground.student)
        steps.refine(session, 1, curriculum)
        steps.enhance(session, 1, curriculum)
        return [*curriculum.expanded, *curriculum.refined, *curriculum.enhanced]

    def answers(self, ground: Ground, gathered: Sequence[Step]) -> Mapping[str, Answer]:
        return answers_of(gathered[-1])
