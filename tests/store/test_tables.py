"""Tables of rows that come from a person's hand: what cannot be read is one error with its place."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tapir.errors import DataError
from tapir.store.tables import read_rows, write_rows
from tapir.types import Instruction, Message, Refinement, Verdict

GOOD = b'{"instruction_id": "a", "text": "as it was"}\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [(b"caf\xe9", "its text is not UTF-8; save the file in that"), (rb"half \ud800", "it holds half a character")],
)
def test_a_line_that_is_not_utf8_is_named(tmp_path: Path, text: bytes, said: str):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(GOOD + b'\n{"instruction_id": "b", "text": "' + text + b'"}\n')
    with pytest.raises(DataError, match=rf"rows\.jsonl:3: {said}"):
        list(read_rows(path, Refinement))


def test_a_parquet_row_that_is_not_utf8_is_named(tmp_path: Path):
    raw = pa.array([b"caf\xe9"])
    text = pa.StringArray.from_buffers(1, *raw.buffers()[1:])
    pq.write_table(pa.table({"instruction_id": ["a"], "text": text}), tmp_path / "rows.parquet")
    with pytest.raises(DataError, match=r"rows\.parquet:1: its text is not UTF-8"):
        list(read_rows(tmp_path / "rows.parquet", Refinement))


def test_a_byte_order_mark_is_no_part_of_the_first_row(tmp_path: Path):
    (tmp_path / "rows.jsonl").write_bytes(b"\xef\xbb\xbf" + GOOD)
    assert list(read_rows(tmp_path / "rows.jsonl", Refinement)) == [Refinement("a", "as it was")]


def test_a_folder_is_no_table(tmp_path: Path):
    with pytest.raises(DataError, match="this is a folder, not a file; name a file in it"):
        list(read_rows(tmp_path, Refinement))


@pytest.mark.parametrize(
    ("row_type", "said", "fault"),
    [
        (Verdict, '"student_score": "7"', "`student_score` is '7'; it must be a number or null"),
        (Verdict, '"explained": 1', "`explained` is 1; it must be true or false"),
        (Verdict, '"vote": true', "`vote` is True; it must be a number"),
        (Verdict, '"raw": null', "`raw` is None; it must be text"),
        (Instruction, '"text": "Go on.", "history": [["a", "b"]]', "`history` is .*; it must be a list"),
        (Instruction, '"text": "Go on.", "history": [{"role": "user", "content": 7}]', "`history` is"),
    ],
)
def test_a_field_of_another_kind_is_named_with_its_line(tmp_path: Path, row_type: type, said: str, fault: str):
    known = '"instruction_id": "a", "order": "student_first", ' if row_type is Verdict else ""
    (tmp_path / "rows.jsonl").write_text(f"\n{{{known}{said}}}\n", encoding="utf-8")
    with pytest.raises(DataError, match=rf"rows\.jsonl:2: {fault}"):
        list(read_rows(tmp_path / "rows.jsonl", row_type))


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_a_row_comes_back_as_it_was_written(tmp_path: Path, ending: str):
    rows = [
        Instruction("Go on.", system=None, history=(Message("user", "a"), Message("assistant", "b")), task="Math"),
        Instruction("Why?"),
    ]
    write_rows(tmp_path / f"rows{ending}", Instruction, rows)
    assert list(read_rows(tmp_path / f"rows{ending}", Instruction)) == rows
