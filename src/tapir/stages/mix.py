"""A round's training set: α hard rows, the rest easy, each part by Pr(T), none twice (equation 4)."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from tapir.curriculum.mixture import draw
from tapir.tasks import OTHERS
from tapir.types import Answer, Example, Instruction, Message, Receipt, RoundPlan


def mix(
    plan: RoundPlan,
    hard: Sequence[Instruction],
    easy: Sequence[Instruction],
    answers: Mapping[str, Answer],
    difficulty: Mapping[str, float],
    *,
    loss_weights: bool,
    seed: int,
    receipt: Receipt,
) -> Iterator[Example]:
    """The examples of one round in a canonical order; training shuffles or sorts them as the recipe says.

    With `loss_weights` every row carries α or 1 − α instead of being drawn in that proportion.
    """
    parts = (
        (hard, plan.hard, True, plan.alpha if loss_weights else 1.0),
        (easy, plan.easy, False, 1 - plan.alpha if loss_weights else 1.0),
    )
    chosen: list[tuple[str, int, bool]] = []
    by_task = Counter[str]()
    for rows, quota, is_hard, _ in parts:
        drawn = _places(rows, quota, random.Random(f"{seed}:{plan.round}:{is_hard}"), by_task)
        receipt.rows_in += len(rows)
        receipt.rows_out += len(drawn)
        receipt.drop("undrawn_hard" if is_hard else "undrawn_easy", len(rows) - len(drawn))
        chosen += [(id, place, is_hard) for id, place in drawn]
    weights = {is_hard: weight for _, _, is_hard, weight in parts}
    hard_rows = sum(is_hard for _, _, is_hard in chosen)
    hard_weight, easy_weight = hard_rows * weights[True], (len(chosen) - hard_rows) * weights[False]
    total = hard_weight + easy_weight
    receipt.notes |= {
        "alpha": plan.alpha,
        "hard_share_of_rows": round(hard_rows / max(1, len(chosen)), 4),
        "hard_share_of_weight": round(hard_weight / total, 4) if total else None,
        "by_task": dict(sorted(by_task.items())),
        "unmet": plan.unmet,
    }
    return (
        _example((hard if is_hard else easy)[place], answers[id], is_hard, weights[is_hard], difficulty.get(id))
        for id, place, is_hard in sorted(chosen)
    )


def _places(
    rows: Sequence[Instruction], quota: Mapping[str, int], rng: random.Random, by_task: Counter[str]
) -> list[tuple[str, int]]:
    """Which of the rows are drawn: their ids and places. Only these are looked at again."""
    names = [(i.id, i.task) for i in rows]
    drawn = draw(range(len(names)), quota, rng, key=lambda n: names[n][0], task=lambda n: names[n][1])
    by_task.update(names[n][1] or OTHERS for n in drawn)
    return [(names[n][0], n) for n in drawn]


def _example(row: Instruction, answer: Answer, hard: bool, weight: float, difficulty: float | None) -> Example:
    return Example(
        messages=(*row.messages(), Message("assistant", answer.text)),
        instruction_id=row.id,
        task=row.task or OTHERS,
        hard=hard,
        weight=weight,
        difficulty=difficulty,
    )
