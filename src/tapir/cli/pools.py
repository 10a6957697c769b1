"""How a command reads the pool that it is given: by the settings of `seeds`, as a run would."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from tapir.config import Seeds, override, parse_recipe

File = Annotated[str, typer.Argument(help="A pool: a file or folder, hub:owner/name, or builtin.")]
Form = Annotated[str, typer.Option("--format", help="auto, alpaca, messages, sharegpt or columns.")]
BARE: dict[str, Any] = {"models": {"teacher": {"kind": "scripted"}, "student": {"kind": "local"}}}
"""As much of a recipe as there must be."""


def pool_settings(file: str, form: str) -> Seeds:
    """How this pool is read."""
    given = [f"seeds.source={json.dumps(file)}", f"seeds.format={json.dumps(form)}"]
    return parse_recipe(override(BARE, given), where=file).seeds
