"""Null canaries: which prompts, and when the judge is not to be trusted."""

from __future__ import annotations

from tapir.curriculum.canary import canary_answers, canary_prompts, canary_report
from tapir.types import Instruction, Verdict


def verdicts(author: str, *gaps: float) -> list[Verdict]:
    """Verdicts that put the author so many points above what it is compared with."""
    return [
        Verdict(f"i{n}", order, 5 + gap, 5, student=author)  # type: ignore[arg-type]
        for n, gap in enumerate(gaps)
        for order in ("student_first", "teacher_first")
    ]


def test_the_prompts_are_few_fixed_and_without_a_check():
    pool = [Instruction(f"Why {n}?", check='{"kind":"number","value":1}' if n % 2 else None) for n in range(20)]
    chosen = canary_prompts(pool, 4, 17)
    assert chosen == canary_prompts(pool[::-1], 4, 17)
    assert len(chosen) == 4
    assert all(i.check is None for i in chosen)
    assert canary_prompts(pool, 0, 17) == []


def test_the_answers_say_nothing():
    assert set(canary_answers(Instruction("Why?")).values()) >= {"", "Why?"}


def test_a_judge_that_marks_them_down_is_not_blamed():
    report = canary_report(verdicts("student_1", 0, 1, 1, 2), verdicts("canary_empty", -4, -3, -4, -4), seed=1)
    assert report is not None
    assert (report.student.value, report.canaries[0].value, report.reaching) == (1, -3.75, [])


def test_a_canary_whose_interval_reaches_the_students_is_named():
    found = [*verdicts("canary_empty", -4, -3), *verdicts("canary_constant", 1, 3)]
    report = canary_report(verdicts("student_1", 0, 1, 1, 2), found, seed=1)
    assert report is not None
    assert (report.reaching, report.untold) == (["canary_constant"], [])


def test_equal_gaps_have_no_interval_and_give_no_verdict():
    found = [*verdicts("canary_empty", 3, 3, 3, 3), *verdicts("canary_constant", 1, 3), *verdicts("canary_copied", 3)]
    report = canary_report(verdicts("student_1", 0, 1, 1, 2), found, seed=1)
    assert report is not None
    assert (report.reaching, report.untold) == (["canary_constant"], ["canary_copied", "canary_empty"])
    assert [c.interval for c in report.canaries if c.author in report.untold] == [None, None]
    flat = canary_report(verdicts("student_1", 1, 1, 1, 1), verdicts("canary_constant", 1, 3), seed=1)
    assert flat is not None
    assert (flat.reaching, flat.untold, flat.student.interval) == ([], ["canary_constant"], None)


def test_without_judged_pairs_nothing_is_said():
    assert canary_report([], verdicts("canary_empty", -1), seed=1) is None
    assert canary_report(verdicts("student_1", 1), [], seed=1) is None
