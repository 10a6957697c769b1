"""Which of two answers is trained on: the enhanced one, or the direct one (`refine.keep_better`).

Part of the step that writes enhanced answers; the choice itself is `stages.refine.better_of`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tapir.curriculum.difficulty import difficulties
from tapir.stages import annotate as annotating
from tapir.stages import judge as judging
from tapir.stages import refine as refining
from tapir.steps.common import passes_in
from tapir.store.lookup import layered
from tapir.store.rundir import Step
from tapir.types import Answer, Instruction, Receipt, Verdict
from tapir.wiring import Session

ENHANCED = "enhanced"
"""Stands in the student's place in these verdicts; the direct answer stands in the teacher's."""
VERDICTS = "verdicts"


def keep_better(
    session: Session,
    rows: Sequence[Instruction],
    answers: list[Answer],
    direct: Mapping[str, Answer],
    step: Step,
    receipt: Receipt,
) -> list[Answer]:
    """The answers with every enhanced one that the judge does not prefer replaced; the verdicts are kept."""
    instruction = {i.id: i for i in rows}
    rewritten = [a for a in answers if a.prompt == "refined"]
    late = annotating.answer_as_teacher(
        [instruction[a.instruction_id] for a in rewritten if a.instruction_id not in direct],
        session.caller("teacher"),
        session.sampling("teacher", "writing"),
        passes=passes_in(session),
        receipt=Receipt(receipt.stage),
    )
    index = session.contamination()
    known = layered({a.instruction_id: a for a in late if not index.hits(a.text)}, direct)
    pairs = [
        judging.Pair(instruction[a.instruction_id], ENHANCED, a.text, known[a.instruction_id].text)
        for a in rewritten
        if a.instruction_id in known
    ]
    # All pairs: what is not judged would silently lose its enhanced answer.
    plan = replace(session.judge_plan("judge"), max_pairs=None, adaptive_delta=None)
    step.write(Verdict, judging.judge(pairs, session.caller("judge"), plan, receipt=Receipt(receipt.stage)), VERDICTS)
    found = difficulties(step.read(Verdict, VERDICTS))
    return refining.better_of(answers, known, found, receipt=receipt)
