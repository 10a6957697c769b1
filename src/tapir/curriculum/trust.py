"""How far a judge can be trusted: statistics over its verdicts, and over gold labels where there are some.

Owns the numbers of the trust report; printing them is `tapir.report`'s business, reading gold files the stages'.
A number that cannot be known (no pairs, no variation) is None, never 0. Intervals are 95 %: Wilson's for shares, else
percentile bootstraps.
"""

from __future__ import annotations

import math
import random
import statistics
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from tapir.curriculum.difficulty import difficulties
from tapir.curriculum.statistics import Z95, bootstrap_mean, wilson
from tapir.types import Difficulty, Verdict

T = TypeVar("T")
Winner = Literal["1", "2", "tie"]
Interval = tuple[float, float]
BOOTSTRAP_ROUNDS = 1_000
MOST_RESAMPLED = 5_000
"""Of more rows the normal interval of a mean is as good, and a bootstrap of a million would take minutes."""


@dataclass(frozen=True, slots=True)
class LengthBias:
    """Length and score together. It shows bias only as far as longer answers are no better answers."""

    pairs: int
    """Decided pairs whose answers differ in length."""
    longer_wins: float | None
    correlation: float | None
    """Pearson's, of score gap and length gap, over all pairs with known lengths."""
    correlation_interval: Interval | None = None

    @property
    def longer_wins_interval(self) -> Interval | None:
        return share_interval(self.longer_wins, self.pairs)


@dataclass(frozen=True, slots=True)
class TrustReport:
    """What a judge's own verdicts say about it; verified verdicts and identical answers are left out."""

    pairs: int
    unscored: int
    problems: dict[str, int]
    """Unreadable verdicts by reason."""
    order_inconsistent: float | None
    """Share of scored pairs whose winner (or tie) changes with the order."""
    order_shift: float | None
    """Mean MFD with the teacher first minus mean MFD with the student first: above 0, the first place helps."""
    ties: float | None
    length: LengthBias
    scores: dict[int, int]
    """Scores by the nearest whole label, both sides together."""
    order_shift_interval: Interval | None = None

    @property
    def scored(self) -> int:
        return self.pairs - self.unscored

    @property
    def order_inconsistent_interval(self) -> Interval | None:
        return share_interval(self.order_inconsistent, self.scored)

    @property
    def ties_interval(self) -> Interval | None:
        return share_interval(self.ties, self.scored)


def share_interval(share: float | None, n: int) -> Interval | None:
    """Wilson's, of a share of n rows; None where the share is unknown."""
    return None if share is None or not n else wilson(round(share * n), n)


def trust_report(verdicts: Iterable[Verdict], lengths: Mapping[str, tuple[int, int]]) -> TrustReport:
    """The statistics of one judge on one student. `lengths` gives (student, teacher) characters by instruction."""
    rows = [v for v in verdicts if v.method not in ("verified", "identical")]
    found = difficulties(rows)
    pairs = len({(v.instruction_id, v.student) for v in rows})
    return TrustReport(
        pairs=pairs,
        unscored=pairs - len(found),
        problems=dict(Counter(v.problem or "unknown" for v in rows if not v.scored)),
        order_inconsistent=_share(not d.consistent for d in found),
        order_shift=_order_shift(rows),
        ties=_share(d.is_zero for d in found),
        length=length_bias(found, lengths),
        scores=_score_histogram(rows),
        order_shift_interval=_order_shift_interval(rows),
    )


def length_bias(found: Sequence[Difficulty], lengths: Mapping[str, tuple[int, int]]) -> LengthBias:
    """Whether the longer answer wins: by share of decided pairs, and by correlation."""
    gaps = [(d.value, lengths[d.instruction_id]) for d in found if d.instruction_id in lengths]
    both = [(value, teacher - student) for value, (student, teacher) in gaps]
    decided = [(value > 0) == (longer > 0) for value, longer in both if value and longer]
    correlation = _correlation(both)
    return LengthBias(len(decided), _share(decided), correlation, _fisher(correlation, len(both)))


def _share(hits: Iterable[bool]) -> float | None:
    told = list(hits)
    return sum(told) / len(told) if told else None


def _correlation(pairs: Sequence[tuple[float, float]]) -> float | None:
    xs, ys = [x for x, _ in pairs], [y for _, y in pairs]
    if len(set(xs)) < 2 or len(set(ys)) < 2:
        return None
    return statistics.correlation(xs, ys)


def _fisher(correlation: float | None, n: int) -> Interval | None:
    """By Fisher's transformation, which needs four pairs and has no spread at ±1."""
    if correlation is None or n < 4 or abs(correlation) >= 1:
        return None
    middle, margin = math.atanh(correlation), Z95 / math.sqrt(n - 3)
    return math.tanh(middle - margin), math.tanh(middle + margin)


def _order_shift(rows: Sequence[Verdict]) -> float | None:
    """§D.2 judges in both orders because of this; the mean over orders takes it out of every MFD."""
    student_first = [v.mfd for v in rows if v.scored and v.order == "student_first"]
    teacher_first = [v.mfd for v in rows if v.scored and v.order == "teacher_first"]
    if not student_first or not teacher_first:
        return None
    return statistics.fmean(teacher_first) - statistics.fmean(student_first)


def _order_shift_interval(rows: Sequence[Verdict]) -> Interval | None:
    """From the pairs read in both orders, whose own shifts are resampled; of very many the normal one is as good."""
    orders: dict[tuple[str, str], dict[str, list[float]]] = {}
    for v in rows:
        if v.scored:
            orders.setdefault((v.instruction_id, v.student), {}).setdefault(v.order, []).append(v.mfd)
    shifts = [
        statistics.fmean(o["teacher_first"]) - statistics.fmean(o["student_first"])
        for o in orders.values()
        if len(o) == 2
    ]
    if len(shifts) < 2:
        return None
    if min(shifts) == max(shifts):
        return None  # a bootstrap would call equal shifts certain
    if len(shifts) <= MOST_RESAMPLED:
        return bootstrap_mean(shifts, random.Random(0))
    middle, margin = statistics.fmean(shifts), Z95 * statistics.stdev(shifts) / math.sqrt(len(shifts))
    return middle - margin, middle + margin


def _score_histogram(rows: Iterable[Verdict]) -> dict[int, int]:
    scores = [s for v in rows for s in (v.student_score, v.teacher_score) if s is not None]
    return dict(sorted(Counter(math.floor(score + 0.5) for score in scores).items()))


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its interval; both None where there is nothing to compute it from."""

    value: float | None
    interval: Interval | None


@dataclass(frozen=True, slots=True)
class GoldRow:
    """A pair with a human label and what the judge said in both orders, told as if in the given one."""

    label: Winner
    forward: Winner | None
    swapped: Winner | None

    @property
    def verdict(self) -> Winner | None:
        """What both orders together say: a winner needs both, or one and a tie; opposite winners are a tie."""
        if self.forward is None or self.swapped is None:
            return None
        if self.forward == self.swapped:
            return self.forward
        if self.forward == "tie":
            return self.swapped
        return self.forward if self.swapped == "tie" else "tie"


@dataclass(frozen=True, slots=True)
class GoldReport:
    """Agreement with human labels, over pairs that the judge could be read on."""

    pairs: int
    unscored: int
    accuracy: Estimate
    kappa: Estimate
    """Cohen's: agreement beyond what the two label distributions give by chance."""
    same_after_swap: Estimate
    """Share of pairs on which the judge says the same in both orders."""


def gold_report(
    rows: Sequence[GoldRow], rng: random.Random, rounds: int = BOOTSTRAP_ROUNDS, *, pairs: Sequence[Hashable] = ()
) -> GoldReport:
    """How far the judge agrees with people, and with itself after swapping.

    Where a pair has several labels, `pairs` names each row's: labels of one pair share its verdict, so it is pairs that
    are counted and drawn again.
    """
    labels: dict[Hashable, list[GoldRow]] = {}
    for name, row in zip(pairs or range(len(rows)), rows, strict=True):
        labels.setdefault(name, []).append(row)
    read = [told for told in labels.values() if told[0].verdict is not None]
    return GoldReport(
        pairs=len(read),
        unscored=len(labels) - len(read),
        accuracy=_share_estimate((row.verdict == row.label for told in read for row in told), len(read)),
        kappa=bootstrap(read, lambda s: _kappa_of([r for told in s for r in told]), rng, rounds),
        same_after_swap=_share_estimate((told[0].forward == told[0].swapped for told in read), len(read)),
    )


def _share_estimate(hits: Iterable[bool], pairs: int) -> Estimate:
    share = _share(hits)
    return Estimate(share, share_interval(share, pairs))


def _kappa_of(rows: Sequence[GoldRow]) -> float | None:
    return cohen_kappa([(row.label, row.verdict or "tie") for row in rows])


def cohen_kappa(pairs: Sequence[tuple[str, str]]) -> float | None:
    """None where both raters use one and the same label throughout: chance then explains everything."""
    n = len(pairs)
    if not n:
        return None
    observed = sum(a == b for a, b in pairs) / n
    first, second = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    expected = sum(first[label] * second[label] for label in first) / n**2
    return None if expected == 1 else (observed - expected) / (1 - expected)


def bootstrap(
    rows: Sequence[T], statistic: Callable[[Sequence[T]], float | None], rng: random.Random, rounds: int
) -> Estimate:
    """The statistic with its 95 % percentile interval; resamples on which it is unknown are left out.

    None where every resample says the same: that is no certainty, there was nothing to draw from.
    """
    value = statistic(rows)
    if value is None or len(rows) < 2:
        return Estimate(value, None)
    drawn = (statistic(rng.choices(rows, k=len(rows))) for _ in range(rounds))
    known = sorted(v for v in drawn if v is not None)
    if not known or known[0] == known[-1]:
        return Estimate(value, None)
    return Estimate(value, (_percentile(known, 0.025), _percentile(known, 0.975)))


def _percentile(ordered: Sequence[float], share: float) -> float:
    at = share * (len(ordered) - 1)
    below = math.floor(at)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (at - below)


def same_winner(own: Iterable[Difficulty], other: Iterable[Difficulty]) -> tuple[int, int]:
    """On how many pairs two judges name the same winner (or both a tie), and how many both have scored."""
    seen = {(d.instruction_id, d.student): d for d in other}
    both = [(d, seen[d.instruction_id, d.student]) for d in own if (d.instruction_id, d.student) in seen]
    return sum(_winner(a) == _winner(b) for a, b in both), len(both)


def _winner(found: Difficulty) -> int:
    return 0 if found.is_zero else 1 if found.value > 0 else -1


def self_preference(
    own: Iterable[Difficulty], other: Iterable[Difficulty], rng: random.Random, rounds: int = BOOTSTRAP_ROUNDS
) -> Estimate:
    """How much more the judge (where it is also the teacher) favours the teacher than a second judge does.

    The mean difference of MFD over the pairs that both have scored.
    """
    seen = {(d.instruction_id, d.student): d.value for d in other}
    gaps = [d.value - seen[d.instruction_id, d.student] for d in own if (d.instruction_id, d.student) in seen]
    return bootstrap(gaps, lambda sample: statistics.fmean(sample) if sample else None, rng, rounds)
