"""Which checkpoints count, and from when on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tapir.training.checkpoints import MARKER, last_whole, seal


def checkpoint(work: Path, step: int) -> Path:
    folder = work / f"checkpoint-{step}"
    (folder / "shards").mkdir(parents=True)
    for name in ("model.safetensors", "shards/0.bin"):
        (folder / name).write_bytes(b"weights")
    return folder


def test_a_checkpoint_is_on_the_disk_before_its_mark_and_its_mark_before_older_ones_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    older = checkpoint(tmp_path, 1)
    seal(older)
    newer = checkpoint(tmp_path, 2)
    forced: list[tuple[str, bool, bool]] = []
    fsync = os.fsync

    def watched(handle: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{handle}"))
        forced.append((str(path.relative_to(newer)), (newer / MARKER).exists(), older.exists()))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", watched)
    seal(newer)
    assert sorted(forced[:-1]) == [("model.safetensors", False, True), ("shards/0.bin", False, True)]
    assert forced[-1] == (MARKER, True, True)
    assert (last_whole(tmp_path), older.exists()) == (newer, False)
