"""`tapir ledger …`: look at, carry and trim the store of model calls."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from tapir.errors import DataError
from tapir.models.ledger import Ledger, is_ledger
from tapir.models.ledger_files import export as export_file
from tapir.models.ledger_files import import_ as import_file
from tapir.models.ledger_files import read_recording
from tapir.store.rundir import RunDir, open_run

app = typer.Typer(help="The store of model calls.", no_args_is_help=True)
LedgerPath = Annotated[Path, typer.Option("--ledger", help="The ledger's file.")]
DEFAULT = Path(".tapir/ledger.sqlite")


def existing(path: Path) -> Ledger:
    """The ledger in this file; a mistyped name must neither make one nor pass for an empty one."""
    if not is_ledger(path):
        raise DataError(
            f"{path}: there is no ledger here; name it with --ledger, or go to the folder in which `tapir run` made it"
        )
    return Ledger(path)


@app.command()
def stats(ledger: LedgerPath = DEFAULT, as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """Calls, tokens and cost by model and stage."""
    with existing(ledger) as opened:
        rows = [plain(row) for row in opened.stats()]
    if as_json:
        print(json.dumps(rows))
        return
    for row in rows:
        print("  ".join(f"{k}={v}" for k, v in row.items()))


@app.command()
def show(key: str, ledger: LedgerPath = DEFAULT) -> None:
    """One entry, by the beginning of its key."""
    with existing(ledger) as opened:
        print(json.dumps(plain(opened.show(key)), indent=2, ensure_ascii=True, default=str))


@app.command("export")
def export_command(
    file: Path,
    ledger: LedgerPath = DEFAULT,
    run: Annotated[Path | None, typer.Option(help="Only what this run used: enough to replay it.")] = None,
) -> None:
    """Write entries to a .jsonl or .jsonl.gz file that others can replay."""
    keys, recordings = (None, []) if run is None else _used_by(open_run(run))
    with existing(ledger) as opened:
        count = export_file(opened, file, keys=keys, recordings=recordings)
    print(f"{count} entries written to {file}")
    if keys is not None and (missing := len(keys) - count):
        print(
            f"{missing} of the run's {len(keys)} calls are neither in {ledger} nor in the recordings of its recipe: "
            f"a replay of {file} will lack them; name the run's ledger with --ledger, and go to where it was made",
            file=sys.stderr,
        )


def _used_by(run: RunDir) -> tuple[frozenset[str], list[Path]]:
    """The calls that the run used, and the recordings that served some of them, perhaps."""
    from tapir.wiring import load_recipe, recording_files

    recordings = recording_files(load_recipe(run.recipe_path))
    return frozenset(run.calls_used()), [path for path in recordings if path.is_file()]


@app.command("import")
def import_command(file: Path, ledger: LedgerPath = DEFAULT) -> None:
    """Read a file written by `export`; its entries keep their origin."""
    # Looked at first: a file that cannot be read must not leave an empty ledger behind.
    next(read_recording(file), None)
    with Ledger(ledger) as opened:
        print(f"{import_file(opened, file)} new entries from {file}")


@app.command()
def prune(
    ledger: LedgerPath = DEFAULT,
    identity: Annotated[str | None, typer.Option(help="Only this model's entries.")] = None,
    older_than_days: Annotated[float | None, typer.Option(help="Only entries older than this.")] = None,
    keep_run: Annotated[list[Path], typer.Option(help="Keep what this run used or paid for; may be repeated.")] = [],  # noqa: B006
) -> None:
    """Remove entries; what a run still needs will be asked and paid for again."""
    age_s = None if older_than_days is None else older_than_days * 86_400
    runs = [open_run(path) for path in keep_run]
    keep = [key for run in runs for key in run.calls_used()] if runs else None
    # The calls of a step that was killed are in no run's list yet, but in the ledger under the run's name.
    keep_runs = [run.identity() for run in runs]
    with existing(ledger) as opened:
        gone = opened.prune(keep=keep, keep_runs=keep_runs, identity=identity, older_than_s=age_s)
    print(f"{gone} entries removed")


def plain(row: object) -> dict[str, object]:
    """A dataclass row with slots as plain data."""
    import dataclasses

    return dataclasses.asdict(row)  # type: ignore[call-overload]
