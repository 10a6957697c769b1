"""Rows that stay Arrow columns behave as the lists and dicts that they stand for."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapir.errors import DataError
from tapir.parts import parts
from tapir.store import lookup
from tapir.store.lookup import Joined, Keyed, Rows, layered
from tapir.store.tables import write_rows
from tapir.types import Answer, Instruction, Message

INSTRUCTIONS = [
    Instruction("Add 1 and 2.", task="Math"),
    Instruction("Say hello.", system="Be brief.", history=(Message("user", "Hi"), Message("assistant", "Hi!"))),
    Instruction("Grüße 中文 🙂", task="Multilingual", origin="expanded", parent_id="x", round=2),
]


@pytest.fixture
def rows(tmp_path: Path) -> Rows[Instruction]:
    write_rows(tmp_path / "rows.parquet", Instruction, INSTRUCTIONS)
    return Rows.of(tmp_path / "rows.parquet", Instruction)


def test_rows_are_those_of_the_table_as_often_as_they_are_read(rows: Rows[Instruction]) -> None:
    assert list(rows) == list(rows) == INSTRUCTIONS
    assert [rows[n] for n in range(len(rows))] == INSTRUCTIONS
    assert rows[-1] == INSTRUCTIONS[-1]
    assert list(rows[1:]) == INSTRUCTIONS[1:]
    with pytest.raises(IndexError):
        rows[3]


def test_rows_read_over_several_blocks(rows: Rows[Instruction], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "BLOCK_ROWS", 2)
    assert list(rows) == INSTRUCTIONS
    assert list(rows.where("task", lambda task: task is not None)) == [INSTRUCTIONS[0], INSTRUCTIONS[2]]


def test_where_narrows_and_narrows_again(rows: Rows[Instruction]) -> None:
    tasked = rows.where("task", lambda task: task is not None)
    assert (len(tasked), tasked[1]) == (2, INSTRUCTIONS[2])
    assert tasked.column("task") == ["Math", "Multilingual"]
    assert list(tasked.where("round", lambda r: r == 2)) == [INSTRUCTIONS[2]]
    assert list(tasked.where("round", lambda r: r == 7)) == []
    assert list(tasked[:1]) == INSTRUCTIONS[:1]


def test_a_file_that_is_missing_or_broken_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such file"):
        Rows.of(tmp_path / "none.parquet", Answer)
    (tmp_path / "broken.parquet").write_text("no table", encoding="utf-8")
    with pytest.raises(DataError, match="not a readable Parquet file"):
        Rows.of(tmp_path / "broken.parquet", Answer)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=4), max_size=30))
def test_keyed_is_the_dict_of_its_rows(tmp_path_factory: pytest.TempPathFactory, ids: list[str]) -> None:
    path = tmp_path_factory.mktemp("keyed") / "answers.parquet"
    answers = [Answer(id, "teacher", f"answer {n}") for n, id in enumerate(ids)]
    write_rows(path, Answer, answers)
    found, wanted = Keyed(Rows.of(path, Answer), "instruction_id"), {a.instruction_id: a for a in answers}
    assert dict(found.items()) == wanted
    assert len(found) == len(wanted)
    for name in [*ids, "a", "zz", "", "\ud800", *(id + "x" for id in ids)]:
        assert (name in found) == (name in wanted)
        assert found.get(name) == wanted.get(name)
    assert 3 not in found


def test_keyed_names_come_in_the_order_of_the_table(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.parquet", Answer, [Answer(id, "teacher", "") for id in ("c", "a", "b", "a")])
    assert list(Keyed(Rows.of(tmp_path / "a.parquet", Answer), "instruction_id")) == ["c", "b", "a"]


def test_joined_is_the_parts_one_after_the_other(rows: Rows[Instruction]) -> None:
    whole, joined = [*INSTRUCTIONS, INSTRUCTIONS[0]], Joined(rows, [], [INSTRUCTIONS[0]])
    assert list(joined) == list(joined) == whole
    assert [joined[n] for n in range(-4, 4)] == [whole[n] for n in range(-4, 4)]
    assert joined[1:] == whole[1:]
    with pytest.raises(IndexError):
        joined[4]


def test_layers_are_asked_in_order() -> None:
    assert dict(layered({"a": 1}, {"a": 2, "b": 3})) == {"a": 1, "b": 3}


def test_parts_hold_every_row_once_and_read_no_further_than_asked() -> None:
    assert list(parts(range(7), 3)) == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(parts([], 3)) == []
    source = iter(range(10))
    next(parts(source, 4))
    assert next(source) == 4
