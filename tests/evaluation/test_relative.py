"""Relative quality: sums over sums, from stored reviews and from verdicts."""

import json

import pytest

from tapir.errors import DataError
from tapir.evaluation.relative import (
    Review,
    by_vote,
    category_of,
    read_first_line,
    read_reviews,
    reviews_from_verdicts,
    score_reviews,
)
from tapir.types import Verdict


def test_relative_quality_is_a_ratio_of_sums_by_category_and_overall():
    reviews = [Review("1", 8, 6, "math"), Review("2", 2, 4, "math"), Review("3", 10, 5, "coding")]
    score = score_reviews(reviews)
    assert score.overall.value == pytest.approx(75.0)  # 15 / 20, not the mean of .75, 2 and .5
    assert {c: e.value for c, e in score.categories.items()} == {"coding": 50.0, "math": 100.0}


def test_reviews_of_one_ratio_have_no_interval():
    score = score_reviews([Review(str(n), 8, 4) for n in range(4)])
    assert (score.overall.value, score.overall.low, score.overall.high) == (50.0, None, None)


def test_stored_reviews_have_the_reference_first_and_fall_back_to_the_text(tmp_path):
    path = tmp_path / "reviews.jsonl"
    rows = [
        {"question_id": 1, "score": [8.0, 6.0], "text": "1 1"},
        {"question_id": 68, "text": "9 4.5\nBoth are fine."},
        {"question_id": 2, "score": [-1, -1], "text": "no numbers"},
    ]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    score = score_reviews(read_reviews(path))
    assert score.overall.value == pytest.approx(100 * 10.5 / 17)
    assert score.categories["math"].value == 50.0
    assert (score.overall.n, score.missing, score.categories["generic"].missing) == (2, 1, 1)


def test_duplicate_reviews_are_removed_with_a_warning():
    reviews = [Review("1", 10, 1), Review("1", 10, 5), Review("1", None, None)]
    with pytest.warns(UserWarning, match="2 duplicate reviews"):
        assert score_reviews(reviews).overall.value == 50.0


def test_questions_without_a_review_are_missing():
    assert score_reviews([Review("1", 10, 5)], expected=80).missing == 79


@pytest.mark.parametrize(
    ("text", "scores"),
    [
        ("8 9\nFine", (8, 9)), ("\n8.5, 7", (8.5, 7)), ("7/10 8/10", (7, 8)), ("8\n9", None), ("Scores: 8 9", None),
        ("8 9 7", None), ("80 90", None), ("", None),
    ],
)  # fmt: skip
def test_the_first_line_must_be_two_scores(text, scores):
    assert read_first_line(text) == scores


def test_verdicts_count_with_the_mean_of_both_orders():
    verdicts = [Verdict("a", "student_first", 8, 6), Verdict("a", "teacher_first", 4, 10)]
    assert reviews_from_verdicts(verdicts, {"a": "math"}) == [Review("a", 8.0, 6.0, "math", "student_0")]


def test_repeats_of_the_judge_give_a_ratio_each():
    verdicts = [
        Verdict("a", order, student, 8, vote=vote)
        for vote, student in ((0, 4), (1, 6))
        for order in ("student_first", "teacher_first")
    ]
    assert by_vote(verdicts) == [50.0, 75.0]
    assert by_vote(verdicts[:2]) == []


def test_a_verdict_that_was_not_read_leaves_its_instruction_unscored():
    verdicts = [Verdict("a", "student_first", 8, 6), Verdict("a", "teacher_first", problem="no_rating")]
    assert not reviews_from_verdicts(verdicts)[0].scored
    assert not reviews_from_verdicts(verdicts[:1])[0].scored


def test_nothing_readable_is_an_error_not_zero():
    with pytest.raises(DataError, match="none of 1 reviews"):
        score_reviews([Review("1", None, None)])


def test_public_questions_have_their_category_by_number():
    assert [category_of(i) for i in ("1", "61", "67", "68", "70", "71", "81")] == [
        "generic", "coding", "coding", "math", "math", "writing", "all",
    ]  # fmt: skip
