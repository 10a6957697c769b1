"""What a seed pool holds before anything is spent on it: its form, what would be dropped and why, lengths, languages.

Reads as a run reads (`stages.seeds`), so that what it counts is what a run would drop. Evaluation texts are
`stages.decontaminate`'s.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from tapir.config import Seeds
from tapir.curriculum.dedup import repeated_instructions
from tapir.curriculum.languages import language_of
from tapir.curriculum.words import words
from tapir.stages.seeds import form_of, load_pool, read_source
from tapir.types import Receipt

UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True)
class Lengths:
    """Words of a text: the shortest, quartiles, 95th percentile, the longest."""

    shortest: int
    quarter: int
    median: int
    three_quarters: int
    nearly_all: int
    longest: int


@dataclass(frozen=True, slots=True)
class PoolCheck:
    """What one file or folder holds."""

    form: str
    rows: int
    instructions: int
    """Usable ones, duplicates left out."""
    answers: int
    checks: int
    dropped: dict[str, int]
    problems: list[tuple[str, str]]
    """Where unreadable rows stood, and why they are."""
    near_duplicates: list[tuple[str, str, float]]
    """The text, the one it repeats, and their ROUGE-L."""
    languages: dict[str, int]
    tasks: dict[str, int]
    instruction_words: Lengths | None = None
    answer_words: Lengths | None = None


def check_pool(settings: Seeds) -> PoolCheck:
    """Read the pool once as a run would, and count."""
    receipt = Receipt("seeds")
    form = form_of(settings, list(read_source(settings)))
    pool = load_pool(settings, seed=0, receipt=receipt)
    rows = {i.id: i for i in pool.instructions}
    repeated = repeated_instructions(pool.instructions) if settings.near_duplicates else []
    receipt.drop("near_duplicate", len(repeated))
    kept = [i for i in rows.values() if i.id not in {d.id for d in repeated}]
    tasks = Counter(i.task for i in kept if i.task)
    return PoolCheck(
        form=form,
        rows=receipt.rows_in,
        instructions=len(kept),
        answers=sum(i.id in pool.answers for i in kept),
        checks=sum(i.check is not None for i in kept),
        dropped=dict(sorted((reason, n) for reason, n in receipt.dropped.items() if n)),
        problems=pool.problems,
        near_duplicates=[(rows[d.id].text, rows[d.of].text, d.score) for d in repeated],
        languages=dict(Counter(language_of(i.text) or UNCLEAR for i in kept).most_common()),
        tasks=dict(tasks.most_common()),
        instruction_words=_lengths(i.text for i in kept),
        answer_words=_lengths(pool.answers[i.id] for i in kept if i.id in pool.answers),
    )


def _lengths(texts: Iterable[str]) -> Lengths | None:
    counts = sorted(len(words(text)) for text in texts)
    if not counts:
        return None
    last = len(counts) - 1
    return Lengths(*(counts[round(last * share)] for share in (0, 0.25, 0.5, 0.75, 0.95, 1)))
