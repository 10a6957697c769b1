"""Balancing, splitting and comparing labels."""

from __future__ import annotations

import random

import pytest

from tapir.curriculum.labelling import agreement, at_confidences, balanced, class_weights, split
from tapir.types import Instruction


def rows(**counts: int) -> list[Instruction]:
    return [Instruction(f"{task} {n}", task=task) for task, count in counts.items() for n in range(count)]


def by_task(found: list[Instruction]) -> dict[str, int]:
    return {task: sum(i.task == task for i in found) for task in sorted({str(i.task) for i in found})}


def test_a_type_with_too_many_rows_is_sampled_and_a_small_one_kept_whole():
    found = balanced(rows(Math=9, Art=2), 4, random.Random(1))
    assert by_task(found) == {"Art": 2, "Math": 4}
    assert len({i.id for i in found}) == 6


def test_the_sample_depends_on_the_seed_and_not_on_the_order_of_rows():
    given = rows(Math=9, Art=5)
    assert balanced(given, 3, random.Random(1)) == balanced(given[::-1], 3, random.Random(1))
    assert balanced(given, 3, random.Random(1)) != balanced(given, 3, random.Random(2))


def test_a_share_of_every_type_is_held_out_and_of_a_tiny_type_nothing():
    train, held_out = split(rows(Math=20, Art=4, Ethics=2), 0.1, random.Random(1))
    assert by_task(held_out) == {"Art": 1, "Math": 2}
    assert by_task(train) == {"Art": 3, "Ethics": 2, "Math": 18}


def test_what_was_grown_from_one_seed_stays_on_one_side():
    seeds = rows(Math=10)
    grown = [Instruction(f"grown {n}", task="Math", parent_id=seeds[n % 5].id) for n in range(10)]
    train, held_out = split([*seeds, *grown], 0.3, random.Random(3))
    family = [{i.parent_id or i.id for i in side} for side in (train, held_out)]
    assert len(held_out) == 6
    assert not family[0] & family[1]


def test_class_weights_make_every_type_count_alike():
    weights = class_weights(["a", "a", "a", "b"])
    assert weights == {"a": pytest.approx(2 / 3), "b": 2.0}


def test_precision_and_recall_by_type():
    found = agreement([("a", "a"), ("a", "b"), ("b", "b"), ("b", "b"), ("c", "a")], ["a", "b", "c"])
    assert found.confusion == ((1, 1, 0), (0, 2, 0), (1, 0, 0))
    assert (found.n, found.right) == (5, 3)
    scores = found.by_type()
    assert (scores["a"].precision, scores["a"].recall) == (0.5, 0.5)
    assert (scores["b"].precision, scores["b"].recall) == (2 / 3, 1.0)
    assert (scores["c"].precision, scores["c"].recall) == (None, 0.0)  # never said: unknown, not 0


def test_a_threshold_keeps_the_rows_at_or_above_it():
    found = at_confidences([(0.9, True), (0.8, False), (0.5, True)], (0.0, 0.8, 0.95))
    assert [(a.kept, a.right) for a in found] == [(3, 2), (2, 1), (0, 0)]
