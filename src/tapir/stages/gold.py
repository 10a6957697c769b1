"""Pairs with human labels: reading them in, and the judge's verdicts on them as agreement rows.

Owns the file form (instruction, answer_1, answer_2, label). Judging them is `stages.judge`'s, the statistics are
`curriculum.trust`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tapir.curriculum.difficulty import votes_by_pair
from tapir.curriculum.trust import GoldRow, Winner
from tapir.errors import DataError
from tapir.store.tables import read_numbered
from tapir.types import Instruction, Verdict, content_id

LABELS: dict[str, Winner] = {
    "1": "1", "answer_1": "1", "a": "1", "model_a": "1",
    "2": "2", "answer_2": "2", "b": "2", "model_b": "2",
    "tie": "tie", "0": "tie", "draw": "tie", "both": "tie",
}  # fmt: skip
SOFT_TIE = 0.5
"""Expected scores are hardly ever equal: nearer than half a point is a tie."""


@dataclass(frozen=True, slots=True)
class GoldPair:
    """Two answers and which of them a person found better."""

    name: str
    instruction: Instruction
    answer_1: str
    answer_2: str
    label: Winner


def pair_mark(answer_1: str, answer_2: str) -> str:
    """Stands for these two texts in this order: what a person said of them holds for no others."""
    return content_id(answer_1, answer_2)


def read_gold(path: Path) -> list[GoldPair]:
    """The pairs of a JSONL or Parquet file; a row that cannot be used is an error with its line."""
    found = [_pair(row, n, f"{path}:{line}") for n, (line, row) in enumerate(read_numbered(path), 1)]
    if not found:
        raise DataError(f"{path}: it holds no pairs; each row has instruction, answer_1, answer_2 and label")
    return found


def _pair(row: dict[str, Any], number: int, where: str) -> GoldPair:
    texts = [row.get(name) for name in ("instruction", "answer_1", "answer_2")]
    if not all(isinstance(text, str) for text in texts):
        raise DataError(f"{where}: a pair needs instruction, answer_1, answer_2 (texts) and label")
    label = LABELS.get(str(row.get("label")).strip().lower())
    if label is None:
        raise DataError(f"{where}: label {row.get('label')!r} is none of 1, 2 and tie")
    instruction, first, second = (str(text) for text in texts)
    # The name keeps rows apart that ask the same thing.
    return GoldPair(f"pair_{number}", Instruction(instruction), first, second, label)


def gold_rows(pairs: Sequence[GoldPair], verdicts: Iterable[Verdict]) -> list[GoldRow]:
    """What the judge said in both orders; answer 1 was judged in the student's place under the pair's name."""
    votes = votes_by_pair(verdicts)
    rows: list[GoldRow] = []
    for pair in pairs:
        seen = votes.get((pair.instruction.id, pair.name))
        first, second = (seen.student_first, seen.teacher_first) if seen and seen.scored else ([], [])
        margin = SOFT_TIE if seen and seen.soft else 0.0
        rows.append(GoldRow(pair.label, _winner(first, margin), _winner(second, margin)))
    return rows


def _winner(gaps: Sequence[float], margin: float) -> Winner | None:
    """By the mean gap, answer 2 − answer 1."""
    if not gaps:
        return None
    mean = sum(gaps) / len(gaps)
    if abs(mean) <= 1e-9 or abs(mean) < margin:
        return "tie"
    return "2" if mean > 0 else "1"
