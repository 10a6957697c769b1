"""`tapir mix --plan`: what a round, or a draw from a labelled pool, would take, leave and have to grow."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from tapir.cli.pools import Sets, pool_recipe
from tapir.cli.printable import listed
from tapir.cli.results import AsJson
from tapir.cli.terminal import printable
from tapir.errors import RecipeError
from tapir.stages import seeds as seeding
from tapir.steps.plans import draw_table, round_table
from tapir.store.rundir import open_run
from tapir.types import Receipt


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(mix)


def mix(
    what: Annotated[Path, typer.Argument(help="A run directory, or a pool with task labels.")],
    plan: Annotated[bool, typer.Option("--plan", help="Show the plan; nothing is drawn.")] = False,
    round_number: Annotated[int, typer.Option("--round", min=1, help="Of a run: which round.")] = 1,
    size: Annotated[int | None, typer.Option(min=1, help="Of a pool: rows to draw.")] = None,
    recipe: Annotated[
        str | None, typer.Option(help="Of a pool: recipe whose targets, taxonomy and `seeds` are used.")
    ] = None,
    sets: Sets = [],  # noqa: B006
    as_json: AsJson = False,
) -> None:
    """What a round, or a draw of some size, would take, leave and have to grow by task type."""
    if not plan:
        raise RecipeError("`tapir mix` shows a plan: add --plan; `tapir stage mix` draws a round's training set")
    dropped: dict[str, int] = {}
    if what.is_dir() and (what / "recipe.yaml").exists():
        head, rows = round_table(open_run(what), round_number)
    else:
        settings = pool_recipe(str(what), None, recipe, sets)
        read = Receipt("seeds")
        pool = seeding.load_pool(settings.seeds, seed=0, receipt=read).instructions
        supply = Counter(i.task for i in pool if i.task)
        head, rows = draw_table(supply, len(pool), settings, size)
        dropped = dict(sorted(read.dropped.items()))
    if as_json:
        print(json.dumps({**head, "dropped": dropped, "tasks": rows}))
        return
    _print_plan(head, rows, dropped)


def _print_plan(head: dict[str, Any], rows: list[dict[str, Any]], dropped: dict[str, int]) -> None:
    told = {**head, "dropped": listed(dropped)} if dropped else head
    print(", ".join(f"{name} {value}" for name, value in told.items()))
    columns = list(rows[0])
    print("".join(f"{name:>{_width(name)}}" if n else f"{name:<24}" for n, name in enumerate(columns)))
    for row in rows:
        cells = (f"{row[name]:>{_width(name)}}" for name in columns[1:])
        print(f"{printable(str(row[columns[0]])):<24}" + "".join(cells))
    sums = (sum(row[name] for row in rows) for name in columns[1:])
    print(f"{'all':<24}" + "".join(f"{round(n, 1):>{_width(c)}}" for n, c in zip(sums, columns[1:], strict=True)))


def _width(name: str) -> int:
    return max(9, len(name) + 2)
