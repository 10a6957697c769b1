"""Rows in parts: what a stage holds in memory is one part, however many rows there are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

Row = TypeVar("Row")
PART_ROWS = 20_000
"""Rows asked about together before the next are read: many times what is ever in flight, so that no call waits long
for the end of a part."""


def parts(rows: Iterable[Row], size: int | None = None) -> Iterator[list[Row]]:
    """Lists of `size` rows, by default `PART_ROWS`, the last one shorter (`itertools.batched` needs Python 3.12)."""
    source = iter(rows)
    while part := list(islice(source, size or PART_ROWS)):
        yield part
