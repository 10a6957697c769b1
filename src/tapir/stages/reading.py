"""Instructions for a command that works on files: rows of ours, or a pool in any of the public forms."""

from __future__ import annotations

from pathlib import Path

from tapir.config import Seeds
from tapir.errors import DataError
from tapir.stages.seeds import load_pool
from tapir.store.tables import read_rows
from tapir.types import Instruction, Receipt

BY_DEFAULT = Seeds()
HOW_ROWS_ARE_READ = {"format", "columns", "turns", "max_chars"}


def read_instructions(source: str, receipt: Receipt, like: Seeds = BY_DEFAULT) -> list[Instruction]:
    """All instructions of a file, folder or hub set; `builtin` and `builtin:held_out` are the shipped pool's parts.

    The rows of a pool are read `like` those of a recipe's; the receipt of the stage that asked for them counts those
    that cannot be used.
    """
    path = Path(source)
    if path.suffix in (".jsonl", ".parquet") and path.exists():
        try:
            if rows := list(read_rows(path, Instruction)):
                return rows
        except DataError:
            pass  # not rows of ours: read it as a pool, which has errors of its own
    name, _, part = source.partition(":")
    settings = BY_DEFAULT if name == "builtin" else Seeds(source=source, **like.model_dump(include=HOW_ROWS_ARE_READ))
    account = Receipt("seeds")
    pool = load_pool(settings, seed=0, receipt=account, split=part or "pool")
    receipt.rows_in += account.dropped.total()
    receipt.dropped.update(account.dropped)
    return pool.instructions
