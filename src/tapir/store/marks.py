"""What people have marked in a run: `marks.jsonl`, appended to and never rewritten.

Owns the file and which of several marks stands. What a mark does to a step is in `tapir.steps.judgement`, what it says
about the judge in `tapir.report.marked`.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from tapir.errors import DataError
from tapir.store.tables import read_plain

FILE = "marks.jsonl"
Kind = Literal["verdict", "preference", "drop", "label"]
VALUES: dict[Kind, tuple[str, ...] | None] = {
    "verdict": ("right", "wrong", ""),
    "preference": ("1", "2", "tie", ""),
    "drop": ("drop", ""),
    "label": None,
}
"""What each kind may say; a label is any task type. The empty value takes an earlier mark back."""


@dataclass(frozen=True, slots=True)
class Mark:
    """One judgement by one person. The same person's later mark on the same thing replaces it."""

    kind: Kind
    instruction_id: str
    value: str
    place: str
    """The step whose row this is about: the pool, a round's grown rows, or the verdicts."""
    author: str
    at: str
    """UTC, to the second."""
    student: str = ""
    """For verdicts and preferences: whose answer is number 1."""
    winner: str = ""
    """For verdicts and preferences: 1, 2 or tie, as the person sees it."""
    pair: str = ""
    """For verdicts and preferences: the content of both answers, so that the mark never speaks of later ones."""

    @property
    def about(self) -> tuple[str, ...]:
        """What a later mark must share to replace this one. Who is to be dropped is one question for everybody."""
        if self.kind in ("drop", "label"):
            return self.kind, self.instruction_id, self.place
        return self.kind, self.instruction_id, self.place, self.student, self.pair, self.author


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def append_mark(root: Path, mark: Mark) -> None:
    """Add one mark to a run. Safe beside other writers, and beside the run itself."""
    allowed = VALUES[mark.kind]
    if allowed is not None and mark.value not in allowed:
        raise DataError(
            f"a mark of kind {mark.kind} says one of {', '.join(filter(None, allowed))}, not {mark.value!r}"
        )
    line = json.dumps(dataclasses.asdict(mark), ensure_ascii=True) + "\n"
    with (root / FILE).open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(line.encode())
        file.flush()
        os.fsync(file.fileno())


def read_marks(root: Path) -> list[Mark]:
    """All marks in the order they were made; none where nobody has marked anything."""
    path = root / FILE
    if not path.exists():
        return []
    found: list[Mark] = []
    for number, row in enumerate(read_plain(path), 1):
        try:
            found.append(Mark(**row))
        except TypeError as error:
            raise DataError(f"{path}: row {number} is no mark ({error}); mend or remove it") from None
    return found


def standing(marks: Iterable[Mark]) -> list[Mark]:
    """The marks that have been neither replaced nor taken back."""
    last = {mark.about: mark for mark in marks}
    return [mark for mark in last.values() if mark.value]
