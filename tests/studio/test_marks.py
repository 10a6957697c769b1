"""What a person marks in the studio, from the form to the run and to the judge's trust report."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from pathlib import Path

from asking import Asker

from tapir.report.marked import judged_pairs, marked_gold, marked_report
from tapir.stages.gold import pair_mark
from tapir.store.marks import Kind, Mark, append_mark, read_marks, standing
from tapir.store.rundir import RunDir
from tapir.store.tables import read_rows, write_rows
from tapir.types import Answer, Example, Instruction, Rejection, Verdict


def fields(text: str, kind: str) -> dict[str, str]:
    """The hidden fields of the page's first form of this kind."""
    for form in re.findall(r'<form[^>]*class="mark".*?</form>', text, re.DOTALL):
        found = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form))
        if found.get("kind", "preference") == kind:
            return found
    raise AssertionError(f"no form of kind {kind}")


def pool(folder: Path) -> list[Instruction]:
    return list(RunDir(folder / "run").step("round_0/02_classified", "").read(Instruction))


def test_a_dropped_instruction_is_in_the_run_with_author_and_step(writer: Asker, tmp_path: Path):
    path = f"/run/run/instruction/{pool(tmp_path)[0].id}"
    form = {**fields(writer.page(path), "drop"), "value": "drop"}
    status, headers, _ = writer.ask("/run/run/marks", form=form)
    assert (status, headers["location"]) == (303, path)
    (found,) = read_marks(tmp_path / "run")
    assert (found.kind, found.value, found.author, found.place) == ("drop", "drop", "ada", "round_0/02_classified")
    assert "Take it back in" in writer.page(path)
    assert "1 mark by ada" in writer.page("/run/run")


def test_a_drop_that_the_run_has_used_is_taken_back_on_its_page(writer: Asker, tmp_path: Path):
    row, *others = pool(tmp_path)
    path = f"/run/run/instruction/{row.id}"
    writer.ask("/run/run/marks", form={**fields(writer.page(path), "drop"), "value": "drop"})
    RunDir(tmp_path / "run").step("round_0/02_classified", "").write(Instruction, others)
    text = writer.page(path)
    assert "Take it back in" in text
    assert "Correct its task" not in text
    status, headers, _ = writer.ask("/run/run/marks", form={**fields(text, "drop"), "value": ""})
    assert (status, headers["location"]) == (303, path)
    assert standing(read_marks(tmp_path / "run")) == []


def test_a_dropped_grown_row_is_taken_back_on_the_overview(writer: Asker, tmp_path: Path):
    step = RunDir(tmp_path / "run").step("round_1/01_expanded", "")
    row, *others = list(step.read(Instruction))
    path = f"/run/run/instruction/{row.id}"
    writer.ask("/run/run/marks", form={**fields(writer.page(path), "drop"), "value": "drop"})
    # The run has grown another row in its place: only its text is kept, among the refused.
    step.write(Instruction, others)
    step.write(Rejection, [Rejection(row.text, "Math", others[0].id, "dropped by a person")], "rejected")
    run = RunDir(tmp_path / "run").step("round_1/04_mix", "")
    run.write(Example, [e for e in run.read(Example) if e.instruction_id != row.id])
    assert writer.ask(path)[0] == 404
    text = writer.page("/run/run")
    assert row.text.strip() in text
    assert path not in text
    form = fields(text, "drop")
    assert writer.ask("/run/run/marks", form={**form, "place": "round_1/02_refined", "value": ""})[0] == 400
    status, headers, _ = writer.ask("/run/run/marks", form={**form, "value": ""})
    assert (status, headers["location"]) == (303, "/run/run")
    assert standing(read_marks(tmp_path / "run")) == []
    assert "Take it back in" not in writer.page("/run/run")


def test_a_label_must_be_a_task_type(writer: Asker, tmp_path: Path):
    hidden = fields(writer.page(f"/run/run/instruction/{pool(tmp_path)[0].id}"), "label")
    assert writer.ask("/run/run/marks", form={**hidden, "value": "Astrology"})[0] == 400
    assert writer.ask("/run/run/marks", form={**hidden, "value": "Math"})[0] == 303
    assert [m.value for m in read_marks(tmp_path / "run")] == ["Math"]


def test_a_mark_cannot_name_another_step_or_other_answers(writer: Asker, tmp_path: Path):
    text = writer.page(f"/run/run/instruction/{pool(tmp_path)[0].id}")
    assert writer.ask("/run/run/marks", form={**fields(text, "drop"), "place": "../x", "value": "drop"})[0] == 400
    verdict = fields(text, "verdict")
    assert writer.ask("/run/run/marks", form={**verdict, "pair": "0" * 16, "value": "right"})[0] == 400
    assert writer.ask("/run/run/marks", form={**verdict, "value": "wrong"})[0] == 400
    assert read_marks(tmp_path / "run") == []


def test_verdicts_inside_a_round_name_their_opponent_and_take_no_mark(writer: Asker, tmp_path: Path):
    run = RunDir(tmp_path / "run")
    grown = next(run.step("round_1/01_expanded", "").read(Instruction)).id
    for place, name, student in (
        ("round_1/01_expanded", "student_answers", "student_0"),
        ("round_1/01_expanded", "direct", "teacher"),
    ):
        run.step(place, "").write(Answer, [Answer(grown, student, f"{student} says so")], name)
    for place, student in (("round_1/01_expanded", "student_0"), ("round_1/03_enhanced_answers", "enhanced")):
        both = [
            Verdict(grown, "student_first", 4, 8, student=student),
            Verdict(grown, "teacher_first", 4, 8, student=student),
        ]
        run.step(place, "").write(Verdict, both, "verdicts")
    text = html.unescape(writer.page(f"/run/run/instruction/{grown}"))
    assert "round 1 · expanded, verdicts: student_0 against teacher" in text
    assert "round 1 · enhanced answers, verdicts: enhanced against the teacher's direct answer" in text
    assert "The verdict is right" not in text
    held_out = next(run.step("round_0/08_held_out", "").read(Instruction)).id
    text = writer.page(f"/run/run/instruction/{held_out}")
    assert "round 1 · evaluation, verdicts: student_1 against student_0" in text
    assert "The verdict is right" in text


def test_marked_verdicts_are_gold_for_the_judge(writer: Asker, tmp_path: Path):
    run = RunDir(tmp_path / "run")
    read: dict[str, list[Verdict]] = {}
    for v in run.step("round_0/06_verdicts", "").read(Verdict):
        read.setdefault(v.instruction_id, []).append(v)
    # Two pairs on which the teacher wins in both orders.
    clear = [i for i, votes in read.items() if all(v.scored and v.mfd > 0 for v in votes)][:2]
    for i, value in zip(clear, ("right", "wrong 1"), strict=True):
        form = {**fields(writer.page(f"/run/run/instruction/{i}"), "verdict"), "value": value}
        assert writer.ask("/run/run/marks", form=form)[0] == 303
    labels = {m.instruction_id: (row.label, row.verdict) for m, row in marked_gold(run)}
    assert labels == {clear[0]: ("2", "2"), clear[1]: ("1", "2")}
    report = marked_report(run)
    assert report is not None
    assert (report.agreement.pairs, report.agreement.accuracy.value, report.blind, report.people) == (2, 0.5, 0, 1)


def test_blind_pairs_hide_who_answered_and_end(writer: Asker, tmp_path: Path):
    for done in range(5):
        text = writer.page("/run/run/annotate")
        assert f"{done} of 5 pairs decided by ada" in text
        shown = text[text.index('class="asked main"') :]
        headings = re.findall(r"<h4>(.*?)</h4>", shown)
        assert headings == ["first answer", "second answer"]
        form = fields(text, "preference")
        assert writer.ask("/run/run/annotate", form={**form, "pick": "a"})[0] == 303
    assert "All pairs are decided" in writer.page("/run/run/annotate")
    marks = read_marks(tmp_path / "run")
    assert len(marks) == 5
    assert {m.value for m in marks} == {"1", "2"}  # the first shown was the student's in some, not in all


def test_the_chosen_text_is_the_winner_whatever_side_it_stood_on(writer: Asker, tmp_path: Path):
    text = writer.page("/run/run/annotate")
    first = re.findall(r'<h4>first answer</h4><div class="text" dir="auto">(.*?)</div>', text, re.DOTALL)[0]
    writer.ask("/run/run/annotate", form={**fields(text, "preference"), "pick": "a"})
    (mark,) = read_marks(tmp_path / "run")
    base = RunDir(tmp_path / "run")
    place = "round_0/05_student_answers" if mark.place == "round_0/06_verdicts" else "round_1/06_evaluation"
    name = None if mark.place == "round_0/06_verdicts" else "answers"
    own = {a.instruction_id: a.text for a in base.step(place, "").read(Answer, name)}
    assert (mark.winner == "1") == (own[mark.instruction_id].strip() == first.strip())


def test_a_mark_on_answers_that_are_gone_says_nothing(writer: Asker, tmp_path: Path):
    i = pool(tmp_path)[0].id
    mark = Mark("preference", i, "1", "round_0/06_verdicts", "ada", "t", "student_0", "1", pair="0" * 16)
    append_mark(tmp_path / "run", mark)
    assert marked_gold(RunDir(tmp_path / "run")) == []


def test_a_blind_pair_whose_answers_have_changed_is_to_be_decided_again(writer: Asker, tmp_path: Path):
    form = fields(writer.page("/run/run/annotate"), "preference")
    writer.ask("/run/run/annotate", form={**form, "pick": "a"})
    assert "1 of 5 pairs decided by ada" in writer.page("/run/run/annotate")
    (mark,) = read_marks(tmp_path / "run")
    (pairs,) = (p for p in judged_pairs(RunDir(tmp_path / "run")) if p.place == mark.place)
    changed = [replace(a, text=f"{a.text} again") for a in read_rows(pairs.first, Answer)]
    write_rows(pairs.first, Answer, changed)
    assert marked_gold(RunDir(tmp_path / "run")) == []
    assert "0 of 5 pairs decided by ada" in writer.page("/run/run/annotate")


def test_a_pair_that_several_marks_are_about_is_one_pair(writer: Asker, tmp_path: Path):
    run = RunDir(tmp_path / "run")
    (pairs,) = (p for p in judged_pairs(run) if p.place == "round_0/06_verdicts")
    own, teachers = (
        {a.instruction_id: a.text for a in read_rows(path, Answer)} for path in (pairs.first, pairs.second)
    )
    unread = {v.instruction_id for v in read_rows(pairs.verdicts, Verdict) if not v.scored}
    ids = sorted(own.keys() - unread)[:4]

    def add(kind: Kind, author: str, i: str) -> None:
        value = "2" if kind == "preference" else "right"
        append_mark(
            run.root, Mark(kind, i, value, pairs.place, author, "t", "student_0", "2", pair_mark(own[i], teachers[i]))
        )

    for i in ids:
        add("preference", "ada", i)
    alone = marked_report(run)
    for i in ids:
        add("preference", "bob", i)
        add("verdict", "ada", i)
    together = marked_report(run)
    assert alone is not None
    assert together is not None
    assert (together.agreement.pairs, together.blind, together.people) == (4, 4, 2)
    assert together.agreement == alone.agreement
    assert "4 pairs decided by 2 people, 4 of them blind." in writer.page("/run/run/judge")
