"""Held-out results of a student beside student_0 and beside the teacher."""

from __future__ import annotations

from tapir.evaluation.heldout import against_teacher
from tapir.types import Verdict


def test_the_win_rate_over_the_teacher_is_a_result_of_its_own():
    verdicts = [Verdict(f"id{n}", "student_first", 9 if n < 1 else 3, 6) for n in range(4)]
    (rate,) = against_teacher("student_1", verdicts, seed=1)
    assert (rate.metric, rate.against, rate.value, rate.n) == ("teacher_win_rate", "teacher", 25.0, 4)
    assert rate.sentence.startswith("student_1 falls behind the teacher: win rate 25.0 % on 4 prompts (95 % CI ")


def test_without_such_verdicts_there_is_no_such_result():
    assert against_teacher("student_1", [], seed=1) == []
