"""`tapir data …`: seed pools and evaluation data, looked at before anything is spent on them."""

from __future__ import annotations

import json
from dataclasses import asdict

import typer

from tapir.cli.decontaminate import decontaminate, short
from tapir.cli.difficulty import difficulty
from tapir.cli.pools import File, Form, Recipe, Sets, pool_recipe
from tapir.cli.printable import listed
from tapir.cli.results import AsJson
from tapir.cli.terminal import printable
from tapir.evaluation.benchmarks import benchmarks
from tapir.stages.pool_check import PoolCheck, check_pool

app = typer.Typer(help="Seed pools and evaluation data.", no_args_is_help=True)
SHOWN = 20

app.command()(decontaminate)
app.command()(difficulty)


@app.command()
def check(
    file: File,
    form: Form = None,
    recipe: Recipe = None,
    sets: Sets = [],  # noqa: B006
    as_json: AsJson = False,
) -> None:
    """What a run would read from a pool, and what it would drop and why; nothing is sent."""
    found = check_pool(pool_recipe(file, form, recipe, sets).seeds)
    if as_json:
        print(json.dumps(asdict(found), ensure_ascii=False))
        return
    _print_check(found)


def _print_check(found: PoolCheck) -> None:
    print(f"form                {found.form}")
    print(f"rows                {found.rows}")
    print(f"instructions        {found.instructions} ({found.answers} with an answer, {found.checks} with a check)")
    print(f"dropped             {listed(found.dropped) or 'none'}")
    for what, lengths in (("instruction words", found.instruction_words), ("answer words", found.answer_words)):
        if lengths is not None:
            print(
                f"{what:<20}{lengths.shortest} to {lengths.longest}, median {lengths.median}, half between "
                f"{lengths.quarter} and {lengths.three_quarters}, 95 % up to {lengths.nearly_all}"
            )
    print(f"languages           {listed(found.languages)}")
    print(f"task types          {listed(found.tasks) or 'no labels'}")
    for where, reason in found.problems[:SHOWN]:
        print(f"bad row             {printable(where)}: {reason}")
    for text, other, score in found.near_duplicates[:SHOWN]:
        print(f"near duplicate      {score:.2f} {short(text)}\n{'':<20}  of {short(other)}")


@app.command("benchmarks")
def list_benchmarks() -> None:
    """The public benchmarks that `decontaminate.against` knows by name."""
    for b in benchmarks().values():
        print(f"{b.name:<16}{b.hub:<36}{b.config or '-':<16}{b.split:<12}{', '.join(b.columns)}")
