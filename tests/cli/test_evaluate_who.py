"""Whom `--model` and `--judge` mean; no model is loaded to find out."""

import json
from pathlib import Path

import pytest
import yaml

from tapir.cli.evaluate.who import ANSWER_TOKENS, distinct, named, read_who
from tapir.config import parse_recipe
from tapir.errors import DataError, RecipeError

RECIPE = {
    "models": {
        "teacher": {"kind": "scripted"},
        "evaluator": {"same_as": "teacher", "temperature": 0.3},
        "student": {"kind": "local", "model": "base", "chat_template": "chatml", "max_answer_tokens": 77},
    }
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of two rounds whose student_0 is a chat model taken as it is."""
    root = tmp_path / "run"
    for place in ("round_0/04_student_0", "round_1/05_student_1", "round_2/05_student_2"):
        (root / place).mkdir(parents=True)
    (root / "round_0/04_student_0/student.json").write_text(json.dumps({"weights": "/models/chat"}), "utf-8")
    (root / "manifest.json").write_text("{}", encoding="utf-8")
    (root / "recipe.yaml").write_text(yaml.safe_dump(RECIPE), encoding="utf-8")
    return root


def test_a_round_is_asked_as_its_run_asks_it(run: Path):
    who = read_who(f"{run}:student_1")
    assert (who.name, who.model.model) == ("student_1", str(run / "round_1/05_student_1"))
    assert (who.model.chat_template, who.model.max_answer_tokens) == ("chatml", 77)
    other = {"models": {"teacher": {"kind": "scripted"}, "student": {"kind": "local", "chat_template": "llama2"}}}
    assert read_who(f"{run}:student_1", parse_recipe(other)).model.chat_template == "chatml"


def test_a_run_stands_for_its_last_student_and_a_link_for_the_weights_it_names(run: Path):
    assert read_who(str(run)).name == "student_2"
    assert read_who(f"{run}:student_0").model.model == "/models/chat"
    with pytest.raises(DataError, match="there is no student_3"):
        read_who(f"{run}:student_3")


def test_a_student_of_an_earlier_recipe_with_more_rounds_is_none_of_the_runs(run: Path):
    (run / "recipe.yaml").write_text(yaml.safe_dump({**RECIPE, "curriculum": {"rounds": 1}}), encoding="utf-8")
    assert read_who(str(run)).name == "student_1"
    with pytest.raises(DataError, match="there is no student_2"):
        read_who(f"{run}:student_2")


def test_catalogue_names_and_hub_ids_are_local_weights():
    who = read_who("someone/small-model")
    assert (who.name, who.model.kind, who.model.model) == ("small-model", "local", "someone/small-model")
    assert who.model.max_answer_tokens == ANSWER_TOKENS


def test_an_endpoint_is_a_url_and_a_model_name():
    who = read_who("https://llm.example.com/v1#big", key_env="KEY")
    assert (who.name, who.model.base_url, who.model.api_key_env) == ("big", "https://llm.example.com/v1", "KEY")
    with pytest.raises(RecipeError, match="credentials"):
        read_who("https://me:secret@llm.example.com/v1#big")


def test_a_role_is_a_recipes():
    who = read_who("evaluator", parse_recipe(RECIPE))
    assert (who.name, who.model.kind, who.model.temperature) == ("evaluator", "scripted", 0.3)


def test_a_file_holds_answers(tmp_path: Path):
    path = tmp_path / "gpt.answers.jsonl"
    path.write_text("{}", encoding="utf-8")
    assert (read_who(str(path)).name, read_who(str(path)).stored) == ("gpt", path)


def test_contenders_of_one_name_are_called_what_was_written(run: Path):
    texts = [f"{run}:student_1", str(run), f"{run}:student_2"]
    assert [w.name for w in distinct([read_who(t) for t in texts], texts)] == ["student_1", *texts[1:]]


def test_a_contender_is_named_as_shown_or_as_given(run: Path):
    texts = [f"{run}:student_1", str(run)]
    found = distinct([read_who(t) for t in texts], texts)
    assert [named(text, found, texts) for text in ("student_1", *texts, f"{run}/")] == [
        "student_1", "student_1", "student_2", "student_2"
    ]  # fmt: skip
    # Two runs' last students of one name are told apart by their folders alone.
    alike = [f"{run}:student_2", str(run)]
    with pytest.raises(
        RecipeError, match=f"--against student_2: none of the models is called so; name {run}:student_2 or"
    ):
        named("student_2", distinct([read_who(t) for t in alike], alike), alike)
