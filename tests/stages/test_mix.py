"""The training set of a round: which rows, with which weights, and what the receipt says of them."""

from __future__ import annotations

from collections.abc import Iterable

from tapir.curriculum.mixture import plan_round
from tapir.stages.mix import mix
from tapir.types import Answer, Example, Instruction, Receipt

HARD = [Instruction(f"hard {n}", task="Math") for n in range(4)]
EASY = [Instruction(f"easy {n}", task="Math") for n in range(16)]
ANSWERS = {i.id: Answer(i.id, "teacher", "an answer") for i in [*HARD, *EASY]}


def mixed(alpha: float, *, by_weight: bool, size: int | None = None) -> tuple[list[Example], Receipt]:
    plan = plan_round({"Math": len(HARD)}, {"Math": len(EASY)}, {"Math": 1.0}, alpha, size, by_weight=by_weight)
    receipt = Receipt("mix")
    examples = list(mix(plan, HARD, EASY, ANSWERS, {}, loss_weights=by_weight, seed=1, receipt=receipt))
    receipt.check()
    return examples, receipt


def weights(examples: Iterable[Example]) -> set[tuple[bool, float]]:
    return {(e.hard, round(e.weight, 9)) for e in examples}


def test_by_proportion_alpha_is_the_share_of_rows_and_every_row_weighs_one():
    examples, receipt = mixed(0.4, by_weight=False)
    assert (len(examples), sum(e.hard for e in examples)) == (10, 4)
    assert weights(examples) == {(True, 1.0), (False, 1.0)}
    assert receipt.notes["hard_share_of_rows"] == receipt.notes["hard_share_of_weight"] == 0.4


def test_by_loss_alpha_is_the_weight_alone_and_the_realised_shares_are_told():
    examples, receipt = mixed(0.4, by_weight=True)
    assert (len(examples), sum(e.hard for e in examples)) == (20, 4)
    assert weights(examples) == {(True, 0.4), (False, 0.6)}
    assert receipt.notes["hard_share_of_rows"] == 0.2
    # 4 x 0.4 of 4 x 0.4 + 16 x 0.6
    assert receipt.notes["hard_share_of_weight"] == 0.1429


def test_by_loss_parts_of_one_size_weigh_alpha():
    _, receipt = mixed(0.4, by_weight=True, size=8)
    assert (receipt.notes["hard_share_of_rows"], receipt.notes["hard_share_of_weight"]) == (0.5, 0.4)
