"""Which examples share a step, a process and a micro-batch, and in what order.

The whole plan of a round is made before its first step, from lengths and a seed alone. Packing happens inside a step:
a step holds the same examples packed or not, on one process or eight, so its loss is the same, and resuming is
reading on in the plan. Pure; tensors are made by `training.collate`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tapir.training.encode import Encoded

Order = Literal["shuffled", "easy_first", "by_difficulty"]


@dataclass(frozen=True, slots=True)
class Plan:
    """Micro-batches of row numbers, in the order they are trained; an empty one fills a step up.

    A step takes `per_step × processes` consecutive micro-batches, and process p trains every p-th of them.
    """

    micro_batches: tuple[tuple[int, ...], ...]
    per_step: int
    """Micro-batches a process trains before each optimiser step."""
    processes: int

    @property
    def steps(self) -> int:
        return len(self.micro_batches) // (self.per_step * self.processes)

    def rows_of_step(self, step: int) -> tuple[int, ...]:
        """Row numbers of one step (counted from 0), in plan order."""
        size = self.per_step * self.processes
        return tuple(row for batch in self.micro_batches[step * size : (step + 1) * size] for row in batch)


def plan_round(
    rows: Sequence[Encoded],
    *,
    batch: int,
    micro_batch: int,
    epochs: float,
    order: Order,
    seed: int,
    packed_tokens: int | None = None,
    processes: int = 1,
) -> Plan:
    """The plan of a round. `packed_tokens` packs examples into rows of at most so many tokens."""
    steps = [step for drawn in draw_epochs(rows, epochs, order, seed) for step in _chunks(drawn, batch)]
    lengths = [len(row) for row in rows]
    if packed_tokens is None:
        split = [_chunks(step, micro_batch) for step in steps]
    else:
        split = [fit(step, lengths, packed_tokens, keep_order=order != "shuffled") for step in steps]
    # The trainer accumulates the same number of micro-batches before every step, so all steps take the count of the
    # fullest; lighter steps are spread over it evenly instead of leaving processes idle.
    per_step = -(-max((len(batches) for batches in split), default=1) // processes)
    slots = per_step * processes
    if packed_tokens is not None:
        split = [spread(step, lengths, packed_tokens, slots, keep_order=order != "shuffled") for step in steps]
    filled = [(*batches, *[()] * (slots - len(batches))) for batches in split]
    return Plan(tuple(micro for step in filled for micro in step), per_step, processes)


def idle_processes(*, batch: int, micro_batch: int, processes: int, packed: bool = False) -> int:
    """At least so many processes get no example in any step, as `plan_round` shares steps out: they train fillers."""
    most = batch if packed else -(-batch // micro_batch)
    return max(0, processes - most)


def draw_epochs(rows: Sequence[Encoded], epochs: float, order: Order, seed: int) -> list[list[int]]:
    """Row numbers of each epoch in training order; the last epoch may be a part, drawn at random."""
    drawn: list[list[int]] = []
    left = round(epochs * len(rows))
    while left > 0:
        numbers = list(range(len(rows)))
        random.Random(f"{seed}/{len(drawn)}").shuffle(numbers)
        numbers = numbers[:left]
        left -= len(numbers)
        if order == "easy_first":
            numbers.sort(key=lambda n: rows[n].hard)
        elif order == "by_difficulty":
            numbers.sort(key=lambda n: _difficulty_key(rows[n]))
        drawn.append(numbers)
    return drawn


def _difficulty_key(row: Encoded) -> tuple[bool, bool, float]:
    # Grown rows are hard by origin and often unjudged: they follow the judged rows of their part, never count as 0.
    return row.hard, row.difficulty is None, row.difficulty or 0.0


def _chunks(numbers: Sequence[int], size: int) -> list[tuple[int, ...]]:
    return [tuple(numbers[start : start + size]) for start in range(0, len(numbers), size)]


def fit(step: Sequence[int], lengths: Sequence[int], capacity: int, *, keep_order: bool) -> list[tuple[int, ...]]:
    """Rows of at most `capacity` tokens: next-fit when the order counts, else best-fit of the longest first."""
    return _next_fit(step, lengths, capacity) if keep_order else _best_fit(step, lengths, capacity)


def spread(
    step: Sequence[int], lengths: Sequence[int], capacity: int, bins: int, *, keep_order: bool
) -> list[tuple[int, ...]]:
    """The same examples in at most `bins` rows that are as even as the fit allows.

    Attention costs the square of a row, and the slowest process sets the pace, so even rows are cheaper than full ones.
    """
    low, high = max((lengths[n] for n in step), default=0), capacity
    while low < high:
        middle = (low + high) // 2
        if len(fit(step, lengths, middle, keep_order=keep_order)) <= bins:
            high = middle
        else:
            low = middle + 1
    return fit(step, lengths, high, keep_order=keep_order)


def _next_fit(step: Sequence[int], lengths: Sequence[int], capacity: int) -> list[tuple[int, ...]]:
    packs: list[list[int]] = []
    room = -1
    for number in step:
        if not packs or lengths[number] > room:
            packs.append([])
            room = capacity
        packs[-1].append(number)
        room -= lengths[number]
    return [tuple(pack) for pack in packs]


def _best_fit(step: Sequence[int], lengths: Sequence[int], capacity: int) -> list[tuple[int, ...]]:
    packs: list[list[int]] = []
    rooms: list[int] = []
    for number in sorted(step, key=lambda n: -lengths[n]):
        fitting = [(room, place) for place, room in enumerate(rooms) if room >= lengths[number]]
        if fitting:
            place = min(fitting)[1]
        else:
            place = len(packs)
            packs.append([])
            rooms.append(capacity)
        packs[place].append(number)
        rooms[place] -= lengths[number]
    return [tuple(pack) for pack in packs]
