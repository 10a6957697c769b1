"""What the whole-run tests share: a tiny pool, a tiny student, a recipe with a scripted teacher and judge."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import runpy
import sqlite3
import subprocess
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow.parquet as pq
import yaml
from tiny import build_tiny_model

SUBJECTS = ("apples", "boats", "clouds", "drums", "engines", "forests", "gloves", "hills", "islands", "kites", "lamps")
QUESTIONS = (
    "How many {s} are left of 12 if {n} are given away? Say it in a few words.",
    "Write a function that sorts a list of {s} by weight and returns the {n} heaviest of them.",
    "Write a short story about {s} that somebody found in an attic {n} years ago.",
    "If all {s} are old and these {n} things are {s}, what follows, and in which order would you show it?",
    "Which king or queen of the past was known for {s} in a war of {n} years?",
    "Name something that people do with {s} on a long winter evening with {n} friends.",
)


def write_pool(path: Path, *, first: int, count: int) -> None:
    """Instructions of several task types; every third one carries a check that any non-empty answer passes."""
    with path.open("w", encoding="utf-8") as file:
        for n in range(first, first + count):
            text = QUESTIONS[n % len(QUESTIONS)].format(s=SUBJECTS[n % len(SUBJECTS)], n=n + 2)
            check = {"kind": "pattern", "pattern": r"\w"} if n % 3 == 0 else None
            file.write(json.dumps({"instruction": text, "check": check}) + "\n")


def recipe(folder: Path, **parts: Any) -> dict[str, Any]:
    """A two-round recipe on tiny things, as plain data."""
    held_out = str(folder / "held_out.jsonl")
    scripted = {"kind": "scripted", "script": "builtin", "max_answer_tokens": 32}
    student = {"kind": "local", "model": str(folder / "student"), "engine": "transformers", "max_answer_tokens": 12,
               "batch": 8, "temperature": 0.5}  # fmt: skip
    return {
        "name": "tiny",
        "seeds": {"source": str(folder / "pool.jsonl"), "near_duplicates": False},
        "models": {"teacher": scripted, "student": student},
        "judge": {"max_pairs": 12},
        "difficulty": {"delta": 0.5},
        "curriculum": {"rounds": 2},
        "mix": {"size": 10},
        "expand": {"per_round": 4, "per_seed": 2},
        "train": {"method": "lora", "epochs": 1, "batch": 4, "micro_batch": 2, "max_tokens": 256},
        "evaluate": [{"kind": kind, "prompts": held_out} for kind in ("verified", "pairwise", "held_out_fit")],
        "decontaminate": {"enabled": False},
        **parts,
    }  # fmt: skip


def prepare(folder: Path, **parts: Any) -> Path:
    """A folder with pools, student and recipe; returns the recipe's path."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "student").exists():
        build_tiny_model(folder / "student")
    write_pool(folder / "pool.jsonl", first=0, count=24)
    write_pool(folder / "held_out.jsonl", first=40, count=8)
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe(folder, **parts)), encoding="utf-8")
    return path


ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tapir.cli", "tapir.pipeline", "tapir.models.local_hf", "tapir.training.sft"])


def start(recipe_path: Path, run: Path, ledger: Path, *extra: str) -> subprocess.Popen[str]:
    """`tapir run` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "tapir", *_command(recipe_path, run, ledger), *extra],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | ENVIRONMENT,
    )


def fork(recipe_path: Path, run: Path, ledger: Path) -> BaseProcess:
    """The same, forked from a process that has loaded all libraries: most of what a run takes that is killed soon.

    What it prints is beside the run.
    """
    words = _command(recipe_path, run, ledger)
    process = FORKS.Process(target=_run_tapir, args=(words, run.with_suffix(".output.txt")))
    with mock.patch.dict(os.environ, ENVIRONMENT):
        process.start()
    return process


def _command(recipe_path: Path, run: Path, ledger: Path) -> list[str]:
    return ["run", str(recipe_path), "--out", str(run), "--set", f"ledger.path={ledger}"]


def _run_tapir(words: list[str], output: Path) -> None:
    with output.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.argv = ["tapir", *words]
    runpy.run_module("tapir", run_name="__main__", alter_sys=True)


def finish(process: subprocess.Popen[str], expected: int = 0) -> str:
    try:
        output, _ = process.communicate(timeout=600)
    except subprocess.TimeoutExpired:
        process.kill()
        raise AssertionError(f"still at work after ten minutes:\n{process.communicate()[0]}") from None
    assert process.returncode == expected, output
    return output


def kill_inside(process: BaseProcess, place: str, run: Path, ledger: Path) -> str:
    """SIGKILL while the stage works, or at the latest when it has ended; which of the two it was, or `ended`.

    A stage is seen at work by its calls in the ledger, or by the first lines of its training log.
    """
    receipt, log = run / f"{place}.receipt.json", run / f"{place}.log.jsonl"
    stage = place.split("_", 2)[2]
    before = _calls(ledger, stage)
    while process.exitcode is None:
        if receipt.exists() or _calls(ledger, stage) > before or (log.exists() and log.stat().st_size > 0):
            done = receipt.exists()
            process.kill()
            process.join()
            return "after" if done or receipt.exists() else "inside"
        time.sleep(0.002)
    return "ended"


def _calls(ledger: Path, stage: str) -> int:
    if not ledger.exists():
        return 0
    with contextlib.closing(sqlite3.connect(ledger, timeout=10)) as db:
        try:
            return int(db.execute("SELECT COUNT(*) FROM calls WHERE stage = ?", (stage,)).fetchone()[0])
        except sqlite3.OperationalError:
            return 0  # the file is there, its tables not yet


def tables(run: Path) -> dict[str, Any]:
    """All tables of a run as plain data, and the hashes of its students' weights."""
    found: dict[str, Any] = {
        str(path.relative_to(run)): pq.read_table(path).to_pylist() for path in sorted(run.glob("round_*/*.parquet"))
    }
    for path in sorted(run.glob("round_*/*_student_*/model.safetensors")):
        found[str(path.relative_to(run))] = path.read_bytes()
    return found
