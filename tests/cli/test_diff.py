"""`tapir diff A B` on two small runs written by hand."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
import yaml
from typer.testing import CliRunner

from tapir.cli.diff import lines, register
from tapir.errors import DataError
from tapir.report.differences import differences, flat
from tapir.report.table_changes import MOST_NAMED, CellChange, Ids
from tapir.store.rundir import RunDir, write_json
from tapir.store.tables import write_rows
from tapir.types import Answer, Instruction, Receipt, Result

QUESTIONS = [Instruction(f"question {n}") for n in range(3)]
ANSWERS = [Answer(q.id, "teacher", "yes") for q in QUESTIONS]
RATE = Result("student_1", "win_rate", 60.0, 100, 57.0, 64.0, 0, "student_0")


def run(root: Path, recipe: dict[str, Any], calls: str = "round_0/03_teacher_answers k1\n") -> RunDir:
    """A run of three questions with an answer each, and one result."""
    prompts = {"judge.txt": "h1", "refine.txt": f"h-{recipe['name']}"}
    made = RunDir(root)
    root.mkdir()
    made.recipe_path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    made.calls_path.write_text(calls, encoding="utf-8")
    write_json(made.manifest_path, {"tapir": "0.1.0", "packages": {"torch": "2.6"}, "prompts": prompts})
    for place, mark in (("round_0/01_seeds", "aa"), ("round_0/03_teacher_answers", recipe["name"])):
        made.step(place, mark).finish(Receipt(place.split("_")[-1]))
    write_rows(made.step("round_0/01_seeds", "").table(), Instruction, QUESTIONS)
    write_rows(made.step("round_0/03_teacher_answers", "").table(), Answer, ANSWERS)
    write_rows(made.step("round_1/06_evaluation", "").table(), Result, [RATE])
    return made


@pytest.fixture
def runs(tmp_path: Path) -> tuple[RunDir, RunDir]:
    """`a`, and `b`: another recipe, two other answers, other calls, a lower win rate."""
    a = run(tmp_path / "a", {"name": "one", "mix": {"size": 10}})
    b = run(tmp_path / "b", {"name": "two", "mix": {"size": 10}, "seed": 3}, "round_0/03_teacher_answers k2\n")
    changed = [replace(ANSWERS[0], text="no"), ANSWERS[1], Answer("f" * 16, "teacher", "new")]
    write_rows(b.step("round_0/03_teacher_answers", "").table(), Answer, changed)
    worse = replace(RATE, value=50.0, low=46.0, high=53.0)
    write_rows(
        b.step("round_1/06_evaluation", "").table(), Result, [worse, Result("student_1", "nll_per_token", 2.0, 5)]
    )
    return a, b


def command(*words: object):
    app = typer.Typer()
    register(app)
    return CliRunner().invoke(app, [str(w) for w in words])


def test_the_recipe_is_compared_value_by_value(runs: tuple[RunDir, RunDir]):
    assert differences(*runs).recipe == {"name": ("one", "two"), "seed": (None, 3)}
    assert flat({"a": {"b": [1, {"c": 2}]}, "d": []}) == {"a.b.0": 1, "a.b.1.c": 2, "d": []}


def test_prompts_are_compared_by_their_texts(runs: tuple[RunDir, RunDir]):
    found = differences(*runs)
    assert found.prompts == {"refine.txt": ("h-one", "h-two")}
    assert found.manifest == {}
    assert ["refine.txt", "h-one", "h-two"] in [line.split() for line in lines(found)]


def test_steps_with_other_settings_and_calls_are_named(runs: tuple[RunDir, RunDir]):
    found = differences(*runs).to_json()
    assert found["settings"] == {"round_0/03_teacher_answers": "differs"}
    assert found["calls"] == {"round_0/03_teacher_answers": {"shared": 0, "only_a": 1, "only_b": 1}}


def test_data_is_compared_by_id_and_content(runs: tuple[RunDir, RunDir]):
    found = differences(*runs).data
    assert list(found) == ["round_0/03_teacher_answers"]
    table = found["round_0/03_teacher_answers"]
    assert (table.rows_a, table.rows_b) == (3, 3)
    assert table.added == Ids(1, ("f" * 16,))
    assert table.removed == Ids(1, (QUESTIONS[2].id,))
    assert table.changed == Ids(1, (QUESTIONS[0].id,))
    assert table.cells == (CellChange(QUESTIONS[0].id, "text", "yes", "no"),)


def test_a_row_that_is_there_twice_in_one_run_is_a_change(runs: tuple[RunDir, RunDir]):
    for made, rows in zip(runs, (ANSWERS, [*ANSWERS, ANSWERS[1]]), strict=True):
        write_rows(made.step("round_0/03_teacher_answers", "").table(), Answer, rows)
    table = differences(*runs).data["round_0/03_teacher_answers"]
    assert (table.added.count, table.removed.count, table.changed.count) == (0, 0, 1)
    assert table.cells == (CellChange(ANSWERS[1].instruction_id, "rows", "1", "2"),)


def test_rows_in_another_order_are_the_same(runs: tuple[RunDir, RunDir]):
    for made, rows in zip(runs, (ANSWERS, ANSWERS[::-1]), strict=True):
        write_rows(made.step("round_0/03_teacher_answers", "").table(), Answer, rows)
    assert differences(*runs).data == {}


def test_large_tables_are_counted_in_whole_and_named_in_part(runs: tuple[RunDir, RunDir]):
    count = 250_000
    path = "round_0/02_classified"
    for made, last in zip(runs, ("even", "odd"), strict=True):
        rows = {"id": [f"{n:016x}" for n in range(count)], "text": [last if n % 2 else "same" for n in range(count)]}
        pq.write_table(pa.table(rows), made.step(path, "").table())
    table = differences(*runs).data[path]
    assert (table.rows_a, table.changed.count, table.added.count) == (count, count // 2, 0)
    assert len(table.changed.first) == MOST_NAMED
    assert table.cells[0] == CellChange(f"{1:016x}", "text", "even", "odd")


def test_a_broken_table_is_named(runs: tuple[RunDir, RunDir]):
    runs[0].step("round_0/01_seeds", "").table().write_bytes(b"no table")
    with pytest.raises(DataError, match=r"01_seeds.parquet: cannot be compared"):
        differences(*runs)


def test_a_table_that_one_run_lacks_counts_as_removed(runs: tuple[RunDir, RunDir]):
    runs[1].step("round_0/01_seeds", "").table().unlink()
    table = differences(*runs).data["round_0/01_seeds"]
    assert (table.rows_a, table.rows_b, table.removed.count) == (3, 0, 3)


def test_results_differ_by_b_less_a_with_an_interval(runs: tuple[RunDir, RunDir]):
    rate, nll = differences(*runs).results
    # 50 (46 to 53) less 60 (57 to 64): −10 − √(4² + 4²) to −10 + √(3² + 3²).
    assert rate.difference is not None
    assert (rate.difference.value, rate.difference.noise) == (-10.0, False)
    assert (rate.difference.low, rate.difference.high) == (pytest.approx(-15.656854), pytest.approx(-5.757359))
    assert (nll.a, nll.difference) == (None, None)


def test_benchmarks_on_other_files_are_shown_and_not_compared(tmp_path: Path):
    models = {"teacher": {"kind": "scripted", "script": "builtin"}, "student": {"kind": "local", "model": "x"}}
    made = [
        run(tmp_path / f, {"name": "one", "models": models, "evaluate": [{"kind": "exact", "prompts": f"{f}.jsonl"}]})
        for f in ("easy", "hard")
    ]
    for one in made:
        exact = Result("student_1", "exact_accuracy", 40.0, 100, 30.0, 50.0)
        write_rows(one.step("round_1/07_benchmarks", "").table(), Result, [exact])
    rate, exact = differences(*made).results
    assert (rate.alike, exact.alike, exact.difference) == (True, False, None)
    assert "not comparable: other files or settings" in command(made[0].root, made[1].root).stdout
    (same,) = [r for r in differences(made[0], made[0]).results if r.metric == "exact_accuracy"]
    assert same.difference is not None


def test_a_run_does_not_differ_from_itself(runs: tuple[RunDir, RunDir]):
    shown = command(runs[0].root, runs[0].root).stdout
    assert all(f"{part}: the same" in shown for part in ("recipe", "prompts", "made by", "settings and inputs", "data"))
    assert "+0 (" in shown


def test_the_comparison_is_shown_in_words_and_as_json(runs: tuple[RunDir, RunDir]):
    shown = command(runs[0].root, runs[1].root).stdout
    lines = [line.split() for line in shown.splitlines()]
    assert ["seed", "(default)", "3"] in lines
    assert ["round_0/03_teacher_answers", "0", "1", "1"] in lines
    assert "-10 (-15.7 to -5.76)" in shown
    plain = json.loads(command(runs[0].root, runs[1].root, "--json").stdout)
    assert plain["recipe"]["seed"] == {"a": None, "b": 3}
    assert plain["results"][0]["difference"]["value"] == -10.0


def test_a_folder_without_a_run_says_what_makes_one(tmp_path: Path):
    assert isinstance(command(tmp_path, tmp_path).exception, DataError)
