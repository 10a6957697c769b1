"""Ways to make a better student from the same round 0, one file each, known by name.

To add one (Evol-Instruct, Lion, Reflection, …): write `tapir/strategies/NAME.py` with a class of `Strategy`, or of
`OneSet` where it is a choice of rows for one training, and name an object of it in `STRATEGIES`. It then works with
`tapir ablate RECIPE --variants NAME`, with seeds, sweeps, both forms and the table.
"""

from tapir.errors import RecipeError
from tapir.strategies.direct_expansion import DirectExpansion
from tapir.strategies.hard_seeds import HardSeeds, RefinedHardSeeds
from tapir.strategies.ifd import HighestIfd
from tapir.strategies.pool import WholePool
from tapir.strategies.random_subset import RandomSubset
from tapir.strategies.rounds import Rounds, SingleRound
from tapir.strategies.strategy import OneSet, Strategy, direct_answers_by

STRATEGIES: dict[str, Strategy] = {
    s.name: s
    for s in (
        Rounds(),
        SingleRound(),
        DirectExpansion(),
        RefinedHardSeeds(),
        HardSeeds(),
        WholePool(),
        RandomSubset(),
        HighestIfd(),
    )
}
"""By name, in the order of Table 5, then those that it does not have."""

__all__ = ["STRATEGIES", "OneSet", "Strategy", "direct_answers_by", "strategy"]


def strategy(name: str) -> Strategy:
    """The strategy of that name, or an error that lists those there are."""
    if name not in STRATEGIES:
        raise RecipeError(f"--variants {name}: no such strategy; choose among {', '.join(STRATEGIES)}")
    return STRATEGIES[name]
