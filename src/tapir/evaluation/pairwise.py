"""Win rate of one model against another by verdicts in both orders: the scoring, for runs and for sets of one's own.

A win is a higher mean score over both orders and all votes. Asking the judge is the judge stage's; in its verdicts
`student` is the model and `teacher` the one that it is compared with.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from tapir.curriculum.comparison import Difference
from tapir.curriculum.difficulty import votes_by_pair
from tapir.curriculum.statistics import paired_p_value
from tapir.errors import DataError
from tapir.evaluation.rows import INTERVAL_SEED, Estimate, Row, mean_estimate
from tapir.types import Verdict


@dataclass(frozen=True, slots=True)
class PairScore:
    """How often `model` wins, a draw counting half; in percent."""

    model: str
    against: str
    win_rate: Estimate
    edge: Difference
    """Points above 50, with the p-value of having none."""
    wins: int
    losses: int
    draws: int
    turned: int
    """Pairs in which the order of the answers decided the winner."""
    by_repeat: tuple[float, ...] = ()
    """The win rate by each repeat of the judge alone."""

    def to_json(self) -> Row:
        return {
            "model": self.model, "against": self.against, "win_rate": self.win_rate.to_json(),
            "edge": self.edge.to_json(), "wins": self.wins, "losses": self.losses, "draws": self.draws,
            "n": self.win_rate.n, "missing": self.win_rate.missing, "order_decided": self.turned,
            "repeats": repeats_json(self.by_repeat),
        }  # fmt: skip


def leads(verdicts: Iterable[Verdict]) -> dict[str, float | None]:
    """By instruction, how much higher the model scores than the one it is compared with; give one model's verdicts.

    None where a verdict is unread. Half a verdict is none: the order that was read would decide.
    """
    return {
        i: None if votes.unread else 0.0 - fmean([*votes.student_first, *votes.teacher_first])
        for (i, _), votes in sorted(votes_by_pair(verdicts).items())
    }


def outcomes(verdicts: Iterable[Verdict]) -> dict[str, float | None]:
    """By instruction: 1 a win, 0 a loss, 0.5 a draw; None where a verdict is unread."""
    return {i: None if lead is None else _winner(lead) for i, lead in leads(verdicts).items()}


def _winner(gap: float) -> float:
    return 1.0 if gap > 0 else 0.0 if gap < 0 else 0.5


def score_pairs(verdicts: Sequence[Verdict], *, model: str, against: str, expected: int) -> PairScore:
    """The win rate; of `expected` instructions those without a readable verdict are missing."""
    found = {i: o for i, o in outcomes(verdicts).items() if o is not None}
    won = list(found.values())
    rate = mean_estimate(won, expected - len(won), scale=100, bounds=(0, 1))
    if rate is None:
        raise DataError(f"{model} against {against}: no pair of {expected} has a readable verdict, so no win rate")
    p = paired_p_value([o - 0.5 for o in won], random.Random(INTERVAL_SEED)) if len(won) > 1 else None
    low, high = (None if bound is None else bound - 50 for bound in (rate.low, rate.high))
    votes = sorted({v.vote for v in verdicts})
    return PairScore(
        model, against, rate, Difference(rate.value - 50, rate.n, low, high, p),
        won.count(1.0), won.count(0.0), won.count(0.5), _turned(verdicts),
        _by_repeat([[v for v in verdicts if v.vote == vote] for vote in votes]) if len(votes) > 1 else (),
    )  # fmt: skip


def _turned(verdicts: Iterable[Verdict]) -> int:
    read = (v for v in votes_by_pair(verdicts).values() if not v.unread)
    orders = ((v.student_first, v.teacher_first) for v in read if v.student_first and v.teacher_first)
    return sum(_winner(fmean(first)) != _winner(fmean(second)) for first, second in orders)


def _by_repeat(votes: Sequence[Sequence[Verdict]]) -> tuple[float, ...]:
    """Each repeat's own rate; verified and identical pairs, which no judge saw, are left out."""
    rates: list[float] = []
    for verdicts in votes:
        judged = outcomes(v for v in verdicts if v.method not in ("verified", "identical"))
        known = [o for o in judged.values() if o is not None]
        if known:
            rates.append(100 * fmean(known))
    return tuple(rates)


def repeats_json(values: Sequence[float]) -> Row | None:
    """What repeating the judge shows: the number by each repeat, and their standard deviation; None for one."""
    if len(values) < 2:
        return None
    return {"n": len(values), "values": list(values), "standard_deviation": stdev(values)}


def repeats_sentence(values: Sequence[float], unit: str, digits: int = 1) -> str | None:
    """How far the judge alone moves the number."""
    if len(values) < 2:
        return None
    spelled = ", ".join(f"{v:.{digits}f}" for v in values)
    return (
        f"by each of {len(values)} repeats of the judge: {spelled} (standard deviation {stdev(values):.{digits}f} "
        f"{unit}, the judge's own noise)"
    )
