"""Print random expansions and refinements of a run as they came, and how many were taken, as Markdown for the lab log.

    python scripts/samples.py runs/small --count 10 --seed 1

Nothing is chosen by hand: the same run and seed print the same rows.
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from tapir.cli.terminal import printable
from tapir.store.tables import read_rows
from tapir.types import Instruction, Refinement, Rejection

Row = TypeVar("Row")
WIDEST = 400


def main() -> None:
    """Print what the options ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    pool = {i.id: i for i in _all(options.run, "round_0/*_classified.parquet", Instruction)}
    grown = list(_all(options.run, "round_*/01_expanded.parquet", Instruction))
    refused = list(_all(options.run, "round_*/01_expanded.rejected.parquet", Rejection))
    refined = list(_all(options.run, "round_*/*_refined.parquet", Refinement))
    known = pool | {i.id: i for i in grown}
    rng = random.Random(options.seed)
    for line in [*_expansions(_drawn(grown, options.count, rng), known), *_acceptance(grown, refused)]:
        print(line)
    for line in [*_refinements(_drawn(refined, options.count, rng), known), *_fallbacks(refined)]:
        print(line)


def _all(run: Path, pattern: str, row_type: type[Row]) -> Iterator[Row]:
    for path in sorted(run.glob(pattern)):
        yield from read_rows(path, row_type)


def _drawn(rows: list[Row], count: int, rng: random.Random) -> list[Row]:
    return rng.sample(rows, min(count, len(rows)))


def _expansions(rows: Iterable[Instruction], known: dict[str, Instruction]) -> Iterator[str]:
    for number, row in enumerate(rows, 1):
        yield f"{number}. {row.task}, from: {_said(known[row.parent_id or ''].text)}"
        yield f"   - {_said(row.text)}"


def _acceptance(grown: list[Instruction], refused: list[Rejection]) -> Iterator[str]:
    made = len(grown) + len(refused)
    reasons = Counter(r.reason for r in refused)
    yield f"\nExpansion: {len(grown)} of {made} taken; refused: {_counts(reasons)}\n"


def _refinements(rows: Iterable[Refinement], known: dict[str, Instruction]) -> Iterator[str]:
    for number, row in enumerate(rows, 1):
        original = known[row.instruction_id]
        yield f"{number}. {original.task}: {_said(original.text)}"
        yield f"   - {'fell back: ' + row.fallback if row.fallback else _said(row.text)}"


def _fallbacks(refined: list[Refinement]) -> Iterator[str]:
    reasons = Counter(r.fallback for r in refined if r.fallback)
    kept = len(refined) - reasons.total()
    yield f"\nRefinement: {kept} of {len(refined)} kept; fell back: {_counts(reasons)}"


def _counts(reasons: Counter[str]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in reasons.most_common()) or "none"


def _said(text: str) -> str:
    line = " ⏎ ".join(printable(text).split("\n"))
    return line if len(line) <= WIDEST else f"{line[: WIDEST - 1]}…"


if __name__ == "__main__":
    main()
