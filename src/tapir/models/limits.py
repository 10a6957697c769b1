"""When the next call may start: the in-flight cap, rates a minute, and backing off when the server pushes back.

Counting only, on a clock that is passed in; sending, sleeping and retrying are `sender`'s. `Breaker` tells an endpoint
that is down from rows that are bad.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from tapir import config
from tapir.errors import EndpointError
from tapir.models.calls import PassingFailure

Clock = Callable[[], float]

WINDOW_CALLS = 32
"""Outcomes looked at together before the ceiling moves: fewer would make a lone 429 look like a trend."""
WINDOW_MIN_S = 0.5
PRESSURE_SHARE = 0.2
CALM_SHARE = 0.1
CUT = 0.7
SLOWDOWN = 4.0
"""A window this many times slower than the best one seen counts as a server that is being pushed too hard."""
ROWS_BEFORE_OUTAGE = 3


class _Bucket:
    """At most `per_minute` units started in any minute, spread evenly but for a small burst."""

    def __init__(self, per_minute: int, now: float) -> None:
        self._burst = max(1.0, per_minute / 30)
        # The burst comes out of the minute's total, so that no minute sees more than `per_minute`.
        self._rate = max(per_minute - self._burst, 1.0) / 60
        self._level = self._burst
        self._at = now

    def wait_s(self, units: float, now: float) -> float:
        self._level = min(self._burst, self._level + (now - self._at) * self._rate)
        self._at = now
        # One call larger than the burst must pass all the same; it then goes into debt.
        lacking = min(units, self._burst) - self._level
        return max(0.0, lacking / self._rate)

    def take(self, units: float) -> None:
        self._level -= units


class Throttle:
    """One endpoint's limits. Thread-safe, since several stages may speak to one endpoint."""

    def __init__(self, limits: config.Limits, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self.most = limits.in_flight
        self._ceiling = float(limits.in_flight)
        self._in_flight = 0
        now = clock()
        rpm, tpm = limits.requests_per_minute, limits.tokens_per_minute
        self._requests = _Bucket(rpm, now) if rpm else None
        self._tokens = _Bucket(tpm, now) if tpm else None
        self._paused_until = -math.inf
        self._best_pace = math.inf
        self._lock = threading.Lock()
        self._new_window(now)

    @property
    def ceiling(self) -> int:
        """How many calls may be under way now."""
        return max(1, int(self._ceiling))

    @property
    def in_flight(self) -> int:
        return self._in_flight

    def try_start(self, tokens: int) -> float:
        """0.0 when the call was let through; else how many seconds to wait, infinite until some call finishes."""
        with self._lock:
            if self._in_flight >= self.ceiling:
                return math.inf
            now = self._clock()
            wait = max(0.0, self._paused_until - now)
            if self._requests:
                wait = max(wait, self._requests.wait_s(1, now))
            if self._tokens:
                wait = max(wait, self._tokens.wait_s(tokens, now))
            if wait > 0:
                return wait
            if self._requests:
                self._requests.take(1)
            if self._tokens:
                self._tokens.take(tokens)
            self._in_flight += 1
            return 0.0

    def finish(self) -> None:
        with self._lock:
            self._in_flight -= 1

    def answered(self, seconds: float, tokens: int) -> None:
        """A reply came after `seconds`, with so many tokens of text."""
        with self._lock:
            self._outcomes += 1
            # Per token and a constant: a long answer is not a slow server.
            self._pace_sum += seconds / (20 + tokens)
            self._close_window()

    def pushed_back(self, retry_after_s: float | None) -> None:
        """The server asked for less (429, 503)."""
        with self._lock:
            self._outcomes += 1
            self._pressed += 1
            self._asked_pause_s = max(self._asked_pause_s, retry_after_s or 0.0)
            self._close_window()

    def forget_pace(self) -> None:
        """Another kind of call follows; its pace says nothing about the last one's."""
        with self._lock:
            self._best_pace = math.inf
            self._new_window(self._clock())

    def _new_window(self, now: float) -> None:
        self._outcomes = 0
        self._pressed = 0
        self._pace_sum = 0.0
        self._asked_pause_s = 0.0
        self._window_from = now

    def _close_window(self) -> None:
        now = self._clock()
        if self._outcomes < WINDOW_CALLS or now - self._window_from < WINDOW_MIN_S:
            return
        share = self._pressed / self._outcomes
        answered = self._outcomes - self._pressed
        pace = self._pace_sum / answered if answered else math.inf
        if share > PRESSURE_SHARE:
            self._ceiling = max(1.0, self._ceiling * CUT)
            self._paused_until = now + min(self._asked_pause_s, 60.0)
        elif answered and pace > SLOWDOWN * self._best_pace:
            # Never below an eighth: slow is not broken, and crawling would not make it faster.
            self._ceiling = max(self.most / 8, 1.0, self._ceiling * CUT)
        elif share <= CALM_SHARE:
            self._ceiling = min(float(self.most), self._ceiling + max(1.0, self.most / 20))
        if answered:
            # The best pace fades, so that one lucky window does not bind for ever.
            self._best_pace = min(self._best_pace * 1.05, pace)
        self._new_window(now)


class Breaker:
    """Whether rows that give up are bad, or the endpoint is down."""

    def __init__(self, identity: str) -> None:
        self._identity = identity
        self._gave_up_in_turn = 0
        self.successes = 0

    def answered(self) -> None:
        self.successes += 1
        self._gave_up_in_turn = 0

    def gave_up(self, failure: PassingFailure) -> EndpointError | None:
        """A row used up its tries; the error to stop with when the endpoint, not the row, is at fault.

        A failure to connect is never the row's. Of others, a few rows in turn with no reply between them are an
        outage, one alone is a bad row. While another address of the model is not failing there is no outage.
        """
        if failure.elsewhere:
            return None
        self._gave_up_in_turn += 1
        if not failure.unreachable and self._gave_up_in_turn < ROWS_BEFORE_OUTAGE:
            return None
        what = "cannot be reached" if failure.unreachable else f"answered none of {self._gave_up_in_turn} rows in turn"
        return EndpointError(
            f"{self._identity} {what} ({failure.detail}); finished calls are kept, run again once it is back"
        )

    def refused_all(self, refused: int, detail: str) -> EndpointError | None:
        """`refused` rows were turned down as malformed: the error to stop with when none was ever accepted."""
        if self.successes or refused < 2 * ROWS_BEFORE_OUTAGE:
            return None
        return EndpointError(
            f"{self._identity} turned down all of the first {refused} requests ({detail}); check the model's "
            "token_param, drop_params and extra_body"
        )
