"""Null canaries: answers that say nothing, judged like a student's (ours).

A judge that takes them for a student's answers cannot be trusted. Owns the texts, which prompts they answer, and the
comparison of their scores with a student's; judging is the stages' business.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tapir.curriculum.difficulty import difficulties
from tapir.curriculum.trust import BOOTSTRAP_ROUNDS, Interval, bootstrap
from tapir.types import Instruction, Verdict

CONSTANT = (
    "Thank you for your question. I have looked at it from every side, and the following is a complete, accurate and "
    "helpful answer that meets all of the requirements."
)
PREFIX = "canary_"
CANARIES = 3


def canary_answers(instruction: Instruction) -> dict[str, str]:
    """The three answers by the name under which they are judged."""
    return {f"{PREFIX}empty": "", f"{PREFIX}constant": CONSTANT, f"{PREFIX}copied": instruction.text}


def canary_prompts(instructions: Iterable[Instruction], count: int, seed: int) -> list[Instruction]:
    """The same few for every round, drawn by seed from those that only a judge can score."""
    open_ended = sorted((i for i in instructions if i.check is None), key=lambda i: i.id)
    return random.Random(f"{seed}:canary").sample(open_ended, min(count, len(open_ended)))


@dataclass(frozen=True, slots=True)
class Margin:
    """By how many points the judge puts an author above what it was compared with; a 95 % interval if known."""

    author: str
    value: float
    low: float | None
    high: float | None
    pairs: int

    @property
    def interval(self) -> Interval | None:
        return None if self.low is None or self.high is None else (self.low, self.high)


@dataclass(frozen=True, slots=True)
class CanaryReport:
    """The student's margin beside the canaries'."""

    student: Margin
    canaries: list[Margin]

    @property
    def reaching(self) -> list[str]:
        """Canaries whose interval reaches the student's: with one of them, the judge cannot be trusted."""
        low = self.student.low
        return [c.author for c in self.canaries if low is not None and c.high is not None and c.high >= low]

    @property
    def untold(self) -> list[str]:
        """Canaries of which that cannot be said: one prompt, or the same gap on every prompt, has no interval."""
        return [c.author for c in self.canaries if c.interval is None or self.student.interval is None]


def canary_report(student: Sequence[Verdict], canaries: Sequence[Verdict], seed: int) -> CanaryReport | None:
    """None where the judge has scored no pair of the student's, or no canary."""
    own = _margins(student, seed)
    found = _margins(canaries, seed)
    return CanaryReport(own[0], found) if own and found else None


def _margins(verdicts: Sequence[Verdict], seed: int) -> list[Margin]:
    judged = difficulties(v for v in verdicts if v.method not in ("verified", "identical"))
    gaps: dict[str, list[float]] = {}
    for d in judged:
        gaps.setdefault(d.student, []).append(-d.value)
    return [_margin(author, values, seed) for author, values in sorted(gaps.items())]


def _margin(author: str, values: list[float], seed: int) -> Margin:
    mean = bootstrap(values, lambda sample: statistics.fmean(sample), random.Random(seed), BOOTSTRAP_ROUNDS)
    value = statistics.fmean(values)
    low, high = mean.interval or (None, None)
    return Margin(author, value, low, high, len(values))
