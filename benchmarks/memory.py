"""Memory of a stage by its number of rows: it must not grow with them.

    python benchmarks/memory.py                  # 10,000 rows, then 1,000,000 (some minutes)
    python benchmarks/memory.py --rows 10000 100000

The endpoint is a coroutine in this process that answers 200 tokens after a millisecond: what is measured is the
engine and its ledger. Each size is a process of its own, since peak memory never goes down.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from harness import heading

from tapir import config
from tapir.models.calls import Reply, Request, Sampling
from tapir.models.engine import Caller
from tapir.models.ledger import Ledger
from tapir.types import Message


class Near:
    """A remote backend without a network."""

    identity = "near"

    async def send(self, request: Request, *, avoid: str = "") -> Reply:
        await asyncio.sleep(0.001)
        return Reply(text="word " * 200 + request.row, prompt_tokens=20, completion_tokens=200, raw=b" " * 1500)

    async def aclose(self) -> None: ...


def requests(rows: int) -> Iterator[Request]:
    for number in range(rows):
        yield Request((Message("user", f"Question {number}? " * 10),), Sampling(max_tokens=256), row=str(number))


def one_size(rows: int) -> None:
    with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder) / "ledger.sqlite") as ledger:
        caller = Caller(Near(), ledger, limits=config.Limits(in_flight=64), run_id="bench")
        start = time.perf_counter()
        done = sum(1 for _ in caller.run(requests(rows), stage="answer"))
        rate = done / (time.perf_counter() - start)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"| {rows:,} | {peak_mb:.0f} | {rate:.0f} |")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, nargs="+", default=[10_000, 1_000_000])
    options.add_argument("--one", type=int, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.one:
        return one_size(chosen.one)
    print(heading("Memory", "Peak memory of one stage, concurrency 64, ledger included"))
    print("\n| rows | peak MB | rows/s |\n|---:|---:|---:|", flush=True)
    for rows in chosen.rows:
        subprocess.run([sys.executable, __file__, "--one", str(rows)], check=True)
    return None


if __name__ == "__main__":
    main()
