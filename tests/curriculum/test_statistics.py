"""Intervals and p-values against values known by hand or from the formulas."""

from __future__ import annotations

import random

import pytest

from tapir.curriculum.statistics import (
    bootstrap_mean,
    bootstrap_over_seeds,
    bootstrap_ratio,
    holm,
    paired_p_value,
    smallest_resolvable,
    wilson,
)
from tapir.errors import DataError


def test_wilson_by_hand():
    # 8 of 10: centre (0.8 + 0.19207) / 1.38415, half width 0.22648 of it.
    low, high = wilson(8, 10)
    assert (low, high) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(0, 5)[0] == 0.0
    assert wilson(5, 5)[1] == 1.0


def test_no_rows_have_no_interval():
    with pytest.raises(DataError, match="needs at least one row"):
        wilson(0, 0)


def test_a_bootstrap_interval_holds_the_mean_and_repeats_for_a_seed():
    values = [0.0, 1.0] * 20
    first = bootstrap_mean(values, random.Random(1))
    assert first == bootstrap_mean(values, random.Random(1))
    # Normal theory: 0.5 ± 1.96 · 0.5 / √40 = 0.345 to 0.655.
    assert first == pytest.approx((0.345, 0.655), abs=0.03)


def test_equal_values_have_an_interval_of_no_width():
    assert bootstrap_mean([2.5, 2.5, 2.5], random.Random(0)) == (2.5, 2.5)


def test_a_ratio_of_clusters_weighs_values_not_clusters():
    # One value of 0 and one cluster of ten 1s: resamples lie between 0 / 2 and 20 / 20, never outside.
    low, high = bootstrap_ratio([0.0, 10.0] * 10, [1.0, 10.0] * 10, random.Random(1))
    assert 0 < low < 10 / 11 < high <= 1
    assert bootstrap_ratio([2.0, 6.0], [1.0, 3.0], random.Random(1)) == (2.0, 2.0)
    with pytest.raises(DataError, match="over nothing"):
        bootstrap_ratio([1.0], [0.0], random.Random(1))


def test_seeds_that_disagree_widen_the_interval_as_questions_alone_would_not():
    alike = [{str(i): float(i % 2) for i in range(100)} for _ in range(3)]
    apart = [{str(i): i % 2 + shift for i in range(100)} for shift in (-1.0, 0.0, 1.0)]
    low, high = bootstrap_over_seeds(alike, random.Random(1))
    # Questions alone: 0.5 ± 1.96 · 0.5 / √100.
    assert (low, high) == pytest.approx((0.402, 0.598), abs=0.02)
    low, high = bootstrap_over_seeds(apart, random.Random(1))
    # Between the mean of the worst seed drawn three times and that of the best one.
    assert low < -0.25
    assert high > 1.25
    assert bootstrap_over_seeds(apart, random.Random(1)) == (low, high)


def test_a_question_that_one_seed_lacks_counts_for_the_others_only():
    assert bootstrap_over_seeds([{"a": 1.0}, {"b": 1.0}], random.Random(1)) == (1.0, 1.0)
    with pytest.raises(DataError, match="no seed has a value"):
        bootstrap_over_seeds([{}, {}], random.Random(1))


def test_a_p_value_tells_a_clear_difference_from_none():
    assert paired_p_value([1.0] * 12, random.Random(0)) < 0.01
    assert paired_p_value([1.0, -1.0] * 6, random.Random(0)) == 1.0


def test_holm_by_hand():
    # 0.01·3, then 0.02·2, then 0.5·1; each at least as large as the one before.
    assert holm({"a": 0.5, "b": 0.01, "c": 0.02}) == pytest.approx({"a": 0.5, "b": 0.03, "c": 0.04})


def test_the_smallest_resolvable_difference_shrinks_with_the_root_of_n():
    # (1.95996 + 0.84162) · 1 / √100
    assert smallest_resolvable(1.0, 100) == pytest.approx(0.28016, abs=1e-4)
    assert smallest_resolvable(1.0, 400) == pytest.approx(0.14008, abs=1e-4)
