"""What a run tells while it works, and who hears it: a listener of the caller's, and `progress.json` beside the run."""

from __future__ import annotations

from typing import Any

from tapir.models.calls import Reply, Usage
from tapir.store.progress import ProgressFile
from tapir.training.result import StepLog


class Progress:
    """What a stage tells while it runs; the command line shows it, tests and libraries ignore it."""

    def start(self, place: str, total: int | None) -> None: ...

    def expect(self, calls: int) -> None: ...

    def call(self, reply: Reply, usage: Usage) -> None: ...

    def advance(self, done: int, note: str = "") -> None: ...

    def finish(self, place: str, receipt: dict[str, Any], *, fresh: bool) -> None: ...

    def say(self, line: str) -> None: ...

    def show(self, example: str) -> None: ...

    def trained(self, step: StepLog) -> None: ...

    def fetching(self, done_bytes: int, total_bytes: int, what: str) -> None: ...


class Noted(Progress):
    """Passes everything on, and keeps the run's `progress.json` for those who look from outside."""

    def __init__(self, told: Progress, file: ProgressFile) -> None:
        self._told, self._file = told, file

    def start(self, place: str, total: int | None) -> None:
        self._file.start(place, total)
        self._told.start(place, total)

    def expect(self, calls: int) -> None:
        self._file.expect(calls)
        self._told.expect(calls)

    def call(self, reply: Reply, usage: Usage) -> None:
        self._file.update(
            done=usage.calls + usage.cached,
            calls=usage.calls,
            cached=usage.cached,
            failed=sum(usage.failed.values()),
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cost_usd=usage.cost_usd,
        )
        self._told.call(reply, usage)

    def advance(self, done: int, note: str = "") -> None:
        self._file.update(done=done, note=note)
        self._told.advance(done, note)

    def trained(self, step: StepLog) -> None:
        self._file.update(done=step.step, total=step.steps, note=f"training, loss {step.loss:.3f}")
        self._told.trained(step)

    def finish(self, place: str, receipt: dict[str, Any], *, fresh: bool) -> None:
        self._told.finish(place, receipt, fresh=fresh)

    def say(self, line: str) -> None:
        self._told.say(line)

    def show(self, example: str) -> None:
        self._told.show(example)

    def fetching(self, done_bytes: int, total_bytes: int, what: str) -> None:
        megabytes = f"{done_bytes / 1e6:.0f} of {total_bytes / 1e6:.0f} MB"
        self._file.update(note=f"fetching {what} weights, {megabytes}")
        self._told.fetching(done_bytes, total_bytes, what)
