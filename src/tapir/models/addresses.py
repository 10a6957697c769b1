"""The URLs that serve one model: which is asked next, and how long one that fails is passed over.

Counting only, on a clock that is passed in. What an answer means is `http`'s, whether a row is tried again `sender`'s.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import yarl

from tapir.errors import EndpointError
from tapir.models.calls import PassingFailure
from tapir.models.connection import proxy_for

FIRST_REST_S = 1.0
"""Longer than a row waits before its first retry, so that this goes to another address."""
REST_GROWTH = 2.0
LONGEST_REST_S = 60.0
TOLD_AFTER = 3
"""Rests in turn until people hear of an address: a hiccup is no news."""


@dataclass(slots=True, eq=False)
class Address:
    """One of the URLs that serve the model."""

    url: yarl.URL
    proxy: str | None
    in_flight: int = 0
    worked: bool = False
    """It has answered a call, so its key, path and model name are right."""
    failure: PassingFailure | EndpointError | None = None
    """The last one since it answered; None where it answers, as far as is known."""
    unreachable: bool = False
    """It fails in a way that no row can be blamed for."""
    rests: int = 0
    """In turn, with no answer between them."""
    resting_until: float = -math.inf
    asked: int = 0
    told: bool = False

    def standing(self, now: float) -> tuple[int, float]:
        """Smaller goes first. After its rest an address is tried with one call at a time until it answers."""
        if self.failure is None:
            return 0, 0.0
        if now < self.resting_until:
            return 2, self.resting_until
        return (1 if self.in_flight else 0), 0.0

    @property
    def story(self) -> str:
        """What went wrong last, and where."""
        said = str(self.failure)
        return said if str(self.url) in said else f"{self.url}: {said}"


class Addresses:
    """Balances calls over the addresses of one model. A lone address is always asked and never rests.

    An address that fails at once always has the fewest calls in flight: without rests it would be given every row.
    """

    def __init__(
        self,
        urls: Iterable[str],
        *,
        say: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._all = [Address(yarl.URL(f"{url}/chat/completions"), proxy_for(url)) for url in urls]
        self._say = say
        self._clock = clock
        self._asked = 0

    def pick(self, avoid: str = "") -> Address:
        """The least busy address that is not resting, in turn where several are, and not `avoid` if there is another.

        Where all rest it is the one that is soonest back.
        """
        now = self._clock()
        chosen = min(self._all, key=lambda a: (*a.standing(now), str(a.url) == avoid, a.in_flight, a.asked))
        self._asked += 1
        chosen.asked = self._asked
        return chosen

    def answered(self, address: Address) -> None:
        address.worked = True
        address.failure, address.rests, address.resting_until = None, 0, -math.inf

    def others_answer(self, address: Address) -> bool:
        """Whether another address is not failing; one that nobody has asked yet is believed to answer."""
        return any(other.failure is None for other in self._all if other is not address)

    def failed(self, address: Address, error: PassingFailure | EndpointError) -> PassingFailure | EndpointError:
        """What this address's failure is for the call: an `EndpointError` only where every address is wrong."""
        # A 429 comes from an address that works, and is the throttle's to answer.
        if len(self._all) == 1 or (isinstance(error, PassingFailure) and error.reason == "rate_limited"):
            return error
        address.failure = error
        address.unreachable = isinstance(error, EndpointError) or error.unreachable
        self._rest(address, error)
        stories = "; ".join(a.story for a in self._all if a.failure)
        if all(isinstance(a.failure, EndpointError) for a in self._all):
            return EndpointError(stories)
        if isinstance(error, EndpointError):
            error = PassingFailure("unreachable", str(error), unreachable=True)
        if self.others_answer(address):
            return self._spared(address, error)
        # One address off for hours and a hiccup of the other are no outage: only where none stands can one row tell.
        error.unreachable = all(a.unreachable for a in self._all)
        error.detail = stories
        return error

    def _rest(self, address: Address, error: PassingFailure | EndpointError) -> None:
        now = self._clock()
        # Calls that were under way when it began to fail are one failure with the first.
        if now < address.resting_until:
            return
        asked_s = error.retry_after_s or 0.0 if isinstance(error, PassingFailure) else 0.0
        growing_s = FIRST_REST_S * REST_GROWTH**address.rests
        address.resting_until = now + min(max(growing_s, asked_s), LONGEST_REST_S)
        address.rests += 1

    def _spared(self, address: Address, failure: PassingFailure) -> PassingFailure:
        """A failure that another address makes up for: the rest is all the relief that this one needs."""
        failure.elsewhere = True
        failure.pressure, failure.retry_after_s = False, None
        wrong = isinstance(address.failure, EndpointError)
        if self._say and not address.told and (wrong or address.rests >= TOLD_AFTER):
            address.told = True
            self._say(f"{address.story}; it is passed over while the model's other addresses answer")
        return failure
