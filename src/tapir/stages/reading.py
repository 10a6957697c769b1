"""Instructions for a command that works on files: rows of ours, or a pool in any of the public forms."""

from __future__ import annotations

from pathlib import Path

from tapir.config import Seeds
from tapir.errors import DataError
from tapir.stages.seeds import load_pool
from tapir.store.tables import read_rows
from tapir.types import Instruction, Receipt


def read_instructions(source: str, receipt: Receipt) -> list[Instruction]:
    """All instructions of a file, folder or hub set; `builtin` and `builtin:held_out` are the shipped pool's parts.

    Rows of a pool that cannot be used are counted in the receipt of the stage that asked for them.
    """
    path = Path(source)
    if path.suffix in (".jsonl", ".parquet") and path.exists():
        try:
            if rows := list(read_rows(path, Instruction)):
                return rows
        except DataError:
            pass  # not rows of ours: read it as a pool, which has errors of its own
    name, _, part = source.partition(":")
    settings = Seeds(source=name if name == "builtin" else source, near_duplicates=False)
    account = Receipt("seeds")
    pool = load_pool(settings, seed=0, receipt=account, split=part or "pool")
    receipt.rows_in += account.dropped.total()
    receipt.dropped.update(account.dropped)
    return pool.instructions
