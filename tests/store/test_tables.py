"""Tables of rows that come from a person's hand: what cannot be read is one error with its place."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tapir.errors import DataError
from tapir.store.tables import read_rows
from tapir.types import Refinement

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
