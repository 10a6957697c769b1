"""The tables of commands against the modules that have them; `tapir` loads only what the command asked for needs."""

import importlib
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from tapir.cli import COMMANDS, app
from tapir.cli.evaluate import COMMANDS as BENCHMARKS


def registered(module_name: str) -> set[str]:
    module = importlib.import_module(f"tapir.cli.{module_name}")
    if hasattr(module, "app"):
        return {module_name}
    found = typer.Typer()
    module.register(found)
    return set(typer.main.get_group(found).commands)


@pytest.mark.parametrize("commands", [COMMANDS, BENCHMARKS])
def test_every_command_that_a_module_registers_is_in_the_table_and_no_other(commands: dict[str, str]):
    for module in set(commands.values()):
        assert {name for name, home in commands.items() if home == module} == registered(module)


def test_help_names_every_command():
    shown = CliRunner().invoke(app, ["--help"]).stdout
    assert all(f" {name} " in shown for name in COMMANDS)


def test_an_unknown_command_is_a_usage_error():
    assert CliRunner().invoke(app, ["distill"]).exit_code == 2


def test_importing_the_program_loads_no_command():
    code = (
        "import sys, tapir.cli, tapir.cli.evaluate\n"
        "print(sorted({'pyarrow', 'duckdb', 'torch', 'aiohttp'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
