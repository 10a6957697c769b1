"""Two results beside each other; intervals are `test_statistics`' business, their use is pinned here."""

import random

import pytest

from tapir.curriculum.comparison import Difference, corrected, difference_of, paired_difference, sentence, win_sentence


def test_only_rows_that_both_sides_have_are_compared():
    first, second = {"a": 3.0, "b": 5.0, "c": 9.0}, {"a": 1.0, "b": 4.0, "d": 0.0}
    found = paired_difference(first, second, random.Random(1))
    assert found is not None
    # (2 + 1) / 2; c and d stand alone.
    assert (found.value, found.n, found.unpaired) == (1.5, 2, 2)
    assert paired_difference({"a": 1.0}, {"b": 1.0}, random.Random(1)) is None


def test_one_pair_has_a_difference_but_no_certainty():
    found = paired_difference({"a": 3.0}, {"a": 1.0}, random.Random(1), scale=100)
    assert found == Difference(200.0, 1)
    assert found.noise is None
    assert "too few to tell" in sentence(found, "x", "y", "points", "questions")


def test_a_steady_difference_is_no_noise_and_a_wavering_one_is():
    steady = paired_difference({str(i): 1 + i % 2 for i in range(40)}, {str(i): 0 for i in range(40)}, random.Random(1))
    wavering = paired_difference({str(i): i % 2 for i in range(40)}, {str(i): 0.5 for i in range(40)}, random.Random(1))
    assert steady is not None
    assert wavering is not None
    assert (steady.value, steady.noise) == (1.5, False)
    assert (wavering.value, wavering.noise, wavering.p) == (0.0, True, 1.0)


def test_what_is_certain_alone_may_be_noise_among_several():
    alone = Difference(1.0, 50, 0.1, 1.9, p=0.03)
    assert alone.noise is False
    # Holm: 0.01 × 3, then 0.03 × 2, then 0.5.
    found = corrected({"a": alone, "b": Difference(2.0, 50, 1.0, 3.0, p=0.01), "c": Difference(0.1, 50, -1, 1, p=0.5)})
    assert [found[k].p_holm for k in "abc"] == pytest.approx([0.06, 0.03, 0.5])
    assert [found[k].noise for k in "abc"] == [True, False, True]


def test_the_sentence_says_how_much_how_certain_and_when_it_is_noise():
    found = Difference(-0.5, 80, -1.25, 0.25, p=0.2, p_holm=0.4)
    assert sentence(found, "x", "y", "points of 10", "questions") == (
        "x has 0.50 fewer points of 10 than y on 80 questions "
        "(95 % CI of the difference -1.25 to +0.25, p 0.200, after Holm 0.400); a difference inside the noise"
    )
    assert "noise" not in sentence(Difference(0.5, 80, 0.25, 0.75, p=0.0004), "x", "y", "points", "questions")
    assert "p < 0.001" in sentence(Difference(0.5, 80, 0.25, 0.75, p=0.0004), "x", "y", "points", "questions")


def test_a_win_rate_is_said_plainly():
    edge = Difference(8.1, 805, 4.6, 11.4, p=0.0001)
    assert win_sentence(edge, "student_3", "student_0") == (
        "student_3 beats student_0 on 58.1 % of 805 prompts (95 % CI 54.6 to 61.4, p < 0.001)"
    )
    worse = Difference(-8.0, 40, -20.0, 4.0, p=0.2, p_holm=0.4)
    assert win_sentence(worse, "a", "b") == (
        "a falls behind b: it wins on 42.0 % of 40 prompts (95 % CI 30.0 to 54.0, p 0.200, after Holm 0.400); "
        "a difference inside the noise"
    )
    assert win_sentence(Difference(0.0, 1), "a", "b").startswith(
        "a ties with b: it wins on 50.0 % of 1 prompts; too few"
    )


def test_two_intervals_give_the_interval_of_the_difference():
    # 60 (57 to 64) and 50 (46 to 53): low 10 − √(3² + 3²), high 10 + √(4² + 4²).
    found = difference_of(60, (57, 64), 50, (46, 53), 100)
    assert (found.value, found.low, found.high) == (10, pytest.approx(5.757359), pytest.approx(15.656854))
    assert found.noise is False
