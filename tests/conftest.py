"""Runs made of invented rows, for whoever reads a run directory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from clock import Clock
from hypothesis import settings as property_tests
from invented import Invented

from tapir.store.rundir import RunDir

# A time limit of property tests would fail what is right on a busy machine.
property_tests.register_profile("tapir", deadline=None)
property_tests.load_profile("tapir")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def invent(tmp_path: Path) -> Callable[..., RunDir]:
    """Makes an invented run; the arguments are those of `Invented`."""
    return lambda name="run", **settings: Invented(tmp_path / name, **settings).build()


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A finished invented run, for reading only."""
    return Invented(tmp_path_factory.mktemp("report") / "run").build()
