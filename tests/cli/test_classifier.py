"""`tapir classifier train|eval` and `tapir classify` on a tiny encoder, through the command line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from tiny import build_tiny_encoder, typed_questions
from typer.testing import CliRunner, Result
from whole_run import recipe as tiny_recipe

from tapir.cli import app
from tapir.config import Seeds
from tapir.errors import DataError, ModelError, RecipeError
from tapir.stages.reading import read_instructions
from tapir.stages.seeds import load_pool
from tapir.store.tables import read_plain, read_rows
from tapir.types import Instruction, Receipt

pytestmark = pytest.mark.xdist_group("classifier command")


def call(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def failure(error: type[Exception], *words: object) -> str:
    result = call(*words)
    assert isinstance(result.exception, error), (result.output, result.exception)
    return str(result.exception)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classifier")
    build_tiny_encoder(folder / "base")
    rows = [{"instruction": text, "task": task} for task, text in typed_questions(12)]
    write(folder / "rows.jsonl", *rows, {"instruction": "how many cakes ?", "task": "Cooking"})
    write(folder / "plain.jsonl", *({"instruction": row["instruction"]} for row in rows))
    raw = tiny_recipe(folder, evaluate=[], ledger={"path": str(folder / "ledger.sqlite")})
    (folder / "recipe.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def trained(place: Path) -> tuple[Path, Result]:
    words = ("--learning-rate", 0.01, "--epochs", 12, "--patience", 12, "--batch", 8, "--max-tokens", 32)
    out = place / "trained"
    result = call("classifier", "train", place / "rows.jsonl", "-o", out, "--model", place / "base",
                  "--held-out", 0.2, *words)  # fmt: skip
    assert result.exit_code == 0, result.exception
    return out, result


def write(path: Path, *rows: dict[str, object]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_training_says_what_was_learnt_and_what_never_seen(trained: tuple[Path, Result]):
    out, result = trained
    assert f"{out}: 3 task types from 30 instructions" in result.stdout
    assert "it will never name them" in result.stdout
    assert "agrees on 6 of 6 rows: 100.0 %" in result.stdout


def test_eval_measures_on_other_rows_and_counts_those_without_a_type(place: Path, trained: tuple[Path, Result]):
    result = call("classifier", "eval", place / "rows.jsonl", "--classifier", trained[0], "--json")
    found = json.loads(result.stdout)
    assert (found["agree"], found["n"], found["dropped"]) == (36, 36, {"unknown_label": 1})
    shown = call("classifier", "eval", place / "rows.jsonl", "--classifier", trained[0]).stdout
    assert "agrees on 36 of 36 rows: 100.0 %" in shown
    assert "dropped: unknown_label 1" in shown


def test_eval_reads_columns_as_a_recipe_names_them(trained: tuple[Path, Result], tmp_path: Path):
    lines = [f"{text},{task}" for task, text in typed_questions(12)]
    (tmp_path / "rows.csv").write_text("\n".join(["asked,topic", *lines]) + "\n", encoding="utf-8")
    named = ("--set", "seeds.columns.instruction=asked", "--set", "seeds.columns.task=topic")
    words = ("classifier", "eval", tmp_path / "rows.csv", "--classifier", trained[0])
    assert "no column" in failure(DataError, *words, *named[2:])
    assert "agrees on 36 of 36 rows" in call(*words, *named).stdout


def test_classify_alone_names_every_row(place: Path, trained: tuple[Path, Result], tmp_path: Path):
    result = call("classify", place / "plain.jsonl", "-o", tmp_path / "out.jsonl", "--classifier", trained[0],
                  "--confidence", 1)  # fmt: skip
    assert result.exit_code == 0, result.exception
    found = {i.text: i.task for i in read_rows(tmp_path / "out.jsonl", Instruction)}
    assert found == {text: task for task, text in typed_questions(12)}
    assert "36 instructions, 36 labelled by the classifier" in result.stdout
    assert "--recipe names a teacher to ask about those" in result.stdout


def test_below_the_confidence_the_recipes_teacher_is_asked(place: Path, trained: tuple[Path, Result], tmp_path: Path):
    result = call("classify", place / "plain.jsonl", "-o", tmp_path / "out.parquet", "--classifier", trained[0],
                  "--confidence", 1, "--recipe", place / "recipe.yaml", "--json")  # fmt: skip
    assert result.exit_code == 0, result.exception
    receipt = json.loads(result.stdout)
    assert (receipt["rows_in"], receipt["rows_out"]) == (36, 36)
    assert receipt["notes"]["labelled_by"]["teacher"] == receipt["notes"]["below_confidence"] > 0


def test_a_teacher_alone_will_do(place: Path, tmp_path: Path):
    result = call("classify", place / "plain.jsonl", "-o", tmp_path / "out.jsonl", "--recipe", place / "recipe.yaml")
    assert result.exit_code == 0, result.exception
    assert "36 instructions, 36 labelled by the teacher" in result.stdout


SAID = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Name a river."},
        {"role": "assistant", "content": "The Elbe."}, {"role": "user", "content": "And a lake?"}]  # fmt: skip
CHECKED = {"instruction": "Add.", "input": "1 2", "output": "3", "check": {"kind": "exact", "answers": ["3"]}}
POOLS = [[CHECKED, {"instruction": "Name a hill."}], [{"messages": [*SAID, {"role": "assistant", "content": "Como."}]}]]


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
@pytest.mark.parametrize("command", [("classify",), ("stage", "classify")])
@pytest.mark.parametrize("rows", POOLS)
def test_a_labelled_pool_is_a_pool_with_all_that_it_held(
    place: Path, tmp_path: Path, rows: list[dict[str, object]], command: tuple[str, ...], ending: str
):
    pool, labelled = tmp_path / "pool.jsonl", tmp_path / f"labelled{ending}"
    write(pool, *rows)
    result = call(*command, pool, "-o", labelled, "--recipe", place / "recipe.yaml")
    assert result.exit_code == 0, result.exception
    before, after = (load_pool(Seeds(source=str(p)), seed=0, receipt=Receipt("seeds")) for p in (pool, labelled))
    assert after.answers == before.answers
    assert len(before.answers) == 1
    tasks = [i.task for i in after.instructions]
    assert after.instructions == [replace(i, task=t) for i, t in zip(before.instructions, tasks, strict=True)]
    assert None not in tasks
    assert read_instructions(str(labelled), Receipt("stage")) == after.instructions
    assert list(read_rows(labelled, Instruction)) == after.instructions


def test_rows_that_cannot_be_used_are_counted(place: Path, tmp_path: Path):
    pool, recipe = tmp_path / "pool.jsonl", place / "recipe.yaml"
    pool.write_text('{"instruction": "Name a café."}\n{"instruction": "Name a river."}\n{\n', encoding="latin-1")
    words = (pool, "-o", tmp_path / "out.jsonl", "--recipe", recipe)
    assert "dropped: not_utf8 1, broken_json 1" in call("classify", *words).stdout
    receipt = json.loads(call("stage", "classify", *words).stderr.splitlines()[-1])
    assert (receipt["rows_in"], receipt["rows_out"]) == (3, 1)
    assert receipt["dropped"] == {"not_utf8": 1, "broken_json": 1}


@pytest.mark.parametrize("command", [("classify",), ("stage", "classify")])
def test_columns_are_named_as_a_recipe_does(place: Path, tmp_path: Path, command: tuple[str, ...]):
    (tmp_path / "pool.csv").write_text("q,a\nName a river.,The Elbe.\n", encoding="utf-8")
    words = (*command, tmp_path / "pool.csv", "-o", tmp_path / "out.jsonl", "--recipe", place / "recipe.yaml")
    assert "--set seeds.columns.instruction=NAME" in failure(DataError, *words)
    result = call(*words, "--set", "seeds.columns.instruction=q")
    assert result.exit_code == 0, result.exception
    assert [row["text"] for row in read_plain(tmp_path / "out.jsonl")] == ["Name a river."]


def test_nobody_to_ask_a_folder_that_is_none_and_one_that_is_there(
    place: Path, trained: tuple[Path, Result], tmp_path: Path
):
    words = ("classify", place / "plain.jsonl", "-o", tmp_path / "out.jsonl")
    assert "give --classifier, --recipe, or both" in failure(RecipeError, *words)
    assert "`tapir classifier train` makes one" in failure(ModelError, *words, "--classifier", place / "base")
    assert "no-such-recipe" in failure(RecipeError, *words, "--recipe", "no-such-recipe")
    again = ("classifier", "train", place / "rows.jsonl", "-o", trained[0], "--model", place / "base")
    assert "exists" in failure(DataError, *again)
    unlabelled = ("classifier", "train", place / "plain.jsonl", "-o", tmp_path / "new", "--model", place / "base")
    assert "label it with `tapir classify`" in failure(DataError, *unlabelled)
