"""Files that people bring, row by row: JSON, JSONL, CSV and Parquet.

Owns how such a file is read and where each of its rows stands. What a row says is the reader's business, and so is
whether a row that cannot be read costs itself (a pool's) or stops the reading (`every_row`).
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from tapir.errors import DataError

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A row that is none: the reason as a receipt counts it, and what there is to say beside it."""

    reason: str
    detail: str = ""


Numbered = tuple[int, Row | Unreadable]
"""A row and its line (of JSON and Parquet: which row it is)."""

SAID = {
    "broken_json": "not a JSON line",
    "not_an_object": "a row is a JSON object",
    "too_many_columns": "it has more fields than the file has columns",
}


def numbered(path: Path) -> Iterator[Numbered]:
    """Every row of a file, by the file's ending (one of `ENDINGS`)."""
    return _READERS[path.suffix](path)


def every_row(path: Path) -> Iterator[tuple[int, Row]]:
    """The rows of a file that is of use only in whole; one that cannot be read is an error with its line."""
    return whole(path, numbered(path))


def whole(path: Path, rows: Iterator[Numbered]) -> Iterator[tuple[int, Row]]:
    """These rows, as long as each can be read."""
    for number, row in rows:
        if isinstance(row, Unreadable):
            raise DataError(f"{path}:{number}: {SAID[row.reason]}" + (f" ({row.detail})" if row.detail else ""))
        yield number, row


def json_lines(path: Path) -> Iterator[Numbered]:
    """One JSON object a line, whatever the file's ending."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                yield number, Unreadable("broken_json", error.msg)
                continue
            yield number, _object(row)


def _object(row: Any) -> Row | Unreadable:
    return cast("Row", row) if isinstance(row, dict) else Unreadable("not_an_object")


def _json(path: Path) -> Iterator[Numbered]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8-sig"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{path}: not valid JSON ({error}); for one object a line use the ending .jsonl") from None
    if isinstance(rows, dict):
        # Some files wrap their rows: one list under some key.
        lists = [v for v in cast("Row", rows).values() if isinstance(v, list)]
        rows = lists[0] if len(lists) == 1 else [rows]
    for number, row in enumerate(cast("list[Any]", rows), 1):
        yield number, _object(row)


def _csv(path: Path) -> Iterator[Numbered]:
    with path.open(encoding="utf-8-sig", newline="", errors="surrogateescape") as file:
        for number, row in enumerate(csv.DictReader(file), 2):
            yield number, Unreadable("too_many_columns") if None in row else row


def _parquet(path: Path) -> Iterator[Numbered]:
    # Here, not above: reading text needs no Arrow, which is slow to load.
    from tapir.store.tables import batches

    number = 0
    for batch in batches(path):
        for row in batch.to_pylist():
            number += 1
            yield number, row


_READERS = {".jsonl": json_lines, ".json": _json, ".csv": _csv, ".parquet": _parquet}
ENDINGS = tuple(_READERS)
