"""A studio over invented runs, asked through real HTTP on loopback."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from asking import Asker

from tapir.store.rundir import RunDir
from tapir.studio.serving import serving


@pytest.fixture(scope="session")
def reader(finished_run: RunDir) -> Iterator[Asker]:
    """A read-only studio over a finished run."""
    with serving(finished_run.root.parent) as url:
        yield Asker(url)


@pytest.fixture
def writer(invent: Callable[..., RunDir], tmp_path: Path) -> Iterator[Asker]:
    """A studio that takes marks, over a run of its own."""
    invent(seeds=40, held_out=12, rounds=1)
    with serving(tmp_path, annotate=True, author="ada", pairs=5) as url:
        yield Asker(url)
