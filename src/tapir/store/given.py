"""Files that people bring, row by row: JSON, JSONL, CSV and Parquet, all in UTF-8.

Owns how such a file is read and where each of its rows stands. What a row says is the reader's business, and so is
whether a row that cannot be read costs itself (a pool's) or stops the reading (`every_row`).
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from tapir.errors import DataError

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A row that is none: the reason as a receipt counts it, what there is to say beside it, and what could be read."""

    reason: str
    detail: str = ""
    row: Row | None = None


Numbered = tuple[int, Row | Unreadable]
"""A row and its line (of CSV the one it ends in, of JSON and Parquet which row it is)."""
LONGEST_FIELD = 16 * 2**20
"""Characters of a CSV's field. Where a quote is not closed, the rest of the file is one field."""

SAID = {
    "broken_json": "not a JSON line",
    "not_an_object": "a row is a JSON object",
    "too_many_columns": "it has more fields than the file has columns",
    "not_utf8": "its text is not UTF-8; save the file in that encoding",
}
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")
"""What a byte that is not UTF-8 is read as. A pool may hold it too: JSON can escape half of a pair."""


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


def is_utf8(value: Any) -> bool:
    """Whether every text in this plain value can be written as UTF-8; a half character cannot."""
    if isinstance(value, str):
        return value.isascii() or _encodes(value)
    if isinstance(value, dict):
        return all(is_utf8(k) and is_utf8(v) for k, v in cast("dict[Any, Any]", value).items())
    return not isinstance(value, list | tuple) or all(is_utf8(v) for v in cast("list[Any]", value))


def _encodes(text: str) -> bool:
    try:
        text.encode()  # several times as fast as looking for halves
    except UnicodeEncodeError:
        return False
    return True


def mended(text: str) -> str:
    """The text with U+FFFD for what is not UTF-8 in it: enough to recognise it by, too little to train on."""
    return text if text.isascii() else _HALF_CHARACTER.sub("\ufffd", text)


@contextmanager
def _text(path: Path) -> Generator[IO[str]]:
    """The file as text, without a byte order mark; what is not UTF-8 in it comes as half characters."""
    refuse_folder(path)
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            yield file
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None


def refuse_folder(path: Path) -> None:
    """Say that a folder stands where a file is read."""
    if path.is_dir():
        raise DataError(f"{path}: this is a folder, not a file; name a file in it")


def json_lines(path: Path) -> Iterator[Numbered]:
    """One JSON object a line, whatever the file's ending."""
    with _text(path) as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                said = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
                yield number, Unreadable("not_utf8") if _foreign(line) else Unreadable("broken_json", said)
                continue
            yield number, _object(row, in_utf8=is_utf8(line))


def _foreign(text: str) -> bool:
    """Whether text that cannot be read is in another encoding; of UTF-16 every other byte is zero."""
    return "\0" in text or not is_utf8(text)


def _object(row: Any, *, in_utf8: bool) -> Row | Unreadable:
    if not isinstance(row, dict):
        return Unreadable("not_an_object")
    found = cast("Row", row)
    return found if in_utf8 else Unreadable("not_utf8", row=found)


def _json(path: Path) -> Iterator[Numbered]:
    with _text(path) as file:
        text = file.read()
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        if _foreign(text):
            raise DataError(f"{path}: {SAID['not_utf8']}") from None
        raise DataError(f"{path}: not valid JSON ({error}); for one object a line use the ending .jsonl") from None
    if isinstance(rows, dict):
        # Some files wrap their rows: one list under some key.
        lists = [v for v in cast("Row", rows).values() if isinstance(v, list)]
        rows = lists[0] if len(lists) == 1 else [rows]
    if not isinstance(rows, list):
        raise DataError(f"{path}: it holds {text.strip()[:40]!r}; give a list of objects, one a row")
    clean = is_utf8(text)
    for number, row in enumerate(cast("list[Any]", rows), 1):
        yield number, _object(row, in_utf8=clean or is_utf8(row))


def _csv(path: Path) -> Iterator[Numbered]:
    csv.field_size_limit(LONGEST_FIELD)
    with _text(path) as file:
        reader = csv.DictReader(file)
        try:
            if _foreign("".join(reader.fieldnames or ())):
                raise DataError(f"{path}:1: {SAID['not_utf8']}")
            for row in reader:
                found = Unreadable("too_many_columns") if None in row else _object(row, in_utf8=is_utf8(row))
                yield reader.line_num, found
        except csv.Error as error:
            line = reader.reader.line_num
            raise DataError(f"{path}:{line}: not CSV ({error}); is a quote before it not closed?") from None


def _parquet(path: Path) -> Iterator[Numbered]:
    # Here, not above: reading text needs no Arrow, which is slow to load.
    from tapir.store.tables import parquet_rows

    return parquet_rows(path)


_READERS = {".jsonl": json_lines, ".json": _json, ".csv": _csv, ".parquet": _parquet}
ENDINGS = tuple(_READERS)
