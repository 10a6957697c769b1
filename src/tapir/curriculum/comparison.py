"""Two results beside each other: how far apart they are, how certain that is, and the plain sentence that says so.

Intervals, tests and corrections themselves are `statistics`'.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any

from tapir.curriculum.statistics import bootstrap_mean, holm, paired_p_value

SIGNIFICANT = 0.05


@dataclass(frozen=True, slots=True)
class Difference:
    """How much more the first side has than the second, on the rows that both have."""

    value: float
    n: int
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_holm: float | None = None
    """Corrected over all comparisons that were made together."""
    unpaired: int = 0
    """Rows that only one side has; they count on neither."""

    @property
    def noise(self) -> bool | None:
        """Whether chance alone could well have made it; None where no interval can be told."""
        if self.low is None or self.high is None:
            return None
        p = self.p if self.p_holm is None else self.p_holm
        return self.low <= 0 <= self.high or (p is not None and p >= SIGNIFICANT)

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"noise": self.noise}


def paired_difference(
    first: Mapping[str, float], second: Mapping[str, float], rng: random.Random, scale: float = 1.0
) -> Difference | None:
    """Mean difference over common keys, its bootstrap interval, and its p-value.

    None where no key is common.
    """
    common = sorted(first.keys() & second.keys())
    if not common:
        return None
    gaps = [first[key] - second[key] for key in common]
    low = high = p = None
    if len(gaps) > 1:
        low, high = (scale * bound for bound in bootstrap_mean(gaps, rng))
        p = paired_p_value(gaps, rng)
    return Difference(scale * fmean(gaps), len(gaps), low, high, p, unpaired=len(first.keys() ^ second.keys()))


def corrected(found: Mapping[str, Difference]) -> dict[str, Difference]:
    """These comparisons with their p-values corrected for being made together; one without a p-value stays as it is."""
    adjusted = holm({name: d.p for name, d in found.items() if d.p is not None})
    return {name: replace(d, p_holm=adjusted.get(name)) for name, d in found.items()}


def difference_of(
    first: float, first_bounds: tuple[float, float], second: float, second_bounds: tuple[float, float], n: int
) -> Difference:
    """Of two results that are known only by their intervals, taken for independent (Newcombe's square-and-add).

    On equal rows that overstates the interval: what is called a difference is one, what is not may yet be.
    """
    (low_1, high_1), (low_2, high_2) = first_bounds, second_bounds
    value = first - second
    low = value - math.hypot(first - low_1, high_2 - second)
    high = value + math.hypot(high_1 - first, second - low_2)
    return Difference(value, n, low, high)


def sentence(found: Difference, first: str, second: str, unit: str, rows: str, digits: int = 2) -> str:
    """`first` has so much more or less `unit` than `second`, and whether that is more than noise."""
    amount = f"{abs(found.value):.{digits}f}"
    if float(amount) == 0:
        said = f"{first} and {second} have as many {unit} on {found.n} {rows}"
    else:
        said = f"{first} has {amount} {'more' if found.value > 0 else 'fewer'} {unit} than {second} on {found.n} {rows}"
    if found.low is None or found.high is None:
        return f"{said}; too few to tell how certain that is"
    inside = [f"95 % CI of the difference {found.low:+.{digits}f} to {found.high:+.{digits}f}", *_tests(found)]
    return f"{said} ({', '.join(inside)})" + ("; a difference inside the noise" if found.noise else "")


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def win_sentence(edge: Difference, first: str, second: str, rows: str = "prompts") -> str:
    """`first` beats `second` on so many percent, and whether that is more than noise; `edge` is points above 50."""
    rate = f"{50 + edge.value:.1f} % of {edge.n}"
    if edge.value > 0:
        said = f"{first} beats {second} on {rate} {rows}"
    elif edge.value < 0:
        said = f"{first} falls behind {second}: it wins on {rate} {rows}"
    else:
        said = f"{first} ties with {second}: it wins on {rate} {rows}"
    if edge.low is None or edge.high is None:
        return f"{said}; too few to tell how certain that is"
    inside = [f"95 % CI {50 + edge.low:.1f} to {50 + edge.high:.1f}", *_tests(edge)]
    return f"{said} ({', '.join(inside)})" + ("; a difference inside the noise" if edge.noise else "")


def _tests(found: Difference) -> list[str]:
    """p-values as a sentence names them."""
    said = [] if found.p is None else [f"p {_p(found.p)}"]
    return said if found.p_holm is None else [*said, f"after Holm {_p(found.p_holm)}"]
