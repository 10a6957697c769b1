"""Difficulty of an instruction for a student, and which instructions are hard (§3.2, §D.2).

Owns the mean over orders and votes, its interval, thresholds and counts. Verdicts are made in `stages.judge`;
everything after selection sees `Difficulty` rows only. Values of different kinds are never compared: thresholds,
histograms and weights are found within a kind.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TypedDict

from tapir.config import Count, Quantile
from tapir.errors import DataError
from tapir.tasks import OTHERS
from tapir.types import Difficulty, DifficultyKind, Verdict

DECIMALS = 9
"""Rounded to 1e-9, so that the order of additions cannot decide what passes δ."""

# Two-sided 95 % quantiles of Student's t for 2(k - 1) degrees of freedom, k = 2 … 16; beyond, the normal one serves.
_T95 = {2: 4.303, 4: 2.776, 6: 2.447, 8: 2.306, 10: 2.228, 12: 2.179, 14: 2.145, 16: 2.120, 18: 2.101, 20: 2.086,
        22: 2.074, 24: 2.064, 26: 2.056, 28: 2.048, 30: 2.042}  # fmt: skip
_Z95 = 1.96
_MAX_GAP = 9.0


class PairVotes:
    """The gaps (teacher − student) of one pair's readable votes, by order, in the order they came."""

    __slots__ = ("kind", "soft", "student_first", "teacher_first", "unread")

    def __init__(self, kind: DifficultyKind) -> None:
        self.kind: DifficultyKind = kind
        self.soft = False
        self.unread = False
        self.student_first: list[float] = []
        self.teacher_first: list[float] = []

    @property
    def scored(self) -> bool:
        """Equally many readable votes in each order, at least one: otherwise position bias would not cancel."""
        return len(self.student_first) == len(self.teacher_first) > 0


def votes_by_pair(verdicts: Iterable[Verdict]) -> dict[tuple[str, str], PairVotes]:
    """Readable votes of every (instruction, student); a pair without one is there all the same.

    A check knows better than a judge: where a pair has verified verdicts, the judge's are left out.
    """
    pairs: dict[tuple[str, str], PairVotes] = {}
    for verdict in verdicts:
        pair = (verdict.instruction_id, verdict.student)
        votes = pairs.get(pair)
        kind: DifficultyKind = "verified" if verdict.method == "verified" else "mfd"
        if votes is None or (kind == "verified" and votes.kind == "mfd"):
            votes = pairs[pair] = PairVotes(kind)
        if votes.kind == kind and verdict.scored:
            (votes.student_first if verdict.order == "student_first" else votes.teacher_first).append(verdict.mfd)
            votes.soft = votes.soft or verdict.method == "soft"
        votes.unread = votes.unread or (votes.kind == kind and not verdict.scored)
    return pairs


def difficulties(verdicts: Iterable[Verdict]) -> list[Difficulty]:
    """One row for each scored pair, in order of first appearance: the mean MFD over orders and votes.

    Give the verdicts of one judge; another judge's belong in the trust report.
    """
    return difficulties_of(votes_by_pair(verdicts))


def difficulties_of(pairs: Mapping[tuple[str, str], PairVotes]) -> list[Difficulty]:
    """The same from votes that are sorted by pair already."""
    return [_difficulty(pair, votes) for pair, votes in pairs.items() if votes.scored]


def _difficulty(pair: tuple[str, str], votes: PairVotes) -> Difficulty:
    first, second = _rounded(_mean(votes.student_first)), _rounded(_mean(votes.teacher_first))
    value = _rounded((first + second) / 2)
    low, high = _interval(value, votes) if len(votes.student_first) > 1 else (None, None)
    return Difficulty(
        pair[0],
        value,
        kind=votes.kind,
        student=pair[1],
        spread=_rounded(abs(first - second)),
        votes=2 * len(votes.student_first),
        soft=votes.soft,
        low=low,
        high=high,
        consistent=_sign(first) == _sign(second),
    )


def _mean(values: Sequence[float]) -> float:
    return values[0] if len(values) == 1 else math.fsum(values) / len(values)


def _rounded(value: float) -> float:
    return round(value, DECIMALS) + 0.0  # + 0.0: there is one zero


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)


def _interval(value: float, votes: PairVotes) -> tuple[float, float]:
    k = len(votes.student_first)
    margin = _T95.get(2 * (k - 1), _Z95) * standard_error(
        variance(votes.student_first), variance(votes.teacher_first), k
    )
    return _rounded(max(-_MAX_GAP, value - margin)), _rounded(min(_MAX_GAP, value + margin))


def variance(values: Sequence[float]) -> float:
    """Sample variance; the caller sees to it that there are two values."""
    mean = _mean(values)
    return math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1)


def standard_error(first: float, second: float, votes_per_order: int) -> float:
    """Of the mean MFD, from the variances within each order: the order itself is a fixed effect, not noise (ours)."""
    return 0.5 * math.sqrt((first + second) / votes_per_order)


def on_one_scale(difficulties: Iterable[Difficulty]) -> dict[str, float]:
    """By instruction, values that rows of several kinds may be drawn and sorted by together (ours).

    A failed check is always 9, a judged gap seldom more than 4: each kind is stretched to the mean of the judged ones.
    Rows of one kind keep their values.
    """
    rows = list(difficulties)
    sizes: dict[DifficultyKind, list[float]] = {}
    for d in rows:
        sizes.setdefault(d.kind, []).append(abs(d.value))
    means = {kind: _mean(values) or 1.0 for kind, values in sizes.items()}
    common = means.get("mfd", next(iter(means.values()), 1.0))
    return {d.instruction_id: d.value * (common / means[d.kind]) for d in rows}


class PairCounts(TypedDict):
    """How many pairs there are, and what became of them."""

    pairs: int
    unscored: int
    hard: int
    zero: int
    order_inconsistent: int
    """Scored pairs whose winner (or tie) differs between the two orders."""


def pair_counts(verdicts: Iterable[Verdict], delta: float) -> PairCounts:
    """What `tapir select` prints. `zero` is an MFD of exactly 0, or under 0.5 from it for soft scores."""
    rows = list(verdicts)
    found = difficulties(rows)
    pairs = len({(v.instruction_id, v.student) for v in rows})
    return PairCounts(
        pairs=pairs,
        unscored=pairs - len(found),
        hard=len(select_hard(found, delta)),
        zero=sum(d.is_zero for d in found),
        order_inconsistent=sum(not d.consistent for d in found),
    )


def select_hard(difficulties: Iterable[Difficulty], delta: float) -> list[Difficulty]:
    """Those strictly above δ, in the order given (equation 2)."""
    return [d for d in difficulties if d.value > delta]


def threshold(difficulties: Sequence[Difficulty], delta: float | Quantile | Count) -> float:
    """δ as a number, for rows of one kind.

    A count is met as nearly as ties allow (by fewer rows where two δ are as near), and never by no rows at all.
    """
    kinds = {d.kind for d in difficulties}
    if len(kinds) > 1 and not isinstance(delta, int | float):
        raise DataError(f"δ by quantile or count is found within a kind; these rows are {', '.join(sorted(kinds))}")
    match delta:
        case Quantile():
            return _quantile([d.value for d in difficulties], delta.quantile)
        case Count():
            return _count([d.value for d in difficulties], delta.count)
        case _:
            return float(delta)


def _quantile(values: list[float], share: float) -> float:
    """The smallest value that at least this share of the rows does not exceed."""
    if not values:
        return 0.0
    return sorted(values)[max(0, math.ceil(share * len(values) - 1e-9) - 1)]


def _count(values: list[float], wanted: int) -> float:
    if not values:
        return 0.0
    amounts = Counter(values)
    above, best = 0, (math.inf, 0.0)
    descending = sorted(amounts, reverse=True)
    for value, following in zip(descending, [*descending[1:], descending[-1] - 1], strict=True):
        above += amounts[value]
        best = min(best, (abs(above - wanted), following), key=lambda b: b[0])
    return best[1]


def delta_table(
    difficulties: Sequence[Difficulty], tasks: Mapping[str, str], deltas: Sequence[float] = tuple(range(9))
) -> dict[float, dict[str, int]]:
    """For each δ, how many seeds of each task it would keep (§D.2); give rows of one kind.

    `tasks` names the task of an instruction id; an instruction without one is Others.
    """
    table: dict[float, dict[str, int]] = {}
    for delta in deltas:
        kept = Counter(tasks.get(d.instruction_id, OTHERS) for d in select_hard(difficulties, delta))
        table[delta] = dict(sorted(kept.items()))
    return table


def histogram(difficulties: Iterable[Difficulty], width: float = 1.0) -> dict[DifficultyKind, dict[float, int]]:
    """Rows by the nearest multiple of `width`, within each kind (Figure 6); empty bins are left out."""
    bins: dict[DifficultyKind, Counter[float]] = {}
    for d in difficulties:
        # Half up on the absolute value, so that swapping the roles mirrors the histogram.
        nearest = math.copysign(math.floor(abs(d.value) / width + 0.5) * width, d.value) + 0.0
        bins.setdefault(d.kind, Counter())[nearest] += 1
    return {kind: dict(sorted(counts.items())) for kind, counts in bins.items()}
