"""A table of one run beside the same table of another, row by row: counts, and the first rows that differ.

DuckDB reads both Parquet files and keeps a sum of digests for each instruction, so tables may be of any size. Which
tables are compared is `differences`'.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from tapir.errors import DataError
from tapir.store.confined import confined, rows_of

IDS = ("id", "instruction_id")
MOST_NAMED = 1_000
"""Ids that are named of each kind of change; the counts are of all."""
MOST_SHOWN = 5
"""Changed rows of which the columns are compared."""
MOST_CHARS = 300


@dataclass(frozen=True, slots=True)
class Ids:
    """How many there are, and the first of them in the order of their ids."""

    count: int = 0
    first: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CellChange:
    """One column of one row that both have, with what each run says, cut short."""

    id: str
    column: str
    a: str
    b: str


@dataclass(frozen=True, slots=True)
class TableChange:
    """A table's rows by their instruction. `changed` are those that both have with other content."""

    rows_a: int
    rows_b: int
    added: Ids
    removed: Ids
    changed: Ids
    cells: tuple[CellChange, ...] = ()

    @property
    def same(self) -> bool:
        return not (self.added.count or self.removed.count or self.changed.count)


def table_change(a: Path | None, b: Path | None) -> TableChange:
    """What differs between two tables; None is a table that its run lacks."""
    with confined(*{path.parent for path in (a, b) if path}) as db:
        try:
            sides = {"a": _side(a), "b": _side(b)}
            for name, side in sides.items():
                db.execute(
                    f"CREATE TABLE {name} AS SELECT key, count(*) AS n, sum(md5_number_lower(row)) AS digest "
                    f"FROM ({side}) GROUP BY key"
                )
            added, removed = _ids(db, "FROM b ANTI JOIN a USING (key)"), _ids(db, "FROM a ANTI JOIN b USING (key)")
            changed = _ids(db, "FROM a JOIN b USING (key) WHERE a.n <> b.n OR a.digest <> b.digest")
            cells = tuple(_cells(db, sides, changed.first[:MOST_SHOWN]))
        except (duckdb.Error, pa.ArrowInvalid, OSError) as error:
            raise DataError(f"{a or b}: cannot be compared ({str(error).splitlines()[0]})") from None
    return TableChange(_rows(a), _rows(b), added, removed, changed, cells)


def _rows(path: Path | None) -> int:
    return pq.read_metadata(path).num_rows if path else 0


def _side(path: Path | None) -> str:
    """Each row as one text, columns by name, under its instruction's id; a row without one stands for itself."""
    if path is None:
        return "SELECT NULL::VARCHAR AS key, NULL::VARCHAR AS row WHERE false"
    names = sorted(pq.read_schema(path).names)
    packed = ", ".join(f"{_quoted(n)} := {_quoted(n)}" for n in names)
    ids = [f"nullif({_quoted(n)}, '')" for n in IDS if n in names]
    key = f"coalesce({', '.join([*ids, 'left(md5(row), 16)'])})"
    file = str(path.resolve()).replace("'", "''")
    return f"SELECT {key} AS key, row FROM (SELECT *, to_json(struct_pack({packed}))::VARCHAR AS row " + (
        f"FROM read_parquet('{file}'))"
    )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _ids(db: duckdb.DuckDBPyConnection, found: str) -> Ids:
    (counted,) = rows_of(db, f"SELECT count(*) AS n {found}")
    first = rows_of(db, f"SELECT key {found} ORDER BY key LIMIT {MOST_NAMED}") if counted["n"] else []
    return Ids(int(counted["n"]), tuple(str(row["key"]) for row in first))


def _cells(db: duckdb.DuckDBPyConnection, sides: dict[str, str], ids: Sequence[str]) -> Iterator[CellChange]:
    found: dict[str, dict[str, list[str]]] = {name: {} for name in sides}
    for name, side in sides.items() if ids else ():
        for row in rows_of(db, f"SELECT * FROM ({side}) WHERE key IN (SELECT unnest($ids)) ORDER BY ALL", {"ids": ids}):
            found[name].setdefault(row["key"], []).append(row["row"])
    for i in ids:
        mine, theirs = found["a"][i], found["b"][i]
        if len(mine) != len(theirs):
            yield CellChange(i, "rows", str(len(mine)), str(len(theirs)))
            continue
        for x, y in zip(mine, theirs, strict=True):
            yield from _columns(i, json.loads(x), json.loads(y))


def _columns(i: str, a: dict[str, Any], b: dict[str, Any]) -> Iterator[CellChange]:
    for name in sorted(a.keys() | b.keys()):
        if a.get(name) != b.get(name):
            yield CellChange(i, name, _short(a.get(name)), _short(b.get(name)))


def _short(value: Any) -> str:
    said = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return said if len(said) <= MOST_CHARS else f"{said[: MOST_CHARS - 1]}…"
