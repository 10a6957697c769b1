"""How far the stage under way has come: `progress.json`, for whoever looks at a run while it works.

Written atomically and rarely, removed when the session ends; one that is left behind by a killed process names a pid
that is gone.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tapir.store.rundir import write_text

FILE = "progress.json"
EVERY_S = 2.0
RECENT_S = 60.0
"""The rate is that of the last minute: what the ledger answered at the start would promise too much."""


@dataclass(frozen=True, slots=True)
class StageProgress:
    """The stage under way. Times are seconds since the epoch."""

    place: str
    pid: int
    began_at: float
    updated_at: float
    done: int = 0
    total: int | None = None
    """None where nobody can tell beforehand."""
    per_s: float | None = None
    calls: int = 0
    cached: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    note: str = ""

    @property
    def left_s(self) -> float | None:
        """Time left at the present rate; None where the total or the rate is unknown."""
        if self.total is None or not self.per_s:
            return None
        return max(0, self.total - self.done) / self.per_s

    @property
    def working(self) -> bool:
        """Whether the process that wrote this is still there."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True


class ProgressFile:
    """Keeps `progress.json` of one run directory."""

    def __init__(self, root: Path, clock: Callable[[], float] = time.time) -> None:
        self._path = root / FILE
        self._clock = clock
        self._now: StageProgress | None = None
        self._recent: deque[tuple[float, int]] = deque()
        self._written = 0.0

    def start(self, place: str, total: int | None) -> None:
        at = self._clock()
        self._recent = deque([(at, 0)])
        self._now = StageProgress(place, os.getpid(), at, at, total=total)
        self._write(at)

    def expect(self, calls: int) -> None:
        """So many calls more are to come in this stage."""
        if self._now is not None:
            self.update(total=(self._now.total or 0) + calls)

    def update(self, **changes: int | float | str | None) -> None:
        """Take in what changed; it is written at most every `EVERY_S`."""
        if self._now is None:
            return
        at = self._clock()
        self._now = dataclasses.replace(self._now, **changes)  # type: ignore[arg-type]
        if at - self._written >= EVERY_S:
            self._write(at)

    def end(self) -> None:
        self._now = None
        self._path.unlink(missing_ok=True)

    def _write(self, at: float) -> None:
        assert self._now is not None
        self._recent.append((at, self._now.done))
        while len(self._recent) > 2 and at - self._recent[1][0] > RECENT_S:
            self._recent.popleft()
        (then, before), seconds = self._recent[0], at - self._recent[0][0]
        rate = (self._now.done - before) / seconds if seconds > 0 and then < at else None
        self._now = dataclasses.replace(self._now, updated_at=at, per_s=rate)
        self._written = at
        write_text(self._path, json.dumps(dataclasses.asdict(self._now)))


def read_progress(root: Path) -> StageProgress | None:
    """The stage under way, or the one that a killed process was in; None where no stage is."""
    try:
        return StageProgress(**json.loads((root / FILE).read_text(encoding="utf-8")))
    except (FileNotFoundError, TypeError, ValueError):
        # Gone between two looks, or of another version: either way nothing is known.
        return None
