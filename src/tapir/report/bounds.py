"""Intervals of numbers that an evaluation hands over without one: the mean judged score, and the NLL a token.

Both are found from the rows in the run: instructions are resampled, never single verdicts or tokens, since those of one
instruction go together.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

from tapir.curriculum.statistics import bootstrap_mean
from tapir.evaluation.heldout import Fit, judged_scores
from tapir.store.rundir import RunDir
from tapir.store.tables import read_rows
from tapir.types import Result, Verdict

SEED = 17
MOST_ROWS = 5_000
"""Of more instructions a sample gives the interval; resampling a million would take minutes."""


def with_bounds(run: RunDir, place: str, found: Sequence[Result]) -> list[Result]:
    """The results of one evaluation step; bounds that are there stay as they are."""
    return [r if r.low is not None else _bounded(run, place, r) for r in found]


def _bounded(run: RunDir, place: str, result: Result) -> Result:
    step = run.step(place, "")
    if result.metric == "judge_score" and (path := step.table("verdicts")).exists():
        verdicts = read_rows(path, Verdict, without=("raw",))
        side = 0 if result.student != "student_0" else 1
        pairs = [(scores[side], 1.0) for scores in judged_scores(verdicts).values() if scores is not None]
    elif result.metric == "nll_per_token" and (path := step.table("fit")).exists():
        pairs = [(f.nll, float(f.tokens)) for f in read_rows(path, Fit)]
    else:
        return result
    bounds = ratio_bounds(pairs)
    return result if bounds is None else replace(result, low=bounds[0], high=bounds[1])


def ratio_bounds(pairs: Sequence[tuple[float, float]]) -> tuple[float, float] | None:
    """95 % interval of Σ above / Σ below; None for fewer than two instructions.

    A ratio of sums is no mean: what is resampled is its linear part, each instruction's pull on the ratio.
    """
    if len(pairs) < 2:
        return None
    ratio = sum(a for a, _ in pairs) / sum(b for _, b in pairs)
    chosen = random.Random(SEED).sample(list(pairs), MOST_ROWS) if len(pairs) > MOST_ROWS else pairs
    mean = fmean(b for _, b in chosen)
    low, high = bootstrap_mean([ratio + (a - ratio * b) / mean for a, b in chosen], random.Random(SEED))
    # A sample's interval is wider than that of all rows by the root of their ratio.
    shrink = (len(chosen) / len(pairs)) ** 0.5
    return ratio + (low - ratio) * shrink, ratio + (high - ratio) * shrink
