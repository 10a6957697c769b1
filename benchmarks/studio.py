"""How fast the studio is on a synthetic run of a million instructions: first page, each filter, one instruction.

    python benchmarks/studio.py [--rows 1000000] [--keep FOLDER]

Wall and CPU time of whole HTTP requests; each filter on a fresh server, where nothing is counted yet.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tapir.store.rundir import RunDir, write_json, write_text
from tapir.store.tables import CHUNK_ROWS, schema_of
from tapir.studio.serving import serving
from tapir.tasks import load_taxonomy
from tapir.types import Answer, Difficulty, Instruction, Receipt, Verdict

SAID = """the of and to in a is that for it as was with be by on not he his but at are this have from or had an they
which one you were her all she there would their we him been has when who will more no if out so river number
python story proof planet recipe letter army budget"""
WORDS = np.array(SAID.split())
TASKS = load_taxonomy().names
KINDS = {
    "02_classified": Instruction,
    "03_teacher_answers": Answer,
    "05_student_answers": Answer,
    "06_verdicts": Verdict,
    "07_hard.all": Difficulty,
    "07_hard": Difficulty,
}
FILTERS = (
    ("one task", {"task": "Math"}),
    ("a word in the text", {"q": "planet recipe"}),
    ("a word that is nowhere", {"q": "xylophone"}),
    ("MFD from 3 to 5", {"low": "3", "high": "5"}),
    ("largest MFD first", {"sort": "-mfd"}),
    ("longest first", {"sort": "-length"}),
    ("student's answer better", {"verdict": "student"}),
    ("unscored", {"verdict": "unscored"}),
    ("dropped as not hard", {"stage": "round_0/07_hard", "dropped": "not_hard"}),
    ("all at once", {"q": "planet", "task": "Math", "low": "2", "sort": "-mfd"}),
    ("page 10,000", {"page": "10000"}),
)


def make(root: Path, rows: int) -> RunDir:
    """A run of round 0 with so many seeds, written as the store writes."""
    write_text(root / "recipe.yaml", "name: synthetic\nmodels:\n  teacher: {kind: scripted, script: builtin}\n"
               "  student: {kind: local, model: nowhere}\n")  # fmt: skip
    write_json(root / "manifest.json", {"tapir": "0.1.0", "seed": 17})
    (root / "round_0").mkdir()
    files = {
        name: pq.ParquetWriter(root / f"round_0/{name}.parquet", schema_of(kind), compression="zstd")
        for name, kind in KINDS.items()
    }
    rng = np.random.default_rng(17)
    for start in range(0, rows, CHUNK_ROWS):
        for name, table in _chunk(rng, min(CHUNK_ROWS, rows - start)).items():
            files[name].write_table(table.cast(files[name].schema))
    run = RunDir(root)
    for name, file in files.items():
        file.close()
        if "." not in name:
            run.step(f"round_0/{name}", "0" * 16).finish(Receipt(name, rows_in=rows, rows_out=rows))
    return run


def _chunk(rng: np.random.Generator, n: int) -> dict[str, pa.Table]:
    ids = [f"{v:016x}" for v in rng.integers(0, 2**63, n)]
    texts = [" ".join(WORDS[w]) for w in rng.integers(0, len(WORDS), (n, 45))]
    mfd = np.round(rng.normal(1.5, 2, n) * 2) / 2
    scored = rng.random(n) > 0.03
    empty = [None] * n
    pool = {"text": texts, "system": empty, "history": [[]] * n, "task": rng.choice(TASKS, n), "origin": ["seed"] * n,
            "parent_id": empty, "round": [0] * n, "check": empty, "id": ids}  # fmt: skip
    answers = {"instruction_id": ids, "author": ["teacher"] * n, "text": texts, "prompt": ["original"] * n,
               "round": [0] * n, "sample": [0] * n, "finish_reason": ["stop"] * n, "tokens": [60] * n}  # fmt: skip
    hard = {"instruction_id": ids, "value": mfd, "kind": ["mfd"] * n, "student": ["student_0"] * n, "spread": [0.0] * n,
            "votes": [2] * n, "soft": [False] * n, "low": empty, "high": empty, "consistent": [True] * n}  # fmt: skip
    scores = np.where(scored, 5.0, np.nan)
    votes = {"instruction_id": ids * 2, "order": ["student_first"] * n + ["teacher_first"] * n,
             "student_score": np.tile(scores, 2), "teacher_score": np.tile(scores + mfd, 2),
             "problem": [None if s else "no_rating" for s in scored] * 2, "student": ["student_0"] * 2 * n,
             "judge": ["judge"] * 2 * n, "vote": [0] * 2 * n, "method": ["text"] * 2 * n, "explained": [False] * 2 * n,
             "raw": ["Score of the Assistant 1: 5"] * 2 * n}  # fmt: skip
    found = pa.table(hard)
    return {
        "02_classified": pa.table(pool),
        "03_teacher_answers": pa.table(answers),
        "05_student_answers": pa.table(answers),
        "06_verdicts": pa.table(votes),
        "07_hard.all": found.filter(pa.array(scored)),
        "07_hard": found.filter(pa.array(scored & (mfd > 2))),
    }


def cost(url: str, times: int = 1) -> str:
    """Wall and CPU time of the slowest of some requests. The server runs in this process, so its CPU time is ours."""
    taken: list[tuple[float, float]] = []
    for _ in range(times):
        wall, cpu = time.perf_counter(), time.process_time()
        with urllib.request.urlopen(url) as answer:
            answer.read()
        taken.append((time.perf_counter() - wall, time.process_time() - cpu))
    return f"{1000 * max(w for w, _ in taken):8.0f} ms wall {1000 * max(c for _, c in taken):8.0f} ms CPU"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--keep", type=Path, help="make the run here, or take the one that is here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        if not (folder / "run/manifest.json").exists():
            began = time.perf_counter()
            make(folder / "run", options.rows)
            print(f"made in {time.perf_counter() - began:.0f} s")
        rows = pq.read_metadata(folder / "run/round_0/02_classified.parquet").num_rows
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
        print(f"{rows:,} instructions; commit {commit.stdout.strip()}; {platform.machine()}")
        base = f"/run/run/rows?{urlencode({'stage': 'round_0/02_classified'})}"
        with serving(folder) as server:
            print(f"{'first page, fresh server':<28}{cost(server + base)}")
            print(f"{'the same again':<28}{cost(server + base, 3)}")
        for name, asked in FILTERS:
            # A fresh server each, so that no count is remembered.
            with serving(folder) as server:
                url = f"{server}/run/run/rows?{urlencode({'stage': 'round_0/02_classified', **asked})}"
                cost(f"{server}/static/studio.css")  # the first request starts threads
                print(f"{name:<28}{cost(url)}")
        with serving(folder) as server:
            first = pq.ParquetFile(folder / "run/round_0/02_classified.parquet").read_row_group(0, columns=["id"])
            url = f"{server}/run/run/instruction/{first['id'][7]}"
            print(f"{'one instruction':<28}{cost(url, 3)}")
            print(f"{'distribution with δ':<28}{cost(f'{server}/run/run/difficulty', 3)}")


if __name__ == "__main__":
    main()
