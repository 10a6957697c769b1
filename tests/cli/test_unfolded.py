"""Groups of options: one option a field, gathered again when the command is called."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from tapir.cli.evaluate import COMMANDS
from tapir.cli.evaluate import app as evaluate
from tapir.cli.unfolded import Without, unfolded


@dataclass(frozen=True)
class Group:
    """Options that commands share."""

    size: Annotated[int, typer.Option(min=1, help="How many.")] = 2
    names: Annotated[list[str], typer.Option("--name", help="Whose.")] = field(default_factory=list)
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Where to.")] = None


def program(command: Any) -> typer.Typer:
    app = typer.Typer()
    app.command()(unfolded(command))
    return app


def said(app: typer.Typer, *words: str) -> str:
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    return result.stdout.strip()


def whole(title: Annotated[str, typer.Option(help="Its own.")], *, group: Group) -> None:
    """A command with all of the group's options."""
    print(title, group)


def part(*, group: Annotated[Group, Without("out", "size")]) -> None:
    """A command with one of them."""
    print(group)


def test_fields_are_options_with_their_help_names_and_defaults():
    assert said(program(whole), "--title", "t") == f"t {Group()}"
    words = ("--title", "t", "--size", "3", "--name", "a", "--name", "b", "-o", "x")
    assert said(program(whole), *words) == f"t {Group(3, ['a', 'b'], Path('x'))}"
    shown = said(program(whole), "--help")
    assert all(text in shown for text in ("How many.", "Whose.", "Where to.", "Its own.", "A command with all"))
    assert CliRunner().invoke(program(whole), ["--title", "t", "--size", "0"]).exit_code == 2


def test_a_field_left_out_is_no_option_and_keeps_its_default():
    assert said(program(part), "--name", "a") == f"{Group(names=['a'])}"
    assert CliRunner().invoke(program(part), ["--size", "3"]).exit_code == 2


def test_leaving_out_what_is_not_there_is_a_mistake_of_ours():
    def wrong(*, group: Annotated[Group, Without("height")]) -> None: ...

    with pytest.raises(TypeError, match="Group has no height"):
        unfolded(wrong)


RESULT = {"--json", "--allow-missing", "--require", "--out"}
LIVE = {"--recipe", "--key-env", "--temperature", "--max-answer-tokens", "--limit", "--set", "--trust", "--write"}
JUDGED = {"--judge", "--judge-prompt", "--judge-key-env", "--repeats", "--judge-temperature"}


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("pairwise", LIVE | JUDGED | RESULT),
        ("graded", LIVE | JUDGED | RESULT),
        ("relative", LIVE | JUDGED | RESULT),
        # The public judge's temperature is its own; MT-Bench's answers have `--temperatures`.
        ("alpaca", (LIVE | JUDGED | RESULT) - {"--judge-temperature"}),
        ("mt-bench", (LIVE | JUDGED | RESULT) - {"--temperature"}),
        ("following", LIVE | RESULT),
        ("exact", LIVE | RESULT),
        ("fit", RESULT),
        # Its own `--limit` counts questions of each task.
        ("choice", (RESULT | {"--limit"}) - {"--allow-missing"}),
    ],
)
def test_every_benchmark_has_the_options_it_shares_and_each_is_explained(command: str, expected: set[str]):
    group: Any = typer.main.get_group(evaluate)
    options = {p.opts[-1]: p for p in group.get_command(None, command).params}
    assert (LIVE | JUDGED | RESULT) & set(options) == expected
    assert all(options[name].help for name in expected)


def test_no_benchmark_is_forgotten_above():
    marked: Any = test_every_benchmark_has_the_options_it_shares_and_each_is_explained
    assert {name for name, _ in marked.pytestmark[0].args[1]} == set(COMMANDS)
