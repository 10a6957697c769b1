"""The states of a run's steps, as they are where the run was called.

Files that a recipe names are looked for from there, and the working directory is the whole process's, which all threads
of the studio share: a run that was called elsewhere is looked at in a process of its own.
"""

from __future__ import annotations

import signal
import threading
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tapir import planning
from tapir.store.rundir import RunDir


class States:
    """Looks at one run after the other; its process starts when it is first needed."""

    def __init__(self) -> None:
        self._apart: ProcessPoolExecutor | None = None
        self._lock = threading.Lock()

    def of(self, run: RunDir) -> list[dict[str, Any]]:
        """Every step with its state."""
        if run.called_from() == Path.cwd():
            return planning.status(run)
        whole = RunDir(run.root.absolute())
        with self._lock:
            # Ctrl-C reaches the whole group of processes, and is ours to answer.
            self._apart = self._apart or ProcessPoolExecutor(
                1, get_context("spawn"), initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN)
            )
            try:
                return self._apart.submit(planning.status_where_called, whole).result()
            except BrokenExecutor:
                self._apart = None
                raise ChildProcessError(f"the process that looked at {run.root} has ended") from None

    def close(self) -> None:
        if self._apart is not None:
            self._apart.shutdown(cancel_futures=True)
