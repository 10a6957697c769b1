"""`tapir data …`, `tapir decontaminate` and `tapir mix --plan`: looking at data before anything is spent on it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from tapir.cli.data import difficulty
from tapir.cli.terminal import printable
from tapir.config import Decontaminate, Seeds
from tapir.curriculum.contamination import ContaminationIndex
from tapir.errors import RecipeError
from tapir.evaluation.benchmarks import benchmarks
from tapir.stages import decontaminate as decontaminating
from tapir.stages import seeds as seeding
from tapir.stages.pool_check import PoolCheck, check_pool
from tapir.steps.plans import draw_table, round_table
from tapir.store.rundir import open_run
from tapir.store.tables import write_rows
from tapir.types import Receipt
from tapir.wiring import load_recipe

app = typer.Typer(help="Seed pools and evaluation data.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
File = Annotated[str, typer.Argument(help="A pool: a file or folder, hub:owner/name, or builtin.")]
Form = Annotated[str, typer.Option("--format", help="auto, alpaca, messages, sharegpt or columns.")]
WIDEST = 100
SHOWN = 20


def register(main: typer.Typer) -> None:
    """Add the group, and the commands that stand at the top too."""
    main.add_typer(app, name="data")
    main.command()(decontaminate)
    main.command()(mix)


app.command()(difficulty)


@app.command()
def check(file: File, form: Form = "auto", as_json: AsJson = False) -> None:
    """What a run would read from a pool, and what it would drop and why; nothing is sent."""
    found = check_pool(Seeds.model_validate({"source": file, "format": form}))
    if as_json:
        print(json.dumps(asdict(found), ensure_ascii=False))
        return
    _print_check(found)


def _print_check(found: PoolCheck) -> None:
    print(f"form                {found.form}")
    print(f"rows                {found.rows}")
    print(f"instructions        {found.instructions} ({found.answers} with an answer, {found.checks} with a check)")
    print(f"dropped             {_listed(found.dropped) or 'none'}")
    for what, lengths in (("instruction words", found.instruction_words), ("answer words", found.answer_words)):
        if lengths is not None:
            print(
                f"{what:<20}{lengths.shortest} to {lengths.longest}, median {lengths.median}, half between "
                f"{lengths.quarter} and {lengths.three_quarters}, 95 % up to {lengths.nearly_all}"
            )
    print(f"languages           {_listed(found.languages)}")
    print(f"task types          {_listed(found.tasks) or 'no labels'}")
    for where, reason in found.problems[:SHOWN]:
        print(f"bad row             {printable(where)}: {reason}")
    for text, other, score in found.near_duplicates[:SHOWN]:
        print(f"near duplicate      {score:.2f} {_short(text)}\n{'':<20}  of {_short(other)}")


@app.command()
def decontaminate(
    file: File,
    against: Annotated[
        list[str], typer.Option(help="An evaluation file, a benchmark's name, or `public` for all; may be repeated.")
    ],
    waive: Annotated[list[str], typer.Option(help="A benchmark that may be missing.")] = [],  # noqa: B006
    folder: Annotated[str | None, typer.Option(help="Folder with benchmarks as NAME.jsonl.")] = None,
    allow: Annotated[list[str], typer.Option(help="An id, set/id, or a reviewed table.")] = [],  # noqa: B006
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Write the matches, .jsonl or .parquet.")] = None,
    form: Form = "auto",
    as_json: AsJson = False,
) -> None:
    """Find evaluation texts in a pool's instructions and answers; exit code 1 where there are any.

    Set `allow` to true in the written table where a match is fine, and give the table to --allow.
    """
    settings = Decontaminate(against=tuple(against), waive=tuple(waive), folder=folder, allow=tuple(allow))
    items = seeding.evaluation_texts((), settings)
    index = ContaminationIndex(items, allow=decontaminating.allowed(settings.allow))
    source = Seeds.model_validate({"source": file, "format": form, "near_duplicates": False})
    pool = seeding.load_pool(source, seed=0, receipt=Receipt("seeds"))
    kept, found = decontaminating.without_contamination(
        pool.instructions, pool.answers, index, Receipt("decontaminate")
    )
    if out is not None:
        write_rows(out, decontaminating.Contaminated, found)
    total = len(pool.instructions)
    if as_json:
        print(json.dumps({"rows": total, "clean": len(kept), "matches": [asdict(m) for m in found]}))
    else:
        _print_matches(found)
        print(f"{total - len(kept)} of {total} rows repeat one of {len(items)} evaluation texts")
    if found:
        raise typer.Exit(1)


def _print_matches(found: list[decontaminating.Contaminated]) -> None:
    for m in found[:SHOWN]:
        print(f"{m.instruction_id} {m.part}, {m.kind} {m.score:g}: {printable(m.evaluation_set)}/{m.item_id}")
        print(f"    shared  {_short(m.matched_text)}\n    text    {_short(m.text)}\n    item    {_short(m.item_text)}")
    if len(found) > SHOWN:
        print(f"… and {len(found) - SHOWN} more; write them all with -o matches.jsonl")


@app.command("benchmarks")
def list_benchmarks() -> None:
    """The public benchmarks that `decontaminate.against` knows by name."""
    for b in benchmarks().values():
        print(f"{b.name:<16}{b.hub:<36}{b.config or '-':<16}{b.split:<12}{', '.join(b.columns)}")


def mix(
    what: Annotated[Path, typer.Argument(help="A run directory, or a pool with task labels.")],
    plan: Annotated[bool, typer.Option("--plan", help="Show the plan; nothing is drawn.")] = False,
    round_number: Annotated[int, typer.Option("--round", min=1, help="Of a run: which round.")] = 1,
    size: Annotated[int | None, typer.Option(min=1, help="Of a pool: rows to draw.")] = None,
    recipe: Annotated[str | None, typer.Option(help="Of a pool: recipe whose targets and taxonomy are used.")] = None,
    as_json: AsJson = False,
) -> None:
    """What a round, or a draw of some size, would take, leave and have to grow by task type."""
    if not plan:
        raise RecipeError("`tapir mix` shows a plan: add --plan; `tapir stage mix` draws a round's training set")
    if what.is_dir() and (what / "recipe.yaml").exists():
        head, rows = round_table(open_run(what), round_number)
    else:
        rows_of = Seeds(source=str(what), near_duplicates=False)
        pool = seeding.load_pool(rows_of, seed=0, receipt=Receipt("seeds")).instructions
        supply = Counter(i.task for i in pool if i.task)
        head, rows = draw_table(supply, len(pool), load_recipe(recipe) if recipe else None, size)
    if as_json:
        print(json.dumps({**head, "tasks": rows}))
        return
    _print_plan(head, rows)


def _print_plan(head: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    print(", ".join(f"{name} {value}" for name, value in head.items()))
    columns = list(rows[0])
    print("".join(f"{name:>{_width(name)}}" if n else f"{name:<24}" for n, name in enumerate(columns)))
    for row in rows:
        cells = (f"{row[name]:>{_width(name)}}" for name in columns[1:])
        print(f"{printable(str(row[columns[0]])):<24}" + "".join(cells))
    sums = (sum(row[name] for row in rows) for name in columns[1:])
    print(f"{'all':<24}" + "".join(f"{round(n, 1):>{_width(c)}}" for n, c in zip(sums, columns[1:], strict=True)))


def _width(name: str) -> int:
    return max(9, len(name) + 2)


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{printable(name)} {count}" for name, count in counts.items())


def _short(text: str) -> str:
    line = printable(text).replace("\n", " ⏎ ")
    return line if len(line) <= WIDEST else line[: WIDEST - 1] + "…"
