"""Rows to files and back: Parquet inside a run, JSONL or Parquet at its edges.

The columns follow from the row type, so a table and its type cannot drift apart. Writing streams, goes to a
temporary name and is renamed: a file that is there is whole.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import types
import typing
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import pyarrow as pa
import pyarrow.parquet as pq

from tapir.errors import DataError
from tapir.store.given import Numbered, Unreadable, is_utf8, json_lines, refuse_folder, whole
from tapir.types import Message

Row = TypeVar("Row")
CHUNK_ROWS = 10_000

_PLAIN: dict[Any, Any] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
    Message: pa.struct([("role", pa.string()), ("content", pa.string())]),
}


def schema_of(row_type: type) -> Any:
    """The Arrow schema of a row type."""
    hints = get_type_hints(row_type)
    return pa.schema([(f.name, _arrow_type(hints[f.name])) for f in dataclasses.fields(row_type)])


def _arrow_type(hint: Any) -> Any:
    origin = get_origin(hint)
    if origin is types.UnionType or origin is typing.Union:
        (inner,) = (a for a in get_args(hint) if a is not type(None))
        return _arrow_type(inner)
    if origin is typing.Literal:
        return pa.string()
    if origin is tuple:
        return pa.list_(_arrow_type(get_args(hint)[0]))
    if origin is dict:
        return pa.map_(pa.string(), _arrow_type(get_args(hint)[1]))
    return _PLAIN[hint]


def to_plain(row: Any) -> dict[str, Any]:
    """The row as plain data, with text that UTF-8 can hold."""
    return {f.name: _plain(getattr(row, f.name)) for f in dataclasses.fields(row)}


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        # Lone surrogates come from broken model output; they are replaced rather than losing the row.
        return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, Message):
        return {"role": value.role, "content": _plain(value.content)}
    if isinstance(value, tuple):
        return [_plain(v) for v in typing.cast("tuple[Any, ...]", value)]
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in typing.cast("dict[str, Any]", value).items()}
    return value


def from_plain(row_type: type[Row], plain: dict[str, Any], *, where: str = "row") -> Row:
    """A row from plain data; missing fields take their defaults, unknown and unfit ones are an error."""
    known = _fields(row_type)
    values: dict[str, Any] = {}
    for name, value in plain.items():
        if name in _narrower(row_type):
            continue
        if name not in known:
            raise DataError(f"{where}: {row_type.__name__} has no field {name!r}; it has {', '.join(known)}")
        values[name] = made = _typed(value)
        kinds, inside = known[name]
        if type(made) not in kinds or (made and inside and not all(type(v) in inside for v in made)):
            wanted = " or ".join(dict.fromkeys(_SAID[kind] for kind in kinds))
            raise DataError(f"{where}: `{name}` is {repr(value)[:60]}; it must be {wanted}")
    try:
        return row_type(**values)
    except TypeError as error:
        raise DataError(f"{where}: not a {row_type.__name__} ({error})") from None


def _typed(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_typed(v) for v in typing.cast("list[Any]", value))
    if isinstance(value, dict):
        found = typing.cast("dict[str, Any]", value)
        if found.keys() == {"role", "content"} and all(isinstance(v, str) for v in found.values()):
            return Message(**found)
    return value


Kinds = tuple[type, ...]
_SAID: dict[type, str] = {
    str: "text", int: "a number", float: "a number", bool: "true or false", types.NoneType: "null",
    tuple: "a list", dict: "an object",
}  # fmt: skip


@functools.cache
def _fields(row_type: type[Any]) -> dict[str, tuple[Kinds, Kinds]]:
    """What each field may hold, and what the items of one that is a list are."""
    hints = get_type_hints(row_type)
    return {f.name: _kinds(hints[f.name]) for f in dataclasses.fields(row_type)}


@functools.cache
def _narrower(row_type: type[Any]) -> frozenset[str]:
    """Fields of narrower types alone: a file of those is one of this type as well."""
    found = {f.name for narrower in row_type.__subclasses__() for f in dataclasses.fields(narrower)}
    return frozenset(found - _fields(row_type).keys())


def _kinds(hint: Any) -> tuple[Kinds, Kinds]:
    origin, inner = get_origin(hint), get_args(hint)
    if origin is types.UnionType or origin is typing.Union:
        kinds, inside = _kinds(next(a for a in inner if a is not types.NoneType))
        return (*kinds, types.NoneType), inside
    if origin is typing.Literal:
        return (str,), ()
    if origin is tuple:
        return (tuple,), _kinds(inner[0])[0]
    if origin is dict:
        return (dict,), ()
    return ((float, int) if hint is float else (hint,)), ()


def write_rows(path: Path, row_type: type[Row], rows: Iterable[Row]) -> int:
    """Stream rows to `path` (Parquet, or JSONL by its ending); returns how many. Atomic."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        count = (_write_jsonl if path.suffix == ".jsonl" else _write_parquet)(partial, row_type, rows)
        sync(partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return count


@contextmanager
def appending(path: Path, row_type: type[Row]) -> Generator[Callable[[Row], None]]:
    """A Parquet table to which rows are added one by one; there under its name once the block has ended well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with _parquet(partial, row_type) as append:
            yield append
        sync(partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Force a finished file to disk, so that a rename never outruns its content."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """The same for all files in a folder, before it gets its name or its mark."""
    for path in folder.rglob("*"):
        if path.is_file():
            sync(path)


def _write_jsonl(path: Path, row_type: type[Any], rows: Iterable[Any]) -> int:
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(to_plain(row), ensure_ascii=False) + "\n")
            count += 1
    return count


def _write_parquet(path: Path, row_type: type[Any], rows: Iterable[Any]) -> int:
    count = 0
    with _parquet(path, row_type) as append:
        for row in rows:
            append(row)
            count += 1
    return count


@contextmanager
def _parquet(path: Path, row_type: type[Any]) -> Generator[Callable[[Any], None]]:
    """Takes rows and writes them in chunks, so that no table lies in memory in whole."""
    schema, chunk = schema_of(row_type), list[Any]()

    def flush() -> None:
        writer.write_table(pa.Table.from_pylist([to_plain(r) for r in chunk], schema=schema))
        chunk.clear()

    def append(row: Any) -> None:
        chunk.append(row)
        if len(chunk) == CHUNK_ROWS:
            flush()

    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        yield append
        if chunk:
            flush()


def read_rows(path: Path, row_type: type[Row], *, without: Sequence[str] = ()) -> Iterator[Row]:
    """Stream the rows of a Parquet or JSONL file.

    Columns `without` which a reader can do stay unread (of Parquet) and take their defaults: texts fill a memory.
    """
    for number, plain in read_numbered(path, without=without):
        if path.suffix != ".parquet" and not is_utf8(plain):
            raise DataError(f"{path}:{number}: it holds half a character (\\ud800 to \\udfff); mend or remove it")
        yield from_plain(row_type, plain, where=f"{path}:{number}")


def read_plain(path: Path, *, without: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """Stream a file's rows as plain data, whatever their type."""
    for _, row in read_numbered(path, without=without):
        yield row


def read_numbered(path: Path, *, without: Sequence[str] = ()) -> Iterator[tuple[int, dict[str, Any]]]:
    """The same with the line of each row, for whoever finds fault with it (of Parquet: which row it is)."""
    if not path.exists():
        raise DataError(f"{path}: there is no such file")
    parquet = path.suffix == ".parquet"
    rows = parquet_rows(path, without=without, maps="strict") if parquet else json_lines(path)
    yield from whole(path, rows)


def parquet_rows(path: Path, *, without: Sequence[str] = (), maps: str | None = None) -> Iterator[Numbered]:
    """A Parquet file's rows, read in parts; `maps` says what becomes of maps (Arrow's `maps_as_pydicts`)."""
    refuse_folder(path)
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            columns = [name for name in file.schema_arrow.names if name not in without] if without else None
            for batch in file.iter_batches(batch_size=CHUNK_ROWS, columns=columns):
                for row in _plain_rows(batch, maps):
                    number += 1
                    yield number, row
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: not a readable Parquet file ({error})") from None


def _plain_rows(batch: Any, maps: str | None) -> list[dict[str, Any] | Unreadable]:
    try:
        return batch.to_pylist(maps_as_pydicts=maps)
    except UnicodeDecodeError:
        if batch.num_rows == 1:
            return [Unreadable("not_utf8")]
        # Writers do not check that texts are UTF-8; one that is not must cost no other row.
        return [row for n in range(batch.num_rows) for row in _plain_rows(batch.slice(n, 1), maps)]


def read_table(path: Path) -> Any:
    """A Parquet file as Arrow columns, each in one piece where its size allows it."""
    if not path.exists():
        raise DataError(f"{path}: there is no such file")
    try:
        with pq.ParquetFile(path) as file:
            return file.read().combine_chunks()
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: not a readable Parquet file ({error})") from None
