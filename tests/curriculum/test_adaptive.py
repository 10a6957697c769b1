"""Adaptive second looks: only pairs whose interval contains δ are asked again."""

from __future__ import annotations

import random

import pytest

from tapir.curriculum.adaptive import (
    Noise,
    interval,
    jaccard,
    needs_another_look,
    overlap_of_a_repeat,
    pooled_noise,
    savings,
)
from tapir.curriculum.difficulty import PairVotes
from tapir.errors import DataError


def votes(student_first: list[float], teacher_first: list[float]) -> PairVotes:
    pair = PairVotes("mfd")
    pair.student_first, pair.teacher_first = student_first, teacher_first
    return pair


def test_noise_is_pooled_within_orders_and_the_order_itself_is_none() -> None:
    # Within orders nothing varies but the second pair's student-first votes (1, 3: variance 2).
    pilot = [votes([0, 0], [5, 5]), votes([1, 3], [4, 4]), votes([1], [1])]
    assert pooled_noise(pilot) == Noise(1.0, 0.0)


def test_a_pilot_without_repeated_votes_is_refused() -> None:
    with pytest.raises(DataError, match="judge more pairs"):
        pooled_noise([votes([1], [1])])


def test_the_interval_uses_pooled_variance_until_there_are_three_votes() -> None:
    noise = Noise(2.0, 2.0)
    # k = 1: SE = 1/2 sqrt(2 + 2) = 1; k = 3 with no variation of its own: SE = 0.
    assert interval(votes([2], [4]), noise, z=2) == (1.0, 5.0)
    assert interval(votes([2, 2, 2], [4, 4, 4]), noise, z=2) == (3.0, 3.0)


def test_only_pairs_that_can_still_cross_delta_are_asked_again() -> None:
    pairs = {
        "far above": votes([6], [6]),
        "near": votes([2], [3]),
        "far below": votes([-1], [0]),
        "asked enough": votes([2, 2, 2], [2, 2, 2]),
        "unscored": votes([2], []),
    }
    assert needs_another_look(pairs, 2, Noise(0.5, 0.5)) == ["near"]


def test_savings_count_calls_beside_full_judging() -> None:
    kept = savings({"a": votes([1], [1]), "b": votes([1, 1, 1], [1, 1, 1])})
    assert (kept.calls, kept.full_calls, kept.share) == (8, 12, pytest.approx(2 / 3))


def test_overlap_of_sets() -> None:
    assert jaccard({"a", "b"}, {"b", "c"}) == pytest.approx(1 / 3)
    assert jaccard(set(), set()) == 1.0


def test_judging_without_noise_repeats_itself_and_with_noise_a_row_at_delta_is_a_coin():
    pairs = {"hard": _votes(5, 5, 5), "easy": _votes(0, 0, 0), "near": _votes(2.1, 2.1, 2.1)}
    assert overlap_of_a_repeat(pairs, 2.0, Noise(0, 0), random.Random(1)) == 1.0
    # Noise of a tenth: `hard` and `easy` stay, `near` leaves in its share of repeats; overlap is then 1/2.
    # SE = 0.5 * sqrt(2 * 0.01 / 3) = 0.0408, of a difference 0.0577: near falls below with P(z < -1.73) = 0.042.
    found = overlap_of_a_repeat(pairs, 2.0, Noise(0.01, 0.01), random.Random(1), draws=20_000)
    assert found == pytest.approx(1 - 0.042 / 2, abs=0.003)


def _votes(*gaps: float) -> PairVotes:
    votes = PairVotes("mfd")
    votes.student_first, votes.teacher_first = list(gaps), list(gaps)
    return votes
