"""Bins that suit a kind of difficulty: half points for scores, twentieths for shares, round widths for the rest.

Shared by the page and the terminal, so that both draw one distribution.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

WIDTHS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5, 1.0, 2.0, 5.0)
MOST_BINS = 40


@dataclass(frozen=True, slots=True)
class Scale:
    """Bins of this width. Where `edge` is given it is an edge, and a bin holds what is above its lower end."""

    width: float
    edge: float | None = None

    def middle(self, value: float) -> float:
        """The middle of the bin that a value falls into."""
        if self.edge is None:
            return round(value / self.width) * self.width + 0.0
        # An edge at δ: no bin holds hard and easy seeds together.
        number = math.ceil(round((value - self.edge) / self.width, 6))
        return round(self.edge + (number - 0.5) * self.width, 6) + 0.0

    def label(self, middle: float) -> str:
        """What falls into a bin: one value, or what is above the first up to the second."""
        if self.edge is None:
            return f"{middle:g}"
        return f"{round(middle - self.width / 2, 6):g} to {round(middle + self.width / 2, 6):g}"


def bins_of(values: Sequence[float], delta: float, kind: str = "mfd", most: int = MOST_BINS) -> Scale:
    """Scores in half points have a bin each; finer values share at most so many bins of which δ is an edge."""
    span = max(values) - min(values)
    if kind in ("mfd", "verified") and span <= 20 and all(v == round(2 * v) / 2 for v in values):
        return Scale(0.5)
    width = next((w for w in WIDTHS if span <= most * w), span / most)
    return Scale(width, delta)


def counted(values: Sequence[float], scale: Scale) -> dict[float, int]:
    """Rows by the middle of their bin; empty bins are left out."""
    return dict(sorted(Counter(scale.middle(v) for v in values).items()))


def thresholds(values: Sequence[float], kind: str) -> list[float]:
    """δ worth comparing for this kind: whole points for scores, else round steps over the range of the values."""
    if kind in ("mfd", "verified"):
        return [float(d) for d in range(9)]
    span = max(values) - min(values)
    step = next((w for w in WIDTHS if span <= 10 * w), span / 10) or 0.1
    first, last = math.floor(min(values) / step + 1e-9), math.ceil(max(values) / step - 1e-9)
    return [round(n * step, 6) for n in range(first, max(last, first + 1))]
