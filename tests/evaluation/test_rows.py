"""Evaluation files and estimates."""

import gzip
import json

import pytest

from tapir.errors import DataError
from tapir.evaluation.rows import (
    clustered_mean,
    last_of_each,
    read_rows,
    refuse_missing,
    share_estimate,
    standard_error,
)


def test_rows_come_from_lists_lines_and_packed_files(tmp_path):
    files = {"a.json": b'[{"x": 1}, {"x": 2}]', "b.jsonl": b'{"x": 1}\n\n{"x": 2}\n', "c.jsonl.gz": b""}
    files["c.jsonl.gz"] = gzip.compress(files["b.jsonl"])
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        assert read_rows(tmp_path / name) == [{"x": 1}, {"x": 2}]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_line_ends_at_a_newline_only(tmp_path, end):
    rows = [{"x": "a\u2028b\u2029c\x85d"}, {"x": 2}]
    text = "".join(json.dumps(row, ensure_ascii=False) + end for row in rows)
    (tmp_path / "f.jsonl").write_bytes(text.encode())
    assert read_rows(tmp_path / "f.jsonl") == rows


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"x": 1}\n{x', "line 2: not JSON"),
        (b"[1]", "not a JSON object"),
        (b" \n", "no rows"),
        (b'{"x": "caf\xe9"}', "UTF-8"),
    ],
)
def test_a_bad_file_is_named_with_its_line(tmp_path, content, said):
    (tmp_path / "f.jsonl").write_bytes(content)
    with pytest.raises(DataError, match=said):
        read_rows(tmp_path / "f.jsonl")


def test_a_file_that_is_not_there_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_rows(tmp_path / "none.jsonl")


def test_the_last_readable_of_each_key_stays_where_the_first_stood():
    rows = [("a", 1, True), ("b", 2, False), ("a", 3, False), ("b", 4, True), ("b", 5, True)]
    assert last_of_each(rows) == ([1, 5], 3)


def test_a_mean_over_clusters_weighs_every_value_alike():
    found = clustered_mean({"a": [1.0, 3.0], "b": [8.0], "c": []}, missing=2)
    assert (found.value, found.n, found.missing) == (4.0, 3, 2)


def test_nothing_to_average_is_none_and_one_value_has_no_interval():
    assert clustered_mean({}) is None
    assert share_estimate(0, 0) is None
    only = clustered_mean({"a": [5.0]})
    assert (only.value, only.low, only.high) == (5.0, None, None)


def test_equal_values_are_not_called_certain():
    assert (clustered_mean({"a": [5.0], "b": [5.0]}).low, clustered_mean({"a": [5.0], "b": [5.0]}).high) == (None, None)
    # Wilson of 2 of 2: from 1 / (1 + 1.96² / 2) on.
    found = clustered_mean({"a": [5.0], "b": [5.0]}, bounds=(1, 5))
    assert (found.low, found.high) == (pytest.approx(1 + 4 / (1 + 1.959964**2 / 2)), 5.0)


def test_the_standard_error_has_n_minus_one():
    assert standard_error([1.0, 3.0]) == pytest.approx(1.0)  # variance 2 with n - 1; sqrt(2 / 2)
    assert standard_error([1.0]) is None


def test_missing_rows_fail_unless_allowed():
    refuse_missing("alpaca", 2, 805, allowed=2)
    with pytest.raises(DataError, match=r"3 of 805 rows are missing.*--allow-missing 3"):
        refuse_missing("alpaca", 3, 805, allowed=2)
