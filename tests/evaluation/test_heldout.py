"""Held-out results of a student beside student_0 and beside the teacher."""

from __future__ import annotations

from tapir.evaluation.heldout import against_teacher, judged_scores, results
from tapir.types import Result, Verdict


def test_the_win_rate_over_the_teacher_is_a_result_of_its_own():
    verdicts = [Verdict(f"id{n}", "student_first", 9 if n < 1 else 3, 6) for n in range(4)]
    (rate,) = against_teacher("student_1", verdicts, seed=1)
    assert (rate.metric, rate.against, rate.value, rate.n) == ("teacher_win_rate", "teacher", 25.0, 4)
    assert rate.sentence.startswith("student_1 falls behind the teacher: win rate 25.0 % on 4 prompts (95 % CI ")


def test_without_such_verdicts_there_is_no_such_result():
    assert against_teacher("student_1", [], seed=1) == []


def test_a_pair_that_is_read_in_one_order_only_counts_in_no_score():
    verdicts = [
        Verdict("x", "student_first", 10, 2),
        Verdict("x", "teacher_first", problem="no_rating"),
        Verdict("y", "student_first", 6, 4),
        Verdict("y", "teacher_first", 4, 6),
    ]
    rate, mine, theirs = results("student_1", [], {}, verdicts, [], [], seed=1)
    assert (rate.value, rate.n, rate.missing) == (50, 1, 1)
    assert mine == Result("student_1", "judge_score", 5, 1, missing=1, against="student_0")
    assert theirs == Result("student_0", "judge_score", 5, 1, missing=1, against="student_1")


def test_each_pair_counts_once_however_often_it_was_judged():
    verdicts = [Verdict("x", "student_first", 9, 1, vote=vote) for vote in range(3)]
    verdicts += [Verdict("x", "teacher_first", 3, 7, vote=vote) for vote in range(3)]
    verdicts += [Verdict("y", "student_first", 2, 2), Verdict("y", "teacher_first", 4, 4)]
    # Two readable votes in one order and one in the other: the place of the answer would weigh in.
    verdicts += [Verdict("z", "student_first", 9, 1), Verdict("z", "student_first", 9, 1, vote=1)]
    verdicts += [Verdict("z", "teacher_first", 1, 9), Verdict("z", "teacher_first", problem="no_rating", vote=1)]
    assert judged_scores(verdicts) == {"x": (6, 4), "y": (3, 3), "z": None}
    _, mine, _ = results("student_1", [], {}, verdicts, [], [], seed=1)
    assert (mine.value, mine.n, mine.missing) == (4.5, 2, 1)
