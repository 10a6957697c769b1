"""Instructions for a command that works on files: rows of ours, or a pool in any of the public forms."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from tapir.config import Seeds
from tapir.stages.seeds import Pool, load_pool
from tapir.store.given import Unreadable, numbered
from tapir.store.tables import read_rows
from tapir.types import Instruction, Receipt, Seed

BY_DEFAULT = Seeds()
HOW_ROWS_ARE_READ = {"format", "columns", "turns", "max_chars"}


def read_instructions(source: str, receipt: Receipt, like: Seeds = BY_DEFAULT) -> list[Instruction]:
    """The instructions of `read_pool`."""
    return read_pool(source, receipt, like).instructions


def read_pool(source: str, receipt: Receipt, like: Seeds = BY_DEFAULT) -> Pool:
    """All rows of a file, folder or hub set; `builtin` and `builtin:held_out` are the shipped pool's parts.

    The rows of a pool are read `like` those of a recipe's; the receipt of the stage that asked for them counts those
    that cannot be used.
    """
    path = Path(source)
    if _are_ours(path):
        return _our_rows(path)
    name, _, part = source.partition(":")
    settings = BY_DEFAULT if name == "builtin" else Seeds(source=source, **like.model_dump(include=HOW_ROWS_ARE_READ))
    account = Receipt("seeds")
    pool = load_pool(settings, seed=0, receipt=account, split=part or "pool")
    receipt.rows_in += account.dropped.total()
    receipt.dropped.update(account.dropped)
    return pool


def _are_ours(path: Path) -> bool:
    """Whether a file holds rows of ours, whose ids and origins are to stay, by its first row that can be read."""
    if path.suffix not in (".jsonl", ".parquet") or not path.is_file():
        return False
    first = next((row for _, row in numbered(path) if not isinstance(row, Unreadable)), {})
    known = {f.name for f in fields(Seed if "origin" in first else Instruction)}
    return {"id", "text"} <= first.keys() <= known and isinstance(first["id"], str)


def _our_rows(path: Path) -> Pool:
    pool = Pool()
    for row in read_rows(path, Seed):
        pool.instructions.append(row.instruction)
        if row.answer:
            pool.answers[row.id] = row.answer
    return pool
