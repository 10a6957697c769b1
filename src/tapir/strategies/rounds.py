"""The method itself (Algorithm 1), over its rounds or in one (TAPIR-S): "Full Implement." and "Single Round"."""

from __future__ import annotations

from collections.abc import Sequence

from tapir import steps
from tapir.config import Recipe, rewritten
from tapir.pipeline import Ground
from tapir.store.rundir import Step
from tapir.strategies.strategy import Strategy
from tapir.wiring import Session


class Rounds(Strategy):
    """As `tapir run` does it; the rows are shared out evenly over the rounds."""

    name = "full"
    says = "the whole method, by the recipe's rounds"
    starts_from = "student_0"
    thousands = 70

    def answers_by(self, recipe: Recipe) -> str:
        return f"{super().answers_by(recipe)}, hard rows refined"

    def arrange(self, recipe: Recipe, rows: int) -> Recipe:
        return rewritten(recipe, f"mix.size={max(1, rows // recipe.curriculum.rounds)}")

    def gather(self, session: Session, ground: Ground) -> Sequence[Step]:
        curriculum = steps.Curriculum(ground.pool, ground.answers, ground.hard)
        # Grown rows that are judged need the round's student, which only training can give.
        rounds = 1 if session.recipe.expand.check_difficulty else session.recipe.curriculum.rounds
        for number in range(1, rounds + 1):
            _grow(session, number, curriculum, ground.student)
        return [*curriculum.expanded, *curriculum.refined, *curriculum.enhanced]

    def train(self, session: Session, ground: Ground) -> tuple[int, Step]:
        curriculum = steps.Curriculum(ground.pool, ground.answers, ground.hard)
        student = self.start(session, ground)
        for number in range(1, session.recipe.curriculum.rounds + 1):
            _grow(session, number, curriculum, student)
            examples = steps.mix(session, number, curriculum)
            student = steps.train(session, number, student, examples)
        return session.recipe.curriculum.rounds, student


class SingleRound(Rounds):
    """TAPIR-S: no rounds, hard rows only, all growth at once (α = 1 of §3.4)."""

    name = "single_round"
    says = "hard rows only, all growth at once"

    def arrange(self, recipe: Recipe, rows: int) -> Recipe:
        growth = recipe.expand.per_round * recipe.curriculum.rounds
        return rewritten(
            recipe, "curriculum.rounds=1", "curriculum.alphas=[1.0]", f"expand.per_round={growth}", f"mix.size={rows}"
        )


def _grow(session: Session, number: int, curriculum: steps.Curriculum, student: Step) -> None:
    """A round's new hard data; what `gather` has done is passed over."""
    steps.expand(session, number, curriculum, student)
    steps.refine(session, number, curriculum)
    steps.enhance(session, number, curriculum)
