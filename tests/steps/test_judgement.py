"""A person's marks as input of the steps: what they change, and that a run without them stays as it was."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from whole_run import recipe, write_pool

from tapir import pipeline, planning
from tapir.config import Recipe
from tapir.stages.gold import pair_mark
from tapir.steps import rounds
from tapir.steps.judgement import DROPPED, MARKED_WRONG, corrections, without_wrong, wrong_verdicts
from tapir.store.marks import Mark, append_mark
from tapir.store.rundir import RunDir
from tapir.types import Answer, Instruction, Receipt, Rejection, Verdict
from tapir.wiring import Session, open_tools

PLACE = "round_0/02_classified"


@pytest.fixture
def settings(tmp_path: Path) -> Recipe:
    write_pool(tmp_path / "pool.jsonl", first=0, count=6)
    write_pool(tmp_path / "held_out.jsonl", first=40, count=3)
    return Recipe.model_validate(recipe(tmp_path, ledger={"path": str(tmp_path / "calls.sqlite")}))


def add(root: Path, kind: str, i: str, value: str, place: str = PLACE, **more: str) -> None:
    append_mark(root, Mark(kind, i, value, place, "ada", "2026-01-01T00:00:00+00:00", **more))  # type: ignore[arg-type]


def classified(run: RunDir) -> list[Instruction]:
    return list(run.step(PLACE, "").read(Instruction))


def state(run: RunDir, place: str) -> str:
    return next(row["state"] for row in planning.status(run) if row["place"] == place)


def test_a_dropped_seed_and_a_corrected_label_take_part_when_the_stage_runs_again(settings: Recipe, tmp_path: Path):
    run = pipeline.run(settings, tmp_path / "run", until="classified")
    before = classified(run)
    assert state(run, PLACE) == "done"
    add(run.root, "drop", before[0].id, "drop")
    add(run.root, "label", before[1].id, "Law")
    assert state(run, PLACE) == "stale"
    assert state(run, "round_0/01_seeds") == "done"

    pipeline.run(settings, run.root, until="classified")
    after = classified(run)
    assert [i.id for i in after] == [i.id for i in before[1:]]
    assert after[0].task == "Law"
    receipt = json.loads((run.root / f"{PLACE}.receipt.json").read_text())
    assert receipt["dropped"] == {"dropped by a person": 1}
    assert (receipt["rows_in"], receipt["rows_out"], receipt["notes"]["labels_by_a_person"]) == (6, 5, 1)
    assert state(run, PLACE) == "done"


def test_what_is_taken_back_leaves_the_run_as_it_was(settings: Recipe, tmp_path: Path):
    run = pipeline.run(settings, tmp_path / "run", until="classified")
    i = classified(run)[0].id
    add(run.root, "drop", i, "drop")
    add(run.root, "drop", i, "")
    assert state(run, PLACE) == "done"


def test_a_mark_on_a_later_rounds_row_makes_nothing_before_it_stale(settings: Recipe, tmp_path: Path):
    run = pipeline.run(settings, tmp_path / "run", until="classified")
    add(run.root, "drop", "0" * 16, "drop", place="round_2/01_expanded")
    assert state(run, PLACE) == "done"


def test_a_dropped_grown_instruction_is_refused_and_another_one_written(settings: Recipe, tmp_path: Path):
    parents = [Instruction(f"What is {n} plus {n}?", task="Math") for n in range(4)]

    def grow(session: Session) -> tuple[list[Instruction], list[Rejection]]:
        rejections: list[Rejection] = []
        receipt = Receipt("expanded")
        return rounds.grown_from(session, 1, {"Math": 1}, parents, parents, {}, {}, rejections, receipt), rejections

    with open_tools(settings, tmp_path / "run") as session:
        session.run.root.mkdir()
        (first,), _ = grow(session)
        add(session.run.root, "drop", first.id, "drop", place="round_1/01_expanded")
        taken, rejections = grow(session)
        assert corrections(session, "round_1/01_expanded").dropped == {first.id}
    assert first.id not in {i.id for i in taken}
    assert [r.text for r in rejections if r.reason == DROPPED] == [first.text]


def test_a_verdict_marked_wrong_leaves_its_pair_unscored(tmp_path: Path):
    run = RunDir(tmp_path)
    verdicts = [Verdict(i, order, 5, 9) for i in ("a", "b") for order in ("student_first", "teacher_first")]  # type: ignore[arg-type]
    for name, author in (("05_student_answers", "student_0"), ("03_teacher_answers", "teacher")):
        run.step(f"round_0/{name}", "").write(Answer, [Answer(i, author, f"{author} on {i}") for i in ("a", "b")])
    pair = pair_mark("student_0 on a", "teacher on a")
    about = {"place": "round_0/06_verdicts", "student": "student_0", "winner": "1"}
    add(tmp_path, "verdict", "a", "wrong", pair=pair, **about)
    add(tmp_path, "verdict", "b", "wrong", pair=pair_mark("an earlier answer", "teacher on b"), **about)
    session = cast(Any, SimpleNamespace(run=run))
    receipt = Receipt("hard")
    left = list(without_wrong(session, verdicts, wrong_verdicts(session), receipt))
    assert [v.instruction_id for v in left] == ["b", "b"]
    assert (receipt.rows_in, receipt.dropped) == (1, {MARKED_WRONG: 1})
