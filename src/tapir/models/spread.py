"""Calling a backend that works on many batches at once, so that its tables are those of one that works on one.

Owns the account: batches are cut as `engine` cuts them, handed out all together, and kept in the ledger, each whole, as
they come back in any order; the rows are then read from there in the order given. Where batches go is the backend's
business (`tapir.executors`).

A stage's requests wait on disk meanwhile, not in memory: there may be a million.
"""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import IO, Any

from tapir.errors import BudgetReached, DataError
from tapir.models.budget import Spend
from tapir.models.calls import PASSING, Reply, Request, SpreadBackend
from tapir.models.engine import Caller, Place, Terms, canonical, cut


class SpreadCaller(Caller):
    """A `Caller` of a `SpreadBackend`."""

    def _run_batches(self, requests: Iterable[Request], terms: Terms) -> Iterator[Place]:
        backend = self.batch_backend
        assert isinstance(backend, SpreadBackend)
        with _Shelf() as windows, _Shelf() as handed_out:
            work = _Work(self, terms, windows, handed_out)
            for number, replies in backend.generate_all(work.batches(requests)):
                work.take_back(number, replies)
            if work.refusal is not None:
                raise work.refusal
            yield from work.rows()


class _Work:
    """One stage's rows: cut, handed out, taken back, read."""

    def __init__(self, caller: SpreadCaller, terms: Terms, windows: _Shelf, handed_out: _Shelf) -> None:
        self.refusal: BudgetReached | None = None
        self._caller, self._terms = caller, terms
        self._windows, self._handed_out = windows, handed_out
        # 33 bytes an address, where its hex text would be 113.
        self._fresh: set[bytes] = set()
        """What this run generates, and has not handed on yet."""
        self._passing: dict[str, Reply] = {}
        """Failures that may pass: the ledger does not serve them."""

    def batches(self, requests: Iterable[Request]) -> Iterator[list[Request]]:
        """All batches that the ledger lacks, as far as the budget goes."""
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
            for batch in cut(unique, missing, self._caller.batch_size):
                try:
                    bounds = self._caller.reserve(batch, self._terms)
                except BudgetReached as refusal:
                    self.refusal = refusal
                    return
                self._fresh.update(bytes.fromhex(place.address) for place in batch)
                self._handed_out.add((batch, bounds))
                yield [place.request for place in batch]

    def take_back(self, number: int, replies: list[Reply]) -> None:
        batch: list[Place]
        bounds: list[Spend]
        batch, bounds = self._handed_out.get(number)
        self._caller.commit(batch, bounds, replies, self._terms)
        for place in batch:
            if place.reply is not None and place.reply.problem in PASSING:
                self._passing[place.address] = place.reply

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
