"""Held-out fit: how well a student predicts the teacher's direct and its enhanced answers.

Owns the sums; likelihoods are measured by a local model. The figure of a run's own evaluation is `heldout`'s.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from tapir.curriculum.comparison import Difference
from tapir.errors import DataError
from tapir.evaluation.heldout import Fit, change_per_token
from tapir.evaluation.rows import INTERVAL_SEED, Estimate, Row, interval_of_ratio

KINDS = ("direct", "enhanced")
"""The teacher's answers to the instructions as they are, and to their refined forms. The student is always asked by
the instruction as it is: that is what it will be asked by."""


@dataclass(frozen=True, slots=True)
class FitScore:
    """Negative log-likelihood per token on one kind of answers; `change` is against an earlier model."""

    model: str
    kind: str
    nll_per_token: Estimate
    tokens: int
    change: Difference | None = None

    def to_json(self) -> Row:
        return {
            "nll_per_token": self.nll_per_token.to_json(), "tokens": self.tokens,
            "change": None if self.change is None else self.change.to_json(),
        }  # fmt: skip


def score_fit(model: str, kind: str, fits: Sequence[Fit], before: Sequence[Fit] = (), missing: int = 0) -> FitScore:
    """Sum of negative log-likelihoods over sum of tokens, and the paired change by instruction."""
    estimate = _per_token(fits, missing)
    if estimate is None:
        raise DataError(f"no {kind} answer has a token to predict; give the teacher's answers")
    change = change_per_token(fits, before, random.Random(INTERVAL_SEED)) if before else None
    return FitScore(model, kind, estimate, sum(f.tokens for f in fits), change)


def _per_token(fits: Sequence[Fit], missing: int) -> Estimate | None:
    tokens = sum(f.tokens for f in fits)
    if not tokens:
        return None
    ratio = sum(f.nll for f in fits) / tokens
    low, high = interval_of_ratio([f.nll for f in fits], [f.tokens for f in fits])
    return Estimate(ratio, len(fits), low, high, missing)
