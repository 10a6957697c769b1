"""Keeping evaluation texts out of what is trained on: instructions, and answers alike, each match kept for review.

What counts as a match is `curriculum.contamination`'s; where evaluation texts come from, `stages.seeds` and
`evaluation.benchmarks`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tapir.curriculum.contamination import SHORTEST, ContaminationIndex
from tapir.curriculum.words import words
from tapir.errors import DataError
from tapir.store.given import every_row
from tapir.types import Answer, Dropped, Instruction, KeepDropped, Receipt, forget

Part = Literal["instruction", "answer"]
REVIEW_ENDINGS = (".jsonl", ".parquet", ".csv")
TRUE = ("true", "1", "yes")


@dataclass(frozen=True, slots=True)
class Contaminated:
    """A text that repeats an evaluation item, with both texts: what a person reviews, and `allow` the answer."""

    instruction_id: str
    part: Part
    evaluation_set: str
    item_id: str
    kind: str
    """`ngram` (13 words in a row), `whole_text` (an item shorter than that) or `near_duplicate` (ROUGE-L)."""
    score: float
    start: int
    end: int
    """The span of `text` that the item has too."""
    matched_text: str
    text: str
    """The answer, or the turn or system text of the instruction, that it stands in."""
    item_text: str
    allow: bool = False
    """Set by a person: this match is fine (`decontaminate.allow`)."""

    @property
    def item(self) -> str:
        return f"{self.evaluation_set}/{self.item_id}"


def matches(row_id: str, part: Part, text: str, index: ContaminationIndex) -> list[Contaminated]:
    """Every evaluation item that this text repeats."""
    return [
        Contaminated(row_id, part, h.set_name, h.item_id, h.kind, h.score, *h.span, h.matched_text, text, h.item_text)
        for h in index.hits(text, row_id)
    ]


def matches_of(
    instruction: Instruction, index: ContaminationIndex, answers: Mapping[str, str] | None = None
) -> list[Contaminated]:
    """Matches of an instruction, of its system text and earlier turns, and of the answer that came with it.

    Each text is looked at by itself: in a joined one a near duplicate is lost among the words around it.
    """
    found = [m for said in _said(instruction) for m in matches(instruction.id, "instruction", said, index)]
    answer = (answers or {}).get(instruction.id, "")
    return [*found, *matches(instruction.id, "answer", answer, index)]


def _said(instruction: Instruction) -> list[str]:
    """The texts of an instruction, each once. "Hi" and "Yes." count alone, not as a turn of a conversation."""
    said = [m.content for m in instruction.messages()]
    return list(dict.fromkeys(text for text in said if len(said) == 1 or len(words(text)) >= SHORTEST))


def without_contamination(
    instructions: list[Instruction], answers: Mapping[str, str], index: ContaminationIndex, receipt: Receipt
) -> tuple[list[Instruction], list[Contaminated]]:
    """Instructions that repeat no evaluation text, neither themselves nor in their answer, and what the others hit."""
    kept: list[Instruction] = []
    found: list[Contaminated] = []
    for instruction in instructions:
        hits = matches_of(instruction, index, answers)
        found += hits
        if hits:
            receipt.drop("contaminated")
        else:
            kept.append(instruction)
    return kept, found


def without_contaminated_answers(
    answers: Iterable[Answer],
    index: ContaminationIndex,
    found: list[Contaminated],
    receipt: Receipt,
    dropped: KeepDropped = forget,
) -> Iterator[Answer]:
    """Answers that repeat no evaluation text; the others are taken back from the receipt and added to `found`."""
    for answer in answers:
        hits = matches(answer.instruction_id, "answer", answer.text, index)
        found += hits
        if hits:
            receipt.rows_out -= 1
            receipt.drop("contaminated")
            dropped(Dropped("contaminated", answer.text, answer.instruction_id, repeats=hits[0].item))
        else:
            yield answer


def allowed(entries: Iterable[str]) -> list[str]:
    """What `ContaminationIndex` is told to let pass: ids as they stand, and the marked matches of reviewed tables."""
    found: list[str] = []
    for entry in entries:
        path = Path(entry)
        if path.suffix not in REVIEW_ENDINGS:
            found.append(entry)
            continue
        if not path.exists():
            raise DataError(
                f"{path}: there is no such file; decontaminate.allow names ids, or a reviewed table of matches"
            )
        for number, row in every_row(path):
            if str(row.get("allow", "")).lower() not in TRUE:
                continue
            try:
                found.append(f"{row['instruction_id']} {row['evaluation_set']}/{row['item_id']}")
            except KeyError as error:
                raise DataError(
                    f"{path}:{number}: a reviewed match has no {error.args[0]}; start from the table that "
                    "`tapir data decontaminate FILE -o matches.jsonl` writes"
                ) from None
    return found
