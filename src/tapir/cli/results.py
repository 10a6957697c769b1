"""How `tapir evaluate …` hands a result over: JSON with its provenance, or a plain table and a sentence; then the gate.

Nothing here loads a model; what a number means is `tapir.evaluation`'s.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Container, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from tapir.cli.printable import printable
from tapir.evaluation import gate
from tapir.evaluation.provenance import Provenance
from tapir.evaluation.rows import Estimate, refuse_missing

AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
Table = list[list[str]]


@dataclass(frozen=True, slots=True)
class Handover:
    """How the user wants the result; the options of every command that has one (`tapir.cli.unfolded`)."""

    as_json: AsJson = False
    allow_missing: Annotated[
        int, typer.Option("--allow-missing", min=0, help="Accept up to so many missing or unreadable rows.")
    ] = 0
    require: Annotated[
        list[str],
        typer.Option("--require", help="Exit with 10 unless this holds, as in 'win_rate.low >= 50'; may be repeated."),
    ] = field(default_factory=lambda: list[str]())
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Also write the result as JSON to this file.")] = None

    def __post_init__(self) -> None:
        # A requirement that cannot be read must not wait for an hour's evaluation.
        for text in self.require:
            gate.parse(text)


@dataclass(frozen=True, slots=True)
class Finding:
    """A result ready to be shown."""

    numbers: dict[str, Any]
    tables: Sequence[Table]
    sentences: Sequence[str]
    provenance: Provenance

    def to_json(self) -> dict[str, Any]:
        return {
            "benchmark": self.provenance.benchmark,
            **self.numbers,
            "sentences": list(self.sentences),
            "provenance": self.provenance.to_json(),
        }


def deliver(found: Finding, how: Handover) -> None:
    """Refuse missing rows, show the result, keep it where asked, and only then hold it against the requirements."""
    source = found.provenance
    refuse_missing(source.benchmark, source.missing, source.n + source.missing, how.allow_missing)
    result = found.to_json()
    if how.out is not None:
        from tapir.store.rundir import write_json

        write_json(how.out, result)
    if how.as_json:
        print(json.dumps(result))
    else:
        _show(found)
    gate.check(how.require, result)


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Judged rows for another program, one a line."""
    from tapir.store.rundir import write_text

    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _show(found: Finding) -> None:
    for table in found.tables:
        for line in aligned(table):
            print(printable(line))
        print()
    for sentence in found.sentences:
        print(printable(sentence))


def aligned(table: Table, left: Container[int] = (0,)) -> list[str]:
    """The lines of a plain table: its first column (or those named) to the left, the others to the right."""
    widths = [max(len(row[n]) for row in table) for n in range(len(table[0]))]
    return [
        "  ".join(
            cell.ljust(width) if n in left else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]


def spelled(estimate: Estimate | None, digits: int = 1) -> str:
    """A number with its interval, for a table; `-` where there is none."""
    if estimate is None:
        return "-"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.{digits}f}"
    return f"{estimate.value:.{digits}f} ({estimate.low:.{digits}f} to {estimate.high:.{digits}f})"


def interval(estimate: Estimate, digits: int = 1) -> str:
    """The interval as a sentence says it."""
    if estimate.low is None or estimate.high is None:
        return "too few for an interval"
    return f"95 % CI {estimate.low:.{digits}f} to {estimate.high:.{digits}f}"


@contextmanager
def warnings_as_lines() -> Generator[None]:
    """Warnings of readers (duplicates removed) as one line each on standard error, without Python's own frame."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            yield
        finally:
            for text in dict.fromkeys(str(w.message) for w in caught):
                print(f"tapir: warning: {text}", file=sys.stderr)
