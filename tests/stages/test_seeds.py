"""Pools that are broken in whole or in part: one clear error, or rows counted by reason with their place."""

from __future__ import annotations

from pathlib import Path

import pytest

from tapir.config import Seeds
from tapir.errors import DataError
from tapir.stages.seeds import load_pool
from tapir.types import Receipt

GOOD = '{"instruction": "Name a river.", "output": "The Elbe."}\n'


def load(path: Path):
    receipt = Receipt("seeds")
    return load_pool(Seeds(source=str(path)), seed=1, receipt=receipt), receipt


@pytest.mark.parametrize("name", ["pool.jsonl", "pool.json", "pool.csv"])
def test_an_empty_file_is_one_clear_error(tmp_path: Path, name: str):
    (tmp_path / name).write_text("[]" if name.endswith(".json") else "", encoding="utf-8")
    with pytest.raises(DataError, match=r"pool\.\w+: it is empty; give a file or folder"):
        load(tmp_path / name)


def test_a_file_of_bad_rows_alone_says_what_is_wrong_with_them(tmp_path: Path):
    (tmp_path / "pool.jsonl").write_text('{"instruction": ""}\n{"instruction": 7}\nnot json\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"no usable instruction in it .*broken_json"):
        load(tmp_path / "pool.jsonl")


def test_bad_rows_cost_themselves_and_are_named_by_line(tmp_path: Path):
    bad = ['{"instruction": ""}', '{"instruction": ["a list"]}', "{broken", '"a string"', "[1]"]
    (tmp_path / "pool.jsonl").write_text(GOOD + "\n".join(bad) + "\n" + GOOD.replace("river", "lake"), "utf-8")
    pool, receipt = load(tmp_path / "pool.jsonl")
    assert [i.text for i in pool.instructions] == ["Name a river.", "Name a lake."]
    assert [where for where, _ in pool.problems] == [f"pool.jsonl:{n}" for n in range(2, 7)]
    assert receipt.rows_in == receipt.rows_out + sum(receipt.dropped.values()) == 7


def test_a_file_that_is_not_there_and_an_unknown_ending_say_what_to_do(tmp_path: Path):
    with pytest.raises(DataError, match=r"there is no such file; `seeds.source` names"):
        load(tmp_path / "none.jsonl")
    (tmp_path / "pool.xml").write_text("<a/>", encoding="utf-8")
    with pytest.raises(DataError, match=r"cannot read \.xml; use"):
        load(tmp_path / "pool.xml")
