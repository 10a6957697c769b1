"""Time, memory and size of the report of a large run, whose tables are invented.

    python benchmarks/report.py [SEEDS]

Writes a run of that many seeds (a million by default) with verdicts in both orders, their difficulties, answers and a
tenth as many grown and mixed rows, then makes its page. The page must stay under 5 MB whatever the size.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tapir.report.html import write_report
from tapir.store.rundir import RunDir
from tapir.store.tables import schema_of
from tapir.tasks import load_taxonomy
from tapir.types import Answer, Difficulty, Example, Instruction, Verdict

PORTION = 100_000


def write(path: Path, row_type: type, rows: int, columns: dict[str, Any]) -> None:
    """A table of this type in portions; `columns` make a value from a row's number, the others are empty."""
    path.parent.mkdir(parents=True, exist_ok=True)
    schema = schema_of(row_type)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for start in range(0, rows, PORTION):
            numbers = np.arange(start, min(start + PORTION, rows))
            arrays = [
                pa.array(columns[f.name](numbers), type=f.type) if f.name in columns else pa.nulls(len(numbers), f.type)
                for f in schema
            ]
            writer.write_table(pa.table(arrays, schema=schema))


def same(value: Any) -> Any:
    """A column of one value."""
    return lambda numbers: [value] * len(numbers)


def invent(root: Path, seeds: int) -> None:
    """The tables that the page reads."""
    tasks = np.array(load_taxonomy().names)
    rng = np.random.default_rng(5)
    gaps = np.round(rng.normal(1.0, 2.0, seeds) * 2) / 2
    names = lambda numbers: np.char.mod("%016x", numbers)  # noqa: E731
    of_pair = lambda numbers: names(numbers // 2)  # noqa: E731
    task = lambda numbers: tasks[numbers % len(tasks)]  # noqa: E731
    text = lambda n: np.char.add("Question ", n.astype(str))  # noqa: E731
    asked = {"id": names, "text": text, "task": task, "origin": same("seed"), "round": same(0), "history": same([])}
    write(root / "round_0/02_classified.parquet", Instruction, seeds, asked)
    answers = {"instruction_id": names, "author": same("x"), "text": same("An answer of some words. " * 20),
               "prompt": same("original"), "round": same(0), "sample": same(0), "finish_reason": same("stop"),
               "tokens": same(100)}  # fmt: skip
    for place in ("03_teacher_answers", "05_student_answers"):
        write(root / f"round_0/{place}.parquet", Answer, seeds, answers)
    verdicts = {
        "instruction_id": of_pair, "order": lambda n: np.where(n % 2, "teacher_first", "student_first"),
        "student_score": same(5.0), "teacher_score": lambda n: np.clip(5 + gaps[n // 2], 1, 10),
        "student": same("student_0"), "judge": same("judge"), "vote": same(0), "method": same("text"),
        "explained": same(True), "raw": same("A long explanation of the verdict. " * 20),
    }  # fmt: skip
    write(root / "round_0/06_verdicts.parquet", Verdict, 2 * seeds, verdicts)
    scored = {
        "instruction_id": names, "value": lambda n: np.clip(5 + gaps[n], 1, 10) - 5, "kind": same("mfd"),
        "student": same("student_0"), "spread": same(0.0), "votes": same(2), "soft": same(False),
        "consistent": same(True),
    }  # fmt: skip
    write(root / "round_0/07_hard.all.parquet", Difficulty, seeds, scored)
    write(root / "round_0/07_hard.parquet", Difficulty, seeds // 4, scored)
    mixed = {"instruction_id": names, "task": task, "hard": lambda n: n % 2 == 0, "weight": same(1.0),
             "messages": same([])}  # fmt: skip
    write(root / "round_1/04_mix.parquet", Example, seeds // 10, mixed)
    (root / "manifest.json").write_text(json.dumps({"tapir": "benchmark"}), encoding="utf-8")


def main() -> None:
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        invent(root, seeds)
        before, began = time.process_time(), time.perf_counter()
        page = write_report(RunDir(root))
        took, cpu = time.perf_counter() - began, time.process_time() - before
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(f"{seeds:,} seeds: page of {page.stat().st_size / 1e6:.2f} MB in {took:.1f} s ({cpu:.1f} s of CPU), "
              f"peak {peak:.2f} GB with what invented the run")  # fmt: skip


if __name__ == "__main__":
    main()
