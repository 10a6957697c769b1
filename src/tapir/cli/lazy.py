"""Command groups whose modules are imported when a command is asked for.

`tapir evaluate alpaca --annotations` scores a file in a tenth of a second; importing every other command's libraries
would take ten times that.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import typer
from typer.core import TyperGroup


def lazy_group(commands: Mapping[str, str]) -> type[TyperGroup]:
    """A group of these commands: name → module below `tapir.cli`, which has an `app` or registers single commands."""

    class Lazy(TyperGroup):
        def list_commands(self, ctx: Any) -> list[str]:
            return list(commands)

        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            return _load(commands[cmd_name], cmd_name) if cmd_name in commands else None

    return Lazy


def _load(module_name: str, command: str) -> Any:
    module = importlib.import_module(f"tapir.cli.{module_name}")
    if hasattr(module, "app"):
        # `get_command` would add options that install shell completion; the help names a group by its own name.
        group = typer.main.get_group(module.app)
        group.name = command
        return group
    app = typer.Typer()
    module.register(app)
    return typer.main.get_group(app).commands[command]
