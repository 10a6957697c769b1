"""Relative quality by task: values by hand, the radar and its table."""

from __future__ import annotations

from pathlib import Path

import pytest

from tapir.report.data import as_json
from tapir.report.facts import Facts
from tapir.report.html import page
from tapir.report.markdown import as_markdown
from tapir.report.polar import radar
from tapir.report.quality import qualities, quality
from tapir.store.rundir import RunDir, write_json
from tapir.store.tables import write_rows
from tapir.types import Instruction, Receipt, Verdict

ASKED = [Instruction(f"Question {n}", task=task) for n, task in enumerate(["Math", "Math", "Law"])]


def verdict(i: Instruction, order: str, student: float, teacher: float, method: str = "text") -> Verdict:
    return Verdict(i.id, order, student, teacher, method=method)  # type: ignore[arg-type]


@pytest.fixture
def facts(tmp_path: Path) -> Facts:
    write_json(tmp_path / "manifest.json", {})
    write_rows(tmp_path / "round_0/02_classified.parquet", Instruction, ASKED)
    rows = [
        verdict(ASKED[0], "student_first", 6, 8), verdict(ASKED[0], "teacher_first", 4, 8),
        verdict(ASKED[1], "student_first", 10, 8), verdict(ASKED[1], "teacher_first", 10, 8),
        verdict(ASKED[2], "student_first", 1, 10, "verified"), verdict(ASKED[2], "teacher_first", 1, 10, "verified"),
        verdict(ASKED[2], "student_first", 9, 3),
    ]  # fmt: skip
    write_rows(tmp_path / "round_0/06_verdicts.parquet", Verdict, rows)
    return Facts(RunDir(tmp_path))


def test_relative_quality_is_the_sum_of_scores_over_the_teachers(facts: Facts):
    (found,) = qualities(facts)
    score = found.scores["student_0"]
    # Math: (5 + 10) / (8 + 8); Law by its check alone, 1 / 10, whatever the judge thought; all: 16 / 26.
    assert score.categories["Math"] is not None
    assert score.categories["Law"] is not None
    assert score.categories["Math"].value == pytest.approx(93.75)
    assert score.categories["Law"].value == pytest.approx(10)
    assert score.overall.value == pytest.approx(100 * 16 / 26)
    assert found.tasks == ["Math", "Law"]


def test_every_student_is_set_against_the_teacher_where_the_run_compared_them(facts: Facts):
    run = facts.run
    write_rows(run.step("round_0/08_held_out", "").table(), Instruction, ASKED)
    for number, place, mine in ((0, "round_0/09_evaluation", 4), (1, "round_1/06_evaluation", 6)):
        rows = [verdict(i, order, mine, 8) for i in ASKED for order in ("student_first", "teacher_first")]
        write_rows(run.step(place, "").table("teacher_verdicts"), Verdict, rows)
        run.step(place, "x").finish(Receipt(f"evaluation {number}"))
    first, _ = qualities(Facts(run))
    assert (first.reference, first.rows) == ("the teacher", "held-out instructions")
    assert {n: s.overall.value for n, s in first.scores.items()} == {"student_0": 50.0, "student_1": 75.0}
    said = as_markdown(page(Facts(run)))
    assert "Relative quality: student_0, student_1 against the teacher, on held-out instructions" in said
    found = as_json(Facts(run))["relative_quality"][0]
    assert (found["reference"], list(found["scores"])) == ("the teacher", ["student_0", "student_1"])


def test_two_types_make_a_table_and_no_radar(facts: Facts):
    parts = quality(facts)
    assert not [node for part in parts for node in part.iter("svg")]
    cells = ["".join(c.itertext()) for part in parts for c in part.iter("td")]
    assert cells == ["2", "94", "1", "10", "3", "62"]


def test_a_radar_has_a_line_for_each_model_and_the_reference(finished_run: RunDir):
    charts = [node for part in quality(Facts(finished_run)) for node in part.iter("svg")]
    assert len(charts) == 2
    kinds = [p.get("class") for p in charts[0].iter("polygon")]
    assert [k for k in kinds if k != "ring"] == ["level", "l0", "l1", "l2"]


def test_a_value_far_out_is_drawn_on_the_edge_and_an_unknown_one_is_passed_over():
    chart = radar("R", "r", ["a", "b", "c"], {"x": [100.0, 5_000.0, None]}, reference=100.0, reference_name="y")
    points = [p.get("points") for p in chart.iter("polygon") if p.get("class") == "l0"]
    assert len(str(points[0]).split()) == 2
    assert "5000 %" in [c.findtext("title", "").split(": ")[1] for c in chart.iter("circle")]
    assert all(0 < float(str(c.get("cy"))) < 430 for c in chart.iter("circle"))
