"""The mix of tasks: target shares Pr(T), and what a round draws, leaves undrawn and has to grow (§3.3, §3.4).

Counting is done with exact fractions, so that a plan never depends on rounding noise. Which instruction is
hard is `difficulty`'s business; writing the rows that are to be grown is a stage's.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from operator import attrgetter
from typing import Any, TypeVar

from tapir.errors import DataError, RecipeError
from tapir.types import RoundPlan

RowT = TypeVar("RowT")

PAPER_SHARES: Mapping[str, float] = {
    "Math": 0.167,
    "Reasoning": 0.167,
    "Code Generation": 0.083,
    "Code Debug": 0.083,
}
"""Appendix A; the other types divide what is left evenly."""

SCARCE = Fraction(1, 4)
"""Ours. A type with less than this part of its share of the supply gives all it has and does not hold the
round's size back; so a round draws about a quarter of a supply at least, however lopsided the pool."""


@dataclass(frozen=True, slots=True)
class Quota:
    """What one part of a round (hard or easy) takes from its supply, task by task."""

    draw: dict[str, int]
    undrawn: dict[str, int]
    grow: dict[str, int]
    """Rows that would have to be there in addition for the targets to be met exactly."""
    unmet: dict[str, int]
    """Rows that the targets asked for and supply could not give; rows of other types took their place."""

    @property
    def size(self) -> int:
        return sum(self.draw.values())


def default_targets(taxonomy_names: Iterable[str], shares: Mapping[str, float] = PAPER_SHARES) -> dict[str, float]:
    """Pr(T) of appendix A (or `shares`) over this taxonomy; types not named divide what is left evenly.

    Types of `shares` that the taxonomy does not have are left out, and the whole sums to 1.
    """
    names = list(dict.fromkeys(taxonomy_names))
    left = 1 - sum(shares.values())
    if left < -1e-9:
        raise RecipeError(f"the targets sum to {1 - left:g}; shares of a whole sum to 1 at most")
    others = sum(name not in shares for name in names)
    raw = {name: shares[name] if name in shares else max(0.0, left) / others for name in names}
    total = sum(raw.values())
    if not total:
        raise RecipeError("no task type has a target above 0; give at least one in mix.targets")
    return {name: share / total for name, share in raw.items()}


def targets_for(names: Iterable[str], given: Mapping[str, float]) -> dict[str, float]:
    """The paper's shares, or those given; types that are not named share what is left evenly."""
    known = list(dict.fromkeys(names))
    if not given:
        return default_targets(known)
    unknown = [n for n in given if n not in known]
    if unknown:
        raise RecipeError(f"mix.targets: {unknown[0]!r} is not a task type of the taxonomy")
    rest = 1 - sum(given.values())
    others = len(known) - len(given)
    if rest < -1e-9 or (not others and abs(rest) > 1e-9):
        raise RecipeError(f"mix.targets add up to {sum(given.values()):g}; together they must come to 1, or less")
    return {n: given[n] if n in given else rest / others for n in known}


def alpha_for_round(r: int, start: float | Sequence[float], step: float = 0.0) -> float:
    """Share of hard rows in round r, counted from 1 (equation 5), or the r-th of a list of shares."""
    if r < 1:
        raise RecipeError(f"rounds are counted from 1; there is no alpha for round {r}")
    if isinstance(start, int | float):
        alpha = start + step * (r - 1)
    elif r <= len(start):
        alpha = start[r - 1]
    else:
        raise RecipeError(f"alpha has {len(start)} values and round {r} needs one; add it to the list")
    return min(1.0, max(0.0, round(alpha, 9)))


def apportion(weights: Mapping[str, float | Fraction], size: int) -> dict[str, int]:
    """Whole rows in proportion to `weights`, `size` in all, by largest remainder; ties go by name."""
    exact = _shares(weights)
    if size < 0:
        raise RecipeError(f"cannot divide {size} rows; give a size of 0 or more")
    if size and not exact:
        raise RecipeError(f"cannot divide {size} rows: every weight is 0; give a task type a target above 0")
    rows = {name: int(share * size) for name, share in exact.items()}
    by_remainder = sorted(exact, key=lambda name: (rows[name] - exact[name] * size, name))
    for name in by_remainder[: size - sum(rows.values())]:
        rows[name] += 1
    return {name: rows.get(name, 0) for name in weights}


def quotas(supply: Mapping[str, int], targets: Mapping[str, float], size: int) -> Quota:
    """Draw `size` rows by `targets`; what a type cannot give is shared out over the others, again and again.

    Types without a target are left undrawn. Where there are fewer rows than `size`, all are drawn.
    """
    _check_counts(supply)
    have = {name: supply.get(name, 0) for name in targets}
    draw = dict.fromkeys(targets, 0)
    given, open_shares = _settle(have, _shares(targets), size)
    draw.update(given)
    if open_shares:
        draw.update(apportion(open_shares, size - sum(given.values())))
    ideal = apportion(targets, size)
    short = {name: ideal[name] - have[name] for name in targets if ideal[name] > have[name]}
    undrawn = {name: n - draw.get(name, 0) for name, n in supply.items() if n > draw.get(name, 0)}
    return Quota(draw, undrawn, grow=short, unmet=dict(short))


def plan_round(
    hard_supply: Mapping[str, int],
    easy_supply: Mapping[str, int],
    targets: Mapping[str, float],
    alpha: float,
    size: int | None = None,
    *,
    round: int = 1,
    growable: Mapping[str, int] | None = None,
    grow_limit: int | None = None,
    scarce: Fraction | float = SCARCE,
    by_weight: bool = False,
) -> RoundPlan:
    """The rows of one round: no row twice, alpha of them hard, each part by `targets`, in that order.

    `by_weight`, alpha weighs the loss and not the draw: each part is as large as it can be, or half of `size`.

    Without `size` the round is the largest that keeps all three. A type without supply, or `scarce` in
    it, does not hold it back: the others make up for it, and `unmet` says so. `growable` is how many hard rows of each
    type expansion may add, `grow_limit` how many in all; `hard` counts them as there, and `plan_as_grown` draws
    what came of them. A round that grows nothing is planned as if nothing could be.
    """
    share = _fraction(alpha)
    hard_most, easy_most = _total(hard_supply, targets), _total(easy_supply, targets)
    room = {t: n for t, n in (growable or {}).items() if targets.get(t)}
    if size is None:
        hard_most = _hard_at_most(hard_supply, targets, room, grow_limit, _fraction(scarce))
        easy_most = _exact_at_most(easy_supply, targets, _fraction(scarce))
    else:
        growth = sum(room.values())
        hard_most += growth if grow_limit is None else min(growth, grow_limit)
    rows = _parts(share, hard_most, easy_most, size, by_weight=by_weight)
    granted = _granted(hard_supply, targets, rows[0], room, grow_limit)
    plan = _plan(round, alpha, hard_supply, easy_supply, targets, rows, granted)
    if size is None and room and not plan.grow:
        return plan_round(hard_supply, easy_supply, targets, alpha, round=round, scarce=scarce, by_weight=by_weight)
    return plan


def plan_as_grown(
    planned: RoundPlan,
    bare: RoundPlan | None,
    grown: int,
    hard_supply: Mapping[str, int],
    easy_supply: Mapping[str, int],
    targets: Mapping[str, float],
    *,
    by_weight: bool = False,
) -> RoundPlan:
    """What was `planned` with growth, of the supply with the hard rows that were `grown`: the same rows, if all came.

    Planned afresh, a type that was too scarce to hold the round back could do so now, and growth make it smaller.
    Where growth fell short, so does the round, as far as to `bare`, the plan without growth; other types fill up.
    There is no `bare` where no hard row was there before: then what came is drawn.
    """
    wanted = sum(planned.grow.values())
    part = Fraction(grown, wanted) if grown < wanted else Fraction(1)
    few = bare or planned
    hard = few.hard_rows + int(part * (planned.hard_rows - few.hard_rows))
    easy = few.easy_rows + int(part * (planned.easy_rows - few.easy_rows))
    hard_most, easy_most = min(hard, _total(hard_supply, targets)), min(easy, _total(easy_supply, targets))
    if (hard_most, easy_most) != (hard, easy):
        # Rows that the plan counted on are gone.
        hard, easy = _parts(_fraction(planned.alpha), hard_most, easy_most, None, by_weight=by_weight)
    return _plan(planned.round, planned.alpha, hard_supply, easy_supply, targets, (hard, easy), {})


def draw(
    rows: Iterable[RowT],
    quota_by_task: Mapping[str, int],
    rng: random.Random,
    *,
    replace: bool = False,
    key: Callable[[RowT], str] = attrgetter("id"),
    task: Callable[[RowT], Any] = attrgetter("task"),
) -> list[RowT]:
    """Rows by task as the quota says, the same for the same seed whatever order they come in.

    A larger quota keeps the rows of a smaller one. Without `replace`, a quota above supply is an error;
    with it, every row of the type is taken once before any is taken again.
    """
    by_task: defaultdict[Any, dict[str, RowT]] = defaultdict(dict)
    for row in rows:
        if key(row) in by_task[task(row)]:
            raise DataError(f"row {key(row)} is there twice; remove duplicates before the draw")
        by_task[task(row)][key(row)] = row
    seed = rng.getrandbits(64)
    drawn: list[RowT] = []
    for name in sorted(quota_by_task):
        # A stream for each task: another task's supply or quota does not change what this one draws.
        stream = random.Random(f"{seed}:{name}")
        ids = _passes(sorted(by_task[name]), quota_by_task[name], stream, name, replace)
        drawn += [by_task[name][i] for i in ids]
    return drawn


def _passes(ids: list[str], count: int, rng: random.Random, name: str, replace: bool) -> list[str]:
    if count < 0:
        raise RecipeError(f"the quota of {name} is {count}; quotas are 0 or more")
    if count > len(ids) and (not replace or not ids):
        raise DataError(f"{name}: {count} rows to draw and {len(ids)} there; plan the round again")
    chosen: list[str] = []
    while len(chosen) < count:
        rng.shuffle(ids)
        chosen += ids[: count - len(chosen)]
    return chosen


def _fraction(value: float | Fraction) -> Fraction:
    """The simple fraction that was meant: 0.3 is 3/10, and a share divided by three is a third."""
    return Fraction(value).limit_denominator(10**9)


def _shares(weights: Mapping[str, float | Fraction]) -> dict[str, Fraction]:
    exact = {name: _fraction(weight) for name, weight in weights.items()}
    negative = [name for name, weight in exact.items() if weight < 0]
    if negative:
        raise RecipeError(f"the target of {negative[0]} is below 0; targets are shares of 0 or more")
    total = sum(exact.values())
    return {name: weight / total for name, weight in exact.items() if weight}


def _check_counts(supply: Mapping[str, int]) -> None:
    for name, count in supply.items():
        if count < 0:
            raise DataError(f"the supply of {name} is {count}; a supply is a number of rows, 0 or more")


def _with(supply: Mapping[str, int], more: Mapping[str, int], targets: Mapping[str, float]) -> dict[str, int]:
    return {t: supply.get(t, 0) + more.get(t, 0) for t, weight in targets.items() if weight}


def _total(supply: Mapping[str, int], targets: Mapping[str, float]) -> int:
    return sum(_with(supply, {}, targets).values())


def _settle(
    have: Mapping[str, int], shares: Mapping[str, Fraction], size: int
) -> tuple[dict[str, int], dict[str, Fraction]]:
    """Types that give all they have, and the targets of the others, which have enough for what is left."""
    given: dict[str, int] = {}
    open_shares = dict(shares)
    while open_shares:
        left, weight = size - sum(given.values()), sum(open_shares.values(), Fraction(0))
        spent = [name for name, share in open_shares.items() if share * left >= have[name] * weight]
        if not spent:
            break
        for name in spent:
            given[name] = have[name]
            del open_shares[name]
    return given, open_shares


def _plan(
    round: int,
    alpha: float,
    hard_supply: Mapping[str, int],
    easy_supply: Mapping[str, int],
    targets: Mapping[str, float],
    rows: tuple[int, int],
    granted: Mapping[str, int],
) -> RoundPlan:
    """So many hard and easy rows by the targets, where hard rows of each type are grown as granted."""
    hard = quotas(_with(hard_supply, granted, targets), targets, rows[0])
    easy = quotas(easy_supply, targets, rows[1])
    grow = {t: n - hard_supply.get(t, 0) for t, n in hard.draw.items() if n > hard_supply.get(t, 0)}
    unmet = Counter(hard.unmet) + Counter(easy.unmet)
    missing = {t: unmet[t] for t in targets if unmet[t]}
    return RoundPlan(round, float(alpha), sum(rows), hard.draw, easy.draw, grow, missing)


def _exact_at_most(supply: Mapping[str, int], targets: Mapping[str, float], scarce: Fraction) -> int:
    """The most rows of one part at which no type but a scarce one is asked for more than it has."""
    have = _with(supply, {}, targets)
    shares = _shares(targets)
    total = sum(have.values())
    # A part of `level` rows, if nothing were missing; the first type that is not scarce and runs dry sets it.
    dry = (n / shares[t] for t, n in have.items() if n and n >= scarce * shares[t] * total)
    level = min(dry, default=Fraction(0))
    return int(sum((min(Fraction(n), shares[t] * level) for t, n in have.items()), Fraction(0)))


def _hard_at_most(
    supply: Mapping[str, int],
    targets: Mapping[str, float],
    room: Mapping[str, int],
    grow_limit: int | None,
    scarce: Fraction,
) -> int:
    as_is = _exact_at_most(supply, targets, scarce)
    if not room:
        return as_is
    grown = _with(supply, room, targets)
    most = _exact_at_most(grown, targets, scarce)

    def affordable(size: int) -> bool:
        drawn = quotas(grown, targets, size).draw
        return grow_limit is None or sum(max(0, n - supply.get(t, 0)) for t, n in drawn.items()) <= grow_limit

    return max(as_is, _largest(affordable, most))


def _granted(
    supply: Mapping[str, int],
    targets: Mapping[str, float],
    size: int,
    room: Mapping[str, int],
    grow_limit: int | None,
) -> dict[str, int]:
    """How many rows each type may grow for a part of this size, scaled down to the limit."""
    drawn = quotas(_with(supply, room, targets), targets, size).draw
    wanted = {t: n - supply.get(t, 0) for t, n in drawn.items() if n > supply.get(t, 0)}
    if grow_limit is None or sum(wanted.values()) <= grow_limit:
        return wanted
    return apportion(wanted, grow_limit)


def _parts(alpha: Fraction, hard_most: int, easy_most: int, size: int | None, *, by_weight: bool) -> tuple[int, int]:
    """How many hard and how many easy rows a round has."""
    if not 0 <= alpha <= 1:
        raise RecipeError(f"alpha is {float(alpha):g}; it is a share between 0 and 1")
    if size is not None and size < 0:
        raise RecipeError(f"mix.size is {size}; give 0 or more rows, or leave it out")
    if alpha > 0 and not hard_most:
        raise DataError(f"alpha is {float(alpha):g} and there is no hard row to draw; lower difficulty.delta")
    if alpha < 1 and not easy_most:
        raise DataError(f"alpha is {float(alpha):g} and there is no easy row to draw; use alpha 1")
    if by_weight:
        # A part of weight 0 would teach nothing, and its tokens would count in what the loss is divided by.
        hard, easy = hard_most if alpha else 0, easy_most if alpha < 1 else 0
        if size is not None:
            hard = min(hard, max(-(-size // 2), size - easy))
            easy = min(easy, size - hard)
        return hard, easy
    limits = [] if size is None else [Fraction(size)]
    limits += [Fraction(hard_most) / alpha] if alpha else []
    limits += [Fraction(easy_most) / (1 - alpha)] if alpha < 1 else []
    rows = int(min(limits))
    hard = int(alpha * rows + Fraction(1, 2))
    return hard, rows - hard


def _largest(fits: Callable[[int], bool], most: int) -> int:
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low
