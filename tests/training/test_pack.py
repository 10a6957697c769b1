"""The plan of a round: which examples share a step and a micro-batch, in which order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from training_rows import encoded

from tapir.training.pack import draw_epochs, fit, idle_processes, plan_round, spread


def test_best_fit_puts_each_example_where_it_leaves_the_least_room():
    # Longest first into rows of 10: 7 | 6 | 4 beside the 6 (0 left) | 3 beside the 7 (0 left) | 2 alone.
    assert fit([0, 1, 2, 3, 4], [6, 7, 4, 3, 2], 10, keep_order=False) == [(1, 3), (0, 2), (4,)]


def test_next_fit_keeps_the_order_and_never_looks_back():
    assert fit([0, 1, 2, 3, 4], [6, 7, 3, 4, 2], 10, keep_order=True) == [(0,), (1, 2), (3, 4)]


def test_spreading_makes_rows_even():
    # In rows of 10 the three fit as 5 + 5 and 2; two even rows are impossible below 7.
    assert spread([0, 1, 2], [5, 5, 2], 10, 2, keep_order=False) == [(0, 2), (1,)]


def test_a_step_holds_the_same_examples_packed_or_not():
    rows = [encoded(3 + n % 5) for n in range(20)]
    common = {"batch": 6, "micro_batch": 2, "epochs": 2, "order": "shuffled", "seed": 3}
    plain, packed = plan_round(rows, **common), plan_round(rows, **common, packed_tokens=32)
    assert plain.steps == packed.steps == 8
    assert all(sorted(plain.rows_of_step(s)) == sorted(packed.rows_of_step(s)) for s in range(8))
    assert packed.per_step < plain.per_step


@pytest.mark.parametrize("order", ["easy_first", "by_difficulty"])
@pytest.mark.parametrize("packed_tokens", [None, 16])
def test_a_given_order_survives_packing(order: str, packed_tokens: int | None):
    rows = [encoded(3 + n % 5, hard=n % 2 == 0, difficulty=float(n % 7)) for n in range(20)]
    plan = plan_round(rows, batch=6, micro_batch=2, epochs=1, order=order, seed=3, packed_tokens=packed_tokens)  # pyright: ignore
    trained = [n for micro in plan.micro_batches for n in micro]
    assert trained == draw_epochs(rows, 1, order, 3)[0]  # pyright: ignore
    assert [rows[n].hard for n in trained] == [False] * 10 + [True] * 10


@pytest.mark.parametrize(("batch", "processes", "idle"), [(32, 64, 56), (32, 8, 0), (256, 64, 0), (9, 4, 1)])
def test_processes_that_a_plan_leaves_idle_are_counted_beforehand(batch: int, processes: int, idle: int):
    rows = [encoded(3) for _ in range(2 * batch)]
    plan = plan_round(rows, batch=batch, micro_batch=4, epochs=1, order="shuffled", seed=3, processes=processes)
    # Process p trains every p-th micro-batch.
    assert sum(not any(plan.micro_batches[p::processes]) for p in range(processes)) == idle
    assert idle_processes(batch=batch, micro_batch=4, processes=processes) == idle


def test_by_difficulty_goes_upwards_and_unknown_ones_follow_their_part():
    rows = [
        encoded(3, hard=True, difficulty=4.0),
        encoded(3, hard=False, difficulty=None),
        encoded(3, hard=False, difficulty=-1.0),
        encoded(3, hard=True, difficulty=None),
        encoded(3, hard=True, difficulty=2.5),
    ]
    assert draw_epochs(rows, 1, "by_difficulty", 0) == [[2, 1, 4, 0, 3]]


def test_epochs_are_shuffled_anew_and_the_same_for_the_same_seed():
    rows = [encoded(3) for _ in range(12)]
    first, second = draw_epochs(rows, 2, "shuffled", 5)
    assert sorted(first) == sorted(second) == list(range(12))
    assert first != second
    assert draw_epochs(rows, 2, "shuffled", 5) == [first, second]


def test_half_an_epoch_trains_half_the_examples():
    rows = [encoded(3, hard=n >= 4) for n in range(8)]
    half = draw_epochs(rows, 1.5, "easy_first", 0)[1]
    assert len(half) == 4
    assert any(rows[n].hard for n in half)  # drawn from all, then put in order


def test_steps_are_filled_up_to_whole_turns_of_all_processes():
    rows = [encoded(3) for _ in range(5)]
    plan = plan_round(rows, batch=4, micro_batch=1, epochs=1, order="shuffled", seed=0, processes=2)
    assert (plan.per_step, plan.steps) == (2, 2)
    assert [len(micro) for micro in plan.micro_batches] == [1, 1, 1, 1, 1, 0, 0, 0]


@given(
    lengths=st.lists(st.integers(1, 16), min_size=1, max_size=40),
    batch=st.integers(1, 9),
    processes=st.integers(1, 3),
    order=st.sampled_from(["shuffled", "easy_first"]),
    packed=st.booleans(),
)
def test_every_example_is_trained_once_an_epoch_and_no_row_is_too_long(
    lengths: list[int], batch: int, processes: int, order: str, packed: bool
):
    rows = [encoded(length, trained=1) for length in lengths]
    plan = plan_round(
        rows,
        batch=batch,
        micro_batch=3,
        epochs=1,
        order=order,  # pyright: ignore
        seed=1,
        packed_tokens=16 if packed else None,
        processes=processes,
    )
    assert sorted(n for micro in plan.micro_batches for n in micro) == list(range(len(rows)))
    assert len(plan.micro_batches) == plan.steps * plan.per_step * processes
    assert plan.steps == -(-len(rows) // batch)
    if packed:
        assert all(sum(lengths[n] for n in micro) <= 16 for micro in plan.micro_batches)
