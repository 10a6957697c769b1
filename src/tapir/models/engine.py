"""The one way to call a model: from the ledger where the reply is there, else sent, kept, and handed on in order.

`Caller.run` is a plain generator: a stage loops over it and writes tables. It owns order, the window of rows held in
memory, twins (equal requests are called once) and replay. Endpoints are spoken to by `sender`; local engines and the
scripted model are called here, in canonical batches, so that a resumed run generates what an undisturbed one would.
"""

from __future__ import annotations

import queue
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from tapir import config
from tapir.errors import BudgetReached, ReplayMiss
from tapir.models.budget import NOTHING, Ration, Spend, Tariff
from tapir.models.calls import (
    ONE_TRY,
    PASSING,
    Backend,
    BatchBackend,
    Observer,
    RemoteBackend,
    Reply,
    Request,
    Tries,
    Usage,
    WorksElsewhere,
)
from tapir.models.ledger import Entry, Ledger
from tapir.models.limits import Breaker, Throttle
from tapir.models.sender import Call, Desk, Sender
from tapir.types import canonical_json

LOOKUP_ROWS = 256
"""Rows looked up together."""
WINDOW_ROWS = 1024
"""Least rows held between the first one not yet handed on and the last one taken; bounds memory."""
WINDOW_PER_PLACE = 8
BATCH_WINDOW_ROWS = 256
"""Requests sorted by length and cut into batches together. Part of what makes batches canonical: fixed."""
PULL_S = 0.05
"""How long slow input may hold up the calls it has already given."""

KeysUsed = Callable[[str, str], None]


@dataclass(slots=True, eq=False)
class Place:
    """One row's place in the order."""

    request: Request
    address: str
    reply: Reply | None = None


@dataclass(frozen=True, slots=True)
class Terms:
    """One run of a stage, and which replies it takes."""

    stage: str
    accept_truncated: bool
    accept_empty: bool

    def read(self, reply: Reply) -> Reply:
        """The reply as this stage sees it. The ledger keeps it unjudged: another stage may take what this refuses."""
        if reply.problem:
            return reply
        if reply.finish_reason == "length" and not self.accept_truncated:
            return replace(reply, problem="truncated")
        if not reply.text.strip() and not self.accept_empty:
            return replace(reply, problem="empty")
        return reply


class Caller:
    """Calls one role's model. `usage` tells by stage what it came to; `keys_used` hears (stage, address) of each row,
    `expects` how many calls are to come, where that is known.

    The throttle may be shared by callers of one endpoint; `writer` names the run directory that calls. A caller may run
    several stages, also at the same time.
    """

    def __init__(
        self,
        backend: Backend,
        ledger: Ledger,
        *,
        limits: config.Limits | None = None,
        budget: config.Budget | None = None,
        price: config.Price | None = None,
        run_id: str = "",
        observers: Sequence[Observer] = (),
        keys_used: KeysUsed | None = None,
        expects: Callable[[int], None] | None = None,
        throttle: Throttle | None = None,
        extra_body: Mapping[str, Any] | None = None,
        writer: str = "",
    ) -> None:
        limits = limits or config.Limits()
        self.ledger = ledger
        self.identity = backend.identity
        self.usage: dict[str, Usage] = {}
        self.ration = Ration(run_id, budget)
        self.tariff = Tariff(price)
        self.throttle = throttle or Throttle(limits)
        self.writer = writer
        self.breaker = Breaker(backend.identity)
        self.retries = limits.retries
        self._observers = tuple(observers)
        self._keys_used = keys_used
        self._expects = expects
        self._extra = canonical_json(dict(extra_body)) if extra_body else ""
        """Further body fields of every request, whichever stage makes it."""
        self.remote: RemoteBackend | None = None
        self.batch_backend: BatchBackend | None = None
        if isinstance(backend, RemoteBackend | WorksElsewhere):
            self.ration.require_price(price, backend.identity)
        if isinstance(backend, RemoteBackend):
            self.remote = backend
        else:
            self.batch_backend = backend

    def run(
        self,
        requests: Iterable[Request],
        *,
        stage: str,
        accept_truncated: bool = False,
        accept_empty: bool = False,
    ) -> Iterator[tuple[Request, Reply]]:
        """Each request with its reply, in the order given, in constant memory.

        A bad row comes with `reply.problem`; truncated and empty replies are bad unless accepted. Raises
        `EndpointError`, `BudgetReached` or `ReplayMiss`; whatever was finished by then is in the ledger.
        """
        terms = Terms(stage, accept_truncated, accept_empty)
        if self._expects and isinstance(requests, Sized):
            self._expects(len(requests))
        rows = self._run_batches(requests, terms) if self.batch_backend else self._run_remote(requests, terms)
        for place in rows:
            if self._keys_used:
                self._keys_used(stage, place.address)
            assert place.reply is not None
            yield place.request, place.reply

    def one(self, request: Request, *, stage: str) -> Reply:
        """A single call, for `doctor` and `chat`."""
        return next(reply for _, reply in self.run([request], stage=stage))

    def lookup(self, places: Sequence[Place], terms: Terms, *, count: bool = True) -> list[Place]:
        """Fill in the replies that the ledger holds, and count them; the places that are left."""
        found = self.ledger.get_many([place.address for place in places])
        missing: list[Place] = []
        for place in places:
            reply = found.get(place.address)
            if reply is not None:
                place.reply = self.account(reply, terms) if count else terms.read(reply)
            elif self.ledger.replay:
                raise ReplayMiss(
                    f"stage {terms.stage}, row {place.request.row or '?'}: {self.ledger.path} holds no call "
                    f"{place.address[:16]} to {self.identity}; run without `ledger.replay`, or import the recording"
                )
            else:
                missing.append(place)
        return missing

    def account(self, reply: Reply, terms: Terms, tries: Tries = ONE_TRY) -> Reply:
        """Count a reply that is there, and what its failed tries may have cost."""
        reply = terms.read(reply)
        usage = self.usage.setdefault(terms.stage, Usage())
        usage.count(reply, tries)
        for observer in self._observers:
            observer(reply, tries, usage)
        return reply

    # --- endpoints ---

    def _run_remote(self, requests: Iterable[Request], terms: Terms) -> Iterator[Place]:
        self.throttle.forget_pace()
        flow = _Flow(self, requests, terms)
        try:
            yield from flow.rows()
        finally:
            flow.close()

    def sender(self, stage: str) -> Sender:
        assert self.remote is not None
        desk = Desk(self.remote, self.ledger, self.ration, self.tariff, self.throttle, self.breaker, self.retries)
        return Sender(desk, stage)

    # --- engines in this process ---

    def _run_batches(self, requests: Iterable[Request], terms: Terms) -> Iterator[Place]:
        backend = self.batch_backend
        assert backend is not None
        for window in self.windows(requests):
            unique = canonical(window)
            missing = {place.address for place in self.lookup(unique, terms)}
            for batch in cut(unique, missing, backend.batch_size):
                bounds = self.reserve(batch, terms)
                try:
                    generated = backend.generate([place.request for place in batch])
                except BaseException:  # an interrupt above all
                    self._give_back(batch, bounds, terms)
                    raise
                self.commit(batch, bounds, generated, terms)
            replies = {place.address: place.reply for place in unique}
            for place in window:
                reply = replies[place.address]
                if place.reply is None and reply is not None:
                    place.reply = self.account(replace(reply, cached=True), terms)
            yield from window

    @property
    def batch_size(self) -> int:
        return self.batch_backend.batch_size if self.batch_backend else 1

    def windows(self, requests: Iterable[Request]) -> Iterator[list[Place]]:
        """The rows that are sorted and cut into batches together."""
        source = iter(requests)
        size = max(BATCH_WINDOW_ROWS, self.batch_size)
        while window := [self.place(r) for r in islice(source, size)]:
            yield window

    def reserve(self, batch: list[Place], terms: Terms) -> list[Spend]:
        """The batch's share of the budget, row by row; `BudgetReached` where it does not fit."""
        bounds = [self.tariff.bound(place.request) for place in batch]
        self._reserve_whole(batch, bounds, terms)
        return bounds

    def commit(self, batch: list[Place], bounds: list[Spend], generated: Sequence[Reply], terms: Terms) -> None:
        """Keep a generated batch and what it came to, whole, and fill in its replies."""
        replies = [self._billed(reply, bound) for reply, bound in zip(generated, bounds, strict=True)]
        run_id = self.ration.run_id
        entries = [
            Entry(place.address, self.identity, place.request, reply, terms.stage, run_id, reply.problem in PASSING)
            for place, (reply, _) in zip(batch, replies, strict=True)
        ]
        with self.ledger.transaction() as db:
            standing = self.ledger.put_in(db, entries)
            settled = [(bound, actual) for bound, (_, actual) in zip(bounds, replies, strict=True)]
            self.ration.settle(db, terms.stage, settled, reserved_as=self.reserved_as(terms))
            if self._elsewhere:
                self.ledger.take_off_jobs(db, self.identity, {place.address for place in batch})
        for place, (reply, _) in zip(batch, replies, strict=True):
            place.reply = self.account(standing.get(place.address, reply), terms)

    def _reserve_whole(self, batch: list[Place], bounds: list[Spend], terms: Terms) -> None:
        """A batch goes as a whole or not at all: half of it would not be canonical."""
        elsewhere = self._elsewhere
        before = elsewhere.reserved_before() if elsewhere else frozenset[str]()
        new = [bound for place, bound in zip(batch, bounds, strict=True) if place.address not in before]
        with self.ledger.transaction() as db:
            counter = self.reserved_as(terms) or terms.stage
            granted = self.ration.reserve(db, counter, new)
            if granted < len(new):
                self.ration.settle(db, counter, [(bound, NOTHING) for bound in new[:granted]])
        if granted < len(new):
            with self.ledger.reading() as db:
                raise BudgetReached(self.ration.refusal(db, terms.stage, sum(new, NOTHING)))

    def _give_back(self, batch: list[Place], bounds: list[Spend], terms: Terms) -> None:
        """A batch that failed costs nothing, but for rows that are under way elsewhere, or may be."""
        elsewhere = self._elsewhere
        sent = elsewhere.reserved_before() | elsewhere.perhaps_sent() if elsewhere else frozenset[str]()
        unsent = [(bound, NOTHING) for place, bound in zip(batch, bounds, strict=True) if place.address not in sent]
        with self.ledger.transaction() as db:
            self.ration.settle(db, self.reserved_as(terms) or terms.stage, unsent)

    @property
    def _elsewhere(self) -> WorksElsewhere | None:
        return self.batch_backend if isinstance(self.batch_backend, WorksElsewhere) else None

    def reserved_as(self, terms: Terms) -> str:
        """The counter of what is reserved, where it is not the stage's own."""
        return ""

    def _billed(self, reply: Reply, bound: Spend) -> tuple[Reply, Spend]:
        actual = self.tariff.actual(reply, bound)
        return replace(reply, cost_usd=actual.usd), actual

    def place(self, request: Request) -> Place:
        if self._extra:
            request = replace(request, sampling=replace(request.sampling, extra=self._extra))
        return Place(request, request.address(self.identity))


def canonical(window: Iterable[Place]) -> list[Place]:
    """The window's places, equal requests once, in the order in which batches are cut."""
    unique = list({place.address: place for place in window}.values())
    unique.sort(key=lambda p: (sum(len(m.content) for m in p.request.messages), p.address))
    return unique


def cut(unique: Sequence[Place], missing: set[str], size: int) -> Iterator[list[Place]]:
    """What is missing of each canonical batch.

    Batches are cut over all rows of the window, whatever the ledger holds of them, so that an interrupted run and
    its resumption cut alike.
    """
    for start in range(0, len(unique), size):
        batch = [p for p in unique[start : start + size] if p.address in missing]
        if batch:
            yield batch


class _Flow:
    """One stage's rows on their way to an endpoint and back into order."""

    def __init__(self, caller: Caller, requests: Iterable[Request], terms: Terms) -> None:
        self._caller = caller
        self._terms = terms
        self._source = iter(requests)
        self._exhausted = False
        self._window: deque[Place] = deque()
        self._size = max(WINDOW_ROWS, WINDOW_PER_PLACE * caller.throttle.most)
        self._pending: dict[str, list[Place]] = {}
        self._sender: Sender | None = None

    def rows(self) -> Iterator[Place]:
        while True:
            taking = not self._exhausted and self._size - len(self._window) >= LOOKUP_ROWS
            if taking:
                self._take()
            while self._window and self._window[0].reply is not None:
                yield self._window.popleft()
            if self._pending:
                # With room left, more input comes before waiting.
                self._collect(wait=not taking)
            elif self._exhausted and not self._window:
                return

    def close(self) -> None:
        if self._sender is not None:
            self._sender.close()

    def _take(self) -> None:
        """The next rows of the input: looked up, and sent where the ledger does not hold them."""
        fresh: list[Place] = []
        until = time.monotonic() + PULL_S
        for request in self._source:
            fresh.append(self._caller.place(request))
            if len(fresh) == LOOKUP_ROWS or time.monotonic() > until:
                break
        else:
            self._exhausted = True
        self._window.extend(fresh)
        calls: list[Call] = []
        twins = [place for place in fresh if place.address in self._pending]
        for place in self._caller.lookup([p for p in fresh if p.address not in self._pending], self._terms):
            twin_of = self._pending.setdefault(place.address, [])
            if not twin_of:
                calls.append(Call(place.request, place.address))
            twin_of.append(place)
        for place in twins:
            self._pending[place.address].append(place)
        if calls:
            if self._sender is None:
                self._sender = self._caller.sender(self._terms.stage)
            self._sender.submit(calls)

    def _collect(self, *, wait: bool) -> None:
        """Put finished calls into their places, waiting for some if asked to."""
        assert self._sender is not None
        try:
            report = self._sender.reports.get(block=wait)
        except queue.Empty:
            return
        if isinstance(report, BaseException):
            raise report
        for call in report:
            assert call.reply is not None
            first, *twins = self._pending.pop(call.address)
            first.reply = self._caller.account(call.reply, self._terms, Tries(call.sent - 1, call.lost_usd))
            for twin in twins:
                twin.reply = self._caller.account(replace(call.reply, cached=True), self._terms)
