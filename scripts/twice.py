"""Run a recipe twice from nothing, live, and compare every table and weight file: `make twice`.

Each run has a ledger of its own and replays no recording, so that what is equal was generated twice. Exits with 1 and
names what differs, if anything does.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tapir.store.rundir import file_hash


def main() -> None:
    """Two runs, then one line a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", nargs="?", default="quickstart")
    parser.add_argument("--folder", type=Path, default=Path("runs"))
    options = parser.parse_args()
    runs = [options.folder / f"{options.recipe}-twice-{n}" for n in (1, 2)]
    for run in runs:
        ledger = run.with_name(f"{run.name}.sqlite")
        if run.exists() or ledger.exists():
            sys.exit(f"{run} or {ledger} is there already: remove it, a fresh run is what is compared")
        live = ["--set", "ledger.recordings=[]", "--set", f"ledger.path={ledger}"]
        subprocess.run([sys.executable, "-m", "tapir", "run", options.recipe, "--out", run, *live], check=True)
    first, second = (contents(run) for run in runs)
    different = [name for name in sorted(first.keys() | second.keys()) if first.get(name) != second.get(name)]
    for name in sorted(first):
        print(f"{'DIFFERS' if name in different else 'equal':<9}{name}")
    print(f"{len(first) - len(different)} of {len(first)} tables and weight files are equal")
    sys.exit(bool(different))


def contents(run: Path) -> dict[str, Any]:
    """Every table's rows, and the hash of every weight file."""
    found: dict[str, Any] = {
        str(path.relative_to(run)): pq.read_table(path).to_pylist() for path in sorted(run.glob("round_*/*.parquet"))
    }
    weights = sorted(run.glob("round_*/*_student_*/*.safetensors"))
    return found | {str(path.relative_to(run)): file_hash(path) for path in weights}


if __name__ == "__main__":
    main()
