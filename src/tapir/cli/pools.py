"""How a command reads the pool that it is given: by the settings of `seeds`, as a run would."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from tapir import config
from tapir.wiring import load_recipe

File = Annotated[str, typer.Argument(help="A pool: a file or folder, hub:owner/name, or builtin.")]
Form = Annotated[
    str | None, typer.Option("--format", help="alpaca, messages, sharegpt or columns; by default told by the keys.")
]
Recipe = Annotated[str | None, typer.Option("--recipe", help="Recipe whose `seeds` say how the pool is read.")]
Sets = Annotated[list[str], typer.Option("--set", help="Override a value, as in seeds.columns.instruction=question.")]
BARE: dict[str, Any] = {"models": {"teacher": {"kind": "scripted"}, "student": {"kind": "local"}}}
"""As much of a recipe as there must be."""


def pool_recipe(file: str, form: str | None, recipe: str | None, sets: list[str]) -> config.Recipe:
    """The recipe (or one of defaults) with this file as its pool, all of it, and with what is overridden."""
    given = ["seeds.sample=null", *sets, f"seeds.source={json.dumps(file, ensure_ascii=False)}"]
    given += [f"seeds.format={json.dumps(form)}"] if form is not None else []
    return load_recipe(recipe, given) if recipe else config.parse_recipe(config.override(BARE, given), where=file)
