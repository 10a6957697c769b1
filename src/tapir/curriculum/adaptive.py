"""Adaptive second looks (ours): further votes only for pairs whose interval still contains δ.

Owns the plan: which pairs deserve another vote in each order, given what has been seen. Asking is the stage's
business. The order is a fixed effect and no noise, so variances are taken within each order.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tapir.curriculum.difficulty import PairVotes, standard_error, variance
from tapir.errors import DataError

Z = 1.645
"""A 90 % interval: in `benchmarks/adaptive_judging.py` a wider one costs calls and hardly adds overlap."""

REPEATS = 200
"""Simulated repeats of a judging."""
OWN_VARIANCE_FROM = 3
"""Votes per order from which a pair's own variance is used instead of the pilot's."""


@dataclass(frozen=True, slots=True)
class Noise:
    """Variance of one vote's gap within each order, pooled over the pairs of a fully judged pilot."""

    student_first: float
    teacher_first: float


def pooled_noise(pilot: Iterable[PairVotes]) -> Noise:
    """From pairs with at least two votes in each order; all with the same weight per degree of freedom."""
    rows = [votes for votes in pilot if votes.scored and len(votes.student_first) > 1]
    if not rows:
        raise DataError("the pilot of judge.adaptive has no pair with two readable votes an order; judge more pairs")
    return Noise(_pooled([r.student_first for r in rows]), _pooled([r.teacher_first for r in rows]))


def _pooled(groups: list[list[float]]) -> float:
    freedom = sum(len(g) - 1 for g in groups)
    return math.fsum(variance(g) * (len(g) - 1) for g in groups) / freedom


def interval(votes: PairVotes, noise: Noise, z: float = Z) -> tuple[float, float]:
    """Where the pair's MFD lies with the confidence of `z`; for scored pairs."""
    k = len(votes.student_first)
    first, second = noise.student_first, noise.teacher_first
    if k >= OWN_VARIANCE_FROM:
        first, second = variance(votes.student_first), variance(votes.teacher_first)
    value = (statistics.fmean(votes.student_first) + statistics.fmean(votes.teacher_first)) / 2
    margin = z * standard_error(first, second, k)
    return value - margin, value + margin


def needs_another_look(
    pairs: Mapping[str, PairVotes], delta: float, noise: Noise, *, max_votes: int = 3, z: float = Z
) -> list[str]:
    """The pairs that another vote in each order could still move across δ, in the order given.

    Call it again after each round of votes; it is empty once nothing is left to ask. A pair that is not scored yet
    is the retries' business and not named here.
    """
    asked: list[str] = []
    for name, votes in pairs.items():
        if votes.scored and len(votes.student_first) < max_votes:
            low, high = interval(votes, noise, z)
            if low <= delta <= high:
                asked.append(name)
    return asked


def overlap_of_a_repeat(
    pairs: Mapping[str, PairVotes], delta: float, noise: Noise, rng: random.Random, draws: int = REPEATS
) -> float:
    """The overlap to expect between the hard set of this judging and that of its own repeat, as many votes again.

    What adaptive judging loses is to be held against this. Two judgings differ by the noise of both, hence the 2.
    """
    means = {n: (statistics.fmean(v.student_first) + statistics.fmean(v.teacher_first)) / 2 for n, v in pairs.items()}
    spread = {
        n: math.sqrt(2) * standard_error(noise.student_first, noise.teacher_first, len(v.student_first))
        for n, v in pairs.items()
    }
    hard = {n for n, mean in means.items() if mean > delta}
    repeats = ({n for n, mean in means.items() if mean + rng.gauss(0, spread[n]) > delta} for _ in range(draws))
    return statistics.fmean(jaccard(hard, again) for again in repeats)


@dataclass(frozen=True, slots=True)
class Savings:
    """What adaptive judging cost beside full judging, in calls to the judge."""

    calls: int
    full_calls: int

    @property
    def share(self) -> float:
        return self.calls / self.full_calls if self.full_calls else 0.0


def savings(pairs: Mapping[str, PairVotes], max_votes: int = 3) -> Savings:
    """Counts readable votes; retries come on top of both sides alike."""
    calls = sum(len(v.student_first) + len(v.teacher_first) for v in pairs.values())
    return Savings(calls, 2 * max_votes * len(pairs))


def jaccard(first: set[str], second: set[str]) -> float:
    """Shared members over all members; two empty sets are the same set."""
    return len(first & second) / len(first | second) if first | second else 1.0
