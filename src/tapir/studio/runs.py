"""Which runs lie below a folder, and one open run with its tables."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

from tapir import planning
from tapir.errors import TapirError
from tapir.report.facts import Facts
from tapir.store.progress import StageProgress, read_progress
from tapir.store.rundir import RunDir
from tapir.studio.guard import Access
from tapir.studio.states import States
from tapir.studio.tables import RunTables
from tapir.tasks import load_taxonomy

PATTERNS = ("manifest.json", "*/manifest.json", "*/*/manifest.json")
MOST_RUNS = 500


def find_runs(folder: Path) -> dict[str, RunDir]:
    """Runs in the folder itself or up to two levels below, by the name that addresses use for them."""
    found: dict[str, RunDir] = {}
    for pattern in PATTERNS:
        for path in sorted(folder.glob(pattern)):
            root = path.parent
            name = str(root.relative_to(folder))
            key = (folder.resolve().name if name == "." else name).replace("/", "~")
            if len(found) < MOST_RUNS:
                found[key] = RunDir(root)
    return found


@dataclass(frozen=True)
class View:
    """One run as a request sees it. `facts` are read anew for each request, since a run may be working."""

    key: str
    run: RunDir
    tables: RunTables
    looked_at: States
    access: Access
    author: str

    @property
    def facts(self) -> Facts:
        return Facts(self.run)

    @property
    def progress(self) -> StageProgress | None:
        return read_progress(self.run.root)

    @property
    def places(self) -> list[str]:
        """Every step that the run has or is to have."""
        recipe, receipts = self.facts.recipe, self.run.receipts()
        planned = planning.places_of(recipe) if recipe else []
        return [*planned, *(p for p in receipts if p not in planned)]

    @property
    def task_names(self) -> tuple[str, ...]:
        """The recipe's task types; the default ones where its taxonomy is not at hand."""
        return (self.facts.taxonomy or load_taxonomy(None)).names

    def states(self) -> dict[str, str]:
        """State of each step; where the recipe cannot be read here, only what is done."""
        try:
            return {str(row["place"]): str(row["state"]) for row in self.looked_at.of(self.run)}
        except (TapirError, OSError):
            done = self.run.receipts()
            return {place: "done" if place in done else "missing" for place in self.places}


class OpenRuns:
    """The folder's runs; a run's database is opened when it is first looked at."""

    def __init__(self, folder: Path, access: Access, author: str) -> None:
        self.folder = folder
        self.access = access
        self.author = author
        self._tables: dict[str, RunTables] = {}
        self._states = States()
        self._lock = threading.Lock()

    def all(self) -> dict[str, View]:
        return {key: self._view(key, run) for key, run in find_runs(self.folder).items()}

    def get(self, key: str) -> View | None:
        """The run of that name. Names come from the folder's listing, so none leads out of it."""
        run = find_runs(self.folder).get(key)
        return None if run is None else self._view(key, run)

    def _view(self, key: str, run: RunDir) -> View:
        with self._lock:
            if key not in self._tables:
                self._tables[key] = RunTables(run)
            return View(key, run, self._tables[key], self._states, self.access, self.author)

    def close(self) -> None:
        for tables in self._tables.values():
            tables.close()
        self._tables.clear()
        self._states.close()
