"""No command writes over what it reads, or a table under an ending that is none; it says so before it asks a model."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tapir.cli import app
from tapir.errors import RecipeError

TABLES = {
    "classify": 1,
    "stage annotate": 1,
    "stage classify": 1,
    "stage answer": 1,
    "stage judge": 3,
    "stage select": 1,
    "stage expand": 2,
    "stage refine": 1,
    "stage mix": 3,
    "stage enhance": 3,
    "decontaminate": 1,
}
"""Commands that write a table, and how many files they read."""
BEYOND = {"decontaminate": ("--against", "in0.jsonl"), "stage select": ()}
RESULTS = (
    "evaluate alpaca --annotations in0.jsonl",
    "evaluate mt-bench --judgments in0.jsonl",
    "evaluate relative --reviews in0.jsonl",
    "evaluate pairwise --model in0.jsonl",
    "evaluate graded --model x --prompts in0.jsonl",
    "evaluate following --prompts in0.jsonl",
    "evaluate exact --problems in0.jsonl",
    "evaluate choice --model x --before in0.jsonl",
    "evaluate fit --model x --instructions in0.jsonl",
)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files that hold no row of any command: whoever reads them has looked too late where it writes."""
    monkeypatch.chdir(tmp_path)
    for n in range(3):
        (tmp_path / f"in{n}.jsonl").write_text("no row", encoding="utf-8")
    return tmp_path


def refusal(command: str, *words: str) -> str:
    result = CliRunner().invoke(app, [*command.split(), *words])
    assert isinstance(result.exception, RecipeError), (result.output, result.exception)
    return str(result.exception)


def words_of(command: str, out: str) -> list[str]:
    inputs = [f"in{n}.jsonl" for n in range(TABLES[command])]
    return [*inputs, *BEYOND.get(command, ("--recipe", "none.yaml")), "-o", out]


@pytest.mark.parametrize("command", TABLES)
def test_no_table_takes_the_place_of_what_is_read(place: Path, command: str):
    for n in range(TABLES[command]):
        said = refusal(command, *words_of(command, f"in{n}.jsonl"))
        assert f"this command reads in{n}.jsonl; write to another place" in said
        assert (place / f"in{n}.jsonl").read_text() == "no row"


@pytest.mark.parametrize("command", TABLES)
@pytest.mark.parametrize("out", ["d.csv", "adir", "."])
def test_a_table_has_an_ending_that_says_how_it_is_written(place: Path, command: str, out: str):
    assert "name a file that ends in .jsonl or .parquet" in refusal(command, *words_of(command, out))
    assert not (place / "adir").exists()


def test_another_name_of_the_same_file_is_the_same_file(place: Path):
    (place / "link.jsonl").symlink_to("in0.jsonl")
    (place / "hard.jsonl").hardlink_to("in0.jsonl")
    for name in ("link.jsonl", "hard.jsonl", str(place / "in0.jsonl")):
        assert "reads in0.jsonl" in refusal("classify", "in0.jsonl", "-o", name, "--recipe", "none.yaml")


def test_nothing_is_written_into_the_folder_that_is_read(place: Path):
    (place / "pool").mkdir()
    said = refusal("classify", "pool", "-o", "pool/labelled.jsonl", "--recipe", "none.yaml")
    assert "this command reads pool" in said


def test_what_expansion_refuses_takes_no_place_either(place: Path):
    (place / "new.rejected.jsonl").write_text("no row", encoding="utf-8")
    words = ("new.rejected.jsonl", "in1.jsonl", "-o", "new.jsonl", "--recipe", "none.yaml")
    assert "this command reads new.rejected.jsonl" in refusal("stage expand", *words)


def test_weights_are_not_trained_into_their_own_folder(place: Path):
    (place / "student").mkdir()
    said = refusal("stage train", "in0.jsonl", "student", "-o", "student", "--recipe", "none.yaml")
    assert "this command reads student" in said


@pytest.mark.parametrize("command", RESULTS)
def test_no_result_takes_the_place_of_what_is_read(place: Path, command: str):
    assert "this command reads in0.jsonl" in refusal(command, "-o", "in0.jsonl")
    if "choice" not in command and "fit" not in command:
        assert "this command reads in0.jsonl" in refusal(command, "--write", "in0.jsonl")
