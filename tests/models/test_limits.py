from __future__ import annotations

import math

import pytest
from fake_endpoint import asks, caller, fake, serving

from tapir import config
from tapir.models.calls import PassingFailure
from tapir.models.fake_server import Faults
from tapir.models.ledger import Ledger
from tapir.models.limits import Breaker, Throttle


def throttle(clock, **limits):
    return Throttle(config.Limits(**{"in_flight": 64, **limits}), clock)


def run_window(limiter, clock, *, pressed=0, answered=0, seconds=0.1):
    """One window's outcomes, a second long."""
    clock.now += 1
    for _ in range(pressed):
        limiter.pushed_back(None)
    for _ in range(answered):
        limiter.answered(seconds, 80)


def test_no_more_than_the_cap_are_in_flight(clock):
    limiter = throttle(clock, in_flight=2)
    assert [limiter.try_start(1) for _ in range(3)] == [0.0, 0.0, math.inf]
    limiter.finish()
    assert limiter.try_start(1) == 0.0


@pytest.mark.parametrize("per_minute", [1, 7, 60, 600])
def test_no_minute_sees_more_requests_than_allowed(clock, per_minute):
    limiter = throttle(clock, in_flight=10_000, requests_per_minute=per_minute)
    starts = []
    while clock.now < 300:
        wait = limiter.try_start(1)
        if wait:
            clock.now += wait + 1e-6
        else:
            starts.append(clock.now)
    most = max(sum(start <= other < start + 60 for other in starts) for start in starts)
    assert most <= per_minute
    assert len(starts) >= 4 * per_minute


def test_tokens_a_minute_are_counted_and_one_large_call_passes(clock):
    limiter = throttle(clock, tokens_per_minute=3000)
    assert limiter.try_start(5000) == 0.0
    # 4,900 tokens in debt at (3000 - 100) / 60 tokens a second.
    assert limiter.try_start(100) == pytest.approx(5000 / (2900 / 60))


def test_a_lone_429_changes_nothing(clock):
    limiter = throttle(clock)
    for _ in range(50):
        run_window(limiter, clock, pressed=2, answered=98)
    assert limiter.ceiling == 64


def test_sustained_429s_cut_the_ceiling_and_calm_raises_it_step_by_step(clock):
    limiter = throttle(clock)
    run_window(limiter, clock, pressed=20, answered=12)
    assert limiter.ceiling == 44  # 64 x 0.7
    run_window(limiter, clock, pressed=20, answered=12)
    assert limiter.ceiling == 31
    run_window(limiter, clock, answered=32)
    assert limiter.ceiling == 34  # and 64 / 20 more
    for _ in range(20):
        run_window(limiter, clock, answered=32)
    assert limiter.ceiling == 64


def test_a_sustained_rate_pauses_for_as_long_as_the_server_asks(clock):
    limiter = throttle(clock)
    clock.now = 1
    for _ in range(32):
        limiter.pushed_back(retry_after_s=7)
    assert limiter.try_start(1) == pytest.approx(7, abs=1)


def test_a_server_that_slows_down_is_asked_less_but_never_starved(clock):
    limiter = throttle(clock)
    run_window(limiter, clock, answered=32, seconds=0.1)
    run_window(limiter, clock, answered=32, seconds=0.3)
    assert limiter.ceiling == 64
    run_window(limiter, clock, answered=32, seconds=1.0)
    assert limiter.ceiling == 44
    for _ in range(30):
        run_window(limiter, clock, answered=32, seconds=1.0)
    assert limiter.ceiling >= 8


def test_one_row_that_gives_up_is_bad_and_three_in_turn_are_an_outage():
    breaker = Breaker("m")
    failure = PassingFailure("server_error", "500: broke")
    assert breaker.gave_up(failure) is None
    breaker.answered()
    assert [breaker.gave_up(failure) for _ in range(2)] == [None, None]
    assert "answered none of 3 rows in turn (500: broke)" in str(breaker.gave_up(failure))


def test_a_refused_connection_is_never_the_rows_fault():
    assert "cannot be reached" in str(Breaker("m").gave_up(PassingFailure("unreachable", unreachable=True)))


def test_an_endpoint_with_a_cap_of_its_own_gets_all_rows_answered(tmp_path):
    server = fake(Faults(retry_after_s=0.02), latency_s=0.01, in_flight_cap=8)
    with serving(server) as url, Ledger(tmp_path / "l.sqlite") as ledger:
        rows = list(caller(url, ledger, limits={"in_flight": 64}).run(asks(500), stage="answer"))
    assert all(reply.problem is None for _, reply in rows)
