"""`tapir status`: what is done, under way, stale or missing in a run; with `--watch` until the run ends.

Reads the run's files only, so it may be asked from anywhere while another process works.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from tapir import planning
from tapir.cli.results import AsJson
from tapir.cli.terminal import printable
from tapir.cli.window import rich_table, say, show_table, window
from tapir.store.progress import StageProgress, read_progress
from tapir.store.rundir import RunDir, open_run

HEAD = ("step", "state", "rows", "dropped", "calls", "cached", "USD", "time")
WORDS = {0, 1}
Steps = list[dict[str, Any]]


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(status)


def status(
    path: Annotated[Path, typer.Argument(help="A run directory.")],
    watch: Annotated[bool, typer.Option("--watch", help="Keep looking until the run ends.")] = False,
    every_s: Annotated[float, typer.Option("--every", min=0.1, help="With --watch: seconds between looks.")] = 1.0,
    as_json: AsJson = False,
) -> None:
    """What is done, under way, stale or missing in a run; with --json one object a step, with --watch one a change."""
    look = Look(open_run(path))
    if watch:
        follow(look, every_s, as_json=as_json)
        return
    steps = look.steps()
    if as_json:
        print(json.dumps(steps))
        return
    show_table(HEAD, _cells(steps), words=WORDS)
    say(look.said(steps))


class Look:
    """One run, looked at again and again; what is on disk is only worked out anew when a receipt has changed."""

    def __init__(self, run: RunDir) -> None:
        self.run = run
        self._seen: object = None
        self._steps: Steps = []

    def steps(self) -> Steps:
        """Every step with its state, its receipt's numbers and, under way, how far it has come."""
        seen = {p: p.stat().st_mtime_ns for p in self.run.root.glob("round_*/*.receipt.json")}
        if seen != self._seen:
            self._seen, self._steps = seen, _with_receipts(self.run)
        live = self.live()
        return [{**s, **_progress_of(s, live)} for s in self._steps]

    def live(self) -> StageProgress | None:
        """The stage under way; None where nobody is writing the run."""
        found = read_progress(self.run.root)
        return found if found is not None and found.working and self.run.writer() is not None else None

    def said(self, steps: Steps) -> str:
        """One sentence on the whole."""
        done, pid = sum(s["state"] == "done" for s in steps), self.run.writer()
        if done == len(steps):
            return f"all {done} steps are done; `tapir report {self.run.root}` shows what came of it"
        if pid is not None:
            now = next((f"; {_pace(s['progress'])}" for s in steps if s["progress"] is not None), "")
            return f"{done} of {len(steps)} steps are done; process {pid} is at work{now}"
        return f"{done} of {len(steps)} steps are done and nobody is at work; the same `tapir run` goes on from here"

    def ended(self, steps: Steps) -> bool:
        """Whether there is nothing left to wait for: all is done, or nobody works on it."""
        return all(s["state"] == "done" for s in steps) or self.run.writer() is None


def _with_receipts(run: RunDir) -> Steps:
    receipts = run.receipts()
    found: Steps = []
    for row in planning.status_where_called(run):
        r = receipts.get(row["place"], {}) if row["state"] == "done" else {}
        found.append(
            {
                **row,
                "dropped": sum(r.get("dropped", {}).values()),
                "calls": r.get("calls", 0),
                "cached_calls": r.get("cached_calls", 0),
                "cost_usd": r.get("cost_usd", 0.0),
            }
        )
    return found


def _progress_of(step: dict[str, Any], live: StageProgress | None) -> dict[str, Any]:
    if live is None or live.place != step["place"]:
        return {"progress": None}
    seconds = max(0.0, live.updated_at - live.began_at)
    told = {"state": "working", "calls": live.calls, "cached_calls": live.cached, "cost_usd": live.cost_usd}
    return {**told, "seconds": seconds, "progress": {**asdict(live), "left_s": live.left_s}}


def _cells(steps: Steps) -> list[list[str]]:
    return [_row(s) for s in steps]


def _row(step: dict[str, Any]) -> list[str]:
    if step["state"] in ("missing", "stale"):
        return [step["place"], step["state"], *[""] * 6]
    progress = step["progress"]
    rows = f"{step['rows']:,}" if progress is None else _how_far(progress)
    numbers = (step["dropped"], step["calls"], step["cached_calls"])
    usd = f"{step['cost_usd']:.2f}" if step["cost_usd"] else ""
    return [step["place"], step["state"], rows, *(f"{n:,}" if n else "" for n in numbers), usd, clock(step["seconds"])]


def _how_far(progress: dict[str, Any]) -> str:
    return f"{progress['done']:,}" + (f"/{progress['total']:,}" if progress["total"] is not None else "")


def _pace(progress: dict[str, Any]) -> str:
    """How fast the step under way is, and when it will be done."""
    left = f", {clock(progress['left_s'])} left" if progress["left_s"] is not None else ""
    rate = f", {progress['per_s']:.1f} a second" if progress["per_s"] else ""
    note = f" ({progress['note']})" if progress["note"] else ""
    return f"{progress['place']}: {_how_far(progress)}{rate}{left}{note}"


def clock(seconds: float) -> str:
    """A time as it stands in a narrow column."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02} min" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02} h"


def follow(
    look: Look, every_s: float, *, as_json: bool = False, console: Console | None = None,
    wait: Callable[[float], None] = time.sleep,
) -> None:  # fmt: skip
    """Look until the run ends: a table that renews itself in a window, a line for every change anywhere else."""
    at = console or window()
    if as_json or not at.is_terminal:
        _follow_plainly(look, every_s, at, wait, as_json=as_json)
        return
    with Live(console=at, auto_refresh=False, transient=False) as live:
        while True:
            steps = look.steps()
            live.update(_picture(look, steps, at.height), refresh=True)
            if look.ended(steps):
                return
            wait(every_s)


def _picture(look: Look, steps: Steps, height: int) -> Group:
    """The table as far as the window is high: what is done scrolls away above what is under way."""
    room = max(3, height - 5)
    first_open = next((n for n, s in enumerate(steps) if s["state"] != "done"), len(steps) - 1)
    start = max(0, min(first_open - room // 2, len(steps) - room))
    shown = [[printable(cell) for cell in row] for row in _cells(steps[start : start + room])]
    return Group(rich_table(HEAD, shown, WORDS), Text(printable(look.said(steps))))


def _follow_plainly(look: Look, every_s: float, at: Console, wait: Callable[[float], None], *, as_json: bool) -> None:
    told: dict[str, Any] = {}
    while True:
        steps = look.steps()
        for step in steps:
            # How far a step has come is shown in a window; in a log only its states are.
            if told.get(step["place"]) != step["state"]:
                told[step["place"]] = step["state"]
                if as_json or step["state"] != "missing":
                    line = json.dumps(step) if as_json else "  ".join(cell for cell in _row(step) if cell)
                    print(printable(line), file=at.file, flush=True)
        if look.ended(steps):
            if not as_json:
                print(printable(look.said(steps)), file=at.file, flush=True)
            return
        wait(every_s)
