"""How long `tapir evaluate alpaca` takes for the 805 stored annotations of AlpacaEval, imports included.

    python benchmarks/alpaca.py [--rows 805] [--times 5]

Annotations are made here, so nothing is downloaded. Wall time and CPU time are of the whole process; the least of
several is what the machine can do when nobody else uses it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import heading

HEAVY = ("torch", "transformers", "pandas", "datasets", "pyarrow", "duckdb", "aiohttp")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=805)
    options.add_argument("--times", type=int, default=5)
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "annotations.json"
        path.write_text(json.dumps(annotations(asked.rows)), encoding="utf-8")
        timings = [timed(path) for _ in range(asked.times)]
        loaded = heavy(path)
    print(heading("Scoring stored annotations", f"{asked.rows} rows, whole process, {asked.times} times"))
    print("\n| | least | median | most |\n|---|---|---|---|")
    for name, values in zip(("wall, s", "CPU, s"), zip(*timings, strict=True), strict=True):
        ranked = sorted(values)
        print(f"| {name} | {ranked[0]:.2f} | {ranked[len(ranked) // 2]:.2f} | {ranked[-1]:.2f} |")
    print(f"\nheavy libraries loaded: {', '.join(loaded) or 'none'}")


def annotations(rows: int) -> list[dict[str, object]]:
    rng = random.Random(17)
    fixed = {"output_1": "word " * 300, "output_2": "word " * 200, "generator_1": "gpt4_1106_preview",
             "generator_2": "student", "annotator": "judge"}  # fmt: skip
    return [{"instruction": f"question {n}", "preference": 1 + rng.random()} | fixed for n in range(rows)]


def timed(path: Path) -> tuple[float, float]:
    """Wall and CPU seconds of one run."""
    before, began = os.times(), time.monotonic()
    command = [sys.executable, "-m", "tapir", "evaluate", "alpaca", "--annotations", str(path), "--json"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return time.monotonic() - began, used


def heavy(path: Path) -> list[str]:
    code = (
        "import sys; from tapir.cli import app\n"
        f"app(['evaluate', 'alpaca', '--annotations', {str(path)!r}, '--json'], standalone_mode=False)\n"
        f"print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return done.stdout.splitlines()[-1].split()


if __name__ == "__main__":
    main()
