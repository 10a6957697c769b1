"""A spread stage that the kill test kills: by itself, once three batches are in the ledger."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tapir import config
from tapir.models.calls import Reply, Request, Sampling
from tapir.models.ledger import Ledger
from tapir.models.spread import SpreadCaller
from tapir.types import Message

ROWS, BOUND, USED = 1000, 1024, 10
CAP = config.Budget(completion_tokens=1_100_000)
"""Room for the whole stage at its upper bound, and for little more."""


def requests() -> list[Request]:
    return [Request((Message("user", f"row {n:04}"),), Sampling(max_tokens=BOUND), row=str(n)) for n in range(ROWS)]


class Short:
    """Each answer is far below its bound. All batches are taken before the first comes back, as on Ray."""

    identity, batch_size = "short", 8

    def __init__(self, dies_after: int | None = None, by: type[BaseException] | None = None) -> None:
        self._dies_after, self._by = dies_after, by
        self.parts: list[int] = []

    def generate(self, batch: Sequence[Request]) -> list[Reply]:
        return [Reply(text=request.row, completion_tokens=USED) for request in batch]

    def generate_all(self, batches: Iterable[Sequence[Request]]) -> Iterator[tuple[int, list[Reply]]]:
        taken = list(batches)
        self.parts.append(len(taken))
        for number, batch in enumerate(taken):
            if number == self._dies_after:
                if self._by is not None:
                    raise self._by
                os.kill(os.getpid(), signal.SIGKILL)
            yield number, self.generate(batch)

    def close(self) -> None: ...


def spread(ledger: Ledger, backend: Short, budget: config.Budget = CAP) -> SpreadCaller:
    return SpreadCaller(backend, ledger, budget=budget, run_id="r", writer="/runs/r")


if __name__ == "__main__":
    with Ledger(Path(sys.argv[1])) as opened:
        list(spread(opened, Short(dies_after=3)).run(requests(), stage="answer"))
