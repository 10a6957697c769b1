"""Calling a backend that works on many batches at once, so that its tables are those of one that works on one.

Owns the account: batches are cut as `engine` cuts them, handed out all together, and kept in the ledger, each whole, as
they come back in any order; the rows are then read from there in the order given. Where batches go is the backend's
business (`tapir.executors`). What is handed out is reserved at its upper bound, so a cap may leave room for a part: it
comes back, has cost less, and makes room for the next.

A stage's requests wait on disk meanwhile, not in memory: there may be a million.
"""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import IO, Any

from tapir.errors import BudgetReached, DataError
from tapir.models.budget import NOTHING, Spend, handed_out
from tapir.models.calls import PASSING, Reply, Request, SpreadBackend
from tapir.models.engine import Caller, Place, Terms, canonical, cut


class SpreadCaller(Caller):
    """A `Caller` of a `SpreadBackend`."""

    def _run_batches(self, requests: Iterable[Request], terms: Terms) -> Iterator[Place]:
        backend = self.batch_backend
        assert isinstance(backend, SpreadBackend)
        with _Shelf() as windows, _Shelf() as shelf:
            work = _Work(self, requests, terms, windows, shelf)
            try:
                while work.left:
                    for number, replies in backend.generate_all(work.next_part()):
                        work.take_back(number, replies)
            finally:
                work.release()
            yield from work.rows()

    def reserved_as(self, terms: Terms) -> str:
        return handed_out(self.writer, terms.stage)


class _Work:
    """One stage's rows: cut, handed out part by part, taken back, read."""

    def __init__(
        self, caller: SpreadCaller, requests: Iterable[Request], terms: Terms, windows: _Shelf, shelf: _Shelf
    ) -> None:
        self.left = True
        """Whether there are batches yet to hand out, as far as is known."""
        self._caller, self._terms = caller, terms
        self._windows, self._handed_out = windows, shelf
        self._missing = self._cut(requests)
        self._refused: list[Place] | None = None
        """The batch that the cap had no room for, which comes next."""
        self._part_began = 0
        self._outstanding = NOTHING
        """What is reserved for batches that have not come back."""
        # 33 bytes an address, where its hex text would be 113.
        self._fresh: set[bytes] = set()
        """What this run generates, and has not handed on yet."""
        self._passing: dict[str, Reply] = {}
        """Failures that may pass: the ledger does not serve them."""

    def _cut(self, requests: Iterable[Request]) -> Iterator[list[Place]]:
        """All batches that the ledger lacks."""
        for window in self._caller.windows(requests):
            unique = canonical(window)
            # One that an earlier window handed out will be in the ledger by the time that this one would be done.
            missing = {
                place.address
                for place in self._caller.lookup(unique, self._terms, count=False)
                if bytes.fromhex(place.address) not in self._fresh
            }
            for place in window:
                place.reply = None
            self._windows.add(window)
            yield from cut(unique, missing, self._caller.batch_size)

    def next_part(self) -> Iterator[list[Request]]:
        """The batches that come next, as far as the budget goes while none of them has come back.

        Raises `BudgetReached` where it does not reach for one, with nothing outstanding.
        """
        self._part_began = len(self._handed_out)
        while batch := self._refused or next(self._missing, None):
            try:
                bounds = self._caller.reserve(batch, self._terms)
            except BudgetReached:
                if self._outstanding == NOTHING:
                    raise
                self._refused = batch
                return
            self._refused = None
            self._outstanding += sum(bounds, NOTHING)
            self._fresh.update(bytes.fromhex(place.address) for place in batch)
            self._handed_out.add((batch, bounds))
            yield [place.request for place in batch]
        self.left = False

    def take_back(self, number: int, replies: list[Reply]) -> None:
        batch: list[Place]
        bounds: list[Spend]
        batch, bounds = self._handed_out.get(self._part_began + number)
        self._caller.commit(batch, bounds, replies, self._terms)
        self._outstanding -= sum(bounds, NOTHING)
        for place in batch:
            if place.reply is not None and place.reply.problem in PASSING:
                self._passing[place.address] = place.reply

    def release(self) -> None:
        """Give back what is reserved for batches that did not come back, whatever the reason."""
        if self._outstanding != NOTHING:
            caller = self._caller
            with caller.ledger.transaction() as db:
                caller.ration.settle(db, caller.reserved_as(self._terms), [(self._outstanding, NOTHING)])

    def rows(self) -> Iterator[Place]:
        """Every row in the order given, its reply from the ledger."""
        for window in self._windows.all():
            found = self._caller.ledger.get_many([place.address for place in window]) | self._passing
            for place in window:
                reply = found.get(place.address)
                if reply is None:
                    raise DataError(
                        f"{self._terms.stage}: row {place.request.row} was handed out and did not come back; run again "
                        "to go on, and please report this as a bug"
                    )
                mark = bytes.fromhex(place.address)
                if mark in self._fresh:
                    self._fresh.remove(mark)
                    place.reply = replace(self._terms.read(reply), cached=False)
                else:
                    place.reply = self._caller.account(replace(reply, cached=True), self._terms)
                yield place


class _Shelf:
    """Plain data in a temporary file of this process, by number."""

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed by __exit__)
        self._starts: list[int] = []
        self._end = 0

    def __enter__(self) -> _Shelf:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._starts)

    def add(self, value: Any) -> None:
        raw = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
        self._file.seek(self._end)
        self._file.write(raw)
        self._starts.append(self._end)
        self._end += len(raw)

    def get(self, number: int) -> Any:
        self._file.seek(self._starts[number])
        # Written a moment ago by this process to a file that has no name.
        return pickle.load(self._file)

    def all(self) -> Iterator[Any]:
        for number in range(len(self._starts)):
            yield self.get(number)
