"""The teacher writes new instructions from hard seeds, type by type, until the quota is met exactly (§3.3, Table 7's
role). Parents are drawn with weights that follow their difficulty; over-asking follows the measured acceptance.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil

from tapir.models.calls import Asks, Request, Sampling
from tapir.prompts.tasks import expand_messages, read_instruction
from tapir.tasks import Taxonomy
from tapir.types import Instruction, Receipt, Rejection

Refuses = Callable[[Instruction, Instruction], str | None]
"""Why a new instruction, given with its parent, is not taken; None takes it (and remembers it as taken)."""


@dataclass(slots=True)
class Growth:
    """One task type's progress."""

    task: str
    wanted: int
    parents: Sequence[Instruction]
    weights: dict[str, float]
    rng: random.Random
    per_seed: int
    taken: list[Instruction] = field(default_factory=lambda: list[Instruction]())
    children: Counter[str] = field(default_factory=lambda: Counter[str]())
    """By parent, those of earlier rounds among them."""
    asked: int = 0

    @property
    def missing(self) -> int:
        return self.wanted - len(self.taken)

    def next_parents(self, tries_left: int) -> list[Instruction]:
        """Parents of the next wave: as many asks as the acceptance so far says are needed."""
        acceptance = max(0.2, (len(self.taken) + 1) / (self.asked + 1)) if self.asked else 1.0
        count = min(ceil(self.missing / acceptance), tries_left)
        room = {p.id: self.per_seed - self.children[p.id] for p in self.parents}
        chosen: list[Instruction] = []
        while len(chosen) < count:
            open_parents = [p for p in self.parents if room[p.id] > 0]
            if not open_parents:
                break
            (parent,) = self.rng.choices(open_parents, [self.weights[p.id] for p in open_parents])
            room[parent.id] -= 1
            chosen.append(parent)
        return chosen


def expand(
    grow: Mapping[str, int],
    parents: Sequence[Instruction],
    weights: Mapping[str, float],
    teacher: Asks,
    taxonomy: Taxonomy,
    sampling: Sampling,
    *,
    refuses: Refuses,
    per_seed: int,
    children: Mapping[str, int],
    max_tries: int,
    round: int,
    seed: int,
    rejections: list[Rejection],
    receipt: Receipt,
) -> list[Instruction]:
    """New instructions of the wanted types; a type that cannot be filled is named in the receipt's notes.

    `children` is how many each parent has from earlier rounds.
    """
    growths = [
        Growth(
            task,
            count,
            sorted((p for p in parents if p.task == task), key=lambda p: p.id),
            {p.id: max(weights.get(p.id, 0.0), 0.1) for p in parents if p.task == task},
            random.Random(f"{seed}:{round}:{task}"),
            per_seed,
            children=Counter(children),
        )
        for task, count in sorted(grow.items())
        if count > 0
    ]
    asks: Counter[str] = Counter()
    while wave := list(_wave(growths, max_tries)):
        requests = [_request(g, parent, taxonomy, sampling, round, asks) for g, parent in wave]
        for (growth, parent), (_, reply) in zip(wave, teacher.run(requests, stage=receipt.stage), strict=True):
            receipt.made += 1
            child = Instruction(
                read_instruction(reply.text), task=growth.task, origin="expanded", parent_id=parent.id, round=round
            )
            reason = reply.problem or ("surplus" if growth.missing == 0 else refuses(child, parent))
            if reason:
                receipt.drop(reason)
                rejections.append(Rejection(child.text, growth.task, parent.id, reason))
            else:
                growth.taken.append(child)
                growth.children[parent.id] += 1
    taken = sorted((i for g in growths for i in g.taken), key=lambda i: i.id)
    receipt.rows_out = len(taken)
    receipt.notes["wanted"] = sum(g.wanted for g in growths)
    receipt.notes["exhausted"] = {g.task: g.missing for g in growths if g.missing}
    return taken


def _request(
    growth: Growth, parent: Instruction, taxonomy: Taxonomy, sampling: Sampling, round: int, asks: Counter[str]
) -> Request:
    """One more ask of this parent; the sample number makes each a different call."""
    asks[parent.id] += 1
    growth.asked += 1
    messages = expand_messages(parent, taxonomy[growth.task])
    return Request(messages, sampling, sample=round * 1000 + asks[parent.id], row=parent.id)


def _wave(growths: list[Growth], max_tries: int) -> Iterator[tuple[Growth, Instruction]]:
    for growth in growths:
        if growth.missing:
            for parent in growth.next_parents(max_tries * growth.wanted - growth.asked):
                yield growth, parent


def exhausted_lines(receipt: Receipt, rejections: list[Rejection]) -> Iterator[str]:
    """A sentence for every type that could not be filled, with what its new instructions were refused for."""
    for task, missing in receipt.notes["exhausted"].items():
        reasons = Counter(r.reason for r in rejections if r.task == task)
        most = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common(3)) or "no parent has room"
        yield (
            f"{task} is exhausted, {missing} wanted instructions are missing ({most}); other types take their place. "
            "Give more hard seeds of this type, or raise expand.per_seed or expand.max_tries"
        )
