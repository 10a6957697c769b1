"""Whole runs on tiny things with each kind of difficulty, and with seeds judged again round by round."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from whole_run import prepare

from tapir.pipeline import run
from tapir.store.rundir import RunDir
from tapir.wiring import load_recipe

pytestmark = pytest.mark.xdist_group("difficulty kinds")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kinds")


def distilled(folder: Path, name: str, until: str | None = None, rounds: int = 1, **parts: Any) -> RunDir:
    """A run; all of them share the ledger, so that student_0 and its answers are made alike."""
    recipe = prepare(folder / "files", curriculum={"rounds": rounds}, **parts)
    return run(load_recipe(recipe, [f"ledger.path={folder / 'ledger.sqlite'}"]), folder / name, until=until)


def table(run_dir: RunDir, name: str) -> list[dict[str, Any]]:
    return pq.read_table(run_dir.root / f"{name}.parquet").to_pylist()


@pytest.mark.parametrize("kind", ["ifd", "loss", "verifier"])
def test_difficulties_without_a_judge_select_the_upper_part_of_their_own_kind(folder: Path, kind: str):
    settings = {"kind": kind, "delta": {"quantile": 0.5}} if kind != "verifier" else {"kind": kind, "delta": 0.1}
    done = distilled(folder, kind, until="hard", difficulty=settings)
    every, hard = table(done, "round_0/07_hard.all"), table(done, "round_0/07_hard")
    assert table(done, "round_0/06_verdicts") == []
    assert {row["kind"] for row in every} == {kind}
    kept = {row["instruction_id"] for row in hard}
    values = {row["instruction_id"]: row["value"] for row in every}
    if kind == "verifier":
        # Every third instruction of the tiny pool carries a check; the others cannot be scored, and are counted.
        assert 0 < len(every) < 24
        assert kept == {i for i, value in values.items() if value > 0.1}
        return
    assert 0 < len(kept) < len(every)
    assert min(values[i] for i in kept) > max(value for i, value in values.items() if i not in kept)
    if kind == "ifd":
        # A ratio of losses: near 1 for a student that has hardly learnt to read the instruction.
        assert all(0 < value < 3 for value in values.values())


def test_a_whole_run_goes_through_without_any_judge(folder: Path):
    done = distilled(folder, "ifd", difficulty={"kind": "ifd", "delta": {"quantile": 0.5}},
                     evaluate=[{"kind": "held_out_fit", "prompts": str(folder / "files/held_out.jsonl")}])  # fmt: skip
    used = {line.split("/", 1)[1].split(" ")[0] for line in done.calls_path.read_text().splitlines()}
    assert "06_verdicts" not in used
    assert (done.root / "round_1/05_student_1/model.safetensors").exists()


def test_moving_gives_what_the_student_has_mastered_to_the_easy_pool(folder: Path):
    settings = {"delta": 0.5, "rescore": "move", "rescore_sample": 12}
    # A rate at which even a tiny student says something else after a round.
    train = {"method": "full", "epochs": 4, "batch": 4, "micro_batch": 2, "max_tokens": 256, "learning_rate": 0.01}
    done = distilled(folder, "move", rounds=2, difficulty=settings, train=train)
    hard_at_first = {row["instruction_id"] for row in table(done, "round_0/07_hard")}
    again = table(done, "round_1/06_evaluation.rescored")
    assert {row["group"] for row in again} >= {"held_out"}
    mastered = {
        row["instruction_id"] for row in again if row["group"] != "held_out" and not row["hard"]
    } & hard_at_first
    assert mastered
    for number, easy_now in ((1, set()), (2, mastered)):
        seeds = {row["instruction_id"]: row["hard"] for row in table(done, f"round_{number}/04_mix")}
        assert {i for i, hard in seeds.items() if hard} & hard_at_first <= hard_at_first - easy_now
        assert not any(seeds[i] for i in easy_now & seeds.keys())
