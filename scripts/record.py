"""Record what does not depend on the student (labels, direct and refined answers of the shipped pool) in a live run of
the teacher, and write it as the package's recording. Run by `make record`; it takes a while.

The recording is a ledger export, so the quickstart reads it as it reads any reply; what it holds is exactly what the
engine would have asked.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tapir.cli.terminal import TerminalProgress
from tapir.models.ledger import Ledger
from tapir.models.ledger_files import export
from tapir.steps import recording
from tapir.wiring import load_recipe, open_session

OUT = Path("src/tapir/data/recordings/quickstart.jsonl.gz")


def main() -> None:
    """Record the named recipes' pools one after the other into one ledger."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipes", nargs="*", default=["quickstart", "small"])
    recipes: list[str] = parser.parse_args().recipes
    keys: set[str] = set()
    for name in recipes:
        recipe = load_recipe(name, ["ledger.path=.tapir/record.sqlite", "ledger.recordings=[]"])
        with open_session(recipe, Path("runs") / f"record-{name}", progress=TerminalProgress()) as session:
            recording.record(session)
            lines = session.run.calls_path.read_text(encoding="utf-8").splitlines()
            keys |= {line.split(" ", 1)[1] for line in lines}
    with Ledger(Path(".tapir/record.sqlite")) as ledger:
        count = export(ledger, OUT, keys=frozenset(keys))
    print(f"{count} calls written to {OUT}", file=sys.stderr)


if __name__ == "__main__":
    main()
