"""What a person sees while a run works: a bar for the stage under way, then one line for it.

Text from models and data sets passes through `printable` before it reaches a terminal.
"""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from tapir.cli.printable import printable as printable
from tapir.models.calls import Reply, Usage
from tapir.progress import Progress as Listener
from tapir.training.result import Pace, StepLog

QUIET_S = 30
"""Between two lines about a training that goes on, where there is no bar."""
HEADER = f"{'stage':<30}{'rows':>7}{'dropped':>9}{'calls':>7}{'cached':>8}{'replayed':>10}{'seconds':>9}"


class TerminalProgress(Listener):
    """A live bar on a terminal, one line a stage everywhere."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._headed = False
        self._began = time.monotonic()
        self._shown = 0.0
        self._expected = 0
        self._fetched = ("", -1)
        self._pace = Pace()

    def start(self, place: str, total: int | None) -> None:
        self._pace, self._shown = Pace(), time.monotonic()
        if not self.console.is_terminal:
            return
        self._bar = Progress(
            TextColumn("{task.description:<30}"), BarColumn(24), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[note]}"), console=self.console,
            transient=True,
        )  # fmt: skip
        self._task = self._bar.add_task(place, total=total, note="")
        self._bar.start()
        self._began = time.monotonic()
        self._expected = total or 0

    def expect(self, calls: int) -> None:
        """So many calls more are to come in this stage: what the time left is reckoned from."""
        self._expected += calls
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, total=self._expected)

    def call(self, reply: Reply, usage: Usage) -> None:
        now = time.monotonic()
        if now - self._shown < 0.1:
            return
        self._shown = now
        seconds = max(now - self._began, 1e-3)
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(usage.failed.items()))
        failed = f", failed: {reasons}" if reasons else ""
        cost = f", ${usage.cost_usd:.4f}" if usage.cost_usd else ""
        note = f"{usage.cached} cached{failed}, {usage.calls / seconds:.1f} calls/s, "
        note += f"{usage.completion_tokens / seconds:.0f} tokens/s{cost}"
        self.advance(usage.calls + usage.cached, note)

    def advance(self, done: int, note: str = "") -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, note=note)

    def trained(self, step: StepLog) -> None:
        """A training's bar; where there is no terminal, a line now and then, so that a log shows it is alive."""
        note = self._pace.observe(step)
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=step.step, total=step.steps, note=note)
        elif time.monotonic() - self._shown >= QUIET_S:
            self._shown = time.monotonic()
            left = "" if self._pace.left_s is None else f", {timedelta(seconds=self._pace.left_s)} left"
            self.say(f"  step {step.step} of {step.steps}: {note}{left}")

    def show(self, example: str) -> None:
        """One example as it will be trained, with colours where there are any; its own text is already harmless."""
        if self.console.is_terminal:
            print(example, file=sys.stderr, flush=True)

    def fetching(self, done_bytes: int, total_bytes: int, what: str) -> None:
        """Weights on their way: a bar on a terminal, a line every tenth elsewhere."""
        tenths = 10 * done_bytes // max(total_bytes, 1)
        if (what, tenths) == self._fetched:
            return
        self._fetched = (what, tenths)
        if self._bar is not None and self._task is not None:
            note = f"{what} weights: {done_bytes / 1e6:.0f} of {total_bytes / 1e6:.0f} MB"
            self._bar.update(self._task, note=note)
        else:
            self.say(f"  {what} weights: {done_bytes / 1e6:.0f} of {total_bytes / 1e6:.0f} MB")

    def finish(self, place: str, receipt: dict[str, Any], *, fresh: bool) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        if not self._headed:
            self.say(HEADER)
            self._headed = True
        if not fresh:
            self.say(f"{place:<30}{receipt['rows_out']:>7}   done before")
            return
        self.say(
            f"{place:<30}{receipt['rows_out']:>7}{sum(receipt['dropped'].values()):>9}{receipt['calls']:>7}"
            f"{receipt['cached_calls']:>8}{receipt['replayed_calls']:>10}{receipt['seconds']:>9.1f}"
        )

    def say(self, line: str) -> None:
        print(printable(line), file=sys.stderr, flush=True)
