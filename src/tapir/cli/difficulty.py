"""`tapir difficulty`: how hard the seeds are for student_0, and what each δ would keep, by task (Figure 6, §D.2).

Works as soon as there are verdicts (`tapir run RECIPE --until judge`), so that a person looks before choosing δ.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from tapir.cli.results import AsJson
from tapir.cli.window import bars, say, show_table
from tapir.errors import DataError
from tapir.report.data import difficulty_json
from tapir.report.facts import Facts
from tapir.report.making import KINDS
from tapir.store.rundir import open_run

Deltas = Annotated[
    list[float] | None, typer.Option("--delta", help="A threshold to look at; may be repeated. By default a range.")
]


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(difficulty)


def difficulty(
    run: Annotated[Path, typer.Argument(help="A run directory.")], deltas: Deltas = None, as_json: AsJson = False
) -> None:
    """The distribution of difficulties, and how many seeds of each task every threshold would keep."""
    facts = Facts(open_run(run))
    if not facts.difficulties:
        raise DataError(f"{run}: no seed has been judged; `tapir run RECIPE --until judge` goes that far and stops")
    found = difficulty_json(facts, deltas)
    if as_json:
        print(json.dumps(found))
        return
    for kind, told in found.items():
        _show_kind(kind, told)


def _show_kind(kind: str, told: dict[str, Any]) -> None:
    delta = told["delta"]
    chosen = "" if delta is None else f"; δ = {delta:g} keeps {told['hard']:,}"
    say(f"{KINDS.get(kind, kind)}: {told['seeds']:,} seeds{chosen}")
    bins = {str(b["label"]): int(b["seeds"]) for b in told["bins"]}
    bars(bins, marked=[str(b["label"]) for b in told["bins"] if delta is not None and b["middle"] > delta])
    print()
    kept: list[dict[str, Any]] = told["kept"]
    head = ["δ", *(f"{k['delta']:g}" for k in kept)]
    rows = [["all", *(f"{k['seeds']:,}" for k in kept)]]
    for task, seeds in told["tasks"].items():
        rows.append([f"{task} ({seeds:,})", *(str(k["by_task"].get(task, "·")) for k in kept)])
    show_table(head, rows)
    print()
