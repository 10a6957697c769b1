"""A person's marks as input of the steps: dropped instructions, corrected labels, verdicts marked wrong.

A step's settings hold the marks that bear on it, so that it is stale once there is a new one; a run without marks has
the fingerprints it always had. Reading and writing marks is `tapir.store.marks`'.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from tapir.stages.gold import pair_mark
from tapir.steps.common import answers_of, earlier
from tapir.store.lookup import Rows
from tapir.store.marks import read_marks, standing
from tapir.types import Instruction, Receipt, Verdict
from tapir.wiring import Session

DROPPED = "dropped by a person"
MARKED_WRONG = "verdict marked wrong by a person"
POOL, VERDICTS, HELD_OUT = "round_0/02_classified", "round_0/06_verdicts", "round_0/08_held_out"


@dataclass(frozen=True, slots=True)
class Corrections:
    """What people want of the instructions that one step hands on."""

    dropped: frozenset[str] = frozenset()
    labels: dict[str, str] = field(default_factory=lambda: dict[str, str]())

    @property
    def settings(self) -> list[Any]:
        """For the step's fingerprint; nothing where there are no marks."""
        if not self.dropped and not self.labels:
            return []
        return [["marks", sorted(self.dropped), sorted(self.labels.items())]]

    def keep(self, rows: Rows[Instruction], receipt: Receipt) -> Rows[Instruction]:
        """The rows that nobody dropped; the others are in the receipt, as rows that came in."""
        kept = rows.where("id", lambda id: id not in self.dropped) if self.dropped else rows
        self.account(len(rows) - len(kept), receipt)
        return kept

    @staticmethod
    def account(count: int, receipt: Receipt) -> None:
        """So many rows were dropped by people."""
        if count:
            receipt.rows_in += count
            receipt.drop(DROPPED, count)

    def label(self, rows: Iterable[Instruction], receipt: Receipt) -> Iterator[Instruction]:
        """The rows with the labels that people gave."""
        corrected = 0
        for row in rows:
            if row.id in self.labels:
                row = replace(row, task=self.labels[row.id])
                corrected += 1
            yield row
        if corrected:
            receipt.notes["labels_by_a_person"] = corrected


def corrections(session: Session, place: str) -> Corrections:
    """The standing marks on rows of this step."""
    marks = [m for m in standing(read_marks(session.run.root)) if m.place == place]
    # A label that the taxonomy no longer has says nothing any more.
    labels = {m.instruction_id: m.value for m in marks if m.kind == "label" and m.value in session.taxonomy.names}
    return Corrections(frozenset(m.instruction_id for m in marks if m.kind == "drop"), labels)


def wrong_verdicts(session: Session) -> dict[str, str]:
    """Seeds whose verdict somebody marked wrong, with the pair of answers that it was about."""
    marks = standing(read_marks(session.run.root))
    return {
        m.instruction_id: m.pair
        for m in marks
        if (m.kind, m.value, m.place, m.student) == ("verdict", "wrong", VERDICTS, "student_0")
    }


def without_wrong(
    session: Session, verdicts: Iterable[Verdict], wrong: dict[str, str], receipt: Receipt
) -> Iterator[Verdict]:
    """Verdicts without those marked wrong: such a pair is unscored, neither hard nor proof that it is easy (ours)."""
    if not wrong:
        yield from verdicts
        return
    student, teacher = (
        answers_of(earlier(session, f"round_0/{name}")) for name in ("05_student_answers", "03_teacher_answers")
    )
    out: set[str] = set()
    for verdict in verdicts:
        i = verdict.instruction_id
        if i in wrong and i in student and i in teacher and wrong[i] == pair_mark(student[i].text, teacher[i].text):
            out.add(i)
        else:
            yield verdict
    receipt.rows_in += len(out)
    receipt.drop(MARKED_WRONG, len(out))
