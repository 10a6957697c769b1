from __future__ import annotations

import pytest

from tapir.report.bounds import MOST_ROWS, ratio_bounds
from tapir.report.text import results
from tapir.store.rundir import RunDir


def test_one_instruction_has_no_interval():
    assert ratio_bounds([(3.0, 2.0)]) is None


def test_instructions_that_agree_have_an_interval_of_one_point():
    assert ratio_bounds([(3.0, 2.0), (6.0, 4.0), (1.5, 1.0)]) == (1.5, 1.5)


def test_the_interval_lies_around_the_ratio_of_sums_not_the_mean_of_ratios():
    low, high = ratio_bounds([(10.0, 10.0), (12.0, 10.0), (30.0, 1.0), (11.0, 10.0)]) or (0, 0)
    assert low < 63 / 31 < high
    # The mean of the four ratios, 8.3, is far outside of it.
    assert high < 8.3


def test_more_rows_than_are_resampled_make_the_interval_narrower_all_the_same():
    def width(n: int) -> float:
        low, high = ratio_bounds([(float(k % 7), 1.0) for k in range(n)]) or (0, 0)
        return high - low

    assert width(4 * MOST_ROWS) == pytest.approx(width(MOST_ROWS) / 2, rel=0.1)


def test_judged_scores_and_nll_have_intervals_that_hold_their_values(finished_run: RunDir):
    told = [r for r in results(finished_run) if r.metric in ("judge_score", "nll_per_token")]
    assert len(told) == 3 * 2 + 4
    for r in told:
        assert r.low is not None
        assert r.high is not None
        assert r.low < r.value < r.high
