"""Public benchmarks are read from where the user has them; one that is missing is an error that says how to go on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tapir.errors import DataError, RecipeError
from tapir.evaluation.benchmarks import benchmark_names, benchmarks, files_among, load_benchmark


def write(path: Path, *rows: dict[str, object]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_a_benchmark_in_the_users_folder_gives_an_item_for_each_of_its_text_columns(tmp_path: Path):
    write(tmp_path / "gsm8k.jsonl", {"question": "How many?", "answer": "Count them: 3", "level": 1})
    assert load_benchmark("gsm8k", tmp_path) == [
        ("gsm8k", "0:question", "How many?"),
        ("gsm8k", "0:answer", "Count them: 3"),
    ]


def test_turns_of_a_conversation_are_items_of_their_own(tmp_path: Path):
    (tmp_path / "mt-bench.json").write_text(json.dumps([{"prompt": ["First?", "Then?"]}]), encoding="utf-8")
    assert [mark for _, mark, _ in load_benchmark("mt-bench", tmp_path)] == ["0:prompt:0", "0:prompt:1"]


def test_a_table_with_other_columns_is_an_error_that_names_those_wanted(tmp_path: Path):
    (tmp_path / "mmlu.csv").write_text("text\nWhat is it?\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"mmlu: .* has no text in question"):
        load_benchmark("mmlu", tmp_path)


def test_a_benchmark_that_is_nowhere_says_how_to_give_or_waive_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    with pytest.raises(DataError, match=r"gsm8k .* not at hand .* decontaminate\.waive"):
        load_benchmark("gsm8k", tmp_path)


def test_public_stands_for_all_and_waived_ones_are_left_out():
    names = benchmark_names(["public", "held_out.jsonl"], ["mmlu"])
    assert set(names) == benchmarks().keys() - {"mmlu"}
    assert files_among(["public", "held_out.jsonl", "gsm8k"]) == ["held_out.jsonl"]


def test_only_a_benchmark_can_be_waived():
    with pytest.raises(RecipeError, match="'mlmu' is no public benchmark"):
        benchmark_names(["public"], ["mlmu"])
