"""Taking a finished step over from another run."""

from __future__ import annotations

import json
from pathlib import Path

from tapir.store.rundir import RunDir, Step
from tapir.types import Receipt, Refinement

PLACE = "round_1/02_refined"


def finished(run: RunDir, mark: str, text: str = "as it was") -> Step:
    step = run.step(PLACE, mark)
    receipt = Receipt("refined", made=1, rows_out=1, calls=3)
    step.write(Refinement, [Refinement("a", text)])
    step.folder.mkdir(parents=True)
    (step.folder / "weights").write_text("heavy")
    step.finish(receipt)
    return step


def test_a_step_of_equal_fingerprint_is_taken_over_with_all_its_files(tmp_path: Path):
    lender, run = RunDir(tmp_path / "one"), RunDir(tmp_path / "two")
    finished(lender, "same")
    step = run.step(PLACE, "same")
    assert step.borrow(lender)
    assert (step.state, list(step.read(Refinement))) == ("done", [Refinement("a", "as it was")])
    assert (step.folder / "weights").read_text() == "heavy"
    receipt = step.receipt() or {}
    assert (receipt["shared_with"], receipt["calls"]) == ("../one", 3)


def test_no_other_step_is_taken_over(tmp_path: Path):
    lender, run = RunDir(tmp_path / "one"), RunDir(tmp_path / "two")
    finished(lender, "another")
    assert not run.step(PLACE, "same").borrow(lender)
    assert not run.root.exists()


def test_a_student_whose_weights_were_deleted_is_not_lent(tmp_path: Path):
    lender, run = RunDir(tmp_path / "one"), RunDir(tmp_path / "two")
    path = finished(lender, "same").receipt_path
    path.write_text(json.dumps({**json.loads(path.read_text()), "weights_deleted": True}))
    assert not run.step(PLACE, "same").borrow(lender)


def test_what_the_borrower_does_later_leaves_the_lender_alone(tmp_path: Path):
    lender, run = RunDir(tmp_path / "one"), RunDir(tmp_path / "two")
    lent = finished(lender, "same")
    step = run.step(PLACE, "same")
    step.borrow(lender)
    step.clear()
    finished(run, "changed", "anew")
    assert list(lent.read(Refinement)) == [Refinement("a", "as it was")]
    assert (lent.folder / "weights").exists()
