"""What faults cost: the same 10,000 calls to a server that fails, refuses, breaks off and turns rows down.

    python benchmarks/faults.py [--calls 10000] [--concurrency 64]

10 % one-off 500s, 2 % 429s with Retry-After, 1 % broken streams, 1 % permanently bad rows. Every good row must arrive
and exactly the bad ones be missing; the wall time is compared with a run without faults.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from harness import Server, contender, heading

FAULTS = {"error_500": 0.10, "error_429": 0.02, "retry_after_s": 1.0, "broken": 0.01, "bad_rows": 0.01}
SCRIPT = Path(__file__).parent / "contenders" / "tapir_engine.py"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--calls", type=int, default=10_000)
    options.add_argument("--concurrency", type=int, default=64)
    options.add_argument("--latency", type=float, default=0.1)
    chosen = options.parse_args()
    plain, _ = measure(chosen, {})
    faulty, counts = measure(chosen, FAULTS)
    if faulty["rows"] + faulty["bad"] != chosen.calls:
        raise SystemExit(f"rows vanished: {faulty['rows']} good and {faulty['bad']} bad of {chosen.calls}")
    if faulty["bad"] != counts["bad_rows"]:
        raise SystemExit(f"{faulty['bad']} rows are missing, but the server made {counts['bad_rows']} bad")
    print(heading("Faults", f"{chosen.calls:,} calls at concurrency {chosen.concurrency}, faults {json.dumps(FAULTS)}"))
    print("\n| | good rows | bad rows | requests | seconds | times the run without faults |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, result, requests in (
        ("without faults", plain, chosen.calls),
        ("with faults", faulty, counts["requests"]),
    ):
        times = result["seconds"] / plain["seconds"]
        print(f"| {name} | {result['rows']} | {result['bad']} | {requests} | {result['seconds']:.1f} | {times:.2f} |")


def measure(chosen: argparse.Namespace, faults: dict[str, float]) -> tuple[dict[str, Any], dict[str, int]]:
    with Server("--latency-s", str(chosen.latency), "--fixed-tokens", "200", "--faults", json.dumps(faults)) as server:
        result = contender(Path(sys.executable), SCRIPT, server.url, chosen.calls, chosen.concurrency)
        return result, server.counts()


if __name__ == "__main__":
    main()
