"""What a whole run would come to, reckoned from a trial on some of its seeds (`run --limit N`), with intervals.

Calls are priced as they were in the trial, cached ones included: the whole run pays for its own. Stages that do not
grow with the pool (held-out answers, evaluation, benchmarks) stay as they are; `expand.per_round` and `mix.size` bound
what the rounds grow and train on.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tapir.config import Recipe
from tapir.models.calls import Reply
from tapir.models.ledger import Ledger
from tapir.store.rundir import RunDir

Z_95 = 1.96
FIXED = frozenset({"held_out", "evaluation", "benchmarks"})
"""Stages whose work does not depend on how many seeds there are."""
GROWING = frozenset({"expanded", "refined", "enhanced_answers"})
"""Stages that work on what a round has grown; in round 1 the last two on the seeds too."""
LOOKUP = 500
Receipts = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Reckoned:
    """A sum with its 95 % interval."""

    value: float
    low: float
    high: float

    def __add__(self, other: Reckoned) -> Reckoned:
        """Sums of independent parts: their half-widths add in squares."""
        value = self.value + other.value
        half = math.hypot(self.high - self.value, other.high - other.value)
        return Reckoned(value, max(0.0, value - half), value + half)


NOTHING = Reckoned(0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class StageForecast:
    """One step of the whole run."""

    place: str
    calls: float
    prompt_tokens: Reckoned
    completion_tokens: Reckoned
    usd: Reckoned
    seconds: Reckoned


def forecast(trial: RunDir, ledger: Ledger, recipe: Recipe, *, seeds: int, tried: int) -> list[StageForecast]:
    """Every step of a run of `recipe` on `seeds` seeds, from a finished trial on `tried` of them."""
    keys: dict[str, list[str]] = defaultdict(list)
    if trial.calls_path.exists():
        for line in trial.calls_path.read_text(encoding="utf-8").splitlines():
            place, key = line.split(" ", 1)
            keys[place].append(key)
    rounds, receipts = trial.rounds(), trial.receipts()
    return [
        _stage(place, receipt["seconds"], _replies(ledger, keys[place]), _factor(place, receipts, recipe, seeds, tried))
        for place, receipt in receipts.items()
        if int(place.split("/")[0].removeprefix("round_")) in rounds
    ]


def _replies(ledger: Ledger, keys: Sequence[str]) -> list[Reply]:
    found: list[Reply] = []
    for start in range(0, len(keys), LOOKUP):
        found += ledger.get_many(keys[start : start + LOOKUP]).values()
    return found


def _factor(place: str, receipts: Receipts, recipe: Recipe, seeds: int, tried: int) -> float:
    """How many times the trial's work the whole run has in this step, at most."""
    part, stage = place.split("/")[0], place.split("_", 2)[2]
    # A student taken as it is needs no training.
    if stage in FIXED or (stage == "student_0" and recipe.student_0 == "as_is"):
        return 1.0
    if stage == "verdicts" and recipe.judge.max_pairs is not None:
        most = recipe.judge.max_pairs
        return min(seeds, most) / min(tried, most)
    if part != "round_0" and stage in GROWING:
        return _growth(place, receipts, recipe, seeds / tried)
    if part != "round_0" and recipe.mix.size is not None and (stage == "mix" or stage.startswith("student_")):
        # A trial may have too few rows to draw as many.
        return min(seeds / tried, recipe.mix.size / max(1, _rows(receipts, f"{part}/04_mix", "rows_out")))
    return seeds / tried


def _growth(place: str, receipts: Receipts, recipe: Recipe, pool: float) -> float:
    """Grown rows multiply like the pool up to `expand.per_round`; seeds among a round's new rows do so without end."""
    expanded = f"{place.split('/')[0]}/01_expanded"
    grown = _rows(receipts, expanded, "rows_out")
    more = min(pool, recipe.expand.per_round / max(1, grown))
    if place == expanded:
        return more
    share = min(1.0, grown / max(1, _rows(receipts, place, "rows_in")))
    return share * more + (1 - share) * pool


def _rows(receipts: Receipts, place: str, which: str) -> int:
    return int(receipts.get(place, {}).get(which, 0))


def _stage(place: str, seconds: float, replies: Sequence[Reply], factor: float) -> StageForecast:
    # In the rounds it is chance how many seeds are hard and need a call; in round 0 every seed has one.
    by_chance = not place.startswith("round_0")
    prompt = _scaled([float(r.prompt_tokens) for r in replies], factor, by_chance)
    completion = _scaled([float(r.completion_tokens) for r in replies], factor, by_chance)
    usd = _scaled([r.cost_usd for r in replies], factor, by_chance)
    # Time follows the generated tokens, and is as uncertain as they are.
    half = (completion.high / completion.value - 1.0) if completion.value else 0.0
    time = factor * seconds
    return StageForecast(
        place,
        factor * len(replies),
        prompt,
        completion,
        usd,
        Reckoned(time, max(0.0, time * (1 - half)), time * (1 + half)),
    )


def _scaled(values: Sequence[float], factor: float, by_chance: bool) -> Reckoned:
    """The sum of `factor` times as many draws: uncertain by the draws to come and by what is known of their mean."""
    count = len(values)
    if not count or factor == 1.0:
        total = factor * sum(values)
        return Reckoned(total, total, total)
    mean = sum(values) / count
    spread = sum((v - mean) ** 2 for v in values) / max(1, count - 1) + (mean**2 if by_chance else 0.0)
    more = factor * count
    half = Z_95 * math.sqrt(spread * more * (1 + factor))
    return Reckoned(factor * sum(values), max(0.0, factor * sum(values) - half), factor * sum(values) + half)


def lines(stages: Sequence[StageForecast], *, seeds: int, tried: int) -> list[str]:
    """The forecast as a person reads it."""
    said = [
        f"all {seeds} seeds, reckoned from this trial on {tried} (95 % intervals, nothing cached):",
        f"{'stage':<30}{'calls':>9}{'prompt tokens':>16}{'reply tokens':>15}{'USD':>10}{'minutes':>10}",
    ]
    for s in stages:
        said.append(
            f"{s.place:<30}{s.calls:>9.0f}{s.prompt_tokens.value:>16.0f}{s.completion_tokens.value:>15.0f}"
            f"{s.usd.value:>10.2f}{s.seconds.value / 60:>10.1f}"
        )
    usd, seconds = (sum((getattr(s, name) for s in stages), NOTHING) for name in ("usd", "seconds"))
    said += [
        f"cost: {usd.value:.2f} USD ({usd.low:.2f} to {usd.high:.2f})",
        f"time: {seconds.value / 60:.0f} minutes ({seconds.low / 60:.0f} to {seconds.high / 60:.0f}) at this trial's "
        "pace; loading models counts as if it grew with the rows",
    ]
    return said
