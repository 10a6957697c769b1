"""Selection by instruction-following difficulty (Cherry LLM): the student's own likelihoods instead of a judge."""

from __future__ import annotations

import random
from collections.abc import Sequence

from tapir.pipeline import Ground
from tapir.stages import score as scoring
from tapir.stages import train as training
from tapir.steps.common import model_mark
from tapir.store.rundir import Step
from tapir.strategies.strategy import OneSet, annotated, examples
from tapir.types import Difficulty, Example, Receipt
from tapir.wiring import Session


class HighestIfd(OneSet):
    """The highest ratios below 1: from 1 on, the instruction does not help to the answer, and Cherry leaves it out.

    student_0 stands in for Cherry's "pre-experienced" model (ours): it has seen the pool, and is there already.
    """

    name = "ifd"
    says = "the seeds of highest IFD, as many rows as `seed`"
    starts_from = "base"
    thousands = 11

    def gather(self, session: Session, ground: Ground) -> Sequence[Step]:
        def work(step: Step, receipt: Receipt) -> None:
            rows, answers = annotated(ground)
            weights = training.weights_of(ground.student.folder)
            given = session.answer_nll(weights, [(i, answers[i.id].text) for i in rows])
            alone = session.answer_nll(weights, [(scoring.NOTHING, answers[i.id].text) for i in rows])
            found = scoring.by_ifd(rows, given, alone, student="student_0", receipt=receipt)
            receipt.rows_out = step.write(Difficulty, found)

        after = [ground.pool, ground.answers, ground.student]
        return [session.step("round_1/01_ifd", work, version=1, settings=[model_mark(session, "student")], after=after)]

    def choose(self, session: Session, ground: Ground, gathered: Sequence[Step], rng: random.Random) -> list[Example]:
        (scores,) = gathered
        ranked = sorted((d for d in scores.read(Difficulty) if d.value < 1), key=lambda d: (-d.value, d.instruction_id))
        chosen = {d.instruction_id for d in ranked[: session.recipe.mix.size]}
        rows, answers = annotated(ground)
        return examples((i for i in rows if i.id in chosen), answers, chosen)
