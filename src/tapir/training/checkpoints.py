"""Checkpoints inside a training's work folder: which are whole, which to go on from, which to delete.

A checkpoint counts only once its marker is written, after everything else in it. What is in it is the trainer's.
"""

from __future__ import annotations

import contextlib
import errno
import shutil
from collections.abc import Generator
from pathlib import Path

from tapir.errors import DataError, TapirError
from tapir.store.tables import sync, sync_folder

MARKER = "whole"
PREFIX = "checkpoint-"
JOB_NAME = "job"


def seal(checkpoint: Path) -> None:
    """Declare the checkpoint whole, and delete the older ones: only now are they superseded."""
    # A machine may die too, and its disk would have the mark without what it stands for.
    sync_folder(checkpoint)
    (checkpoint / MARKER).touch()
    sync(checkpoint / MARKER)
    for other in _all(checkpoint.parent):
        if other != checkpoint:
            shutil.rmtree(other)


def last_whole(work: Path) -> Path | None:
    """The newest whole checkpoint; torn ones are deleted."""
    found: Path | None = None
    for checkpoint in _all(work):
        if (checkpoint / MARKER).exists():
            found = checkpoint
        else:
            shutil.rmtree(checkpoint)
    return found


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix(PREFIX))


def _all(work: Path) -> list[Path]:
    folders = [path for path in work.glob(f"{PREFIX}*") if path.name.removeprefix(PREFIX).isdigit()]
    return sorted(folders, key=step_of)


def prepare_work(work: Path, job: str) -> Path | None:
    """Make the work folder ready for this job and return the checkpoint to resume from, if it left one.

    `job` identifies everything that the weights depend on; a checkpoint of another job is deleted.
    """
    note = work / JOB_NAME
    if work.exists() and not (note.exists() and note.read_text(encoding="utf-8") == job):
        shutil.rmtree(work)
    work.mkdir(parents=True, exist_ok=True)
    note.write_text(job, encoding="utf-8")
    return last_whole(work)


def unwritten(path: Path, error: Exception) -> DataError:
    """The error to raise where a training could not write `path`, in its work folder: what is left to go on from."""
    kept = last_whole(path.parent)
    rest = f"{kept.name} is whole" if kept else "there is no checkpoint to go on from"
    return DataError(
        f"{path}: could not be written ({error}); {rest}. Make room on the disk and start the same command again: it "
        "goes on from the last whole checkpoint"
    )


@contextlib.contextmanager
def full_disk_told(path: Path) -> Generator[None]:
    """A full disk met while writing `path` becomes an error that says what is left; any other error passes."""
    try:
        yield
    except TapirError:
        raise
    except Exception as error:
        # safetensors and torch's archive writer raise errors of their own kinds, which only tell the reason in words.
        known = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        if not known and "No space left" not in str(error):
            raise
        raise unwritten(path, error) from error
