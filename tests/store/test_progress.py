"""progress.json: written rarely, with the rate of the last minute, gone when the session ends."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from clock import Clock

from tapir.store.progress import ProgressFile, StageProgress, read_progress


def test_it_is_written_at_the_start_and_then_at_most_every_two_seconds(tmp_path: Path):
    clock = Clock(1000)
    file = ProgressFile(tmp_path, clock)
    file.start("round_0/06_verdicts", None)
    clock.now += 1
    file.update(total=100, done=5)
    found = read_progress(tmp_path)
    assert found is not None
    assert (found.done, found.total, found.pid, found.left_s) == (0, None, os.getpid(), None)
    clock.now += 1
    file.update(done=10)
    found = read_progress(tmp_path)
    assert found is not None
    # 10 in 2 seconds: 90 are left at 5 a second.
    assert (found.done, found.per_s, found.left_s) == (10, 5.0, 18.0)


def test_the_rate_is_that_of_the_last_minute(tmp_path: Path):
    clock = Clock(1000)
    file = ProgressFile(tmp_path, clock)
    file.start("x", 10_000)
    clock.now += 10
    file.update(done=1_000)  # from the ledger
    for _ in range(7):
        clock.now += 10
        file.update(done=1_000)
    found = read_progress(tmp_path)
    assert found is not None
    assert found.per_s == 0
    assert found.left_s is None


def test_it_goes_with_the_session_and_a_gone_process_is_told(tmp_path: Path):
    file = ProgressFile(tmp_path)
    file.start("x", None)
    found = read_progress(tmp_path)
    assert found is not None
    assert found.working
    file.end()
    assert read_progress(tmp_path) is None
    gone = replace(StageProgress("x", 1, 0, 0), pid=2**22 + 12345)
    assert not gone.working
