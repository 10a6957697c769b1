from __future__ import annotations

import pytest

from tapir.report.bins import Scale, bins_of, counted, thresholds


def test_scores_in_half_points_have_a_bin_each():
    values = [-1.0, 0.5, 0.5, 2.5]
    assert bins_of(values, 2.0) == Scale(0.5)
    assert counted(values, Scale(0.5)) == {-1.0: 1, 0.5: 2, 2.5: 1}
    assert Scale(0.5).label(2.5) == "2.5"


def test_a_bin_of_finer_values_never_holds_hard_and_easy_seeds_together():
    values = [1.9, 2.0, 2.0001, 2.3, 9.0]
    scale = bins_of(values, 2.0)
    bins = counted(values, scale)
    assert scale == Scale(0.2, 2.0)
    assert bins == {1.9: 2, 2.1: 1, 2.3: 1, 8.9: 1}
    assert sum(n for middle, n in bins.items() if middle > 2.0) == sum(v > 2.0 for v in values)
    assert scale.label(2.1) == "2 to 2.2"


def test_equal_values_share_one_bin():
    assert list(counted([0.3, 0.3], bins_of([0.3, 0.3], 0.0)).values()) == [2]


@pytest.mark.parametrize("kind", ["ifd", "loss", "verifier"])
def test_kinds_between_0_and_1_get_bins_and_thresholds_finer_than_whole_points(kind: str):
    values = [n / 100 for n in range(101)]
    scale = bins_of(values, 0.5, kind, most=20)
    assert scale.width == 0.05
    assert len(counted(values, scale)) == 21
    assert thresholds(values, kind) == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]


def test_whole_shares_of_a_verifier_are_no_half_points_of_a_score():
    assert bins_of([0.0, 0.5, 1.0], 0.5, "verifier").width < 0.5


def test_scores_are_compared_at_whole_points_as_the_paper_does():
    assert thresholds([0.0, 1.0], "mfd") == [0, 1, 2, 3, 4, 5, 6, 7, 8]


def test_thresholds_of_equal_values_still_exist():
    assert thresholds([0.25, 0.25], "ifd") != []
