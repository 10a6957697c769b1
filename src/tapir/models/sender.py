"""Sends the calls of one stage to an endpoint: many at once, limited, budgeted, retried, each reply durable.

Runs an event loop in a thread of its own, so that the stage's own work never makes a socket wait. A call passes
`waiting → reserved → on the wire → finished → committed`; reservations, bills and replies of a few milliseconds share
one transaction. A call holds its place in the in-flight cap until its reply is durable: what a kill can cost is at
most what was in flight. Order, cache and windows are `engine`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import random
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from tapir.errors import BudgetReached, EndpointError
from tapir.models import chat_protocol
from tapir.models.budget import NOTHING, REFUSED, Ration, Spend, Tariff
from tapir.models.calls import PassingFailure, RemoteBackend, Reply, Request
from tapir.models.ledger import Entry, Ledger
from tapir.models.limits import Breaker, Throttle

GATHER_S = 0.002
"""How long finished calls wait for company before they are committed."""
FIRST_RETRY_S = 0.25
RETRY_GROWTH = 2.5
LONGEST_RETRY_S = 60.0
PRESSURE_RETRIES = 4
"""429s are not failures of a row: it may be told to wait this many times as often as it may fail."""


@dataclass(slots=True, eq=False)
class Call:
    """One request under way. `reply` is there once the call is finished and its reply durable."""

    request: Request
    address: str
    bound: Spend = NOTHING
    sent: int = 0
    failed: int = 0
    pressed: int = 0
    failed_at: str = ""
    """Where the last try failed."""
    reply: Reply | None = None
    lost_usd: float = 0.0
    """What tries that failed may have cost."""

    @property
    def likely_tokens(self) -> int:
        """For rates, which bear an estimate where a cap needs a bound: three bytes a token, and the whole reply."""
        return self.bound.prompt_tokens // 3 + self.bound.completion_tokens


@dataclass(frozen=True, slots=True)
class _Finish:
    """The end of one try, to be committed: its bill, and its entry or the time until the next try."""

    call: Call
    actual: Spend
    entry: Entry | None = None
    retry_in_s: float = 0.0
    holds_place: bool = True
    """Whether the call still counts as in flight."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What a stage's sender shares with the caller's other stages."""

    backend: RemoteBackend
    ledger: Ledger
    ration: Ration
    tariff: Tariff
    throttle: Throttle
    breaker: Breaker
    retries: int
    rng: random.Random = field(default_factory=random.Random)
    """Jitter only: no result depends on it."""


Report = list[Call] | BaseException


class Sender:
    """One stage's sending. `submit` from any thread; finished calls and the error that ends it come in `reports`."""

    def __init__(self, desk: Desk, stage: str) -> None:
        self._desk = desk
        self._stage = stage
        self.reports: queue.SimpleQueue[Report] = queue.SimpleQueue()
        self._waiting: deque[Call] = deque()
        self._reserved: deque[Call] = deque()
        self._finished: list[_Finish] = []
        self._held_back: list[_Finish] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._sleeping = 0
        self._blocked = False
        self._stopping = False
        self._lookahead = max(1, desk.throttle.most // 2)
        self._loop = asyncio.new_event_loop()
        self._dirty = asyncio.Event()
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="tapir-ledger")
        self._thread = threading.Thread(target=self._run, name=f"tapir-calls-{stage}", daemon=True)
        self._thread.start()

    # --- the caller's side ---

    def submit(self, calls: Sequence[Call]) -> None:
        # A loop that has ended by itself (a cap was reached, the endpoint is wrong) has put its error into `reports`
        # first; whoever submits reads it there, and must not meet a closed loop instead.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._accept, list(calls))

    def close(self) -> None:
        """Stop at once: calls on the wire are given up and count as spent in full, unsent ones are given back."""
        with contextlib.suppress(RuntimeError):  # the loop has ended by itself, in an error already reported
            self._loop.call_soon_threadsafe(self._stop)
        self._thread.join()
        self._disk.shutdown()

    # --- the loop's side ---

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._commit_until_stopped())
        except BaseException as error:  # noqa: BLE001 - raised again by whoever reads the reports
            self.reports.put(error)

    def _accept(self, calls: list[Call]) -> None:
        for call in calls:
            call.bound = self._desk.tariff.bound(call.request)
        self._waiting.extend(calls)
        self._dirty.set()

    def _stop(self) -> None:
        self._stopping = True
        self._dirty.set()

    def _fail(self, error: BaseException) -> None:
        if not self._stopping:
            self.reports.put(error)
            self._stop()

    def _pump(self) -> None:
        """Start what may start; come back when the throttle says so."""
        while self._reserved and not self._stopping:
            wait_s = self._desk.throttle.try_start(self._reserved[0].likely_tokens)
            if wait_s > 0:
                self._pump_later(wait_s)
                break
            task = self._loop.create_task(self._try(self._reserved.popleft()))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if self._waiting and not self._blocked and len(self._reserved) < self._lookahead:
            self._dirty.set()

    def _pump_later(self, wait_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if wait_s == float("inf"):
            if self._tasks or self._finished:
                return  # a finishing call of ours will pump
            wait_s = 0.05  # every place is another stage's
        self._timer = self._loop.call_later(wait_s, self._pump)

    async def _try(self, call: Call) -> None:
        call.sent += 1
        start = time.monotonic()
        try:
            reply = await self._desk.backend.send(call.request, avoid=call.failed_at)
        except PassingFailure as failure:
            self._failed(call, failure)
        except Exception as error:  # noqa: BLE001 - reported, and raised by the stage
            self._finished.append(_Finish(call, REFUSED if isinstance(error, EndpointError) else call.bound))
            self._fail(error)
        else:
            self._answered(call, reply, time.monotonic() - start)
        self._dirty.set()

    def _answered(self, call: Call, reply: Reply, seconds: float) -> None:
        desk = self._desk
        if reply.problem == "bad_request":
            return self._turned_down(call, reply)
        desk.breaker.answered()
        desk.throttle.answered(seconds, reply.completion_tokens)
        actual = desk.tariff.actual(reply, call.bound)
        reply = replace(
            reply,
            prompt_tokens=actual.prompt_tokens,
            completion_tokens=actual.completion_tokens,
            cost_usd=actual.usd,
        )
        self._finished.append(_Finish(call, actual, self._entry(call, reply)))
        self._release_held_back()
        return None

    def _turned_down(self, call: Call, reply: Reply) -> None:
        """A row the endpoint calls malformed; kept only once it is sure that not every request is."""
        if self._desk.breaker.successes:
            self._finished.append(_Finish(call, REFUSED, self._entry(call, reply)))
            return
        # Its place goes to others, of which one may be accepted.
        self._desk.throttle.finish()
        self._held_back.append(_Finish(call, REFUSED, self._entry(call, reply, passing=True), holds_place=False))
        error = self._desk.breaker.refused_all(len(self._held_back), chat_protocol.excerpt(reply.raw))
        if error:
            self._fail(error)

    def _release_held_back(self) -> None:
        """The endpoint does accept requests, so those it turned down were bad rows."""
        for held in self._held_back:
            entry = held.entry and replace(held.entry, passing=False)
            self._finished.append(replace(held, entry=entry))
        self._held_back.clear()

    def _failed(self, call: Call, failure: PassingFailure) -> None:
        desk = self._desk
        actual = call.bound if failure.billed else REFUSED
        call.lost_usd += actual.usd
        call.failed_at = failure.at
        if failure.pressure:
            desk.throttle.pushed_back(failure.retry_after_s)
        if failure.reason == "rate_limited":
            call.pressed += 1
        elif not (failure.unreachable and failure.elsewhere):
            # Meeting one dead address of several uses up none of a row's tries; the address rests, so it ends.
            call.failed += 1
        if call.failed <= desk.retries and call.pressed <= PRESSURE_RETRIES * desk.retries:
            self._finished.append(_Finish(call, actual, retry_in_s=self._pause_s(call, failure)))
            return
        error = desk.breaker.gave_up(failure)
        reply = Reply(finish_reason="error", problem=failure.reason, raw=failure.detail.encode())
        self._finished.append(_Finish(call, actual, self._entry(call, reply, passing=True)))
        if error:
            self._fail(error)

    def _pause_s(self, call: Call, failure: PassingFailure) -> float:
        growing = FIRST_RETRY_S * RETRY_GROWTH ** max(0, call.failed + call.pressed - 1)
        pause_s = min(growing, LONGEST_RETRY_S) * self._desk.rng.uniform(0.6, 1.4)
        # What the server asked for is a minimum; the jitter on top keeps callers from coming back all at once.
        return max(pause_s, (failure.retry_after_s or 0.0) * self._desk.rng.uniform(1.0, 1.1))

    def _entry(self, call: Call, reply: Reply, *, passing: bool = False) -> Entry:
        desk = self._desk
        return Entry(
            address=call.address,
            identity=desk.backend.identity,
            request=call.request,
            reply=reply,
            stage=self._stage,
            run=desk.ration.run_id,
            passing=passing,
        )

    # --- committing ---

    async def _commit_until_stopped(self) -> None:
        try:
            while not self._stopping:
                await self._dirty.wait()
                self._dirty.clear()
                if self._finished:
                    await asyncio.sleep(GATHER_S)
                await self._commit_round()
        finally:
            await self._wind_up()

    async def _commit_round(self) -> None:
        finished, self._finished = self._finished, []
        self._blocked = self._blocked and not finished
        asks = self._take_asks()
        if not (finished or asks or self._held_back):
            return
        standing, granted = await self._loop.run_in_executor(self._disk, self._commit, finished, asks)
        self._reserved.extend(asks[:granted])
        self._waiting.extendleft(reversed(asks[granted:]))
        self._blocked = granted < len(asks)
        self._settle(finished, standing)
        self._pump()
        if self._blocked and not (self._tasks or self._reserved or self._finished):
            self._refuse()
        elif self._held_back and not (self._tasks or self._reserved or self._waiting or self._sleeping):
            # Nothing else is left, and they are too few to blame the endpoint: bad rows, to be sent again next time.
            self._finished += self._held_back
            self._held_back.clear()
            self._dirty.set()

    def _take_asks(self) -> list[Call]:
        if self._blocked or self._stopping:
            return []
        # As many as can start at once, and some more so that a freed place never waits for the disk.
        room = self._desk.throttle.ceiling - self._desk.throttle.in_flight + self._lookahead - len(self._reserved)
        return [self._waiting.popleft() for _ in range(min(max(0, room), len(self._waiting)))]

    def _commit(self, finished: list[_Finish], asks: list[Call]) -> tuple[dict[str, Reply], int]:
        """In the disk's thread: one transaction for replies, bills and reservations."""
        desk = self._desk
        with desk.ledger.transaction() as db:
            standing = desk.ledger.put_in(db, [f.entry for f in finished if f.entry])
            desk.ration.settle(db, self._stage, [(f.call.bound, f.actual) for f in finished])
            granted = desk.ration.reserve(db, self._stage, [call.bound for call in asks]) if asks else 0
        return standing, granted

    def _settle(self, finished: list[_Finish], standing: dict[str, Reply]) -> None:
        """Free the places of committed calls, report those that are done, and send others again in time."""
        done: list[Call] = []
        for finish in finished:
            if finish.holds_place:
                self._desk.throttle.finish()
            if finish.entry is not None:
                finish.call.reply = standing.get(finish.call.address, finish.entry.reply)
                done.append(finish.call)
            elif not self._stopping:
                self._sleeping += 1
                self._loop.call_later(finish.retry_in_s, self._again, finish.call)
        if done:
            self.reports.put(done)

    def _again(self, call: Call) -> None:
        self._sleeping -= 1
        self._waiting.appendleft(call)
        self._dirty.set()

    def _refuse(self) -> None:
        with self._desk.ledger.reading() as db:
            message = self._desk.ration.refusal(db, self._stage, self._waiting[0].bound)
        self._fail(BudgetReached(message))

    async def _wind_up(self) -> None:
        """Keep what is finished, give back what was not sent; the rest stays counted as spent."""
        self._stopping = True
        if self._timer is not None:
            self._timer.cancel()
        on_the_wire = list(self._tasks)
        for task in on_the_wire:
            task.cancel()
        await asyncio.gather(*on_the_wire, return_exceptions=True)
        unsent = [_Finish(call, NOTHING) for call in self._reserved]
        finished = [*self._finished, *self._held_back]
        if finished or unsent:
            await self._loop.run_in_executor(self._disk, self._commit, [*finished, *unsent], [])
        given_up = sum(task.cancelled() for task in on_the_wire)
        for _ in range(given_up + sum(f.holds_place for f in finished)):
            self._desk.throttle.finish()
        await self._desk.backend.aclose()
