"""Instructions for commands on files: rows of ours as they are, anything else as a pool."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tapir.errors import DataError
from tapir.stages.reading import read_instructions, read_pool
from tapir.store.tables import write_rows
from tapir.types import Instruction, Receipt, Seed


def read(path: Path) -> tuple[list[Instruction], Receipt]:
    receipt = Receipt("stage")
    return read_instructions(str(path), receipt), receipt


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_rows_of_ours_keep_their_ids_and_origins_and_their_answers_stand_beside_them(tmp_path: Path, ending: str):
    grown = Seed("Why? ", origin="expanded", parent_id="a", round=2, id="q1", answer="So.")
    path = tmp_path / f"rows{ending}"
    write_rows(path, Seed, [grown])
    pool = read_pool(str(path), Receipt("stage"))
    assert pool.instructions == [Instruction("Why? ", origin="expanded", parent_id="a", round=2, id="q1")]
    assert pool.answers == {"q1": "So."}


def test_a_broken_row_of_ours_is_an_error_and_not_a_pools_bad_row(tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    write_rows(path, Instruction, [Instruction("Why?")])
    path.write_text(path.read_text() + "{broken\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"rows\.jsonl:2: not a JSON line"):
        read(path)


@pytest.mark.parametrize("extra", [{"id": 7}, {"id": "q1", "answer": "So."}, {"id": "q1", "source": "x"}])
def test_others_rows_that_look_like_ours_are_a_pool(tmp_path: Path, extra: dict[str, object]):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"text": "Why? ", **extra}) + "\n{broken\n", encoding="utf-8")
    found, receipt = read(path)
    assert found == [Instruction("Why?")]
    assert (receipt.rows_in, receipt.dropped) == (1, {"broken_json": 1})
