"""`tapir diff A B`: in what two runs differ. What counts as a difference is `report.differences`'."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tapir.cli.results import AsJson, Table, aligned

if TYPE_CHECKING:
    from tapir.report.differences import Differences

SHOWN = 3
"""Ids and cells named for each table; `--json` has more."""
CELL = 40
MAY_BE_NONE = ("results", "first differing rows")


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(diff)


def diff(
    a: Annotated[Path, typer.Argument(help="A run directory.")],
    b: Annotated[Path, typer.Argument(help="Another one.")],
    as_json: AsJson = False,
) -> None:
    """Compare two runs: recipe, prompts, settings, model calls, data and results."""
    from tapir.cli.printable import printable
    from tapir.report.differences import differences
    from tapir.store.rundir import open_run

    found = differences(open_run(a), open_run(b))
    if as_json:
        print(json.dumps({"a": str(a), "b": str(b), **found.to_json()}))
        return
    print(printable(f"a: {a}\nb: {b}"))
    for line in lines(found):
        print(printable(line))


def lines(found: Differences) -> Iterator[str]:
    """The comparison in words; a part in which nothing differs says so."""
    sections: list[tuple[str, Table, list[str]]] = [
        ("recipe", [[name, _said(x), _said(y)] for name, (x, y) in found.recipe.items()], ["value", "a", "b"]),
        ("prompts", [[name, _said(x, "-"), _said(y, "-")] for name, (x, y) in found.prompts.items()], ["", "a", "b"]),
        ("made by", [[name, _said(x), _said(y)] for name, (x, y) in found.manifest.items()], ["", "a", "b"]),
        ("settings and inputs", [[place, state] for place, state in found.settings.items()], ["step", ""]),
        (
            "model calls (prompt, model, sampling)",
            [[place, str(c.shared), str(c.only_a), str(c.only_b)] for place, c in found.calls.items()],
            ["step", "shared", "only a", "only b"],
        ),
        ("data", _data_rows(found), ["table", "rows a", "rows b", "added", "removed", "changed", "for instance"]),
        ("first differing rows", _cell_rows(found), ["table", "id", "column", "a", "b"]),
        ("results", [list(r.in_words()) for r in found.results], ["student: metric", "a", "b", "b − a"]),
    ]
    for title, rows, head in sections:
        yield ""
        if rows:
            yield title
            yield from aligned([head, *rows])
        else:
            yield f"{title}: {'none' if title in MAY_BE_NONE else 'the same'}"
    if found.results:
        yield ""
        yield "Differences take the two runs for independent, which overstates their intervals on equal prompts."


def _said(value: Any, absent: str = "(default)") -> str:
    return absent if value is None else str(value)


def _data_rows(found: Differences) -> Table:
    rows: Table = []
    for name, t in found.data.items():
        counts = [str(n) for n in (t.rows_a, t.rows_b, t.added.count, t.removed.count, t.changed.count)]
        named = [("+", t.added), ("-", t.removed), ("~", t.changed)]
        signed = [f"{sign}{i}" for sign, ids in named for i in ids.first]
        rows.append([name, *counts, " ".join(signed[:SHOWN]) + (" …" if len(signed) > SHOWN else "")])
    return rows


def _cell_rows(found: Differences) -> Table:
    return [[name, c.id, c.column, _cut(c.a), _cut(c.b)] for name, t in found.data.items() for c in t.cells[:SHOWN]]


def _cut(said: str) -> str:
    line = " ".join(said.split())
    return line if len(line) <= CELL else f"{line[: CELL - 1]}…"
