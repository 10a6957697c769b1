"""D_S expanded as it is, without quotas and without better answers: "Direct Expantion"."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from tapir.config import Recipe, rewritten
from tapir.curriculum.mixture import apportion
from tapir.pipeline import Ground
from tapir.stages import annotate as annotating
from tapir.stages import decontaminate as decontaminating
from tapir.stages.decontaminate import Contaminated
from tapir.steps.common import answers_of, contamination_mark, instructions_of, model_mark, passes_in, plain
from tapir.steps.rounds import grown_from
from tapir.store.lookup import layered
from tapir.store.rundir import Step
from tapir.strategies.strategy import OneSet, annotated, drawn, examples, hard_seeds
from tapir.types import Answer, Example, Instruction, Receipt, Rejection
from tapir.wiring import Session


class DirectExpansion(OneSet):
    """New rows in the task mix that the hard seeds happen to have, parents drawn evenly, direct answers."""

    name = "direct_expansion"
    says = "the hard seeds expanded without task quotas, direct answers"
    starts_from = "student_0"
    thousands = 70

    def arrange(self, recipe: Recipe, rows: int) -> Recipe:
        growth = recipe.expand.per_round * recipe.curriculum.rounds
        return rewritten(super().arrange(recipe, rows), f"expand.per_round={growth}")

    def gather(self, session: Session, ground: Ground) -> Sequence[Step]:
        grown = self._expand(session, ground)
        return [grown, self._answer(session, grown)]

    def _expand(self, session: Session, ground: Ground) -> Step:
        recipe = session.recipe

        def work(step: Step, receipt: Receipt) -> None:
            parents = hard_seeds(ground)
            tasks = Counter(str(i.task) for i in parents)
            missing = max(0, (recipe.mix.size or 0) - len(parents)) if parents else 0
            wanted = apportion(tasks, min(missing, recipe.expand.per_round))
            rejections: list[Rejection] = []
            known, answers = annotated(ground)
            taken = grown_from(session, 1, wanted, parents, known, {}, answers, rejections, receipt)
            step.write(Rejection, rejections, "rejected")
            step.write(Instruction, taken)

        settings = [self.name, recipe.mix.size, plain(recipe.expand), recipe.seed, model_mark(session, "teacher"),
                    contamination_mark(session)]  # fmt: skip
        after = [ground.pool, ground.answers, ground.hard]
        return session.step("round_1/01_expanded", work, version=2, settings=settings, after=after)

    def _answer(self, session: Session, grown: Step) -> Step:
        def work(step: Step, receipt: Receipt) -> None:
            sampling = session.sampling("teacher", "writing")
            rows = annotating.answer_as_teacher(
                instructions_of(grown), session.caller("teacher"), sampling, passes=passes_in(session), receipt=receipt
            )
            found: list[Contaminated] = []
            clean = decontaminating.without_contaminated_answers(rows, session.contamination(), found, receipt)
            step.write(Answer, clean)
            step.write(Contaminated, found, "contaminated")

        settings = [self.name, model_mark(session, "teacher"), contamination_mark(session)]
        return session.step("round_1/03_direct_answers", work, version=1, settings=settings, after=[grown])

    def choose(self, session: Session, ground: Ground, gathered: Sequence[Step], rng: random.Random) -> list[Example]:
        grown, answered = gathered
        answers = layered(answers_of(answered), annotated(ground)[1])
        rows = [i for i in [*hard_seeds(ground), *instructions_of(grown)] if i.id in answers]
        rows = drawn(rows, session.recipe.mix.size, rng)
        return examples(rows, answers, (i.id for i in rows))
