"""Difficulty: signs, means over orders, what stays unscored, thresholds and counts; all values by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapir.config import Count, Quantile
from tapir.curriculum.difficulty import (
    PairCounts,
    delta_table,
    difficulties,
    histogram,
    on_one_scale,
    pair_counts,
    select_hard,
    threshold,
)
from tapir.errors import DataError
from tapir.types import Difficulty, Order, Verdict


def verdict(low: float | None, high: float | None, order: Order = "student_first", **more: Any) -> Verdict:
    """The student's score, then the teacher's."""
    problem = "no_rating" if low is None else None
    return Verdict(more.pop("id", "a"), order, low, high, problem=problem, **more)


def both(first: tuple[float, float], second: tuple[float, float], **more: Any) -> list[Verdict]:
    """(student, teacher) with the student first, then with the teacher first."""
    return [verdict(*first, **more), verdict(*second, order="teacher_first", **more)]


def test_mfd_is_teacher_minus_student_averaged_over_the_orders() -> None:
    [found] = difficulties(both((4, 7), (6, 7)))
    assert (found.value, found.kind, found.spread, found.votes, found.consistent) == (2.0, "mfd", 2.0, 2, True)
    assert (found.low, found.high) == (None, None)


def test_hard_is_strictly_above_delta_and_an_mfd_of_2_is_not() -> None:
    rows = difficulties([*both((5, 7), (5, 7), id="two"), *both((5, 7.5), (5, 7), id="more")])
    assert [d.instruction_id for d in select_hard(rows, 2)] == ["more"]


def test_rounding_keeps_sums_of_decimals_from_passing_delta() -> None:
    [found] = difficulties(both((1.1, 3.3), (1.3, 3.1)))  # 2.1999999999999997 and 1.8
    assert found.value == 2.0
    assert select_hard([found], 2) == []


@pytest.mark.parametrize(
    "rows",
    [
        [verdict(5, 7)],
        [verdict(5, 7), verdict(None, None, "teacher_first")],
        [verdict(None, None), verdict(None, None, "teacher_first")],
        [*both((5, 7), (5, 7)), verdict(5, 7, vote=1)],
    ],
)
def test_a_pair_is_unscored_without_equally_many_votes_in_each_order(rows: list[Verdict]) -> None:
    assert difficulties(rows) == []
    assert pair_counts(rows, 2) == PairCounts(pairs=1, unscored=1, hard=0, zero=0, order_inconsistent=0)


def test_an_unreadable_vote_beside_equal_readable_ones_takes_no_part() -> None:
    rows = [*both((5, 7), (5, 7)), verdict(None, None, vote=1), verdict(None, None, "teacher_first", vote=1)]
    assert [d.value for d in difficulties(rows)] == [2.0]


def test_more_votes_give_an_interval_in_which_the_order_is_no_noise() -> None:
    # Gaps 1, 3 with the student first (mean 2, variance 2); 5, 7 with the teacher first (mean 6, variance 2).
    rows = [*both((5, 6), (2, 7)), *both((5, 8), (2, 9), vote=1)]
    [found] = difficulties(rows)
    # SE = 1/2 sqrt(2/2 + 2/2) = 0.7071; t(2) = 4.303; margin = 3.0427
    assert (found.value, found.spread, found.votes) == (4.0, 4.0, 4)
    assert found.low == pytest.approx(4 - 3.0427, abs=1e-4)
    assert found.high == pytest.approx(4 + 3.0427, abs=1e-4)


def test_an_interval_does_not_leave_what_scores_can_say() -> None:
    [found] = difficulties([*both((1, 10), (1, 10)), *both((1, 5), (1, 10), vote=1)])
    assert found.high == 9.0


def test_orders_that_name_different_winners_are_inconsistent() -> None:
    rows = [*both((8, 6), (6, 8), id="flips"), *both((7, 7), (6, 8), id="tie once"), *both((6, 8), (7, 8), id="same")]
    assert [d.consistent for d in difficulties(rows)] == [False, False, True]


def test_pairs_are_counted_by_what_became_of_them() -> None:
    rows = [*both((8, 6), (6, 8), id="zero"), *both((2, 9), (3, 9), id="hard"), verdict(1, 2, id="half")]
    assert pair_counts(rows, 2) == PairCounts(pairs=3, unscored=1, hard=1, zero=1, order_inconsistent=1)


def test_zero_means_under_half_a_point_for_soft_scores_alone() -> None:
    soft = both((7, 7.4), (7, 7.4), method="soft")
    assert pair_counts(soft, 2)["zero"] == 1
    assert pair_counts([replace(v, method="text") for v in soft], 2)["zero"] == 0


def test_a_verified_verdict_decides_whatever_the_judge_said_too() -> None:
    judged, checked = both((9, 3), (9, 3)), both((1, 10), (1, 10), method="verified")
    for rows in ([*judged, *checked], [*checked, *judged]):
        [found] = difficulties(rows)
        assert (found.value, found.kind) == (9.0, "verified")


def test_students_are_told_apart() -> None:
    rows = [*both((5, 7), (5, 7), student="student_0"), *both((7, 7), (7, 7), student="student_1")]
    assert [(d.student, d.value) for d in difficulties(rows)] == [("student_0", 2.0), ("student_1", 0.0)]


SCORES = st.one_of(st.integers(1, 10).map(float), st.floats(1, 10))
VERDICTS = st.lists(
    st.builds(
        lambda i, o, s, t, m, k: Verdict(i, o, s if k else None, t if k else None, method=m),
        st.sampled_from("abc"), st.sampled_from(["student_first", "teacher_first"]), SCORES, SCORES,
        st.sampled_from(["text", "soft", "verified"]), st.booleans(),
    ),
    max_size=40,
)  # fmt: skip
OTHER: dict[Order, Order] = {"student_first": "teacher_first", "teacher_first": "student_first"}


def swapped(v: Verdict) -> Verdict:
    return replace(v, order=OTHER[v.order], student_score=v.teacher_score, teacher_score=v.student_score)


@given(VERDICTS)
def test_swapping_the_roles_negates_every_mfd(rows: list[Verdict]) -> None:
    one, other = difficulties(rows), difficulties(map(swapped, rows))
    assert [(d.instruction_id, -d.value, d.spread, d.consistent) for d in one] == [
        (d.instruction_id, d.value, d.spread, d.consistent) for d in other
    ]
    assert [(d.low, d.high) for d in one] == [
        (None, None) if d.low is None or d.high is None else (-d.high, -d.low) for d in other
    ]


@given(VERDICTS, st.randoms(use_true_random=False))
def test_the_order_of_rows_decides_nothing(rows: list[Verdict], rng: Any) -> None:
    shuffled = list(rows)
    rng.shuffle(shuffled)
    assert sorted(difficulties(shuffled), key=str) == sorted(difficulties(rows), key=str)


def rows_of(*values: float, kind: Any = "mfd") -> list[Difficulty]:
    return [Difficulty(str(n), value, kind=kind) for n, value in enumerate(values)]


def test_a_fixed_delta_is_itself() -> None:
    assert threshold(rows_of(1, 2), 2) == 2.0


def test_a_quantile_leaves_the_share_above_it() -> None:
    rows = rows_of(*range(10))
    assert threshold(rows, Quantile(quantile=0.8)) == 7
    assert len(select_hard(rows, 7)) == 2


@pytest.mark.parametrize(
    ("values", "wanted", "kept"),
    [
        ([0, 1, 2, 3, 4], 2, 2),
        ([0, 0, 0, 5], 1, 1),
        ([1, 3, 3, 3, 5], 2, 1),  # 1 or 4 are the choices, 1 is nearer
        ([1, 3, 3, 5], 2, 1),  # 1 and 3 are as near: the fewer
        ([5, 5, 5, 5], 1, 4),  # never none
        ([1, 2], 9, 2),
    ],
)
def test_a_count_is_met_as_nearly_as_ties_allow(values: list[float], wanted: int, kept: int) -> None:
    rows = rows_of(*values)
    assert len(select_hard(rows, threshold(rows, Count(count=wanted)))) == kept


def test_a_threshold_is_not_found_across_kinds() -> None:
    rows = [*rows_of(1), *rows_of(9, kind="verified")]
    with pytest.raises(DataError, match="within a kind"):
        threshold(rows, Quantile(quantile=0.5))


def test_thresholds_of_no_rows_are_zero() -> None:
    assert threshold([], Quantile(quantile=0.5)) == threshold([], Count(count=3)) == 0.0


def test_the_delta_table_says_what_each_delta_would_keep() -> None:
    rows = rows_of(0, 1, 2, 3)
    assert delta_table(rows, {"1": "Math", "2": "Math", "3": "Law"}, deltas=(0, 2)) == {
        0: {"Law": 1, "Math": 2},
        2: {"Law": 1},
    }


def test_kinds_weigh_alike_on_average_and_keep_their_proportions() -> None:
    judged = [Difficulty(f"judged {n}", value) for n, value in enumerate((2.0, 3.0, 4.0))]
    checked = [Difficulty(f"checked {n}", value, kind="verified") for n, value in enumerate((9.0, 9.0, 4.5))]
    # Means of 3 and 7.5: what a check says counts 0.4 times.
    assert on_one_scale([*checked, *judged]) == pytest.approx(
        {"judged 0": 2, "judged 1": 3, "judged 2": 4, "checked 0": 3.6, "checked 1": 3.6, "checked 2": 1.8}
    )


@pytest.mark.parametrize("kind", ["mfd", "verified", "ifd"])
def test_values_of_one_kind_stay_as_they_are(kind: Any) -> None:
    for values in ((0.1, 0.7, 3.3), (0.0, 0.0), (-1.0, 2.0), ()):
        assert list(on_one_scale(rows_of(*values, kind=kind)).values()) == list(values)


def test_histograms_are_kept_within_a_kind_and_mirror_when_roles_swap() -> None:
    rows = [*rows_of(0, 0.4, 0.5, -0.5, 2), *rows_of(9, kind="verified")]
    assert histogram(rows) == {"mfd": {-1.0: 1, 0.0: 2, 1.0: 1, 2.0: 1}, "verified": {9.0: 1}}
