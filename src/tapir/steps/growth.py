"""Grown instructions judged with the current student (`expand.check_difficulty`; ours), and which of them are easy.

Part of the expansion step: its tables stand beside the grown rows, and are not there where the recipe does not ask.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TypeVar

from tapir.curriculum.difficulty import difficulties
from tapir.stages import annotate as annotating
from tapir.stages import judge as judging
from tapir.stages import train as training
from tapir.steps.common import answers_of, earlier, instructions_of, passes_in
from tapir.store.rundir import Step
from tapir.types import Answer, Difficulty, Instruction, Receipt, Verdict
from tapir.wiring import Session

MEASURED, EASY, DIRECT, ATTEMPTS, VERDICTS = "difficulty", "easy", "direct", "student_answers", "verdicts"
"""Tables of an expansion step: all difficulties, those not above δ, the teacher's and the student's answers."""
Row = TypeVar("Row")


def read(step: Step, row_type: type[Row], name: str) -> Iterator[Row]:
    """A table of the check; nothing where grown rows were not judged."""
    if step.table(name).exists():
        yield from step.read(row_type, name)


def parts(step: Step) -> tuple[list[Instruction], list[Instruction]]:
    """A round's grown rows: the hard ones (unmeasured ones among them, as the paper takes them), and the easy ones."""
    easy = {d.instruction_id for d in read(step, Difficulty, EASY)}
    rows = instructions_of(step)
    return [i for i in rows if i.id not in easy], [i for i in rows if i.id in easy]


def judge(session: Session, number: int, taken: list[Instruction], student: Step, step: Step, receipt: Receipt) -> None:
    """Answers of student and teacher to the grown rows, verdicts, difficulties, and which are not above round 0's δ."""
    name, stage = f"student_{number - 1}", receipt.stage
    attempts = list(
        annotating.answer_as_student(
            taken,
            session.student(training.weights_of(student.folder)),
            session.sampling("student", "student"),
            author=name,
            round=number - 1,
            receipt=Receipt(stage),
        )
    )
    step.write(Answer, attempts, ATTEMPTS)
    direct = annotating.answer_as_teacher(
        taken,
        session.caller("teacher"),
        session.sampling("teacher", "writing"),
        passes=passes_in(session),
        receipt=Receipt(stage),
    )
    index = session.contamination()
    step.write(Answer, (a for a in direct if not index.hits(a.text)), DIRECT)
    own, theirs = {a.instruction_id: a.text for a in attempts}, answers_of(step, DIRECT)
    pairs = [judging.Pair(i, name, own[i.id], theirs[i.id].text) for i in taken if i.id in own and i.id in theirs]
    # Every grown row is to be placed: a limit or a first look meant for the pool would leave some unmeasured.
    plan = replace(session.judge_plan("judge"), max_pairs=None, adaptive_delta=None)
    step.write(Verdict, judging.judge(pairs, session.caller("judge"), plan, receipt=Receipt(stage)), VERDICTS)
    found = difficulties(step.read(Verdict, VERDICTS))
    delta = _delta(session)
    easy = [d for d in found if delta is not None and d.value <= delta]
    step.write(Difficulty, found, MEASURED)
    step.write(Difficulty, easy, EASY)
    receipt.notes["difficulty"] = {
        "delta": delta, "measured": len(found), "to_easy": len(easy), "unmeasured": len(taken) - len(found)
    }  # fmt: skip


def _delta(session: Session) -> float | None:
    """δ as round 0 applied it to judged seeds; a quantile or count that met none gives no threshold."""
    notes = (earlier(session, "round_0/07_hard").receipt() or {}).get("notes", {})
    given = session.recipe.difficulty.delta
    return notes.get("delta_mfd", float(given) if isinstance(given, int | float) else None)
