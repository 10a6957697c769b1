"""`tapir refiner train|eval` on a tiny model, through the command line, and what it says where something is missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny import build_tiny_model
from typer.testing import CliRunner, Result
from whole_run import recipe as tiny_recipe

from tapir.cli.refiner import app
from tapir.errors import DataError, RecipeError
from tapir.stages.distil_refiner import write_mark

pytestmark = pytest.mark.xdist_group("refiner command")

TRAIN = {"epochs": 1, "batch": 4, "micro_batch": 4, "max_tokens": 512, "method": "lora"}


def call(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def failure(error: type[Exception], *words: object) -> str:
    result = call(*words)
    assert isinstance(result.exception, error), (result.output, result.exception)
    return str(result.exception)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled instructions, a recipe with a scripted annotator, teacher and judge, and a tiny model."""
    folder = tmp_path_factory.mktemp("refiner")
    build_tiny_model(folder / "student")
    rows = [{"instruction": f"Name {n} kings of old, and say why.", "task": "History"} for n in range(2, 11)]
    (folder / "labelled.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    write_recipe(folder / "recipe.yaml", folder)
    return folder


def write_recipe(path: Path, folder: Path, **refiner: Any) -> Path:
    """The tiny recipe; `refiner` is what it says of that role."""
    trained = {"model": str(folder / "student"), "held_out": 3, "rows": 5, "train": TRAIN}
    raw = tiny_recipe(folder, refiner=trained, evaluate=[], ledger={"path": str(folder / "ledger.sqlite")})
    served = {"kind": "local", "model": "none-yet", "engine": "transformers", "max_answer_tokens": 12}
    raw["models"]["refiner"] = refiner or served
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return path


def test_a_refiner_is_trained_measured_and_measured_again(place: Path):
    recipe, out = place / "recipe.yaml", place / "trained"
    result = call("train", place / "labelled.jsonl", "--recipe", recipe, "-o", out, "--json")
    assert result.exit_code == 0, result.exception
    told = json.loads(result.stdout)
    assert (told["annotated"], told["held_out"], told["base"]) == (5, 3, str(place / "student"))
    assert (told["measured"]["instructions"], told["measured"]["n"] + told["measured"]["unread"]) == (3, 3)

    again = call("eval", out, "--recipe", recipe)
    assert again.exit_code == 0, again.exception
    lines = again.stdout.splitlines()
    assert lines[0].startswith("of 3 held-out instructions, ")
    # What a tiny model writes, the guards refuse: the original stands in.
    assert sum(told["measured"]["fallback_trained"].values()) == 3
    assert lines[1].startswith("fell back to the original, trained: ")
    assert lines[2] == "fell back to the original, in-context: none"

    more = place / "more.jsonl"
    more.write_text((place / "labelled.jsonl").read_text() + '{"instruction": "Of no type."}\n')
    other = json.loads(call("eval", out, "--recipe", recipe, "--file", more, "--json").stdout)
    assert (other["instructions"], other["dropped"]) == (9, {"no_label": 1})
    said = failure(DataError, "train", place / "labelled.jsonl", "--recipe", recipe, "-o", out)
    assert "exists already; delete it" in said


def test_instructions_without_task_types_are_sent_to_classify(place: Path, tmp_path: Path):
    plain = tmp_path / "plain.jsonl"
    plain.write_text(json.dumps({"instruction": "Name 3 kings."}) + "\n", encoding="utf-8")
    said = failure(DataError, "train", plain, "--recipe", place / "recipe.yaml", "-o", tmp_path / "out")
    assert said == f"{plain}: no instruction in it has a task type of the taxonomy; label it with `tapir classify`"
    missing = failure(DataError, "train", tmp_path / "none.jsonl", "--recipe", place / "recipe.yaml", "-o", "out")
    assert "none.jsonl" in missing


def test_annotations_that_all_fail_the_guards_train_nothing(place: Path, tmp_path: Path):
    rules = tmp_path / "rules.yaml"
    # It loses the number of every instruction.
    rules.write_text(yaml.safe_dump([{"pattern": ".", "reply": "Name some kings of old, and say why."}]), "utf-8")
    annotator = f"models.refiner_annotator={json.dumps({'kind': 'scripted', 'script': str(rules)})}"
    words = ("train", place / "labelled.jsonl", "--recipe", place / "recipe.yaml", "-o", tmp_path / "out")
    said = failure(DataError, *words, "--set", annotator)
    assert said.startswith("none of 5 annotations passed the guards (")
    assert said.endswith("take a stronger models.refiner_annotator")
    assert not (tmp_path / "out").exists()


def test_one_instruction_is_too_few_to_hold_any_out_and_is_still_measured_on_a_file(place: Path, tmp_path: Path):
    folder = tmp_path / "marked"
    folder.mkdir()
    write_mark(folder, {"held_out": 0})
    said = failure(RecipeError, "eval", folder, "--recipe", place / "recipe.yaml")
    assert said == f"{folder}: nothing was held out when it was trained; give --file"


@pytest.mark.parametrize(
    "refiner",
    [
        {"same_as": "teacher"},
        {"same_as": "teacher", "temperature": 0.2},
        {"kind": "scripted", "script": "builtin"},
        {"kind": "openai", "model": "big", "base_url": "https://llm.example.com/v1", "api_key_env": "REFINER_KEY"},
        {"kind": "local", "model": "another"},
    ],
)
def test_whoever_the_recipes_refiner_is_the_trained_one_takes_the_role(
    place: Path, tmp_path: Path, refiner: dict[str, Any]
):
    recipe = write_recipe(tmp_path / "recipe.yaml", place, **refiner)
    said = failure(RecipeError, "eval", place / "student", "--recipe", recipe)
    assert said == f"{place / 'student'}: not a trained refiner; `tapir refiner train` makes one"
    folder = tmp_path / "a folder: with [signs]"
    folder.mkdir()
    write_mark(folder, {"held_out": 0})
    assert "nothing was held out" in failure(RecipeError, "eval", folder, "--recipe", recipe)


def test_a_recipe_that_is_none_is_one_line(place: Path, tmp_path: Path):
    for command in (("train", place / "labelled.jsonl", "-o", tmp_path / "out"), ("eval", place / "student")):
        assert "no-such-recipe" in failure(RecipeError, *command, "--recipe", "no-such-recipe")
        assert call(*command).exit_code == 2  # without --recipe


def test_a_model_to_fine_tune_may_be_named_on_the_command_line(place: Path, tmp_path: Path):
    words = ("train", place / "labelled.jsonl", "--recipe", place / "recipe.yaml", "-o", tmp_path / "out")
    result = call(*words, "--model", tmp_path / "no-model")
    assert result.exception is not None
    assert "no-model" in str(result.exception)
    assert not (tmp_path / "out").exists()
