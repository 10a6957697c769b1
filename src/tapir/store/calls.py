"""A run's model calls in its store: what it has paid for outlives the machine, also in a step that is under way.

While a run works, its new calls go to `STORE/RUN/calls/` as recordings, with what it has spent and the batch jobs that
it waits for beside them. A machine whose ledger has not got them takes them in before it asks anything. The ledger
itself stays on local disk.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tapir.errors import DataError
from tapir.models.ledger import Ledger
from tapir.models.ledger_files import import_, write_recording
from tapir.store.remote import RemoteStore
from tapir.store.rundir import write_json

SAVE_EVERY_S = 60.0
ACCOUNT = "account.json"
RECORDING = ".jsonl.gz"


class StoredCalls:
    """The calls that one run, or an ablation's arms, have paid for under one name."""

    def __init__(self, store: RemoteStore, url: str, ledger: Ledger, *, run: str, name: str) -> None:
        self._store, self._ledger, self._run = store, ledger, run
        self._folder = f"{name}/calls"
        self._place = f"{url.rstrip('/')}/{self._folder}"
        self._told: dict[str, Any] = {}
        self._seen = 0
        """Up to which call this ledger has none that is still to be copied."""

    def bring(self) -> int:
        """Take in what the store has and this ledger has not; how many calls."""
        known, there = self._ledger.copies(self._place), self._store.names_in(self._folder)
        new = 0
        with tempfile.TemporaryDirectory() as folder:
            for name in (n for n in there if n.endswith(RECORDING) and n not in known):
                self._store.fetch(f"{self._folder}/{name}", Path(folder) / name)
                new += import_(self._ledger, Path(folder) / name)
                self._ledger.note_copy(self._place, name)
            if ACCOUNT in there:
                self._store.fetch(f"{self._folder}/{ACCOUNT}", Path(folder) / ACCOUNT)
                self._take(Path(folder) / ACCOUNT)
        return new

    def _take(self, account: Path) -> None:
        try:
            self._ledger.take_account(self._run, json.loads(account.read_text(encoding="utf-8")))
        except (ValueError, TypeError, LookupError, AttributeError, sqlite3.Error) as error:
            raise DataError(
                f"{self._place}/{ACCOUNT}: no account of a run ({error!r}); delete it, and caps count from this ledger"
            ) from None

    def save(self) -> None:
        """Copy what is new since the last time, this process's or an earlier one's."""
        until = self._ledger.last_call()
        after = max([self._seen, *self._ledger.copies(self._place).values()])
        with tempfile.TemporaryDirectory() as folder:
            name = f"{until:012}-{secrets.token_hex(4)}{RECORDING}"
            if after < until and write_recording(Path(folder) / name, self._ledger.paid_by(self._run, after, until)):
                self._store.put(Path(folder) / name, f"{self._folder}/{name}")
                self._ledger.note_copy(self._place, name, until)
            self._seen = until
            # After the calls: a job that they answer is told of once more, and not a call that nobody has.
            account = self._ledger.account(self._run)
            if account != self._told and account["spent"]:
                write_json(Path(folder) / ACCOUNT, account)
                self._store.put(Path(folder) / ACCOUNT, f"{self._folder}/{ACCOUNT}")
                self._told = account

    @contextmanager
    def saving(self, say: Callable[[str], None], every_s: float = SAVE_EVERY_S) -> Generator[None]:
        """Save now and then while the block runs, and at its end. A store that fails stops nothing: steps need it too,
        and say so."""
        over = threading.Event()

        def work() -> None:
            while not over.wait(every_s):
                self._try_to_save(say)

        thread = threading.Thread(target=work, name="tapir-store", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            self._try_to_save(say)

    def _try_to_save(self, say: Callable[[str], None]) -> None:
        try:
            self.save()
        except (DataError, OSError) as error:
            say(f"{error}; until then calls are in {self._ledger.path} alone")
