"""What people's marks say about the run's own judge: pairs that a person and the judge have both decided.

Owns joining marks with the verdicts and texts that they are about; the statistics are `curriculum.trust`'s. No model is
asked: the verdicts are the run's.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tapir.curriculum.trust import GoldReport, GoldRow, Winner, gold_report
from tapir.stages.gold import GoldPair, gold_rows, pair_mark
from tapir.store.marks import Mark, read_marks, standing
from tapir.store.rundir import RunDir
from tapir.store.tables import read_rows
from tapir.types import Answer, Instruction, Verdict

SEED = 17
BY_JUDGE = ("text", "schema", "soft")
"""Methods by which a judge decides; checks and identical answers are no judgement of its."""


@dataclass(frozen=True, slots=True)
class JudgedPairs:
    """A table of verdicts with both answers of its pairs: number 1 is the student's."""

    place: str
    verdicts: Path
    first: Path
    second: Path
    against: str


@dataclass(frozen=True, slots=True)
class MarkedReport:
    """Agreement of the judge with people."""

    agreement: GoldReport
    people: int
    blind: int
    """Pairs that somebody decided without seeing the verdict; of the others it was marked right or wrong."""


def judged_pairs(run: RunDir) -> list[JudgedPairs]:
    """The verdict tables that are there: the selection's, then each evaluation's."""
    base = run.root / "round_0"
    found = [
        JudgedPairs(
            "round_0/06_verdicts", base / "06_verdicts.parquet", base / "05_student_answers.parquet",
            base / "03_teacher_answers.parquet", "teacher",
        )
    ]  # fmt: skip
    folders = sorted((p for p in run.root.glob("round_*") if p != base), key=lambda p: int(p.name[6:]))
    found += [
        JudgedPairs(
            f"{folder.name}/06_evaluation.verdicts", folder / "06_evaluation.verdicts.parquet",
            folder / "06_evaluation.answers.parquet", base / "09_evaluation.answers.parquet", "student_0",
        )
        for folder in folders
    ]  # fmt: skip
    for number, folder in [(0, base), *((int(f.name[6:]), f) for f in folders)]:
        step = "09_evaluation" if number == 0 else "06_evaluation"
        found.append(
            JudgedPairs(
                f"{folder.name}/{step}.teacher_verdicts", folder / f"{step}.teacher_verdicts.parquet",
                folder / f"{step}.answers.parquet", base / "08_held_out.answers.parquet", "teacher",
            )
        )  # fmt: skip
    return [p for p in found if all(path.exists() for path in (p.verdicts, p.first, p.second))]


def marked_gold(run: RunDir) -> list[tuple[Mark, GoldRow]]:
    """Every standing mark that names a winner of answers which the run still holds, with the judge's verdict."""
    marks = [m for m in standing(read_marks(run.root)) if m.winner]
    found: list[tuple[Mark, GoldRow]] = []
    for pairs in judged_pairs(run):
        here = [m for m in marks if m.place == pairs.place]
        if here:
            found += _rows(pairs, here)
    return found


def _rows(pairs: JudgedPairs, marks: list[Mark]) -> Iterator[tuple[Mark, GoldRow]]:
    wanted = {m.instruction_id for m in marks}
    first, second = _texts(pairs.first, wanted), _texts(pairs.second, wanted)
    verdicts = [v for v in read_rows(pairs.verdicts, Verdict) if v.instruction_id in wanted and v.method in BY_JUDGE]
    judged = {v.instruction_id for v in verdicts}
    kept = [
        m
        for m in marks
        if m.instruction_id in judged & first.keys() & second.keys()
        and m.pair == pair_mark(first[m.instruction_id], second[m.instruction_id])
    ]
    gold = [
        # Only the id matters here: the verdicts are found by it.
        GoldPair(m.student, Instruction("", id=m.instruction_id), "", "", _winner(m))
        for m in kept
    ]
    yield from zip(kept, gold_rows(gold, verdicts), strict=True)


def _winner(mark: Mark) -> Winner:
    return "1" if mark.winner == "1" else "2" if mark.winner == "2" else "tie"


def _texts(path: Path, wanted: set[str]) -> dict[str, str]:
    return {a.instruction_id: a.text for a in read_rows(path, Answer) if a.instruction_id in wanted}


def marked_report(run: RunDir) -> MarkedReport | None:
    """The judge against people; None where nobody has decided a pair that it judged."""
    found = marked_gold(run)
    if not found:
        return None
    people = {m.author for m, _ in found}
    blind = {_pair(m) for m, _ in found if m.kind == "preference"}
    report = gold_report([row for _, row in found], random.Random(SEED), pairs=[_pair(m) for m, _ in found])
    return MarkedReport(report, len(people), len(blind))


def _pair(mark: Mark) -> tuple[str, str, str]:
    """What several people, or one in two ways, may have judged."""
    return mark.place, mark.instruction_id, mark.student
