"""A whole run with a really trained student, marked by a person and run again: the marks reach the weights."""

from __future__ import annotations

from pathlib import Path

import pytest
from whole_run import prepare

from tapir import pipeline, planning
from tapir.report.facts import Facts
from tapir.report.quality import qualities
from tapir.stages.gold import pair_mark
from tapir.steps.judgement import DROPPED, MARKED_WRONG
from tapir.store.marks import Mark, append_mark
from tapir.store.rundir import RunDir, file_hash
from tapir.types import Answer, Difficulty, Example, Instruction, Verdict

pytestmark = pytest.mark.xdist_group("marked")

POOL, VERDICTS = "round_0/02_classified", "round_0/06_verdicts"
NEW_TASK = "Law"


def rows(run: RunDir, place: str, row_type: type, name: str | None = None) -> list:
    return list(run.step(place, "").read(row_type, name))


def examples(run: RunDir) -> list[Example]:
    return [e for r in (1, 2) for e in rows(run, f"round_{r}/04_mix", Example)]


def weights(run: RunDir) -> list[str]:
    return [file_hash(run.root / f"round_{r}/05_student_{r}/model.safetensors") for r in (1, 2)]


class Marked:
    """A finished run, the marks that a person then made, and the run after it was started again."""

    def __init__(self, folder: Path) -> None:
        recipe = prepare(
            folder,
            student_0="as_is",  # its answers stay what they were, so a verdict on them can be marked
            mix={"size": 40},
            evaluate=[{"kind": "pairwise", "prompts": str(folder / "held_out.jsonl"), "against": "teacher"}],
            ledger={"path": str(folder / "calls.sqlite")},
        )
        self.run = pipeline.run(recipe, folder / "run")
        self.pool = rows(self.run, POOL, Instruction)
        self.examples, self.weights = examples(self.run), weights(self.run)
        self.hard = {d.instruction_id for d in rows(self.run, "round_0/07_hard", Difficulty)}
        drawn = [e.instruction_id for e in self.examples if not e.hard]
        self.dropped, self.relabelled = [i.id for i in self.pool if i.id in drawn and i.task != NEW_TASK][:2]
        self.wrong = next(v.instruction_id for v in rows(self.run, VERDICTS, Verdict)
                          if v.instruction_id in self.hard and v.method not in ("verified", "identical"))  # fmt: skip
        self._mark("drop", self.dropped, "drop")
        self._mark("label", self.relabelled, NEW_TASK)
        self._mark("verdict", self.wrong, "wrong", VERDICTS, student="student_0", winner="1", pair=self._pair())
        self.stale = [str(s["place"]) for s in planning.status(self.run) if s["state"] == "stale"]
        pipeline.run(recipe, folder / "run")

    def _mark(self, kind: str, i: str, value: str, place: str = POOL, **more: str) -> None:
        mark = Mark(kind, i, value, place, "ada", "2026-01-01T00:00:00+00:00", **more)  # type: ignore[arg-type]
        append_mark(self.run.root, mark)

    def _pair(self) -> str:
        places = ("round_0/05_student_answers", "round_0/03_teacher_answers")
        texts = ({a.instruction_id: a.text for a in rows(self.run, p, Answer)} for p in places)
        return pair_mark(*(t[self.wrong] for t in texts))


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> Marked:
    return Marked(tmp_path_factory.mktemp("marked"))


def test_marks_make_stale_what_they_are_about_and_what_follows(marked: Marked):
    assert marked.stale[0] == POOL
    assert "round_2/05_student_2" in marked.stale
    assert "round_0/01_seeds" not in marked.stale
    assert not planning.unfinished(marked.run)


def test_a_dropped_instruction_is_trained_on_no_more(marked: Marked):
    assert marked.dropped in {e.instruction_id for e in marked.examples}
    assert marked.dropped not in {e.instruction_id for e in examples(marked.run)}
    assert marked.dropped not in {i.id for i in rows(marked.run, POOL, Instruction)}
    assert marked.run.receipts()[POOL]["dropped"] == {DROPPED: 1}


def test_a_corrected_label_is_the_one_that_the_mix_counts(marked: Marked):
    tasks = {i.id: i.task for i in rows(marked.run, POOL, Instruction)}
    assert tasks[marked.relabelled] == NEW_TASK
    drawn = [e for e in examples(marked.run) if e.instruction_id == marked.relabelled]
    assert drawn
    assert {e.task for e in drawn} == {NEW_TASK}


def test_a_seed_whose_verdict_was_wrong_is_hard_no_more(marked: Marked):
    assert marked.wrong in marked.hard
    assert marked.wrong not in {d.instruction_id for d in rows(marked.run, "round_0/07_hard", Difficulty, "all")}
    assert marked.run.receipts()["round_0/07_hard"]["dropped"][MARKED_WRONG] == 1
    assert marked.wrong not in {e.instruction_id for e in examples(marked.run) if e.hard}


def test_the_students_were_trained_again_on_the_other_data(marked: Marked):
    assert not set(weights(marked.run)) & set(marked.weights)


def test_every_student_of_the_run_was_set_against_the_teacher(marked: Marked):
    found = next(q for q in qualities(Facts(marked.run)) if q.rows == "held-out instructions")
    assert (found.reference, list(found.scores)) == ("the teacher", ["student_0", "student_1", "student_2"])
    assert any(r.metric == "teacher_win_rate" for r in Facts(marked.run).results)
