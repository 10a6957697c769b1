"""`tapir show` on a table and on one instruction, with filters that may do no harm."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tapir.cli.show import show
from tapir.errors import DataError
from tapir.store.tables import write_rows
from tapir.types import Answer, Difficulty, Dropped, Instruction, Verdict

ROWS = [Difficulty(f"id{n}", float(n)) for n in range(5)]
ASKED = [
    Instruction(f"Question {n}\x1b[31m of a river.", id=f"id{n}", task="Math" if n % 2 else "Law") for n in range(5)
]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write_rows(tmp_path / "round_0/02_classified.parquet", Instruction, ASKED)
    write_rows(tmp_path / "round_0/05_student_answers.parquet", Answer, [Answer(i.id, "x", "…") for i in ASKED])
    verdicts = [Verdict(i.id, "student_first", 4, 4 + n) for n, i in enumerate(ASKED)]
    write_rows(tmp_path / "round_0/06_verdicts.parquet", Verdict, verdicts)
    write_rows(tmp_path / "round_0/07_hard.all.parquet", Difficulty, ROWS)
    return tmp_path


def rows(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("table", ["02_classified", "05_student_answers", "06_verdicts", "07_hard.all"])
def test_every_table_about_instructions_can_be_filtered_by_task_and_mfd(
    run: Path, table: str, capsys: pytest.CaptureFixture[str]
):
    show(f"{run}/round_0/{table}.parquet", where="task = 'Math' and mfd > 0.5", sort="-mfd", as_json=True)
    assert [(r.get("id", r.get("instruction_id")), r["mfd"]) for r in rows(capsys)] == [("id3", 3), ("id1", 1)]


def test_a_kind_that_is_no_mfd_is_not_shown_as_one(run: Path, capsys: pytest.CaptureFixture[str]):
    write_rows(run / "round_0/07_hard.all.parquet", Difficulty, [Difficulty("id1", 0.7, "ifd", votes=0)])
    show(f"{run}/round_0/02_classified.parquet", where="id = 'id1'", as_json=True)
    assert rows(capsys)[0]["mfd"] is None


def test_dropped_rows_are_told_by_reason(run: Path, capsys: pytest.CaptureFixture[str]):
    again = Dropped("near_duplicate", "Question 1, again", "id9", "pool.jsonl:12", "id1")
    write_rows(run / "round_0/01_seeds.dropped.parquet", Dropped, [again, Dropped("broken_json", "")])
    show(f"{run}/round_0/01_seeds", dropped=True, where="reason = 'near_duplicate'", as_json=True)
    (row,) = rows(capsys)
    assert (row["text"], row["where"], row["repeats"]) == ("Question 1, again", "pool.jsonl:12", "id1")
    show("id9", run=run)
    assert "near_duplicate" in capsys.readouterr().out


def test_a_step_that_kept_no_dropped_rows_says_so(run: Path):
    with pytest.raises(DataError, match=r"07_hard.dropped.parquet: this step keeps no table of dropped rows"):
        show(f"{run}/round_0/07_hard.parquet", dropped=True)


def test_columns_are_chosen_and_sorted_by_several(run: Path, capsys: pytest.CaptureFixture[str]):
    show(f"{run}/round_0/02_classified.parquet", sort="task,-id", columns="id,task")
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["id", "task"], ["id4", "Law"], ["id2", "Law"], ["id0", "Law"], ["id3", "Math"], ["id1", "Math"],
    ]  # fmt: skip


def test_long_rows_are_told_field_by_field(run: Path, capsys: pytest.CaptureFixture[str]):
    show(f"{run}/round_0/07_hard.all.parquet", where="value > 2", sort="-value", long=True)
    shown = [line.split()[1] for line in capsys.readouterr().out.splitlines() if line.startswith("instruction_id")]
    assert shown == ["id4", "id3"]


def test_an_instructions_life_is_told_without_its_control_characters(run: Path, capsys: pytest.CaptureFixture[str]):
    show("id3", run=run)
    out = capsys.readouterr().out
    assert [line for line in out.splitlines() if line.startswith("round_")] == [
        "round_0/02_classified", "round_0/05_student_answers", "round_0/06_verdicts", "round_0/07_hard.all",
    ]  # fmt: skip
    assert "Question 3 of a river." in out


@pytest.mark.parametrize(
    "where",
    [
        "(SELECT count(*) FROM read_csv('/etc/passwd')) > 0",
        "(SELECT count(*) FROM '/etc/passwd') > 0",
        "1 = 1) OR (nothing",
        "(SELECT count(*) FROM names) > 0",
        "true) ; SET enable_external_access = true; --",
        "true) ; COPY own TO '/tmp/stolen.csv'; --",
        "true) ; ATTACH '/tmp/other.db'; --",
        "true) ; INSTALL httpfs; --",
        "getenv('HOME') <> ''",
    ],
)
def test_a_filter_reaches_no_file_no_setting_and_no_variable(run: Path, where: str):
    with pytest.raises(DataError, match="--where"):
        show(f"{run}/round_0/07_hard.all.parquet", where=where)


def test_an_unknown_id_or_column_says_what_to_do(run: Path):
    with pytest.raises(DataError, match="no row is about 'nobody'"):
        show("nobody", run=run)
    with pytest.raises(DataError, match="no column 'age'; it has instruction_id"):
        show(f"{run}/round_0/07_hard.all.parquet", sort="age")
    with pytest.raises(DataError, match="no column"):
        show(f"{run}/round_0/07_hard.all.parquet", columns='value" FROM t; --')


@pytest.mark.parametrize("content", [b"", b"PAR1 and no more"])
def test_a_file_that_is_no_table_and_a_folder_are_one_clear_error(run: Path, content: bytes):
    (run / "broken.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"broken\.parquet: not a readable Parquet file"):
        show(f"{run}/broken.parquet")
    with pytest.raises(DataError, match=r"round_0: this is a folder, not a file"):
        show(f"{run}/round_0")


def test_a_table_whose_pages_are_damaged_is_named(run: Path):
    path = run / "round_0/02_classified.parquet"
    raw = path.read_bytes()
    path.write_bytes(raw[:4] + bytes(200) + raw[204:])
    with pytest.raises(DataError, match=r"02_classified\.parquet: cannot be read: "):
        show(str(path))


def test_a_table_outside_of_a_run_is_shown_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_rows(tmp_path / "mine.parquet", Answer, [Answer("id1", "me", "Yes.")])
    show(str(tmp_path / "mine.parquet"), columns="author,text")
    assert capsys.readouterr().out.split() == ["author", "text", "me", "Yes."]


def test_a_sample_is_the_same_for_the_same_seed_and_the_ending_may_be_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    write_rows(tmp_path / "mine.parquet", Answer, [Answer(f"id{n}", "me", "Yes.") for n in range(9)])

    def drawn(seed: int) -> list[str]:
        show(str(tmp_path / "mine"), columns="instruction_id", sample=3, seed=seed)
        return capsys.readouterr().out.split()[1:]

    assert drawn(1) == drawn(1)
    assert len(set(drawn(1))) == 3
    assert {tuple(drawn(seed)) for seed in range(9)} != {tuple(drawn(1))}
