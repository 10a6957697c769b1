"""Ledger entries as files that people keep and share: JSON lines, plain or gzipped, in the order of addresses.

An imported entry comes from somewhere else: its address is recomputed from its request, and it keeps its origin.
"""

from __future__ import annotations

import gzip
import heapq
import io
import itertools
import json
import zlib
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from tapir.errors import DataError
from tapir.models import records
from tapir.models.ledger import Entry, Ledger, is_ledger, is_sqlite

FORM = "tapir-ledger-1"
IMPORT_ROWS = 1000


def export(
    ledger: Ledger,
    path: Path | str,
    *,
    keys: frozenset[str] | None = None,
    identity: str | None = None,
    stage: str | None = None,
    recordings: Sequence[Path] = (),
) -> int:
    """Write the entries (those in `keys`, of that endpoint, of that stage) to `path`; how many.

    `recordings` give what the ledger lacks. The same calls give the same bytes: no times, no run names, ordered by
    address. `.gz` compresses. A file that is there is replaced at the end, and by something only.
    """
    path = Path(path)
    if path.resolve() == ledger.path.resolve():
        raise DataError(f"{path}: this is the ledger itself; name another file to export to")

    def wanted(entry: Entry) -> bool:
        asked = (identity in (None, entry.identity)) and (stage in (None, entry.stage))
        return asked and (keys is None or entry.address in keys)

    recorded = sorted((e for file in recordings for e in read_recording(file) if wanted(e)), key=_address)
    entries = _best(filter(wanted, ledger.entries(identity=identity, stage=stage)), recorded)
    partial = path.with_name(path.name + ".partial")
    try:
        count = _write(partial, entries, compress=path.suffix == ".gz")
        if not count and path.exists():
            partial.unlink()
            raise DataError(
                f"{path}: {ledger.path} holds no such call, so the file is left as it was; name the right ledger, or "
                "remove the file if it is to be empty"
            )
        partial.replace(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror}); name another place") from None
    return count


def _address(entry: Entry) -> str:
    return entry.address


def _best(*sources: Iterable[Entry]) -> Iterator[Entry]:
    """Each address once, in order: the first that is no failure which may pass, or the first."""
    for _, same in itertools.groupby(heapq.merge(*sources, key=_address), key=_address):
        yield min(same, key=lambda entry: entry.passing)


def _write(path: Path, entries: Iterable[Entry], *, compress: bool) -> int:
    count = 0
    with _writing(path, compress=compress) as file:
        file.write(records.dumps({"form": FORM}) + b"\n")
        for entry in entries:
            file.write(records.dumps(_record(entry)) + b"\n")
            count += 1
    return count


def write_recording(path: Path, entries: Iterable[Entry]) -> int:
    """A recording of these entries, as they come; how many."""
    return _write(path, entries, compress=True)


def import_(ledger: Ledger, path: Path | str) -> int:
    """Add a recording's entries to the ledger; how many were new. Own calls are never replaced."""
    path = Path(path)
    new = 0
    batch: list[Entry] = []
    for entry in read_recording(path):
        batch.append(entry)
        if len(batch) == IMPORT_ROWS:
            new += len(batch) - len(ledger.put(batch))
            batch = []
    return new + len(batch) - len(ledger.put(batch))


def read_recording(path: Path) -> Iterator[Entry]:
    """The entries of an export, or of another ledger, each checked against its address."""
    if is_sqlite(path):
        if not is_ledger(path):
            raise DataError(f"{path}: a database, but no ledger; `tapir ledger export` writes what can be read here")
        with Ledger(path, replay=True) as other:
            for entry in other.entries():
                yield _checked(replace(entry, origin=entry.origin or path.name), path, entry.address)
        return
    with _reading(path) as lines:
        for number, line in enumerate(lines, 1):
            place = f"line {number}"
            try:
                record = records.loads(line)
                if number == 1:
                    _check_form(record, path)
                    continue
                yield _checked(_entry(record, path), path, place)
            except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
                raise DataError(f"{path}, {place}: not a ledger entry ({error!r}); export it again") from None


def _check_form(record: Any, path: Path) -> None:
    if not isinstance(record, dict) or record.get("form") != FORM:  # pyright: ignore[reportUnknownMemberType]
        raise DataError(f"{path}: not a ledger export; `tapir ledger export` writes one")


def _record(entry: Entry) -> records.Record:
    record: records.Record = {
        "address": entry.address,
        "identity": entry.identity,
        "stage": entry.stage,
        "request": records.request_record(entry.request),
        "reply": records.reply_record(entry.reply),
    }
    beside: records.Record = {"passing": entry.passing, "origin": entry.origin}
    return record | {name: value for name, value in beside.items() if value}


def _entry(record: records.Record, path: Path) -> Entry:
    return Entry(
        address=record["address"],
        identity=record["identity"],
        request=records.read_request(record["request"]),
        reply=records.read_reply(record["reply"]),
        stage=record.get("stage", ""),
        passing=bool(record.get("passing", False)),
        origin=record.get("origin") or path.name,
    )


def _checked(entry: Entry, path: Path, place: str) -> Entry:
    if entry.request.address(entry.identity) != entry.address:
        raise DataError(f"{path}, {place}: the address does not fit the request; the file was changed, do not use it")
    return entry


@contextmanager
def _writing(path: Path, *, compress: bool) -> Generator[IO[bytes]]:
    with path.open("wb") as file:
        if not compress:
            yield file
            return
        # No name and no time in the header: equal contents are equal files.
        with gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0) as packed:
            yield packed  # pyright: ignore[reportReturnType]


@contextmanager
def _reading(path: Path) -> Generator[IO[bytes]]:
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            yield io.BufferedReader(gzip.GzipFile(fileobj=file)) if packed else file  # pyright: ignore
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}); `tapir ledger export` writes one") from None
