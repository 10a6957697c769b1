"""Trust statistics on verdicts small enough to work out by hand."""

from __future__ import annotations

import random

import pytest

from tapir.curriculum.trust import GoldRow, bootstrap, cohen_kappa, gold_report, self_preference, trust_report
from tapir.types import Difficulty, Verdict


def pair(name: str, forward: tuple[float, float], backward: tuple[float, float], method: str = "text") -> list[Verdict]:
    """(student, teacher) scores with the student first, then with the teacher first."""
    return [
        Verdict(name, "student_first", *forward, method=method),  # type: ignore[arg-type]
        Verdict(name, "teacher_first", *backward, method=method),  # type: ignore[arg-type]
    ]


ROWS = [
    *pair("long teacher wins", (5, 9), (5, 9)),
    *pair("long student wins", (8, 6), (8, 6)),
    *pair("short teacher wins", (5, 7), (5, 7)),
    *pair("order decides", (8, 6), (6, 8)),
    Verdict("unread", "student_first", problem="range"),
    Verdict("unread", "teacher_first", 5, 5),
    *pair("checked", (1, 10), (1, 10), "verified"),
    *pair("same", (5.5, 5.5), (5.5, 5.5), "identical"),
]
LENGTHS = {
    "long teacher wins": (10, 50),
    "long student wins": (50, 10),
    "short teacher wins": (50, 10),
    "order decides": (10, 10),
}


def test_the_report_counts_the_judges_own_verdicts_alone() -> None:
    report = trust_report(ROWS, LENGTHS)
    assert (report.pairs, report.unscored, report.problems) == (5, 1, {"range": 1})
    assert (report.order_inconsistent, report.ties) == (0.25, 0.25)
    # Teacher first: gaps 4, -2, 2, 2 and the unread pair's 0, mean 1.2; student first: 4, -2, 2, -2, mean 0.5.
    assert report.order_shift == pytest.approx(0.7)
    assert report.scores == {5: 6, 6: 4, 7: 2, 8: 4, 9: 2}


def test_length_bias_is_the_share_of_decided_pairs_that_the_longer_answer_wins() -> None:
    length = trust_report(ROWS, LENGTHS).length
    assert (length.pairs, length.longer_wins) == (3, pytest.approx(2 / 3))
    # Score gap and length gap, teacher minus student, of the four pairs whose lengths are known.
    xs, ys = [4, -2, 2, 0], [40, -40, -40, 0]
    mx, my = 1, -10
    cov = sum((x - mx) * (y - my) for x, y in zip(xs, ys, strict=True))
    norm = (sum((x - mx) ** 2 for x in xs) * sum((y - my) ** 2 for y in ys)) ** 0.5
    assert length.correlation == pytest.approx(cov / norm)


def test_what_cannot_be_known_is_none_not_zero() -> None:
    report = trust_report([], {})
    assert (report.order_inconsistent, report.order_shift, report.ties) == (None, None, None)
    assert (report.length.longer_wins, report.length.correlation) == (None, None)


def test_both_orders_together_name_a_winner_unless_they_name_two() -> None:
    assert GoldRow("1", "1", "1").verdict == "1"
    assert GoldRow("1", "1", "tie").verdict == "1"
    assert GoldRow("1", "tie", "2").verdict == "2"
    assert GoldRow("1", "1", "2").verdict == "tie"
    assert GoldRow("1", "1", None).verdict is None


def test_gold_agreement_leaves_unread_pairs_out_and_counts_them() -> None:
    rows = [GoldRow("1", "1", "1"), GoldRow("2", "2", "2"), GoldRow("1", "1", "2"), GoldRow("2", "1", "1")]
    report = gold_report([*rows, GoldRow("1", None, "1")], random.Random(1), rounds=200)
    assert (report.pairs, report.unscored, report.accuracy.value, report.same_after_swap.value) == (4, 1, 0.5, 0.75)
    # Judge: 1, 2, tie, 1. Expected by chance: (2·2 + 2·1) / 16 = 0.375; kappa = (0.5 - 0.375) / 0.625.
    assert report.kappa.value == pytest.approx(0.2)
    assert report.accuracy.interval is not None
    assert 0 <= report.accuracy.interval[0] <= 0.5 <= report.accuracy.interval[1] <= 1


def test_a_few_agreeing_pairs_are_no_certainty() -> None:
    report = gold_report([GoldRow("1", "1", "1"), GoldRow("2", "2", "2"), GoldRow("1", "1", "1")], random.Random(1))
    # Wilson's of 3 out of 3: n / (n + z²).
    sure = (pytest.approx(0.4385, abs=1e-4), 1.0)
    assert (report.accuracy.value, report.accuracy.interval) == (1.0, sure)
    assert (report.same_after_swap.value, report.same_after_swap.interval) == (1.0, sure)
    assert (report.kappa.value, report.kappa.interval) == (1.0, None)


def test_equal_differences_have_no_interval() -> None:
    own, other = [Difficulty(n, 3) for n in "abc"], [Difficulty(n, 1) for n in "abc"]
    found = self_preference(own, other, random.Random(1), rounds=50)
    assert (found.value, found.interval) == (2, None)
    report = trust_report([*pair("a", (5, 7), (5, 8)), *pair("b", (6, 7), (5, 7))], {})
    assert (report.order_shift, report.order_shift_interval) == (1, None)


def test_kappa_is_unknown_where_only_one_label_is_used() -> None:
    assert cohen_kappa([("1", "1"), ("1", "1")]) is None
    assert cohen_kappa([("1", "2"), ("2", "1")]) == pytest.approx(-1)


def test_the_same_chance_gives_the_same_interval() -> None:
    rows = [0.0, 1.0, 1.0, 1.0]

    def mean(sample: object) -> float:
        return sum(sample) / 4  # type: ignore[arg-type, call-overload]

    first = bootstrap(rows, mean, random.Random(3), 300)
    assert first == bootstrap(rows, mean, random.Random(3), 300)
    assert (first.value, first.interval) == (0.75, (0.25, 1.0))


def test_self_preference_is_the_mean_difference_on_shared_pairs() -> None:
    own = [Difficulty("a", 3), Difficulty("b", 2), Difficulty("only here", 9)]
    other = [Difficulty("a", 1), Difficulty("b", 1)]
    assert self_preference(own, other, random.Random(1), rounds=50).value == 1.5
