"""Finished steps: taken over from another run, set aside and put back; files that are broken or cannot be written."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tapir.errors import DataError
from tapir.store.rundir import RunDir, Step, write_text
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


def test_what_an_earlier_recipe_finished_comes_back_with_it_after_a_failed_try_of_another(tmp_path: Path):
    run = RunDir(tmp_path)
    finished(run, "earlier")
    failing = run.step(PLACE, "later")
    failing.clear()
    assert failing.state == "missing"
    assert not failing.table().exists()
    failing.write(Refinement, [Refinement("a", "half a row")])
    failing.clear()
    assert not failing.take_back()
    step = run.step(PLACE, "earlier")
    assert step.take_back()
    assert (step.state, list(step.read(Refinement))) == ("done", [Refinement("a", "as it was")])
    assert (step.folder / "weights").read_text() == "heavy"
    assert [path.name for path in (tmp_path / "round_1").glob(".*")] == []


def test_what_an_earlier_recipe_finished_goes_when_the_new_one_is_finished(tmp_path: Path):
    run = RunDir(tmp_path)
    finished(run, "earlier")
    run.step(PLACE, "later").clear()
    finished(run, "later", "anew").forget_aside()
    assert not run.step(PLACE, "earlier").take_back()
    assert list(run.step(PLACE, "later").read(Refinement)) == [Refinement("a", "anew")]
    assert [path.name for path in (tmp_path / "round_1").glob(".*")] == []


@pytest.mark.parametrize("survivors", [0, 1, 2])
def test_a_step_is_whole_wherever_setting_it_aside_was_cut_off(
    tmp_path: Path, survivors: int, monkeypatch: pytest.MonkeyPatch
):
    run = RunDir(tmp_path)
    finished(run, "earlier")
    linked = list[Path]()

    def cut_off(source: Path, target: Path) -> None:
        if len(linked) == survivors:
            raise KeyboardInterrupt
        linked.append(target)
        link(source, target)

    link = os.link
    monkeypatch.setattr(os, "link", cut_off)
    with pytest.raises(KeyboardInterrupt):
        run.step(PLACE, "later").clear()
    monkeypatch.undo()
    step = run.step(PLACE, "earlier")
    assert (step.state, list(step.read(Refinement))) == ("done", [Refinement("a", "as it was")])
    run.step(PLACE, "later").clear()
    assert step.take_back()
    assert (step.folder / "weights").read_text() == "heavy"


def test_a_step_that_was_being_put_back_is_put_back_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = RunDir(tmp_path)
    step = finished(run, "earlier")
    run.step(PLACE, "later").clear()
    link = os.link

    def cut_off(source: Path, target: Path) -> None:
        if target == step.receipt_path:
            raise KeyboardInterrupt
        link(source, target)

    monkeypatch.setattr(os, "link", cut_off)
    with pytest.raises(KeyboardInterrupt):
        step.take_back()
    monkeypatch.undo()
    assert step.state == "missing"
    assert step.take_back()
    assert (step.state, list(step.read(Refinement))) == ("done", [Refinement("a", "as it was")])


def test_a_training_broken_off_in_between_neither_takes_nor_spoils_the_log_of_a_finished_one(tmp_path: Path):
    run = RunDir(tmp_path)
    step = finished(run, "earlier")
    log = step.folder.with_name(f"{step.folder.name}.log.jsonl")
    log.write_text("the earlier one's", encoding="utf-8")
    for _ in range(2):
        other = run.step(PLACE, "later")
        other.clear()
        assert not log.exists()
        log.write_text("the other's", encoding="utf-8")
        step.folder.with_name(f".{step.folder.name}.training").mkdir()
        assert step.take_back()
        assert log.read_text(encoding="utf-8") == "the earlier one's"


@pytest.mark.parametrize("content", [b'{"calls": 3', b"", b"\xff", b"[]", b"{}"])
def test_a_broken_receipt_is_refused_with_the_remedy_and_the_step_left_as_it_is(tmp_path: Path, content: bytes):
    run = RunDir(tmp_path)
    step = finished(run, "same")
    step.receipt_path.write_bytes(content)
    for look in (step.receipt, lambda: step.state, run.receipts, lambda: run.step(PLACE, "other").state):
        with pytest.raises(DataError, match=r"02_refined\.receipt\.json: .*; put a copy of it back, or remove it"):
            look()
    assert step.table().exists()


def test_a_run_has_as_many_rounds_as_its_recipe(tmp_path: Path):
    run = RunDir(tmp_path)
    for number in (0, 1, 2, 10):
        (tmp_path / f"round_{number}").mkdir()
    assert run.rounds() == [0, 1, 2, 10]  # No recipe.yaml, no bound.
    models = "models: {teacher: {kind: scripted}, student: {kind: local, model: base}}\n"
    for said, rounds in ((1, [0, 1]), (3, [0, 1, 2]), (10, [0, 1, 2, 10]), ("unreadable", [0, 1, 2, 10])):
        run.recipe_path.write_text(f"{models}curriculum: {{rounds: {said}}}", encoding="utf-8")
        assert run.rounds() == rounds


def test_a_broken_manifest_is_refused_with_the_remedy(tmp_path: Path):
    run = RunDir(tmp_path)
    run.manifest_path.write_text("{", encoding="utf-8")
    for look in (run.manifest, run.identity):
        with pytest.raises(DataError, match=r"manifest\.json: cannot be read .*; put a copy of it back, or remove it"):
            look()


def test_a_file_where_the_run_should_be_is_told(tmp_path: Path):
    (tmp_path / "afile").touch()
    for folder in ("afile", "afile/run"):
        with (
            pytest.raises(DataError, match=r"afile\S*: no run can be written here .*--out"),
            RunDir(tmp_path / folder).writing(),
        ):
            pass


def test_what_cannot_be_written_is_told_and_leaves_nothing_behind(tmp_path: Path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "afile").touch()
    for path in (tmp_path / "folder", tmp_path / "afile" / "x"):
        with pytest.raises(DataError, match=f"{path}: cannot be written"):
            write_text(path, "words")
    assert {p.name for p in tmp_path.iterdir()} == {"folder", "afile"}
