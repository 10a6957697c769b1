"""Marks are appended, replaced by later ones of the same person, and taken back by an empty one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tapir.errors import DataError
from tapir.store.marks import FILE, Mark, append_mark, read_marks, standing


def mark(kind: str, value: str, *, author: str = "ada", i: str = "i1", **more: str) -> Mark:
    return Mark(kind, i, value, "round_0/02_classified", author, "2026-01-01T00:00:00+00:00", **more)  # type: ignore[arg-type]


def test_what_is_appended_is_read_back_in_order(tmp_path: Path):
    made = [mark("drop", "drop"), mark("label", "Math", i="i2")]
    for m in made:
        append_mark(tmp_path, m)
    assert read_marks(tmp_path) == made
    assert len((tmp_path / FILE).read_text().splitlines()) == 2


def test_a_run_without_marks_has_none(tmp_path: Path):
    assert read_marks(tmp_path) == []


def test_dropping_is_one_question_for_everybody_and_can_be_taken_back():
    marks = [mark("drop", "drop"), mark("drop", "", author="grace")]
    assert standing(marks) == []


def test_preferences_of_two_people_stand_beside_each_other():
    first, second = mark("preference", "1", pair="p"), mark("preference", "2", author="grace", pair="p")
    changed = mark("preference", "tie", pair="p")
    assert standing([first, second, changed]) == [changed, second]


def test_a_value_that_the_kind_does_not_know_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="one of right, wrong, not 'maybe'"):
        append_mark(tmp_path, mark("verdict", "maybe"))
    assert not (tmp_path / FILE).exists()


def test_a_broken_line_is_named(tmp_path: Path):
    (tmp_path / FILE).write_text('{"kind": "drop"}\n')
    with pytest.raises(DataError, match="row 1 is no mark"):
        read_marks(tmp_path)
