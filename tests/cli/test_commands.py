"""The tables of commands against the modules that have them; `tapir` loads only what the command asked for needs."""

import importlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from tapir import cli
from tapir.cli import COMMANDS, app
from tapir.cli.evaluate import COMMANDS as BENCHMARKS
from tapir.errors import RecipeError


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


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (PermissionError(13, "Permission denied", "/root/x"), "tapir: /root/x: Permission denied\n"),
        (OSError("many words\nof a library"), "tapir: many words of a library\n"),
        (
            UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
            "tapir: a text cannot be read or written as",
        ),
    ],
)
def test_a_file_that_fails_anywhere_is_one_line(
    error: Exception, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(cli, "app", raising(error))
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr().err
    assert (ended.value.code, said[: len(line)], said.count("\n")) == (3, line, 1)


def test_a_mistake_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cli, "app", raising(ValueError("not a number")))
    with pytest.raises(ValueError, match="not a number"):
        cli.main()


def raising(error: Exception) -> Callable[[], None]:
    def app() -> None:
        raise error

    return app


def test_a_port_that_cannot_be_is_a_usage_error():
    assert CliRunner().invoke(app, ["serve-fake", "--port", "99999"]).exit_code == 2


def test_a_recipe_is_not_written_where_there_is_no_folder(tmp_path: Path):
    done = CliRunner().invoke(app, ["init", str(tmp_path / "nope" / "r.yaml")])
    assert isinstance(done.exception, RecipeError)
    assert "r.yaml: cannot be written (No such file or directory)" in str(done.exception)


def test_importing_the_program_loads_no_command():
    code = (
        "import sys, tapir.cli, tapir.cli.evaluate\n"
        "print(sorted({'pyarrow', 'duckdb', 'torch', 'aiohttp'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("words", "told"),
    [(["run", "quickstart"], "tapir: stopped; the same command goes on from here\n"), (["status", "."], "")],
)
def test_an_interrupt_says_how_to_go_on_where_there_is_something_to_go_on_with(words: list[str], told: str):
    code = f"""
import sys
from tapir import pipeline
from tapir.cli import main, run, status

def stop(*_, **__):
    raise KeyboardInterrupt

pipeline.run = status.open_run = stop
sys.argv = ["tapir", *{words!r}]
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, told)
