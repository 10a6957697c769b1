"""Which of a model's addresses is asked next, on a clock of the test."""

from __future__ import annotations

from tapir.errors import EndpointError
from tapir.models.addresses import LONGEST_REST_S, Addresses
from tapir.models.calls import PassingFailure

A, B = "http://a/v1", "http://b/v1"


def names(addresses, count=1):
    return "".join(addresses.pick().url.host for _ in range(count))


def broke(reason="server_error", **settings):
    return PassingFailure(reason, "500: broke", **settings)


def test_ties_go_round_robin(clock):
    assert names(Addresses([A, B, "http://c/v1"], clock=clock), 6) == "abcabc"


def test_a_failing_address_rests_longer_each_time_until_it_answers(clock):
    two = Addresses([A, B], clock=clock)
    a = two.pick()
    rests = []
    for _ in range(8):
        two.failed(a, broke())
        rests.append(a.resting_until - clock.now)
        assert names(two, 3) == "bbb"
        clock.now = a.resting_until
    assert rests == [1, 2, 4, 8, 16, 32, LONGEST_REST_S, LONGEST_REST_S]
    two.answered(a)
    two.failed(a, broke())
    assert a.resting_until - clock.now == 1


def test_calls_that_were_under_way_when_it_failed_are_one_failure(clock):
    two = Addresses([A, B], clock=clock)
    a = two.pick()
    for _ in range(8):
        two.failed(a, broke())
    assert a.resting_until == 1


def test_after_its_rest_an_address_is_tried_with_one_call(clock):
    two = Addresses([A, B], clock=clock)
    a, b = two.pick(), two.pick()
    b.in_flight += 5
    two.failed(a, broke())
    clock.now = 1
    tried = two.pick()
    tried.in_flight += 1
    assert (tried, names(two, 3)) == (a, "bbb")
    two.answered(a)
    assert names(two, 3) == "aaa"


def test_an_address_rests_as_long_as_it_asks(clock):
    two = Addresses([A, B], clock=clock)
    failure = two.failed(two.pick(), broke(retry_after_s=7, pressure=True))
    clock.now = 6.9
    assert names(two, 2) == "bb"
    # The row goes elsewhere at once, and the others are asked no less.
    assert (failure.retry_after_s, failure.pressure) == (None, False)


def test_a_429_is_no_failure_of_its_address(clock):
    two = Addresses([A, B], clock=clock)
    failure = two.failed(two.pick(), broke("rate_limited", pressure=True, retry_after_s=7))
    assert names(two, 2) == "ba"
    assert (failure.retry_after_s, failure.pressure, failure.elsewhere) == (7, True, False)


def test_a_retry_prefers_another_address(clock):
    two = Addresses([A, B], clock=clock)
    b = two.pick(avoid=str(two.pick().url))
    b.in_flight += 5
    assert two.pick(avoid=f"{A}/chat/completions") is b
    assert names(two) == "a"


def test_where_all_rest_the_one_soonest_back_is_asked(clock):
    two = Addresses([A, B], clock=clock)
    a, b = two.pick(), two.pick()
    two.failed(a, broke(retry_after_s=9))
    two.failed(b, broke())
    assert names(two, 2) == "bb"


def test_one_row_tells_an_outage_only_where_no_address_can_be_reached(clock):
    two = Addresses([A, B], clock=clock)
    a, b = two.pick(), two.pick()
    refused = two.failed(a, broke("unreachable", unreachable=True))
    assert (refused.elsewhere, refused.unreachable) == (True, True)
    hiccup = two.failed(b, broke())
    assert (hiccup.elsewhere, hiccup.unreachable) == (False, False)
    assert hiccup.detail == f"{A}/chat/completions: 500: broke; {B}/chat/completions: 500: broke"
    again = two.failed(b, broke("unreachable", unreachable=True))
    assert (again.elsewhere, again.unreachable) == (False, True)


def test_a_wrong_address_is_an_error_only_where_all_are_wrong(clock):
    said = []
    two = Addresses([A, B], clock=clock, say=said.append)
    a, b = two.pick(), two.pick()
    for _ in range(2):
        failure = two.failed(a, EndpointError("a answered 404"))
        assert (type(failure), failure.elsewhere, failure.unreachable) == (PassingFailure, True, True)
        clock.now += 2
    assert len(said) == 1
    assert "a answered 404; it is passed over while" in said[0]
    error = two.failed(b, EndpointError("b answered 401"))
    assert isinstance(error, EndpointError)
    assert "a answered 404" in str(error)
    assert "b answered 401" in str(error)


def test_people_hear_of_an_address_that_stays_away_and_of_no_hiccup(clock):
    said = []
    two = Addresses([A, B], clock=clock, say=said.append)
    a = two.pick()
    heard = []
    for _ in range(5):
        two.failed(a, broke())
        heard.append(len(said))
        clock.now = a.resting_until
    assert heard == [0, 0, 1, 1, 1]


def test_a_lone_address_never_rests_and_keeps_its_errors(clock):
    one = Addresses([A], clock=clock)
    a = one.pick()
    for error in (broke(pressure=True), EndpointError("404")):
        assert one.failed(a, error) is error
    assert one.pick() is a
    assert a.failure is None
