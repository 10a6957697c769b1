"""`tapir chat RUN`: one turn or many, one speaker or several, and nothing that could command the terminal."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from finished_run import write_run
from rich.console import Console

from tapir.cli.chat import Speaker, chat, show
from tapir.config import Model
from tapir.errors import DataError, RecipeError
from tapir.models import students
from tapir.models.calls import Reply
from tapir.types import Message


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs"))


def call(run: Path, **given: Any) -> None:
    options: dict[str, Any] = {"number": None, "against": "", "prompt": None, "system": None, "as_json": False,
                               "trust": False}  # fmt: skip
    chat(run, **(options | given))


def test_one_turn_is_answered_by_every_speaker_once(run: Path, capsys: pytest.CaptureFixture[str]):
    call(run, prompt="What is the sea?", against="student_0,teacher,student_0", as_json=True)
    said = json.loads(capsys.readouterr().out)
    assert list(said) == ["student_2", "student_0", "teacher"]
    assert said["student_2"] != said["student_0"]
    assert said["teacher"].endswith(".")


@pytest.mark.parametrize(("against", "engines"), [("", ["vllm"]), ("teacher,student_0", ["transformers"] * 2)])
def test_students_that_speak_together_do_not_each_take_the_gpu_for_themselves(
    against: str, engines: list[str], run: Path, monkeypatch: pytest.MonkeyPatch
):
    opened: list[str] = []

    def noted(model: Model, folder: Path) -> Any:
        opened.append(students.chosen_engine(model))
        return open_here(model.model_copy(update={"engine": "transformers"}), folder)

    open_here = students.open_local
    monkeypatch.setattr(students, "open_local", noted)
    monkeypatch.setattr(students, "chosen_engine", lambda model: "vllm" if model.engine == "auto" else model.engine)
    path = run / "recipe.yaml"
    written = path.read_text(encoding="utf-8")
    path.write_text(written.replace("engine: transformers", "engine: auto"), encoding="utf-8")
    try:
        call(run, prompt="What is the sea?", against=against)
    finally:
        path.write_text(written, encoding="utf-8")
    assert opened == engines


def test_a_conversation_goes_on_until_an_empty_line(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("sys.stdin", io.StringIO("What is the sea?\n/new\nAnd the sand?\n\nnever asked\n"))
    call(run, number=1)
    told = capsys.readouterr()
    assert told.out.count("student_1: ") == 2
    assert "an empty line or Ctrl-D ends" in told.err


def test_a_speaker_remembers_what_it_said_and_forgets_a_turn_that_failed():
    asked: list[tuple[Message, ...]] = []
    replies = [Reply("First."), Reply(problem="timeout"), Reply("Third.")]

    def speak(messages: tuple[Message, ...]) -> Reply:
        asked.append(messages)
        return replies[len(asked) - 1]

    speaker = Speaker("student_1", speak)
    speaker.begin("Be brief.")
    assert [speaker.answer(text) for text in ("a", "b", "c")] == ["First.", "(no answer: timeout)", "Third."]
    assert [m.content for m in asked[2]] == ["Be brief.", "a", "First.", "c"]


@pytest.mark.parametrize("width", [60, 200])
def test_replies_command_no_terminal_and_are_no_markup(width: int):
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=True, color_system=None, highlight=False)
    show([("student_1", "[bold]so[/bold] \x1b]0;owned\x07it \x1b[31mis"), ("teacher", "yes")], console)
    text = out.getvalue()
    assert "[bold]so[/bold] it is" in text
    assert "owned" not in text
    lines = [line.split() for line in text.splitlines() if line.strip()]
    # Wide: both names on one line. Narrow: one under the other.
    assert lines[0] == (["student_1", "teacher"] if width == 200 else ["student_1"])


def test_unknown_speakers_are_named_with_what_there_is(run: Path):
    with pytest.raises(RecipeError, match="--against judge: name students of the run"):
        call(run, prompt="q", against="judge")
    with pytest.raises(DataError, match="student_7 is not there"):
        call(run, prompt="q", against="student_7")
