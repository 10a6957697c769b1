"""What a training tells while it goes on."""

from __future__ import annotations

from tapir.training.result import Pace, StepLog


def step(number: int, seconds: float, tokens: int = 100, steps: int = 100) -> StepLog:
    return StepLog(number, steps, 2.5, None, 1e-4, tokens, seconds, None, None)


def test_the_first_step_tells_no_rate_and_no_end():
    pace = Pace()
    assert (pace.observe(step(1, 4.0)), pace.left_s) == ("loss 2.500", None)


def test_pace_is_reckoned_between_steps_so_that_the_first_ones_warm_up_does_not_count():
    pace = Pace()
    pace.observe(step(1, 30.0))
    pace.observe(step(2, 32.0, tokens=150))
    # Steps 2 and 3: 250 tokens in 4 seconds; 97 steps of 2 seconds are left.
    assert (pace.observe(step(3, 34.0)), pace.left_s) == ("loss 2.500, 62 tokens/s", 194)


def test_a_training_that_begins_anew_is_reckoned_anew():
    pace = Pace()
    for number in (1, 2):
        pace.observe(step(number, float(number)))
    assert (pace.observe(step(1, 5.0)), pace.left_s) == ("loss 2.500", None)
