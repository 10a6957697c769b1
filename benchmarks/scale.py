"""Every stage but training, by size of the pool: rows a second, peak memory of the driver, growth.

    python benchmarks/scale.py                             # 10,000, 100,000 and 1,000,000 instructions (hours)
    python benchmarks/scale.py --rows 1000 10000           # a first look
    python benchmarks/scale.py --executor ray              # the student's answers on a local Ray cluster
    python benchmarks/scale.py --keep DIR                  # may be stopped and started again: it goes on

Instructions are made up of a vocabulary with a natural spread; one in fifty nearly repeats another and one in five
hundred holds an evaluation text. Teacher, judge and student are scripted, so what is measured is this program: its
stages, its ledger, its tables. Each stage is a process of its own, since peak memory never goes down. A stage's sizes
follow one another, so that they meet the same neighbours on a shared machine. Growth is the exponent between two sizes:
1 is linear, and n log n is 1.10 from 10,000 to 100,000 and 1.08 from there to 1,000,000.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import heading

from tapir import steps
from tapir.config import Recipe, parse_recipe
from tapir.executors.generation import RayBatches
from tapir.models.calls import BatchBackend
from tapir.models.scripted import Rule, ScriptedModel
from tapir.store.rundir import Step
from tapir.wiring import Session, open_session

STAGES = ("seeds", "classify", "annotate", "answer", "judge", "select", "expand", "refine", "enhance", "mix")
EVALUATION_TEXTS = 1_000
WORDS = 50_000


def text(rng: random.Random) -> str:
    """Twelve to sixty words; rank r is drawn about 1/r as often as the first."""
    count = rng.randint(12, 60)
    return " ".join(f"w{int(WORDS ** rng.random())}" for _ in range(count))


def write_pool(folder: Path, rows: int) -> None:
    rng = random.Random(17)
    evaluation = [text(rng) for _ in range(EVALUATION_TEXTS)]
    _write(folder / "evaluation.jsonl", evaluation)
    with (folder / "pool.jsonl").open("w", encoding="utf-8") as file:
        before = text(rng)
        for n in range(rows):
            new = text(rng)
            if n % 50 == 1:
                new = f"{before} {rng.randint(0, 99)}"
            elif n % 500 == 2:
                new = f"{new} {evaluation[n % EVALUATION_TEXTS]}"
            file.write(json.dumps({"instruction": new}) + "\n")
            before = new


def _write(path: Path, texts: list[str]) -> None:
    path.write_text("".join(json.dumps({"instruction": t}) + "\n" for t in texts), encoding="utf-8")


def recipe(folder: Path, rows: int, executor: str) -> Recipe:
    scripted = {"kind": "scripted", "script": "builtin", "max_answer_tokens": 64}
    return parse_recipe(
        {
            "name": "scale",
            "seeds": {"source": str(folder / "pool.jsonl")},
            "models": {"teacher": scripted, "student": scripted},
            "student_0": "as_is",
            "difficulty": {"delta": 2},
            "curriculum": {"rounds": 1},
            "expand": {"per_round": max(1, rows // 50), "per_seed": 1},
            "decontaminate": {"against": [str(folder / "evaluation.jsonl")]},
            "ledger": {"path": str(folder / "ledger.sqlite")},
            "executor": executor,
            "ray": {"actors": 2},
        }
    )


class Scripted(Session):
    """A session whose student is the script too, here or on the cluster."""

    def student_weights(self) -> Path:
        return self.run.root

    def weights_hash(self, folder: Path) -> str:
        return "scripted"

    def _open_student(self, model: object, folder: Path) -> BatchBackend:
        if self.recipe.executor == "ray":
            return RayBatches(student, self.recipe.ray, identity="student", batch_size=32)
        return student()


def student() -> ScriptedModel:
    """Shorter answers than the teacher's, so that the scripted judge finds some seeds hard."""
    return ScriptedModel(
        [Rule(r"\A.*\Z", lambda request, found: " ".join(found[0].split()[:10]))], "student", remembers=False
    )


def until(session: Session, stage: str) -> Step:
    """Every step up to `stage`; those that are done are passed over."""
    done: dict[str, Step] = {}
    made = done["seeds"] = steps.gather_seeds(session)
    curriculum = None
    for name in STAGES[1 : STAGES.index(stage) + 1]:
        if name == "classify":
            made = steps.classify_seeds(session, done["seeds"])
        elif name == "annotate":
            made = steps.annotate(session, done["seeds"], done["classify"])
        elif name == "answer":
            done["student"] = steps.train_student_0(session, done["classify"], done["annotate"])
            made = steps.answer(session, done["classify"], done["annotate"], done["student"])
        elif name == "judge":
            made = steps.judge_attempts(session, done["classify"], done["annotate"], done["answer"])
        elif name == "select":
            made = steps.select_hard_seeds(session, done["classify"], done["judge"])
            curriculum = steps.Curriculum(done["classify"], done["annotate"], made)
        elif name == "mix":
            assert curriculum is not None
            made = steps.mix(session, 1, curriculum)
        else:
            assert curriculum is not None
            if name == "expand":
                steps.expand(session, 1, curriculum, done["student"])
            else:
                getattr(steps, name)(session, 1, curriculum)
            grown = {"expand": curriculum.expanded, "refine": curriculum.refined, "enhance": curriculum.enhanced}
            made = grown[name][-1]
        done[name] = made
    return made


def one_stage(folder: Path, rows: int, stage: str, executor: str) -> None:
    import tapir.wiring

    # Session is made in one place; this benchmark needs its own kind there.
    tapir.wiring.Session = functools.partial(Scripted)  # type: ignore[assignment,misc]
    with open_session(recipe(folder, rows, executor), folder / "run") as session:
        began = time.perf_counter()
        step = until(session, stage)
        seconds = time.perf_counter() - began
    receipt = step.receipt() or {}
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"stage": stage, "rows": rows, "seconds": seconds, "peak_mb": peak_mb,
                      "rows_in": receipt["rows_in"] or rows, "dropped": receipt["dropped"]}))  # fmt: skip


def measure(rows: int, stage: str, executor: str, folder: Path) -> dict[str, float]:
    """The stage's outcome; one that was measured in this folder before is not measured again."""
    kept, ledger, before = folder / "measured.jsonl", folder / "ledger.sqlite", folder / "ledger.before"
    folder.mkdir(parents=True, exist_ok=True)
    if not kept.exists():
        write_pool(folder, rows)
        kept.touch()
    for found in map(json.loads, kept.read_text().splitlines()):
        if found["stage"] == stage:
            return found
    if before.exists():
        # The stage was interrupted: what its calls left in the ledger would make it look fast.
        for rest in ("", "-wal", "-shm"):
            ledger.with_name(ledger.name + rest).unlink(missing_ok=True)
        shutil.copy(before, ledger)
    elif ledger.exists():
        shutil.copy(ledger, partial := folder / "ledger.partial")
        partial.rename(before)
    command = [sys.executable, __file__, "--one", stage, "--rows", str(rows), "--folder", str(folder)]
    done = subprocess.run([*command, "--executor", executor], stdout=subprocess.PIPE, text=True, check=True)
    with kept.open("a") as file:
        file.write(done.stdout.splitlines()[-1] + "\n")
    before.unlink(missing_ok=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    options.add_argument("--executor", choices=("local", "ray"), default="local")
    options.add_argument("--keep", type=Path, help="Keep what was measured here, and go on from it.")
    options.add_argument("--one", choices=STAGES, help=argparse.SUPPRESS)
    options.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.one:
        one_stage(chosen.folder, chosen.rows[0], chosen.one, chosen.executor)
        return
    print(heading("Scale", f"Every stage but training, executor {chosen.executor}, scripted models"))
    print("\n| stage | pool | seconds | rows/s | peak MB | growth |\n|---|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as name:
        place = (chosen.keep or Path(name)) / chosen.executor
        for stage in STAGES:
            before = None
            for rows in chosen.rows:
                found = measure(rows, stage, chosen.executor, place / str(rows))
                print(line(found, before), flush=True)
                before = found


def line(found: dict[str, float], before: dict[str, float] | None) -> str:
    growth = ""
    if before is not None:
        growth = f"{math.log(found['seconds'] / before['seconds']) / math.log(found['rows'] / before['rows']):.2f}"
    speed = found["rows_in"] / found["seconds"]
    return (
        f"| {found['stage']} | {found['rows']:,} | {found['seconds']:.1f} | {speed:,.0f} | {found['peak_mb']:,.0f} | "
        f"{growth} |"
    )


if __name__ == "__main__":
    main()
