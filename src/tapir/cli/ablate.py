"""`tapir ablate`: strategies beside each other. What is done is `tapir.ablation`'s, the numbers `report.ablation`'s."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import yaml

from tapir.cli.printable import printable
from tapir.cli.run import AsJson, Assignments, Source
from tapir.cli.terminal import TerminalProgress
from tapir.config import Recipe, rewritten
from tapir.errors import RecipeError
from tapir.trust import require_trust
from tapir.wiring import load_recipe

if TYPE_CHECKING:
    from tapir.report.ablation import Comparison

WIDTH = 170
"""Columns of the table where no terminal says how many there are."""


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(ablate)


def ablate(
    recipe: Source,
    variants: Annotated[
        str | None, typer.Option(help="Strategies by name, with commas; default: the recipe's.")
    ] = None,
    form: Annotated[str | None, typer.Option(help="rows, tokens, or both with a comma.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Training seeds, with commas: 1,2,3.")] = None,
    sweep: Annotated[
        list[str] | None, typer.Option(help="KEY=V1,V2: try these values of a recipe key; several make a grid.")
    ] = None,
    sets: Assignments = [],  # noqa: B006
    out: Annotated[Path | None, typer.Option(help="Its directory; by default runs/NAME-ablation.")] = None,
    parallel: Annotated[int, typer.Option(min=1, help="Arms at once, each with a device of its own.")] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and its cost; nothing is done.")] = False,
    trust: Annotated[bool, typer.Option(help="Confirm that the recipe's hosts may get the keys it names.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train and measure strategies beside each other on one round 0 (Table 5), or go on with it."""
    from tapir import ablation
    from tapir.report.ablation import compare
    from tapir.report.ablation_page import write_files

    loaded = with_options(load_recipe(recipe, sets), variants, form, seeds, sweep or [])
    root = out or Path("runs") / f"{loaded.name}-ablation"
    progress = TerminalProgress()
    for line in ablation.describe(loaded, root):
        if dry_run:
            print(printable(line))
        else:
            progress.say(line)
    if dry_run:
        return
    for cell in ablation.cells_of(loaded):
        # A sweep may change an address too.
        require_trust(cell.recipe, confirmed=trust)
    folders = ablation.ablate(loaded, root, parallel=parallel, progress=progress, source=recipe)
    found = compare(root, folders, seed=loaded.seed)
    written = write_files(found, root)
    if as_json:
        print(json.dumps(found.to_json()))
        return
    show(found)
    print(f"written: {', '.join(str(path) for path in written)}")


def with_options(recipe: Recipe, variants: str | None, form: str | None, seeds: str | None, sweep: list[str]) -> Recipe:
    """The recipe with what the command line says instead of its `ablate` part."""
    said = {
        "variants": _names(variants),
        "forms": _names(form),
        "seeds": None if seeds is None else _values(seeds, f"--seeds {seeds!r}"),
        "sweep": dict(_swept(sweep)) or None,
    }
    return rewritten(recipe, *(f"ablate.{key}={json.dumps(value)}" for key, value in said.items() if value is not None))


def _names(said: str | None) -> list[str] | None:
    return None if said is None else [name.strip() for name in said.split(",")]


def _swept(sweep: list[str]) -> Iterator[tuple[str, list[object]]]:
    for said in sweep:
        key, sign, values = said.partition("=")
        if not sign or not values:
            raise RecipeError(f"--sweep {said!r}: write it as KEY=V1,V2, for instance delta=1,2,3")
        yield key.strip(), _values(values, f"--sweep {said!r}")


def _values(said: str, option: str) -> list[object]:
    try:
        return yaml.safe_load(f"[{said}]")
    except yaml.YAMLError:
        raise RecipeError(f"{option}: the values cannot be read; separate them by commas") from None


def show(found: Comparison) -> None:
    """One table a form, then what can be said of it."""
    from rich.console import Console
    from rich.table import Table

    from tapir.report import ablation_page as page

    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
    for form in dict.fromkeys(line.form for line in found.lines):
        table = Table(*page.HEAD, title=f"ablation by {form}", show_lines=True)
        for line in found.lines:
            if line.form == form:
                table.add_row(*(printable(cell) for cell in page.cells(line)))
        console.print(table, markup=False)
    for said in [*page.sentences(found), *page.notes(found)]:
        print(printable(said))
