"""DuckDB on the run directories that are named, and nothing else.

Owns the locking-down: no file outside of them, no network, no extension, no setting can be reached from a
query. What is asked is the caller's; values always go in as parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import duckdb

Values: TypeAlias = "Sequence[Any] | Mapping[str, Any]"


def confined(*roots: Path) -> duckdb.DuckDBPyConnection:
    """An empty in-memory database that may read files below these folders."""
    db = duckdb.connect()
    folders = ", ".join("'" + str(root.resolve()).replace("'", "''") + "'" for root in roots)
    db.execute(f"SET allowed_directories = [{folders}]")
    db.execute("SET autoinstall_known_extensions = false")
    db.execute("SET autoload_known_extensions = false")
    db.execute("SET enable_external_access = false")
    db.execute("SET lock_configuration = true")
    return db


def rows_of(
    db: duckdb.DuckDBPyConnection, query: str, values: Sequence[Any] | Mapping[str, Any] = ()
) -> list[dict[str, Any]]:
    """The query's rows as plain data."""
    found = db.execute(query, values)
    names = [d[0] for d in found.description or ()]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
