"""Where a command may write, said before a model is asked: answers cost, and an input that is written over is gone."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tapir.errors import RecipeError

TABLES = (".jsonl", ".parquet")


def table_for(out: Path, *inputs: str | Path) -> None:
    """Refuse a table's file under an ending that is no table's, or in the place of what is read."""
    if out.suffix not in TABLES or out.is_dir():
        raise RecipeError(f"-o {out}: name a file that ends in {' or '.join(TABLES)}, by which it is written")
    # A folder is read file by file, and the next time this one would be among them.
    apart((out, out.parent), inputs)


def apart(outputs: Iterable[Path | None], inputs: Iterable[str | Path | None]) -> None:
    """Refuse to write over what is read, under whatever name."""
    read = [path for given in inputs if given is not None and (path := Path(given)).exists()]
    for out in outputs:
        if out is not None and out.exists() and (same := next((p for p in read if out.samefile(p)), None)):
            raise RecipeError(f"{out}: this command reads {same}; write to another place")
