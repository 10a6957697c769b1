"""A table's rows, made when they are asked for: a million of them stay Arrow columns and are not a million objects.

`Rows` are in the table's order, `Keyed` by id. Both may be read as often as wanted; neither changes.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Generic, TypeVar, cast, overload

import numpy as np
import pyarrow as pa

from tapir.store.tables import from_plain, read_table

Row = TypeVar("Row")
Value = TypeVar("Value")
BLOCK_ROWS = 1024
"""Rows made together when a table is read from end to end."""


class Rows(Sequence[Row], Generic[Row]):
    """The rows of a table, or some of them."""

    def __init__(self, table: Any, row_type: type[Row], picked: Any = None) -> None:
        self._table = table
        self._row_type = row_type
        self._picked = picked

    @classmethod
    def of(cls, path: Path, row_type: type[Row]) -> Rows[Row]:
        return cls(read_table(path), row_type)

    def __len__(self) -> int:
        return self._table.num_rows if self._picked is None else len(self._picked)

    @overload
    def __getitem__(self, index: int) -> Row: ...

    @overload
    def __getitem__(self, index: slice) -> Rows[Row]: ...

    def __getitem__(self, index: int | slice) -> Row | Rows[Row]:
        every = range(len(self))
        if isinstance(index, slice):
            picked = np.arange(len(self)) if self._picked is None else self._picked
            return Rows(self._table, self._row_type, picked[index])
        place = every[index] if self._picked is None else int(self._picked[index])
        # Field by field: making a table of one row takes four times as long.
        names = self._table.schema.names
        return from_plain(
            self._row_type,
            {n: c[place].as_py(maps_as_pydicts="strict") for n, c in zip(names, self._table.columns, strict=True)},
        )

    def __iter__(self) -> Iterator[Row]:
        for start in range(0, len(self), BLOCK_ROWS):
            yield from self._made(self._part(range(start, min(start + BLOCK_ROWS, len(self)))))

    def _part(self, places: Sequence[int]) -> Any:
        """These rows as a table; they lie side by side."""
        if self._picked is None:
            return self._table.slice(places[0], len(places))
        return self._table.take(pa.array(self._picked[places[0] : places[-1] + 1]))

    def _made(self, table: Any) -> list[Row]:
        return [from_plain(self._row_type, row) for row in table.to_pylist(maps_as_pydicts="strict")]

    def column(self, name: str) -> list[Any]:
        """One field of every row, without making the rows."""
        column = self._table.column(name)
        return (column if self._picked is None else column.take(pa.array(self._picked))).to_pylist()

    def where(self, name: str, wanted: Callable[[Any], bool]) -> Rows[Row]:
        """The rows whose field `name` is wanted."""
        places = np.arange(self._table.num_rows) if self._picked is None else self._picked
        kept = np.fromiter((wanted(value) for value in self.column(name)), dtype=bool, count=len(self))
        return Rows(self._table, self._row_type, places[kept])


class Keyed(Mapping[str, Row], Generic[Row]):
    """Rows by the field that names them; of equal names the last one counts."""

    def __init__(self, rows: Rows[Row], key: str) -> None:
        self._rows = rows
        ids = np.array([name.encode("utf-8") for name in rows.column(key)], dtype=np.bytes_)
        order = np.argsort(ids, kind="stable")
        ids = ids[order]
        last = np.append(ids[1:] != ids[:-1], True) if len(ids) else np.zeros(0, dtype=bool)
        self._ids, self._places = ids[last], order[last]

    def __len__(self) -> int:
        return len(self._ids)

    def __iter__(self) -> Iterator[str]:
        """Names in the order of the table."""
        by_place = np.argsort(self._places)
        return (name.decode("utf-8") for name in self._ids[by_place].tolist())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._place(name) is not None

    def __getitem__(self, name: str) -> Row:
        place = self._place(name)
        if place is None:
            raise KeyError(name)
        return self._rows[place]

    def _place(self, name: str) -> int | None:
        wanted = name.encode("utf-8", "surrogatepass")
        at = int(np.searchsorted(self._ids, np.bytes_(wanted)))
        return int(self._places[at]) if at < len(self._ids) and self._ids[at] == wanted else None


class Joined(Sequence[Row], Generic[Row]):
    """Sequences one after the other; nothing is copied."""

    def __init__(self, *parts: Sequence[Row]) -> None:
        self._parts = parts

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    @overload
    def __getitem__(self, index: int) -> Row: ...

    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...

    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if isinstance(index, slice):
            return [self[n] for n in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        for part in self._parts:
            if place < len(part):
                return part[place]
            place -= len(part)
        raise IndexError(index)

    def __iter__(self) -> Iterator[Row]:
        return chain.from_iterable(self._parts)


def layered(*layers: Mapping[str, Value]) -> Mapping[str, Value]:
    """Several mappings as one, the first that knows a name having the say; nothing is copied."""
    return ChainMap(*cast("tuple[dict[str, Value], ...]", layers))
