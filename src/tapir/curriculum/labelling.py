"""Labels as data: balancing and splitting labelled instructions, and how far two labellings agree.

Pure arithmetic on rows (§3.3, appendix A). Who labels, and what a classifier learns from it, is decided elsewhere.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tapir.curriculum.statistics import wilson
from tapir.types import Instruction

THRESHOLDS = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9)
FEWEST_TO_SPLIT = 3
"""A type with fewer instructions keeps them all for training."""


@dataclass(frozen=True, slots=True)
class TypeScore:
    """One type: how many rows carry it, how many were said to, and what share of either is right."""

    given: int
    said: int
    right: int

    @property
    def precision(self) -> float | None:
        return self.right / self.said if self.said else None

    @property
    def recall(self) -> float | None:
        return self.right / self.given if self.given else None


@dataclass(frozen=True, slots=True)
class Agreement:
    """Two labellings of the same rows; `confusion[given][said]` counts rows."""

    labels: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]

    @property
    def n(self) -> int:
        return sum(map(sum, self.confusion))

    @property
    def right(self) -> int:
        return sum(row[at] for at, row in enumerate(self.confusion))

    def interval(self) -> tuple[float, float]:
        """95 % interval of the share of rows that agree."""
        return wilson(self.right, self.n)

    def by_type(self) -> dict[str, TypeScore]:
        said = [sum(column) for column in zip(*self.confusion, strict=True)]
        return {
            label: TypeScore(sum(self.confusion[at]), said[at], self.confusion[at][at])
            for at, label in enumerate(self.labels)
        }


@dataclass(frozen=True, slots=True)
class AtConfidence:
    """What a threshold would leave to the classifier, and how often it would be right there."""

    confidence: float
    kept: int
    right: int


def agreement(pairs: Iterable[tuple[str, str]], labels: Sequence[str]) -> Agreement:
    """How far labels (given, said) agree, over all of `labels`."""
    counted = Counter(pairs)
    return Agreement(tuple(labels), tuple(tuple(counted[given, said] for said in labels) for given in labels))


def at_confidences(
    outcomes: Sequence[tuple[float, bool]], thresholds: Sequence[float] = THRESHOLDS
) -> list[AtConfidence]:
    """For every threshold the rows (confidence, right) at or above it."""
    return [
        AtConfidence(t, sum(c >= t for c, _ in outcomes), sum(right for c, right in outcomes if c >= t))
        for t in thresholds
    ]


def balanced(rows: Sequence[Instruction], per_type: int | None, rng: random.Random) -> list[Instruction]:
    """At most `per_type` rows of each type, drawn without repeats; the paper has 2,000 of each (appendix A)."""
    kept: list[Instruction] = []
    for of_type in _by_task(rows).values():
        kept += of_type if per_type is None or len(of_type) <= per_type else rng.sample(of_type, per_type)
    return kept


def split(rows: Sequence[Instruction], share: float, rng: random.Random) -> tuple[list[Instruction], list[Instruction]]:
    """Training and held-out rows, `share` of every type held out.

    What was grown from one seed stays together: a classifier that has seen a sibling has nearly seen the row.
    """
    train: list[Instruction] = []
    held_out: list[Instruction] = []
    for of_type in _by_task(rows).values():
        wanted = max(1, round(share * len(of_type))) if share and len(of_type) >= FEWEST_TO_SPLIT else 0
        families: defaultdict[str, list[Instruction]] = defaultdict(list)
        for row in of_type:
            families[row.parent_id or row.id].append(row)
        ordered = list(families.values())
        rng.shuffle(ordered)
        taken = 0
        for family in ordered:
            if taken + len(family) <= wanted:
                held_out += family
                taken += len(family)
            else:
                train += family
    return train, held_out


def class_weights(labels: Iterable[str]) -> dict[str, float]:
    """Weights that make every type count alike in the loss, 1 on average over the rows."""
    counted = Counter(labels)
    return {label: counted.total() / (len(counted) * n) for label, n in counted.items()}


def _by_task(rows: Sequence[Instruction]) -> Mapping[str, list[Instruction]]:
    """Rows by type; sorted, so that a draw depends on the seed alone."""
    found: defaultdict[str, list[Instruction]] = defaultdict(list)
    for row in sorted(rows, key=lambda r: r.id):
        found[str(row.task)].append(row)
    return dict(sorted(found.items()))
