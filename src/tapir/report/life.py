"""One instruction's whole life: every row of a run that is about it, in the order of the steps.

Owns which rows those are; `tapir show ID` prints them, the studio lays them out. Only the columns that name an
instruction are read in full, so that a run may be large.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tapir.store.confined import confined, rows_of
from tapir.store.rundir import RunDir

OWN_COLUMNS = ("instruction_id", "id", "parent_id")
MOST_ROWS = 200
"""Of one table: a parent has a few children and a pair a few votes; more is somebody's two-letter prefix."""


@dataclass(frozen=True, slots=True)
class Event:
    """One row about the instruction."""

    place: str
    """The table, for instance `round_0/07_hard.all`."""
    row: dict[str, Any]

    @property
    def own(self) -> bool:
        """The instruction's own row, not one that only names it as its parent."""
        return "instruction_id" in self.row or "id" in self.row


def tables(run: RunDir) -> dict[str, Path]:
    """The run's tables by place, in the order of the steps."""
    paths = sorted(run.root.glob("round_*/*.parquet"), key=lambda p: (int(p.parent.name[6:]), p.name))
    return {str(p.relative_to(run.root)).removesuffix(".parquet"): p for p in paths}


def life(run: RunDir, wanted: str) -> list[Event]:
    """Rows about the instruction of this id, or of an id that begins so."""
    return list(_events(run, 'starts_with("{}", $wanted)', wanted))


def lives(run: RunDir, ids: Sequence[str]) -> dict[str, list[Event]]:
    """Rows about each of these instructions; every table is read once for all of them."""
    found: dict[str, list[Event]] = {i: [] for i in ids}
    # Equality can skip whole parts of a file, which a prefix cannot.
    for event in _events(run, '"{}" IN (SELECT unnest($wanted))', list(ids)):
        for i in dict.fromkeys(str(event.row[n]) for n in OWN_COLUMNS if event.row.get(n) in found):
            found[i].append(event)
    return found


def _events(run: RunDir, fits: str, wanted: str | list[str]) -> Iterator[Event]:
    with confined(run.root) as db:
        for place, path in tables(run).items():
            names = [n for n in OWN_COLUMNS if n in pq.read_schema(path).names]
            if names:
                clause = " OR ".join(fits.format(n) for n in names)
                query = f"SELECT * FROM read_parquet($path) WHERE {clause} LIMIT {MOST_ROWS}"
                for row in rows_of(db, query, {"wanted": wanted, "path": str(path)}):
                    yield Event(place, row)
