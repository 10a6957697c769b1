"""Every reply ever paid for, by the content address of its request: one SQLite file a project.

Owns what is kept and how it is found again. Which calls are made, and when, is `engine`'s; what a run may spend is
`budget`'s, whose counters live in the same file so that a reply and its bill are one transaction. Exporting and
importing is `ledger_files`'.
"""

from __future__ import annotations

import math
import sqlite3
import threading
import time
import zlib
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tapir.errors import DataError
from tapir.models import records
from tapir.models.calls import Reply, Request

VERSION = 2
BUSY_TIMEOUT_S = 60
LOOKUP_ADDRESSES = 10_000
"""Of one query: SQLite allows 32,766 variables by default."""
SYNC_EVERY_S = 1.0
"""Forcing each transaction to disk would make fast calls wait for it; what a machine that dies can take with it is the
calls of so long."""
PACK_FROM_BYTES = 400
"""Shorter blobs do not shrink."""

_CALLS = """
CREATE TABLE IF NOT EXISTS calls(
    address TEXT PRIMARY KEY,
    identity TEXT NOT NULL, stage TEXT NOT NULL, run TEXT NOT NULL, made_at REAL NOT NULL,
    problem TEXT, passing INTEGER NOT NULL, origin TEXT,
    prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, cost_usd REAL NOT NULL,
    reply BLOB NOT NULL, request BLOB NOT NULL, raw BLOB NOT NULL)
"""
_SPENDING = """
CREATE TABLE IF NOT EXISTS spending(
    run TEXT NOT NULL, stage TEXT NOT NULL,
    calls INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL,
    pico_usd INTEGER NOT NULL,
    PRIMARY KEY(run, stage)) WITHOUT ROWID
"""
_JOBS = """
CREATE TABLE IF NOT EXISTS batch_jobs(
    id TEXT PRIMARY KEY, identity TEXT NOT NULL, addresses BLOB NOT NULL, state TEXT NOT NULL,
    run TEXT NOT NULL DEFAULT '')
"""
_COPIES = """
CREATE TABLE IF NOT EXISTS copies(
    place TEXT NOT NULL, name TEXT NOT NULL, last INTEGER NOT NULL,
    PRIMARY KEY(place, name)) WITHOUT ROWID
"""
"""Recordings of this ledger's calls elsewhere: where, under which name, and the last call (by rowid) in it; 0 for one
that was taken in from there."""
# A failure that may pass makes room for whatever comes later; a reply never does.
_PUT = """
INSERT INTO calls VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT(address) DO UPDATE SET
    identity = excluded.identity, stage = excluded.stage, run = excluded.run, made_at = excluded.made_at,
    problem = excluded.problem, passing = excluded.passing, origin = excluded.origin,
    prompt_tokens = excluded.prompt_tokens, completion_tokens = excluded.completion_tokens,
    cost_usd = excluded.cost_usd, reply = excluded.reply, request = excluded.request, raw = excluded.raw
WHERE calls.passing = 1
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One finished call, as it is kept."""

    address: str
    identity: str
    request: Request
    reply: Reply
    stage: str = ""
    run: str = ""
    passing: bool = False
    """A failure that may pass (a timeout): served in replay only, sent again otherwise."""
    origin: str | None = None
    """The recording it was imported from; None for calls of our own."""


@dataclass(frozen=True, slots=True)
class StageStats:
    """What the ledger holds for one endpoint and stage."""

    identity: str
    stage: str
    calls: int
    failed: int
    imported: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float


def is_ledger(path: Path) -> bool:
    """Whether a ledger lies there; unlike opening one, to ask makes none of what is missing, empty or another's."""
    if not is_sqlite(path):
        return False
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", timeout=BUSY_TIMEOUT_S, uri=True)) as db:
        try:
            sql = "SELECT COUNT(*) FROM sqlite_master WHERE name IN ('calls', 'spending', 'batch_jobs')"
            return int(db.execute(sql).fetchone()[0]) == 3
        except sqlite3.Error as error:
            raise DataError(f"{path}: not a usable ledger ({error}); put a copy back in its place") from None


def is_sqlite(path: Path) -> bool:
    """Whether the file is a SQLite database, of whatever content."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(16) == b"SQLite format 3\x00"


class Ledger:
    """The project's calls. Safe for several threads and processes; when `put` returns, a reply outlives this process.

    A machine that dies takes at most a second of calls with it, or what the kernel held back when they ended.
    `recordings` are exports (or other ledgers) read beside it. With `replay` nothing is ever written, and a ledger
    file that is not there, or empty, holds no call; one of an older form stays as it is, for it may be another's.
    """

    def __init__(self, path: Path | str, replay: bool = False, recordings: Sequence[Path | str] = ()) -> None:
        self.path = Path(path)
        self.replay = replay
        self._write_lock = threading.Lock()
        self._read_lock = threading.Lock()
        self._recordings = tuple(Path(r) for r in recordings)
        for recording in self._recordings:
            if not recording.is_file():
                raise DataError(f"{recording}: there is no such recording; make one with `tapir ledger export`")
        self._recorded: dict[str, tuple[bytes, bool]] | None = None
        self._synced_at = -math.inf
        self._in_memory = replay and not (self.path.exists() and self.path.stat().st_size)
        self._writer = self._open()
        self._reader = self._writer if self._in_memory else self._connect()

    def _open(self) -> sqlite3.Connection:
        if not self.replay:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            db = self._connect()
            version = int(db.execute("PRAGMA user_version").fetchone()[0])
            if version > VERSION:
                raise DataError(f"{self.path}: written by a newer tapir (form {version}); update tapir to read it")
            if self.replay and not self._in_memory:
                if not version:
                    raise DataError(f"{self.path}: no ledger; name the one to replay from")
                return db
            if not version:
                # WAL: readers never wait.
                db.execute("PRAGMA journal_mode = WAL")
                with db:
                    db.execute("BEGIN IMMEDIATE")
                    for statement in (_CALLS, _JOBS, _SPENDING, f"PRAGMA user_version = {VERSION}"):
                        db.execute(statement)
            elif version == 1:
                with db:
                    db.execute("BEGIN IMMEDIATE")
                    if int(db.execute("PRAGMA user_version").fetchone()[0]) == 1:  # no other process was faster
                        db.execute("ALTER TABLE batch_jobs ADD COLUMN run TEXT NOT NULL DEFAULT ''")
                        db.execute(f"PRAGMA user_version = {VERSION}")
            db.execute(_COPIES)
        except sqlite3.Error as error:
            raise DataError(f"{self.path}: not a usable ledger ({error}); move it away to start a new one") from None
        return db

    def _connect(self) -> sqlite3.Connection:
        target = ":memory:" if self._in_memory else str(self.path)
        db = sqlite3.connect(target, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA synchronous = NORMAL")
        return db

    def close(self) -> None:
        self._reader.close()
        self._writer.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def transaction(self, *, to_disk: bool = False) -> Generator[sqlite3.Connection]:
        """One atomic write; concurrent writers of any process wait their turn.

        Forced `to_disk`, with all before it, where asked for and where the last that was is `SYNC_EVERY_S` ago.
        """
        with self._write_lock:
            to_disk = to_disk or time.monotonic() - self._synced_at >= SYNC_EVERY_S
            try:
                self._writer.execute(f"PRAGMA synchronous = {'FULL' if to_disk else 'NORMAL'}")
                self._writer.execute("BEGIN IMMEDIATE")
                try:
                    yield self._writer
                except BaseException:
                    self._writer.execute("ROLLBACK")
                    raise
                self._writer.execute("COMMIT")
                if to_disk:
                    self._synced_at = time.monotonic()
            except sqlite3.OperationalError as error:
                raise DataError(
                    f"{self.path}: cannot be written ({error}); look at the disk and its free space"
                ) from None

    @contextmanager
    def reading(self) -> Generator[sqlite3.Connection]:
        with self._read_lock:
            yield self._reader

    # --- calls ---

    def get(self, address: str) -> Reply | None:
        return self.get_many([address]).get(address)

    def get_many(self, addresses: Sequence[str]) -> dict[str, Reply]:
        """The replies that are there. Failures that may pass are served in replay only, and where nothing better is."""
        found: dict[str, Reply] = {}
        for start in range(0, len(addresses), LOOKUP_ADDRESSES):
            found |= self._look_up(addresses[start : start + LOOKUP_ADDRESSES])
        return found

    def _look_up(self, addresses: Sequence[str]) -> dict[str, Reply]:
        marks = ",".join("?" * len(addresses))
        sql = f"SELECT address, reply, passing, origin FROM calls WHERE address IN ({marks})"
        with self.reading() as db:
            rows = db.execute(sql, addresses).fetchall()
        answers: dict[str, Reply] = {}
        failures: dict[str, Reply] = {}
        for address, reply, passing, origin in rows:
            (failures if passing else answers)[address] = _served(reply, origin is not None)
        recorded = self._load_recordings() if self._recordings and len(answers) < len(addresses) else {}
        for address in addresses:
            hit = recorded.get(address)
            if hit and address not in answers:
                (failures if hit[1] else answers).setdefault(address, _served(hit[0], replayed=True))
        return failures | answers if self.replay else answers

    def put(self, entries: Sequence[Entry]) -> dict[str, Reply]:
        """Keep `entries` in one transaction; what another process had kept before, which then stands instead."""
        with self.transaction() as db:
            return self.put_in(db, entries)

    def put_in(self, db: sqlite3.Connection, entries: Sequence[Entry]) -> dict[str, Reply]:
        """`put` inside the caller's transaction."""
        standing: dict[str, Reply] = {}
        now = time.time()
        for entry in entries:
            if db.execute(_PUT, _row(entry, now)).rowcount == 0:
                # Two processes asked the same: both paid, but a table must not depend on who was first.
                row = db.execute("SELECT reply, origin FROM calls WHERE address = ?", (entry.address,)).fetchone()
                standing[entry.address] = _served(row[0], row[1] is not None)
        return standing

    def _load_recordings(self) -> dict[str, tuple[bytes, bool]]:
        if self._recorded is None:
            from tapir.models import ledger_files  # it imports this module

            self._recorded = {}
            for path in self._recordings:
                for entry in ledger_files.read_recording(path):
                    held = self._recorded.get(entry.address)
                    if held is None or (held[1] and not entry.passing):
                        self._recorded[entry.address] = (pack_reply(entry.reply), entry.passing)
        return self._recorded

    # --- offline batches under way ---

    def open_jobs(self, identity: str, *, run: str | None = None) -> dict[str, frozenset[str]]:
        """Batch jobs sent to this endpoint (by this run) and not yet closed, each with the addresses it still owes."""
        with self.reading() as db:
            return _open_jobs(db, identity, run)

    def open_job(self, name: str, identity: str, addresses: Iterable[str], *, run: str = "") -> None:
        """Note a job that was sent: lost, all of it would be paid for again."""
        with self.transaction(to_disk=True) as db:
            packed = _pack(" ".join(addresses).encode())
            db.execute("INSERT OR REPLACE INTO batch_jobs VALUES (?, ?, ?, 'open', ?)", (name, identity, packed, run))

    def close_job(self, name: str) -> None:
        with self.transaction() as db:
            db.execute("UPDATE batch_jobs SET state = 'closed' WHERE id = ?", (name,))

    def take_off_jobs(self, db: sqlite3.Connection, identity: str, addresses: Set[str]) -> None:
        """These rows are answered and paid, in the caller's transaction; a job that owes nothing more is closed."""
        for name, owed in _open_jobs(db, identity).items():
            left = owed - addresses
            if left != owed:
                packed = _pack(" ".join(sorted(left)).encode())
                state = "open" if left else "closed"
                db.execute("UPDATE batch_jobs SET addresses = ?, state = ? WHERE id = ?", (packed, state, name))

    # --- copies of a run's calls elsewhere ---

    def copies(self, place: str) -> dict[str, int]:
        """The recordings that are at this place as far as this ledger knows, each with its last call."""
        with self.reading() as db:
            return dict(db.execute("SELECT name, last FROM copies WHERE place = ?", (place,)))

    def note_copy(self, place: str, name: str, last: int = 0) -> None:
        with self.transaction() as db:
            db.execute("INSERT OR REPLACE INTO copies VALUES (?, ?, ?)", (place, name, last))

    def last_call(self) -> int:
        with self.reading() as db:
            return db.execute("SELECT COALESCE(MAX(rowid), 0) FROM calls").fetchone()[0]

    def paid_by(self, run: str, after: int, until: int) -> Iterator[Entry]:
        """This run's own answered calls, in the order in which they were kept, a thousand at a time."""
        sql = f"{_ENTRY_SQL.replace('address', 'rowid, address', 1)} WHERE rowid > ? AND rowid <= ? AND run = ? "
        sql += "AND origin IS NULL AND NOT passing ORDER BY rowid LIMIT 1000"
        while True:
            with self.reading() as db:
                rows = db.execute(sql, (after, until, run)).fetchall()
            if not rows:
                return
            yield from (_entry(row[1:]) for row in rows)
            after = rows[-1][0]

    def account(self, run: str) -> dict[str, Any]:
        """What a run has spent and reserved by stage, and the batch jobs that are under way for it, as plain data."""
        # Not what a process of this machine has handed out (`budget.handed_out`): it ends with the machine.
        sql = "SELECT stage, calls, prompt_tokens, completion_tokens, pico_usd FROM spending WHERE run = ? "
        sql += "AND stage NOT LIKE '% handed out/%'"
        jobs = "SELECT id, identity, addresses FROM batch_jobs WHERE run = ? AND state = 'open' ORDER BY id"
        with self.reading() as db:
            return {
                "spent": [list(row) for row in db.execute(sql, (run,))],
                "jobs": [[job, who, _unpack(owed).decode().split()] for job, who, owed in db.execute(jobs, (run,))],
            }

    def take_account(self, run: str, account: Mapping[str, Any]) -> None:
        """Go on with what a run has spent, and has under way, as another machine's ledger told it.

        Either machine went on from what the other had spent, so the larger number holds both.
        """
        with self.transaction() as db:
            for row in account["spent"]:
                db.execute(
                    "INSERT INTO spending VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT(run, stage) DO UPDATE SET "
                    "calls = MAX(calls, excluded.calls), prompt_tokens = MAX(prompt_tokens, excluded.prompt_tokens), "
                    "completion_tokens = MAX(completion_tokens, excluded.completion_tokens), "
                    "pico_usd = MAX(pico_usd, excluded.pico_usd)",
                    (run, *row),
                )
            for job, identity, owed in account["jobs"]:
                packed = _pack(" ".join(owed).encode())
                db.execute("INSERT OR IGNORE INTO batch_jobs VALUES (?, ?, ?, 'open', ?)", (job, identity, packed, run))

    # --- looking at it and cleaning it ---

    def knows(self, run: str) -> bool:
        """Whether this run has asked for anything here."""
        with self.reading() as db:
            return db.execute("SELECT 1 FROM spending WHERE run = ? LIMIT 1", (run,)).fetchone() is not None

    def stats(self) -> list[StageStats]:
        """What is there, by endpoint and stage."""
        sql = (
            "SELECT identity, stage, COUNT(*), COUNT(problem), COUNT(origin), SUM(prompt_tokens), "
            "SUM(completion_tokens), SUM(cost_usd) FROM calls GROUP BY identity, stage ORDER BY identity, stage"
        )
        with self.reading() as db:
            return [StageStats(*row) for row in db.execute(sql)]

    def show(self, prefix: str) -> Entry:
        """The one entry whose address begins with `prefix`, with its raw reply."""
        sql = _ENTRY_SQL + " WHERE address >= ? AND address < ? ORDER BY address LIMIT 2"
        with self.reading() as db:
            rows = db.execute(sql, (prefix, prefix + "g")).fetchall()
        if not rows:
            raise DataError(f"{self.path}: no call begins with {prefix}; a run lists its calls in calls.txt")
        if len(rows) > 1:
            raise DataError(f"{self.path}: several calls begin with {prefix}; give more digits")
        return _entry(rows[0])

    def entries(self, *, identity: str | None = None, stage: str | None = None) -> Iterator[Entry]:
        """Every entry, in the order of addresses, a thousand at a time."""
        after = ""
        sql = _ENTRY_SQL + " WHERE address > ? AND (? IS NULL OR identity = ?) AND (? IS NULL OR stage = ?)"
        sql += " ORDER BY address LIMIT 1000"
        while True:
            with self.reading() as db:
                rows = db.execute(sql, (after, identity, identity, stage, stage)).fetchall()
            if not rows:
                return
            yield from map(_entry, rows)
            after = rows[-1][0]

    def prune(
        self,
        *,
        keep: Iterable[str] | None = None,
        keep_runs: Iterable[str] = (),
        identity: str | None = None,
        older_than_s: float | None = None,
    ) -> int:
        """Drop entries that meet every condition given (not in `keep`, not made by `keep_runs`); how many went.

        The file shrinks.
        """
        if keep is None and identity is None and older_than_s is None:
            raise DataError("prune needs a condition: calls to keep, an endpoint, or an age")
        before = None if older_than_s is None else time.time() - older_than_s
        with self.transaction() as db:
            db.execute("CREATE TEMP TABLE IF NOT EXISTS kept(address TEXT PRIMARY KEY) WITHOUT ROWID")
            db.execute("DELETE FROM kept")
            db.executemany("INSERT OR IGNORE INTO kept VALUES (?)", ((a,) for a in keep or ()))
            made_by = "INSERT OR IGNORE INTO kept SELECT address FROM calls WHERE run = ?"
            db.executemany(made_by, ((run,) for run in keep_runs))
            gone = db.execute(
                "DELETE FROM calls WHERE (? IS NULL OR identity = ?) AND (? IS NULL OR made_at < ?) "
                "AND address NOT IN (SELECT address FROM kept)",
                (identity, identity, before, before),
            ).rowcount
            # Calls may get other row numbers now: what was copied elsewhere is copied again.
            db.execute("UPDATE copies SET last = 0")
        with self._write_lock:
            self._writer.execute("VACUUM")
        return gone


def _open_jobs(db: sqlite3.Connection, identity: str, run: str | None = None) -> dict[str, frozenset[str]]:
    sql = (
        "SELECT id, addresses FROM batch_jobs WHERE identity = ? AND state = 'open' AND (? IS NULL OR run = ?) "
        "ORDER BY id"
    )
    rows = db.execute(sql, (identity, run, run)).fetchall()
    return {name: frozenset(_unpack(addresses).decode().split()) for name, addresses in rows}


_ENTRY_SQL = "SELECT address, identity, stage, run, passing, origin, reply, request, raw FROM calls"


def _entry(row: tuple[Any, ...]) -> Entry:
    address, identity, stage, run, passing, origin, reply, request, raw = row
    return Entry(
        address=address,
        identity=identity,
        request=records.read_request(records.loads(_unpack(request))),
        reply=replace(records.read_reply(records.loads(_unpack(reply))), raw=_unpack(raw)),
        stage=stage,
        run=run,
        passing=bool(passing),
        origin=origin,
    )


def _row(entry: Entry, now: float) -> tuple[Any, ...]:
    reply = entry.reply
    return (
        entry.address,
        entry.identity,
        entry.stage,
        entry.run,
        now,
        reply.problem,
        int(entry.passing),
        entry.origin,
        reply.prompt_tokens,
        reply.completion_tokens,
        reply.cost_usd,
        pack_reply(reply),
        _pack(records.dumps(records.request_record(entry.request))),
        _pack(reply.raw),
    )


def pack_reply(reply: Reply) -> bytes:
    return _pack(records.dumps(records.reply_record(reply)))


def _served(blob: bytes, replayed: bool) -> Reply:
    reply = records.read_reply(records.loads(_unpack(blob)))
    return replace(reply, cached=True, replayed=replayed)


def _pack(blob: bytes) -> bytes:
    """Level 1: replies are text, and the time of a writer counts for more than the last tenth of its size."""
    return b"z" + zlib.compress(blob, 1) if len(blob) >= PACK_FROM_BYTES else b"=" + blob


def _unpack(blob: bytes) -> bytes:
    return zlib.decompress(blob[1:]) if blob[:1] == b"z" else blob[1:]
