"""`tapir decontaminate`, also `tapir data decontaminate`: evaluation texts in a pool, for a person to review."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from tapir.cli.outputs import table_for
from tapir.cli.pools import File, Form, Recipe, Sets, pool_recipe
from tapir.cli.printable import listed
from tapir.cli.results import AsJson
from tapir.cli.terminal import printable
from tapir.config import Decontaminate
from tapir.curriculum.contamination import ContaminationIndex
from tapir.stages import decontaminate as decontaminating
from tapir.stages import seeds as seeding
from tapir.store.tables import write_rows
from tapir.types import Receipt

WIDEST = 100
SHOWN = 20


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(decontaminate)


def decontaminate(
    file: File,
    against: Annotated[
        list[str], typer.Option(help="An evaluation file, a benchmark's name, or `public` for all; may be repeated.")
    ],
    waive: Annotated[list[str], typer.Option(help="A benchmark that may be missing.")] = [],  # noqa: B006
    folder: Annotated[str | None, typer.Option(help="Folder with benchmarks as NAME.jsonl.")] = None,
    allow: Annotated[list[str], typer.Option(help="An id, set/id, or a reviewed table.")] = [],  # noqa: B006
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Write the matches, .jsonl or .parquet.")] = None,
    form: Form = None,
    recipe: Recipe = None,
    sets: Sets = [],  # noqa: B006
    as_json: AsJson = False,
) -> None:
    """Find evaluation texts in a pool's instructions and answers; exit code 1 where there are any.

    Set `allow` to true in the written table where a match is fine, and give the table to --allow.
    """
    if out is not None:
        table_for(out, file, *against, *allow)
    source = pool_recipe(file, form, recipe, sets).seeds
    settings = Decontaminate(against=tuple(against), waive=tuple(waive), folder=folder, allow=tuple(allow))
    items = seeding.evaluation_texts((), settings)
    index = ContaminationIndex(items, allow=decontaminating.allowed(settings.allow))
    read = Receipt("seeds")
    pool = seeding.load_pool(source, seed=0, receipt=read)
    kept, found = decontaminating.without_contamination(
        pool.instructions, pool.answers, index, Receipt("decontaminate")
    )
    if out is not None:
        write_rows(out, decontaminating.Contaminated, found)
    total = len(pool.instructions)
    if as_json:
        counts = {"rows": total, "clean": len(kept), "dropped": read.dropped}
        print(json.dumps({**counts, "matches": [asdict(m) for m in found]}))
    else:
        _print_matches(found)
        if dropped := listed(read.dropped):
            print(f"not looked at, as a run would drop them: {dropped}")
        print(f"{total - len(kept)} of {total} rows repeat one of {len(items)} evaluation texts")
    if found:
        raise typer.Exit(1)


def _print_matches(found: list[decontaminating.Contaminated]) -> None:
    for m in found[:SHOWN]:
        print(f"{m.instruction_id} {m.part}, {m.kind} {m.score:g}: {printable(m.evaluation_set)}/{m.item_id}")
        print(f"    shared  {short(m.matched_text)}\n    text    {short(m.text)}\n    item    {short(m.item_text)}")
    if len(found) > SHOWN:
        print(f"… and {len(found) - SHOWN} more; write them all with -o matches.jsonl")


def short(text: str) -> str:
    """One line of a text, harmless to a terminal."""
    line = printable(text).replace("\n", " ⏎ ")
    return line if len(line) <= WIDEST else line[: WIDEST - 1] + "…"
