from __future__ import annotations

from pathlib import Path

import pytest

from tapir.report.bounds import MOST_ROWS, ratio_bounds, with_bounds
from tapir.report.text import results
from tapir.store.rundir import RunDir
from tapir.store.tables import write_rows
from tapir.types import Result, Verdict


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


def test_the_interval_of_the_judged_score_leaves_out_what_was_read_in_one_order_only(tmp_path: Path):
    verdicts = [Verdict(i, order, 5, 4) for i in "abc" for order in ("student_first", "teacher_first")]
    verdicts += [Verdict("d", "student_first", 10, 1), Verdict("d", "teacher_first", problem="no_rating")]
    write_rows(tmp_path / "round_1/06_evaluation.verdicts.parquet", Verdict, verdicts)
    found = [Result("student_1", "judge_score", 5, 3), Result("student_0", "judge_score", 4, 3)]
    bounded = with_bounds(RunDir(tmp_path), "round_1/06_evaluation", found)
    assert [(r.low, r.high) for r in bounded] == [(5, 5), (4, 4)]
