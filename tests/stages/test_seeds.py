"""Pools that are broken in whole or in part: one clear error, or rows counted by reason with their place."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tapir.config import Seeds
from tapir.errors import DataError
from tapir.stages.pool_check import check_pool
from tapir.stages.seeds import contaminated, load_evaluation, load_pool, read_source, without_near_duplicates
from tapir.store.given import LONGEST_FIELD
from tapir.types import MOST_DROPPED_CHARS, Dropped, Receipt

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


def test_rows_that_cannot_be_read_do_not_hide_the_form_of_the_others(tmp_path: Path):
    (tmp_path / "pool.jsonl").write_text("{broken\n" * 60 + GOOD, encoding="utf-8")
    pool, receipt = load(tmp_path / "pool.jsonl")
    assert ([i.text for i in pool.instructions], receipt.dropped) == (["Name a river."], {"broken_json": 60})


def test_bad_rows_cost_themselves_and_are_named_by_line(tmp_path: Path):
    bad = ['{"instruction": ""}', '{"instruction": ["a list"]}', "{broken", '"a string"', "[1]"]
    (tmp_path / "pool.jsonl").write_text(GOOD + "\n".join(bad) + "\n" + GOOD.replace("river", "lake"), "utf-8")
    pool, receipt = load(tmp_path / "pool.jsonl")
    assert [i.text for i in pool.instructions] == ["Name a river.", "Name a lake."]
    assert [where for where, _ in pool.problems] == [f"pool.jsonl:{n}" for n in range(2, 7)]
    assert receipt.rows_in == receipt.rows_out + sum(receipt.dropped.values()) == 7


@pytest.mark.parametrize(
    ("name", "text"),
    [("pool.jsonl", GOOD), ("pool.json", f"[{GOOD}]"), ("pool.csv", "instruction,output\nName a river.,The Elbe.\n")],
)
def test_a_byte_order_mark_costs_no_row(tmp_path: Path, name: str, text: str):
    (tmp_path / name).write_text(text, encoding="utf-8-sig")
    pool, receipt = load(tmp_path / name)
    assert ([i.text for i in pool.instructions], receipt.dropped) == (["Name a river."], {})


def not_utf8(folder: Path, form: str) -> Path:
    """A good row and one that holds a text which is not UTF-8, in the answer or the instruction."""
    path = folder / f"pool.{form.removesuffix(' escape')}"
    if form == "jsonl escape":
        path.write_text(GOOD + '{"instruction": "Name a lake.", "output": "half \\ud800 a character"}\n')
    elif form == "jsonl":
        path.write_text('{"instruction": "Nenne ein Café."}\n' + GOOD, encoding="latin-1")
    elif form == "json":
        path.write_text('[{"instruction": "Name a café.", "output": "x"},' + GOOD + "]", encoding="latin-1")
    elif form == "csv":
        path.write_text("instruction,output\nName a lake.,Königssee\nName a river.,The Elbe.\n", encoding="latin-1")
    else:
        raw = pa.array([b"Name a caf\xe9.", b"Name a river."])
        table = pa.table({"instruction": pa.StringArray.from_buffers(2, *raw.buffers()[1:])})
        pq.write_table(table, path)
    return path


@pytest.mark.parametrize("form", ["jsonl", "jsonl escape", "json", "csv", "parquet"])
def test_a_row_that_is_not_utf8_is_dropped_by_that_name_and_costs_no_other(tmp_path: Path, form: str):
    told: list[Dropped] = []
    receipt = Receipt("seeds")
    settings = Seeds(source=str(not_utf8(tmp_path, form)))
    pool = load_pool(settings, seed=1, receipt=receipt, dropped=told.append)
    assert ([i.text for i in pool.instructions], receipt.dropped) == (["Name a river."], {"not_utf8": 1})
    receipt.check()
    ((_, reason),) = pool.problems
    (row,) = told
    assert reason == row.reason == "not_utf8"
    assert "?" not in row.text


def test_what_is_kept_of_a_row_that_is_not_utf8_shows_where_it_is_not(tmp_path: Path):
    told: list[Dropped] = []
    settings = Seeds(source=str(not_utf8(tmp_path, "csv")))
    load_pool(settings, seed=1, receipt=Receipt("seeds"), dropped=told.append)
    assert told[0].text == '{"instruction": "Name a lake.", "output": "K\ufffdnigssee"}'


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pool.jsonl", '{"instruction": "Nenne ein Café."}\n'),
        ("pool.json", '[{"instruction": "Nenne ein Café."}]'),
        ("pool.csv", "instruction,réponse\nNenne ein Café.,x\n"),
    ],
)
def test_a_file_in_another_encoding_says_so(tmp_path: Path, name: str, text: str, encoding: str):
    (tmp_path / name).write_text(text, encoding=encoding)
    with pytest.raises(DataError, match=r"pool\.\w+:.*(not_utf8\); save it as UTF-8|not UTF-8; save the file in that)"):
        load(tmp_path / name)


def test_a_file_that_is_not_there_and_an_unknown_ending_say_what_to_do(tmp_path: Path):
    with pytest.raises(DataError, match=r"there is no such file; `seeds.source` names"):
        load(tmp_path / "none.jsonl")
    (tmp_path / "pool.xml").write_text("<a/>", encoding="utf-8")
    with pytest.raises(DataError, match=r"cannot read \.xml; use"):
        load(tmp_path / "pool.xml")


def test_a_long_field_of_a_csv_is_read_and_one_without_an_end_is_named_by_its_line(tmp_path: Path):
    path, text = tmp_path / "pool.csv", "instruction,output\nName a river.,{}\n"
    path.write_text(text.format("x" * 200_000), encoding="utf-8")
    pool, _ = load(path)
    assert [len(a) for a in pool.answers.values()] == [200_000]
    path.write_text(text.format('"' + "x" * (LONGEST_FIELD + 1)), encoding="utf-8")
    with pytest.raises(DataError, match=r"pool\.csv:2: not CSV \(field larger .*; is a quote before it not closed"):
        load(path)


def test_rows_of_a_csv_are_named_by_the_line_they_end_in(tmp_path: Path):
    (tmp_path / "pool.csv").write_text('instruction\n"Name\na river."\n\na,b\nName a lake.\n', encoding="utf-8")
    pool, _ = load(tmp_path / "pool.csv")
    assert (pool.where, pool.problems) == (["pool.csv:3", "pool.csv:6"], [("pool.csv:5", "too_many_columns")])


@pytest.mark.parametrize("text", ["3", '"a text"', "null"])
def test_json_that_holds_no_rows_says_what_it_holds(tmp_path: Path, text: str):
    (tmp_path / "pool.json").write_text(f"{text}\n", encoding="utf-8")
    with pytest.raises(DataError, match=rf"pool\.json: it holds '{text}'; give a list of objects"):
        load(tmp_path / "pool.json")


@pytest.mark.parametrize("line", ["[" * 100_000, '{"instruction": ' + "1" * 5_000 + "}"])
def test_json_that_python_will_not_read_costs_its_line(tmp_path: Path, line: str):
    (tmp_path / "pool.jsonl").write_text(f"{line}\n{GOOD}", encoding="utf-8")
    assert load(tmp_path / "pool.jsonl")[1].dropped == {"broken_json": 1}
    (tmp_path / "pool.json").write_text(line, encoding="utf-8")
    with pytest.raises(DataError, match=r"pool\.json: not valid JSON"):
        load(tmp_path / "pool.json")


@pytest.mark.parametrize("name", ["x.jsonl", "x.json", "x.csv", "x.parquet"])
def test_a_folder_among_the_files_of_a_pool_is_named(tmp_path: Path, name: str):
    (tmp_path / name).mkdir()
    with pytest.raises(DataError, match=rf"{name}: this is a folder, not a file"):
        load(tmp_path)


def test_a_column_that_only_a_late_row_has_is_there(tmp_path: Path):
    rows = "".join(f'{{"q": "Question {n}"}}\n' for n in range(60)) + '{"q": "Last", "topic": "Math"}\n'
    (tmp_path / "pool.jsonl").write_text(rows, encoding="utf-8")
    settings = Seeds(source=str(tmp_path / "pool.jsonl"), columns={"instruction": "q", "task": "topic"}, sample=10)
    assert len(load_pool(settings, seed=1, receipt=Receipt("seeds")).instructions) == 10


def test_what_is_dropped_is_told_with_its_text_its_place_and_what_it_repeats(tmp_path: Path):
    near = "Name a river that flows through the old city of Prague."
    rows = [GOOD.strip(), GOOD.strip(), "{broken", '{"instruction": 7, "output": "x"}']
    rows += [f'{{"instruction": "{text}"}}' for text in (near, f"{near} Please.", "gsm8k item")]
    (tmp_path / "pool.jsonl").write_text("\n".join(rows), encoding="utf-8")
    told: list[Dropped] = []
    receipt = Receipt("seeds")
    settings = Seeds(source=str(tmp_path / "pool.jsonl"))
    pool = load_pool(settings, seed=1, receipt=receipt, dropped=told.append)
    river, prague, longer, item = pool.instructions
    kept = without_near_duplicates(pool, receipt, told.append)
    assert kept == [river, prague, item]
    told += contaminated(pool, {item.id: "gsm8k/7"})
    assert told == [
        Dropped("exact_duplicate", "Name a river.", river.id, "pool.jsonl:2", river.id),
        Dropped("broken_json", "", "", "pool.jsonl:3"),
        Dropped("not_a_string", '{"instruction": 7, "output": "x"}', "", "pool.jsonl:4"),
        Dropped("near_duplicate", f"{near} Please.", longer.id, "pool.jsonl:6", prague.id),
        Dropped("contaminated", "gsm8k item", item.id, "pool.jsonl:7", "gsm8k/7"),
    ]
    assert receipt.dropped.total() == 4  # contamination is counted by the stage that looks for it


def test_conversations_that_end_on_the_same_words_are_all_kept(tmp_path: Path):
    path, more = tmp_path / "pool.jsonl", "Please explain that in more detail."
    first = ("How do volcanoes erupt?", "When was Mozart born?", "What is inflation?", "Why do bees dance?")
    chats = [[("user", question), ("assistant", "In short, so."), ("user", more)] for question in first]
    rows = [{"messages": [{"role": role, "content": said} for role, said in chat]} for chat in chats]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    pool, receipt = load(path)
    assert without_near_duplicates(pool, receipt) == pool.instructions
    assert (check_pool(Seeds(source=str(path))).instructions, receipt.dropped) == (4, {})


BAD_CHECKS = [{"kind": "number", "value": "42"}, "{kind: exact", "[1]", 7, {"kind": "vibes"}, "[" * 100_000]


@pytest.mark.parametrize("check", BAD_CHECKS, ids=range(len(BAD_CHECKS)))
def test_a_check_that_is_none_costs_its_row_and_stops_an_evaluation_set(tmp_path: Path, check: object):
    path = tmp_path / "pool.jsonl"
    path.write_text(GOOD + json.dumps({"instruction": "What is 6 times 7?", "check": check}) + "\n", encoding="utf-8")
    pool, receipt = load(path)
    assert (receipt.dropped, pool.problems) == ({"bad_check": 1}, [("pool.jsonl:2", "bad_check")])
    assert check_pool(Seeds(source=str(path))).dropped == {"bad_check": 1}
    with pytest.raises(DataError, match=r"cannot be used: pool\.jsonl:2 \(bad_check\); mend or remove it"):
        load_evaluation(Seeds(source=str(path)), seed=1)


def test_a_check_is_kept_in_one_spelling_and_need_not_be_there(tmp_path: Path):
    checks = ['{"value": 42, "kind": "number"}', {"kind": "number", "value": 42}, None, "", "null"]
    rows = [{"instruction": f"Question {n}", "check": check} for n, check in enumerate(checks)]
    (tmp_path / "pool.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    pool, receipt = load(tmp_path / "pool.jsonl")
    assert [i.check for i in pool.instructions] == ['{"kind":"number","value":42}'] * 2 + [None] * 3
    assert receipt.dropped == {}


def test_checks_in_a_column_of_objects_have_only_their_own_fields(tmp_path: Path):
    checks = [
        {"kind": "number", "value": 42},
        {"kind": "exact", "answers": ["Paris"]},
        {"kind": "format", "constraints": [{"id": "max_words", "n": 20}, {"id": "no_commas"}]},
    ]
    rows = [{"instruction": f"Question {n}", "check": check} for n, check in enumerate(checks)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pool.parquet")
    pool, receipt = load(tmp_path / "pool.parquet")
    assert ([json.loads(i.check or "") for i in pool.instructions], receipt.dropped) == (checks, {})


def test_a_dropped_text_is_kept_as_far_as_one_needs_to_know_it():
    row = Dropped("too_long", "x" * 100_000)
    assert len(row.text) == MOST_DROPPED_CHARS
    assert row.text.endswith("x…")


def test_rows_of_a_large_parquet_file_are_numbered_through(tmp_path: Path):
    table = pa.table({"instruction": [f"Question {n}" for n in range(70_000)]})
    pq.write_table(table, tmp_path / "pool.parquet")
    places = [where for where, _ in read_source(Seeds(source=str(tmp_path / "pool.parquet")))]
    assert places[-1] == "pool.parquet:70000"
