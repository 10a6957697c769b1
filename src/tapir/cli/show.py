"""`tapir show`: any table of a run, filtered and sorted, or one instruction's whole life.

Filters run on DuckDB with access to files and settings locked: a filter may come from anywhere. Tables of a run that
have an instruction's id but neither its task nor its MFD get both as columns, so that one can filter by them.
"""

from __future__ import annotations

import json
import random
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import duckdb
import pyarrow as pa
import typer

from tapir.cli.terminal import printable
from tapir.cli.window import say, show_table, window
from tapir.errors import DataError
from tapir.report.life import OWN_COLUMNS, life
from tapir.store.rundir import RunDir
from tapir.store.tables import read_plain

POOL, SCORED = "round_0/02_classified.parquet", "round_0/07_hard.all.parquet"
NARROW, WIDE = 60, 120
"""Characters of one cell in a table, and in a list of fields."""


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(show)


def show(
    what: Annotated[str, typer.Argument(help="A table file, or an instruction's id (or how it begins).")],
    run: Annotated[Path, typer.Option(help="Run directory to look the id up in.")] = Path("runs/quickstart"),
    where: Annotated[str | None, typer.Option(help="A filter, as in SQL: \"task = 'Math' and mfd > 3\".")] = None,
    sort: Annotated[str | None, typer.Option(help="Columns to sort by, with commas; -column largest first.")] = None,
    columns: Annotated[str | None, typer.Option(help="Only these columns, with commas.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most this many rows.")] = 20,
    long: Annotated[bool, typer.Option("--long", help="A line a field, with more of the texts.")] = False,
    dropped: Annotated[bool, typer.Option("--dropped", help="What the table's step dropped, and why.")] = False,
    sample: Annotated[int | None, typer.Option(min=1, help="This many rows at random instead.")] = None,
    seed: Annotated[int, typer.Option(help="With --sample: the same seed takes the same rows.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Print rows of a table, or everything that happened to one instruction."""
    path = _dropped(what) if dropped else _table(what)
    if path is None:
        _print_life(what, run, as_json=as_json)
        return
    rows = _rows(path, where, sort, columns, None if sample else limit)
    if sample is not None:
        rows = random.Random(seed).sample(rows, min(sample, len(rows)))
    if as_json:
        for row in rows:
            print(json.dumps(row, ensure_ascii=True, default=str))
    elif not rows:
        print("no row fits")
    elif long:
        _print_fields(rows)
    else:
        _print_table(rows)


def _table(what: str) -> Path | None:
    """The file that is meant, with or without its ending; None where an instruction's id is."""
    path, parquet = Path(what), Path(f"{what}.parquet")
    if parquet.exists():
        return parquet
    return path if path.suffix or path.exists() else None


def _dropped(what: str) -> Path:
    """The table of rows that a step did not hand on; rejected grown rows have columns of their own."""
    base = what.removesuffix(".parquet")
    paths = [Path(f"{base}.{name}.parquet") for name in ("dropped", "rejected")]
    found = next((path for path in paths if path.exists()), None)
    if found is None:
        raise DataError(f"{paths[0]}: this step keeps no table of dropped rows; its receipt counts them by reason")
    return found


def _print_fields(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        for name, value in row.items():
            print(f"{printable(name):<16} {_short(value, WIDE)}")
        print()


def _print_table(rows: list[dict[str, Any]]) -> None:
    """What is empty in every row is left out, and texts are cut: the window is narrow."""
    names = sorted(
        (n for n in rows[0] if any(row[n] not in (None, "", []) for row in rows)), key=lambda n: n not in OWN_COLUMNS
    )
    words = {k for k, n in enumerate(names) if any(not isinstance(row[n], int | float | None) for row in rows)}
    show_table(names, [[_short(row[n], NARROW) for n in names] for row in rows], words=words)


def _rows(
    path: Path, where: str | None, sort: str | None, columns: str | None, limit: int | None
) -> list[dict[str, Any]]:
    if not path.exists():
        raise DataError(f"{path}: there is no such table")
    if path.suffix != ".parquet":
        if where or sort or columns:
            raise DataError(f"{path}: --where, --sort and --columns work on Parquet tables")
        return list(islice(read_plain(path), limit))
    with duckdb.connect() as db:
        names = _view(db, path)
        _lock(db)
        chosen = ", ".join(_quoted(path, names, c) for c in columns.split(",")) if columns else "*"
        order = f" ORDER BY {', '.join(_order(path, names, c) for c in sort.split(','))}" if sort else ""
        most = "" if limit is None else f" LIMIT {limit}"
        try:
            found = db.execute(f"SELECT {chosen} FROM t{f' WHERE ({where})' if where else ''}{order}{most}")
            told = [d[0] for d in found.description or ()]
            return [dict(zip(told, values, strict=True)) for values in found.fetchall()]
        except duckdb.Error as error:
            at_fault = f"--where {where!r}" if where else f"{path}: cannot be read"
            raise DataError(f"{at_fault}: {str(error).splitlines()[0]}") from None


def _lock(db: duckdb.DuckDBPyConnection) -> None:
    """From here on nothing reaches a file, the network or a variable of this program."""
    for setting in (
        "python_enable_replacements = false",
        "enable_external_access = false",
        "lock_configuration = true",
    ):
        db.execute(f"SET {setting}")


def _view(db: duckdb.DuckDBPyConnection, path: Path) -> list[str]:
    """The table as `t`, read as far as a query needs it, with the task and the MFD of each instruction."""
    table = _lazily(path)
    names: list[str] = table.schema.names
    db.register("own", table)
    added: list[str] = []
    joined = ""
    key = next((n for n in ("instruction_id", "id") if n in names), None)
    root = path.resolve().parent.parent
    if "mfd" not in names and {"student_score", "teacher_score"} <= set(names):
        added.append("teacher_score - student_score AS mfd")
    elif "mfd" not in names and {"kind", "value"} <= set(names):
        added.append("CASE WHEN kind IN ('mfd', 'verified') THEN value END AS mfd")
    elif "mfd" not in names and key and (root / SCORED).exists():
        db.register("scored", _lazily(root / SCORED))
        joined += (
            " LEFT JOIN (SELECT instruction_id AS scored_id, any_value(value) AS mfd FROM scored"
            f" WHERE kind IN ('mfd', 'verified') GROUP BY 1) ON own.{key} = scored_id"
        )
        added.append("mfd")
    if "task" not in names and key and (root / POOL).exists():
        db.register("asked", _tasks(root))
        joined += f" LEFT JOIN asked ON own.{key} = asked_id"
        added.append("task")
    db.execute(f"CREATE VIEW t AS SELECT {', '.join(['own.*', *added])} FROM own{joined}")
    return [*names, *(a.rpartition(" ")[2] for a in added)]


def _lazily(path: Path) -> Any:
    """A table of which a query reads only the columns and rows that it needs."""
    # Here and not above: this part of pyarrow loads pandas, which no other command should wait for.
    from pyarrow import dataset

    try:
        return dataset.dataset(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: not a readable Parquet file ({error})") from None


def _tasks(root: Path) -> Any:
    """The task of every instruction of the run: the pool's, the grown ones', the held-out ones'."""
    paths = [root / POOL, root / "round_0/08_held_out.parquet", *sorted(root.glob("round_*/01_expanded.parquet"))]
    parts = [_labelled(path) for path in paths if path.exists()]
    return (
        pa.concat_tables(parts).group_by("asked_id").aggregate([("task", "min")]).rename_columns(["asked_id", "task"])
    )


def _labelled(path: Path) -> Any:
    table = _lazily(path)
    return table.to_table(columns=["id", "task"]).rename_columns(["asked_id", "task"])


def _order(path: Path, names: list[str], said: str) -> str:
    # Rows without the value come last in either order: nobody looks for those.
    way = "DESC" if said.strip().startswith("-") else "ASC"
    return f"{_quoted(path, names, said.strip().lstrip('-'))} {way} NULLS LAST"


def _quoted(path: Path, names: list[str], said: str) -> str:
    name = said.strip()
    if name not in names:
        raise DataError(f"{path}: no column {name!r}; it has {', '.join(names)}")
    return '"' + name.replace('"', '""') + '"'


def _print_life(wanted: str, run: Path, *, as_json: bool) -> None:
    """Every row of the run that is about this instruction, in the order of the steps."""
    found = False
    at = window()
    for event in life(RunDir(run), wanted):
        place, row = event.place, event.row
        found = True
        if as_json:
            print(json.dumps({"place": place, **row}, ensure_ascii=True, default=str))
            continue
        print(printable(place))
        for name, value in row.items():
            if value not in (None, "", [], False) and name not in OWN_COLUMNS:
                say(f"    {name:<16} {_short(value, 400)}", at)
    if not found:
        raise DataError(f"{run}: no row is about {wanted!r}; give an id, or more of it, and the run with --run")


def _short(value: Any, widest: int) -> str:
    text = printable(f"{value:.6g}" if isinstance(value, float) else "" if value is None else str(value))
    text = text.replace("\n", " ⏎ ")
    return text if len(text) <= widest else text[: widest - 1] + "…"
