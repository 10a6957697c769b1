"""Intervals and tests for the numbers that a run reports. Chance is passed in, so that a number can be had again."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from math import sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from tapir.errors import DataError

Z95 = NormalDist().inv_cdf(0.975)
DRAWS = 5_000
Numbers = NDArray[np.float64]


def wilson(hits: float, n: int) -> tuple[float, float]:
    """95 % interval of a share, by Wilson; sound also for few rows and shares near 0 or 1.

    `hits` may hold halves (draws) or be a sum of values between 0 and 1: the interval is then wider than it need be.
    """
    if not 0 <= hits <= n or n == 0:
        raise DataError(f"a share of {hits} out of {n} has no interval; it needs at least one row")
    share, spread = hits / n, Z95**2 / n
    centre = (share + spread / 2) / (1 + spread)
    half = Z95 * sqrt(share * (1 - share) / n + spread / (4 * n)) / (1 + spread)
    # At the ends the formula is exactly 0 or 1, but for rounding.
    return (0.0 if hits == 0 else centre - half), (1.0 if hits == n else centre + half)


def bootstrap_mean(values: Sequence[float], rng: random.Random, draws: int = DRAWS) -> tuple[float, float]:
    """95 % interval of a mean by the bias-corrected and accelerated bootstrap; one value per instruction."""
    if not values:
        raise DataError("the mean of no values has no interval")
    return bootstrap_ratio(values, [1.0] * len(values), rng, draws)


def bootstrap_ratio(
    tops: Sequence[float], bottoms: Sequence[float], rng: random.Random, draws: int = DRAWS
) -> tuple[float, float]:
    """95 % interval (BCa) of sum(tops) / sum(bottoms), resampling their pairs: one pair per instruction.

    With the sum of an instruction's values on top and their number below, it is the interval of a mean over values
    that are clustered by instruction. It never leaves the range of what a resample can be.
    """
    top, bottom = np.asarray(tops, dtype=np.float64), np.asarray(bottoms, dtype=np.float64)
    if not bottom.sum():
        raise DataError("a ratio over nothing has no interval")
    ratio = float(top.sum() / bottom.sum())
    pulls = top - ratio * bottom
    # Rounding leaves a trace where every resample would give the same ratio.
    if top.size == 1 or bool(np.all(np.abs(pulls) <= 1e-12 * np.abs(top).max())):
        return ratio, ratio
    chance = np.random.default_rng(rng.getrandbits(64))
    resampled = np.sort(_resampled_ratios(top, bottom, chance, draws))
    below = float(np.mean(resampled < ratio) + np.mean(resampled == ratio) / 2)
    bias = NormalDist().inv_cdf(min(max(below, 1 / (2 * draws)), 1 - 1 / (2 * draws)))
    # Leaving a pair out moves the ratio against its pull; only the gaps' proportions matter.
    acceleration = float((pulls**3).sum() / (6 * (pulls**2).sum() ** 1.5))
    low, high = (_corrected(share, bias, acceleration) for share in (0.025, 0.975))
    return float(np.quantile(resampled, low)), float(np.quantile(resampled, high))


def _resampled_ratios(top: Numbers, bottom: Numbers, chance: np.random.Generator, draws: int) -> Numbers:
    """Ratios of resamples, in portions so that a large set does not fill the memory."""
    portion = max(1, min(draws, 4_000_000 // top.size))
    parts: list[Numbers] = []
    for start in range(0, draws, portion):
        picked = chance.integers(0, top.size, (min(portion, draws - start), top.size))
        sums = bottom[picked].sum(axis=1)
        parts.append(np.divide(top[picked].sum(axis=1), sums, out=np.full(len(sums), np.nan), where=sums != 0))
    found = np.concatenate(parts)
    return found[np.isfinite(found)]


def _corrected(share: float, bias: float, acceleration: float) -> float:
    z = bias + NormalDist().inv_cdf(share)
    return NormalDist().cdf(bias + z / (1 - acceleration * z))


def bootstrap_over_seeds(
    by_seed: Sequence[Mapping[str, float]], rng: random.Random, draws: int = DRAWS
) -> tuple[float, float]:
    """95 % interval of a mean over training seeds and instructions: seeds are drawn again, then instructions.

    `by_seed` holds one value (or one paired difference) per instruction for each training seed. All seeds answer the
    same instructions, so a resample draws instructions once for all of its seeds: drawn for each seed anew, the
    luck of the questions would average out and the interval be too narrow. Percentiles; with few seeds an interval
    remains optimistic, which is why the seeds' own values belong beside it.
    """
    names = sorted({name for values in by_seed for name in values})
    if not names:
        raise DataError("no seed has a value, so there is no interval")
    table = np.array([[values.get(name, np.nan) for name in names] for values in by_seed], dtype=np.float64)
    chance = np.random.default_rng(rng.getrandbits(64))
    filled, known = np.nan_to_num(table), np.isfinite(table).astype(np.float64)
    # How often each seed, and each instruction, is drawn in each resample.
    seeds = chance.multinomial(len(table), np.full(len(table), 1 / len(table)), draws)
    rows = chance.multinomial(len(names), np.full(len(names), 1 / len(names)), draws)
    weights = (seeds @ known * rows).sum(axis=1)
    found = (seeds @ filled * rows).sum(axis=1)[weights > 0] / weights[weights > 0]
    return float(np.quantile(found, 0.025)), float(np.quantile(found, 0.975))


def paired_p_value(differences: Sequence[float], rng: random.Random, draws: int = DRAWS) -> float:
    """Two-sided p-value of a paired difference: how often random signs make a mean as far from 0."""
    data = np.asarray(differences, dtype=np.float64)
    if data.size == 0:
        raise DataError("no differences, no p-value")
    observed = abs(data.mean())
    chance = np.random.default_rng(rng.getrandbits(64))
    portion = max(1, min(draws, 4_000_000 // data.size))
    as_far = 0
    for start in range(0, draws, portion):
        signs = chance.choice((-1.0, 1.0), (min(portion, draws - start), data.size))
        as_far += int(np.sum(np.abs((signs * data).mean(axis=1)) >= observed - 1e-12))
    # Counting the observed sample itself keeps the value above 0, as a test by resampling must.
    return (as_far + 1) / (draws + 1)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's correction for several comparisons."""
    adjusted: dict[str, float] = {}
    largest = 0.0
    ranked = sorted(p_values, key=lambda name: (p_values[name], name))
    for rank, name in enumerate(ranked):
        largest = max(largest, min(1.0, (len(ranked) - rank) * p_values[name]))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}


def smallest_resolvable(deviation: float, n: int, power: float = 0.8) -> float:
    """The smallest paired mean difference that n instructions show with this power at 5 %."""
    if n < 1:
        raise DataError("no instructions resolve no difference")
    return (Z95 + NormalDist().inv_cdf(power)) * deviation / sqrt(n)
