"""Prompts of one's own in the usual forms."""

import json

import pytest

from tapir.errors import DataError
from tapir.evaluation.prompt_sets import Prompt, read_answers, read_prompts
from tapir.store.tables import write_rows
from tapir.types import Answer, Instruction, Message


def written(path, *rows):
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return path


def test_every_usual_form_is_read(tmp_path):
    said = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    path = written(
        tmp_path / "p.jsonl",
        {"instruction": "Add.", "input": "1 2", "output": "3", "generator": "gpt", "category": "math"},
        {"question_id": 1, "text": "Why?", "category": "generic"},
        {"turns": ["First", "second"], "reference": ["one", "two"]},
        {"messages": [*said, {"role": "assistant", "content": "Hello"}]},
        {"prompt": "Alone"},
    )
    assert read_prompts(path) == [
        Prompt(Instruction("Add.\n\n1 2"), "math", "3", "gpt"),
        Prompt(Instruction("Why?"), "generic"),
        Prompt(Instruction("First"), "all", "one"),
        Prompt(Instruction("Hi", system="Be brief."), "all", "Hello"),
        Prompt(Instruction("Alone")),
    ]


def test_a_runs_own_tables_are_read(tmp_path):
    asked = Instruction("Go on", history=(Message("user", "a"), Message("assistant", "b")), task="Math")
    write_rows(tmp_path / "i.parquet", Instruction, [asked])
    write_rows(tmp_path / "a.parquet", Answer, [Answer(asked.id, "s", "yes")])
    assert read_prompts(tmp_path / "i.parquet")[0].instruction.id == asked.id
    assert read_answers(tmp_path / "a.parquet") == {asked.id: "yes"}


def test_answers_are_matched_by_their_prompt(tmp_path):
    path = written(tmp_path / "a.jsonl", {"instruction": "Add.", "output": "3"}, {"prompt": "Why?"})
    assert read_answers(path) == {Instruction("Add.").id: "3"}


@pytest.mark.parametrize("name", ["response", "completion", "output"])
def test_a_models_reply_comes_before_the_right_answer_beside_it(tmp_path, name):
    path = written(
        tmp_path / "a.jsonl",
        {"question": "2 + 2?", "answer": "GOLD 4", "reference": "GOLD", name: "model says 5"},
        {"question": "3 + 3?", "answer": "GOLD 6", name: ""},
        {"question": "4 + 4?", "answer": "8"},
    )
    assert read_answers(path) == {Instruction("2 + 2?").id: "model says 5", Instruction("4 + 4?").id: "8"}
    assert read_prompts(path)[1].reference == "GOLD 6"


def test_a_prompt_with_half_a_character_is_refused_and_an_answer_is_not(tmp_path):
    path = written(tmp_path / "p.jsonl", {"prompt": "Why?", "output": "\ud800"}, {"prompt": "Half \ud800"})
    with pytest.raises(DataError, match=r"line 2: its text is not UTF-8"):
        read_prompts(path)
    kept = written(tmp_path / "a.jsonl", {"prompt": "Why?", "output": "\ud800"})
    assert read_answers(kept) == {Instruction("Why?").id: "\ud800"}


def test_duplicates_are_removed_with_a_warning(tmp_path):
    path = written(tmp_path / "p.jsonl", {"prompt": "a", "answer": "1"}, {"prompt": "a", "answer": "2"})
    with pytest.warns(UserWarning, match="1 duplicate prompts"):
        assert [p.reference for p in read_prompts(path)] == ["2"]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"x": 1}, "none of instruction"),
        ({"messages": [{"role": "robot"}]}, "needs a role"),
        ({"text": " "}, "to answer"),
        ({"text": "Add.", "check": {"kind": "number", "value": "3"}}, "Input should be a valid integer"),
        ({"messages": [{"role": "system", "content": "Be brief."}]}, "to answer"),
        ({"messages": 5}, "a list of turns"),
        ({"text": "Why?", "system": 5}, "`system` is 5; it should be a text"),
    ],
)
def test_a_row_that_cannot_be_read_stops_with_its_place(tmp_path, row, said):
    with pytest.raises(DataError, match=rf"line 2: .*{said}"):
        read_prompts(written(tmp_path / "p.jsonl", {"prompt": "a"}, row))
