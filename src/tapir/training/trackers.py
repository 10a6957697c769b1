"""Experiment trackers, which are `transformers`': are those of the recipe here, and where do their files go."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from tapir.errors import MissingExtra, RecipeError

TENSORBOARD = "TENSORBOARD_LOGGING_DIR"


def check_trackers(names: Sequence[str]) -> None:
    """Refuse a tracker that nobody knows or that is not installed, before a model is loaded."""
    from transformers.integrations import integration_utils

    known: Any = integration_utils.INTEGRATION_TO_CALLBACK
    here: list[str] = integration_utils.get_available_reporting_integrations()
    for name in names:
        if name not in (*known, "all", "none"):
            raise RecipeError(f"train.report_to: {name!r} is no tracker that transformers knows ({', '.join(known)})")
        if name in known and name not in here:
            raise MissingExtra(f"train.report_to: {name} is not installed; `pip install {name}`, or leave it out")


def run_name(out_folder: Path) -> str:
    """What a tracker shows for this training: run, round and student."""
    return "/".join(out_folder.resolve().parts[-3:])


@contextlib.contextmanager
def beside(out_folder: Path) -> Generator[None]:
    """TensorBoard's files lie beside the student, unless the environment names another place."""
    before = os.environ.get(TENSORBOARD)
    # Left alone it would write to `runs/` in the working directory, among tapir's own runs.
    os.environ[TENSORBOARD] = before or str(out_folder.with_name(f"{out_folder.name}.tensorboard"))
    try:
        yield
    finally:
        if before is None:
            del os.environ[TENSORBOARD]
