"""Files of evaluation rows in, numbers with intervals out: what all benchmarks here share.

Owns reading JSON and JSONL rows with errors that name the line, and the shape of a number. What a number means is
each benchmark's business; intervals are `curriculum.statistics`'.
"""

from __future__ import annotations

import gzip
import json
import math
import random
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, TypeVar, cast

from tapir.curriculum.statistics import bootstrap_ratio, wilson
from tapir.errors import DataError

Row = dict[str, Any]
T = TypeVar("T")
Bounds = tuple[float, float]
"""The least and the greatest value that can be."""
REPLY = ("response", "reply", "completion", "output")
"""What a model's reply is called."""
INTERVAL_SEED = 17
"""Intervals are resampled with one fixed seed: a file scored twice shows the same numbers."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """One number, how many rows it rests on, and its 95 % interval where one can be told."""

    value: float
    n: int
    low: float | None = None
    high: float | None = None
    missing: int = 0
    """Rows that should have counted and could not: unreadable, or not there."""

    def to_json(self) -> Row:
        return asdict(self)


def read_rows(path: Path) -> list[Row]:
    """The objects of a JSON list or JSONL file (also `.gz`); a line that is none stops with its number."""
    return [row for _, row in placed_rows(path)]


def placed_rows(path: Path) -> list[tuple[str, Row]]:
    """The same with each row's place, for whoever finds fault with it: the file and the line (of a list: which row)."""
    text = _text(path)
    if text.lstrip().startswith("["):
        listed = cast("list[Any]", _parsed(f"{path}, line 1", text))
        return _objects(path, ((f"{path}, row {i}", row) for i, row in enumerate(listed, start=1)))
    # `splitlines` would also end a line inside a string that holds U+2028, U+2029 or U+0085, which JSON allows as is.
    lines = ((f"{path}, line {i}", line) for i, line in enumerate(text.split("\n"), start=1) if line.strip())
    return _objects(path, ((where, _parsed(where, line)) for where, line in lines))


def _text(path: Path) -> str:
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        return raw.decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file") from None
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text ({error})") from None


def _parsed(where: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not JSON ({error}); give a JSON list or one object a line") from None


def _objects(path: Path, found: Iterable[tuple[str, Any]]) -> list[tuple[str, Row]]:
    rows: list[tuple[str, Row]] = []
    for where, row in found:
        if not isinstance(row, dict):
            raise DataError(f"{where}: {str(row)[:60]!r} is not a JSON object")
        rows.append((where, cast("Row", row)))
    if not rows:
        raise DataError(f"{path}: the file holds no rows")
    return rows


def field(row: Row, name: str, where: Path | str) -> Any:
    """A field that every row must have."""
    if name not in row:
        raise DataError(f"{where}: a row has no `{name}`; it has {', '.join(map(str, row)) or 'nothing'}")
    return row[name]


def reply_field(row: Row) -> str | None:
    """The field that holds a model's reply: what is named later, or `answer`, may be the right answer beside it."""
    return next((name for name in REPLY if name in row), None)


def as_number(value: Any) -> float | None:
    """A finite number, or None: `true`, text and NaN are none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def last_of_each(rows: Iterable[tuple[Hashable, T, bool]]) -> tuple[list[T], int]:
    """One row a key, and how many were dropped: of (key, row, readable) the last readable one stays.

    A repeated judgement was asked again for a reason; one that was read must not give way to one that was not.
    """
    kept: dict[Hashable, tuple[T, bool]] = {}
    dropped = 0
    for key, row, readable in rows:
        dropped += key in kept
        if key not in kept or readable or not kept[key][1]:
            kept[key] = (row, readable)
    return [row for row, _ in kept.values()], dropped


def mean_estimate(
    values: Sequence[float], missing: int = 0, scale: float = 1.0, bounds: Bounds | None = None
) -> Estimate | None:
    """The mean with a bootstrap interval; None where there is nothing to average."""
    return clustered_mean({i: [v] for i, v in enumerate(values)}, missing, scale, bounds)


def clustered_mean(
    clusters: Mapping[Any, Sequence[float]], missing: int = 0, scale: float = 1.0, bounds: Bounds | None = None
) -> Estimate | None:
    """The mean over all values, with an interval that resamples whole clusters (the turns of one question).

    Where all are equal a bootstrap has nothing to draw from and would claim certainty: between known `bounds`
    Wilson's interval takes its place, which is wide for few rows.
    """
    filled = [list(values) for values in clusters.values() if values]
    if not filled:
        return None
    everything = [v for values in filled for v in values]
    mean, low, high = fmean(everything), None, None
    if len(filled) > 1:
        if bounds is not None and min(everything) == max(everything):
            low, high = interval_of_equals(mean, len(filled), bounds)
        else:
            low, high = interval_of_ratio([sum(values) for values in filled], [len(values) for values in filled])
    return Estimate(scale * mean, len(everything), _scaled(low, scale), _scaled(high, scale), missing)


def interval_of_ratio(tops: Sequence[float], bottoms: Sequence[float]) -> tuple[float | None, float | None]:
    """Of sum(tops) / sum(bottoms), one pair an instruction; none for a single pair, or where all have one ratio."""
    if len(tops) < 2:
        return None, None
    low, high = bootstrap_ratio(tops, bottoms, random.Random(INTERVAL_SEED))
    return (low, high) if low < high else (None, None)


def interval_of_equals(value: float, n: int, bounds: Bounds | None) -> tuple[float | None, float | None]:
    """Wilson's, of n equal values between known bounds: a bootstrap would call them certain. Without bounds none."""
    if bounds is None:
        return None, None
    least, most = bounds
    low, high = wilson(n * (value - least) / (most - least), n)
    return least + low * (most - least), least + high * (most - least)


def share_estimate(hits: float, n: int, missing: int = 0) -> Estimate | None:
    """A share in percent with its Wilson interval; a draw is half a hit."""
    if n == 0:
        return None
    low, high = wilson(hits, n)
    return Estimate(100 * hits / n, n, 100 * low, 100 * high, missing)


def standard_error(values: Sequence[float]) -> float | None:
    """Of the mean, with n − 1 in the variance; None for fewer than two values."""
    return stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None


def refuse_missing(what: str, missing: int, of: int, allowed: int = 0) -> None:
    """Fail where answers or verdicts are missing, unless that many were allowed."""
    if missing > allowed:
        raise DataError(
            f"{what}: {missing} of {of} rows are missing or unreadable; a number without them would flatter or "
            f"punish by chance. Complete them, or allow it with --allow-missing {missing}"
        )


def _scaled(bound: float | None, scale: float) -> float | None:
    return None if bound is None else scale * bound
