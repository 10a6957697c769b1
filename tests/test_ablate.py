"""A whole ablation: a tiny student really trained, scripted teacher and judge; shared, stopped, gone on with."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner
from whole_run import prepare

from tapir.ablation import ablate
from tapir.cli import app
from tapir.config import Recipe
from tapir.errors import RecipeError
from tapir.progress import Progress
from tapir.report.ablation import Comparison, Line, compare
from tapir.report.ablation_page import write_files
from tapir.store.rundir import RunDir
from tapir.store.tables import read_rows
from tapir.types import Difficulty, Example
from tapir.wiring import load_recipe

pytestmark = pytest.mark.xdist_group("ablate")

TABLE_5 = ("full", "single_round", "direct_expansion", "seed_refined", "seed", "pool")
OWN = {"round_1/04_mix", "round_1/05_student_1", "round_1/06_evaluation", "round_1/08_measured"}


@dataclass
class Heard(Progress):
    """Which steps were done anew."""

    places: list[str] = field(default_factory=list)

    def finish(self, place: str, receipt: dict[str, Any], *, fresh: bool) -> None:
        if fresh:
            self.places.append(place)


def recipe_in(folder: Path, *settings: str) -> Recipe:
    return load_recipe(folder / "recipe.yaml", [f"ledger.path={folder / 'calls.sqlite'}", *settings])


def done_anew(arm: Path) -> dict[str, dict[str, Any]]:
    """Receipts of the steps that this arm did itself."""
    return {place: r for place, r in RunDir(arm).receipts().items() if "shared_with" not in r}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an ablation of the six variants of Table 5 in `out`."""
    folder = tmp_path_factory.mktemp("ablation")
    prepare(folder)
    ablate(recipe_in(folder), folder / "out")
    return folder


@pytest.fixture(scope="module")
def table(whole: Path) -> Comparison:
    return compare(whole / "out", [whole / f"out/rows/recipe/{variant}-1" for variant in TABLE_5])


def line(table: Comparison, variant: str) -> Line:
    return next(found for found in table.lines if found.variant == variant)


def test_the_table_has_the_six_variants_and_what_they_start_from(table: Comparison, whole: Path):
    assert [(x.variant, x.starts_from, x.answers_by) for x in table.lines[1:]] == [
        ("full", "student_0", "teacher, hard rows refined"),
        ("single_round", "student_0", "teacher, hard rows refined"),
        ("direct_expansion", "student_0", "teacher"),
        ("seed_refined", "base", "teacher, refined"),
        ("seed", "base", "teacher"),
        ("pool", "base", "teacher"),
    ]
    assert all(set(x.measures) == {"checks_passed", "win_rate", "nll_per_token"} for x in table.lines[1:])
    names = [path.name for path in write_files(table, whole / "out")]
    assert names == ["table.md", "table.json", "figure-rows.svg"]


def test_rows_are_wanted_in_the_proportions_of_table_5(table: Comparison):
    # 24 rows are the pool's 52K: 70K are 32.3 of them, and 11K are 5.1.
    assert {x.variant: x.wanted for x in table.lines[1:]} == {
        "full": 32, "single_round": 32, "direct_expansion": 32, "seed_refined": 5, "seed": 5, "pool": 24,
    }  # fmt: skip
    assert (line(table, "full").rows, line(table, "seed").rows, line(table, "pool").rows) == (32, 5, 24)


def test_round_0_is_done_once_and_taken_over_by_every_arm(whole: Path):
    for variant in TABLE_5:
        receipts = RunDir(whole / f"out/rows/recipe/{variant}-1").receipts()
        shared = {p for p, r in receipts.items() if p.startswith("round_0/") and p != "round_0/11_base"}
        assert len(shared) == 9
        assert all(receipts[p]["shared_with"] == "../../../base/recipe" for p in shared), variant


def test_a_later_variant_pays_only_for_what_is_different(whole: Path):
    arms = {variant: RunDir(whole / f"out/rows/recipe/{variant}-1").receipts() for variant in TABLE_5}
    first, later = arms["full"]["round_1/02_refined"], arms["seed_refined"]["round_1/02_refined"]
    assert first["calls"] > 0
    # The hard seeds were refined for `full` already.
    assert (later["calls"], later["cached_calls"] > 0) == (0, True)
    assert arms["seed_refined"]["round_1/03_enhanced_answers"]["calls"] == 0


def test_refined_or_not_the_hard_seeds_are_the_same(whole: Path):
    chosen = [
        {e.instruction_id for e in RunDir(whole / f"out/rows/recipe/{v}-1").step("round_1/04_mix", "").read(Example)}
        for v in ("seed", "seed_refined")
    ]
    assert chosen[0] == chosen[1]


def test_weights_are_deleted_once_measured_and_nothing_runs_twice(whole: Path):
    heard = Heard()
    ablate(recipe_in(whole), whole / "out", progress=heard)
    assert heard.places == []
    assert not list((whole / "out/rows").rglob("round_1/*/model.safetensors"))


def test_another_training_seed_asks_the_teacher_nothing(whole: Path):
    arms = ablate(recipe_in(whole, "ablate.variants=[seed_refined]", "ablate.seeds=[1, 2]"), whole / "out")
    assert set(done_anew(arms[1])) == OWN
    assert line(compare(whole / "out", arms), "seed_refined").seeds == (1, 2)


def test_random_and_ifd_choose_as_many_rows_as_the_hard_seeds_have(whole: Path):
    folders = ablate(recipe_in(whole, "ablate.variants=[random, ifd]"), whole / "out")
    chosen = [list(RunDir(f).step("round_1/04_mix", "").read(Example)) for f in folders]
    assert [len(rows) for rows in chosen] == [5, 5]
    scores = {d.instruction_id: d.value for d in RunDir(folders[1]).step("round_1/01_ifd", "").read(Difficulty)}
    below = sorted((value for value in scores.values() if value < 1), reverse=True)
    assert sorted((scores[e.instruction_id] for e in chosen[1]), reverse=True) == below[:5]


def test_a_swept_delta_pays_for_selection_alone_and_equal_tokens_are_equal(whole: Path):
    settings = ["ablate.variants=[pool]", "ablate.forms=[tokens]", "ablate.sweep={delta: [0.5, 1.5]}"]
    heard = Heard()
    folders = ablate(recipe_in(whole, *settings), whole / "out", progress=heard)
    assert heard.places.count("round_0/07_hard") == 1
    assert not {"round_0/04_student_0", "round_0/06_verdicts", "round_0/09_evaluation"} & set(heard.places)
    lines = compare(whole / "out", folders).lines
    assert [found.name for found in lines if found.variant == "pool"] == ["pool (delta=0.5)", "pool (delta=1.5)"]
    student_0 = lines[0].trained_tokens
    longest = 100  # tokens of one row, the finest that a training can stop at
    assert all(abs(found.trained_tokens - student_0) < longest for found in lines)


def test_killed_it_goes_on_in_parallel_and_ends_with_the_same_values(whole: Path, tmp_path: Path):
    shutil.copytree(whole / "out/base", tmp_path / "out/base")
    command = [
        sys.executable, "-m", "tapir", "ablate", str(whole / "recipe.yaml"), "--out", str(tmp_path / "out"),
        "--variants", "seed,pool", "--json", "--set", f"ledger.path={whole / 'calls.sqlite'}",
    ]  # fmt: skip
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
    mix = tmp_path / "out/rows/recipe/seed-1/round_1/04_mix.receipt.json"
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as first:
        while not mix.exists():
            assert first.poll() is None
            time.sleep(0.01)
        first.send_signal(signal.SIGKILL)
    done = subprocess.run([*command, "--parallel", "2"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [found["variant"] for found in json.loads(done.stdout)["lines"]] == ["student_0", "seed", "pool"]
    for variant in ("seed", "pool"):
        place = f"out/rows/recipe/{variant}-1/round_1/08_measured.parquet"
        assert _rows(tmp_path / place) == _rows(whole / place)


def test_terminated_it_ends_with_the_arms_that_it_trains_in_parallel(whole: Path, tmp_path: Path):
    shutil.copytree(whole / "out/base", tmp_path / "out/base")
    command = [
        sys.executable, "-m", "tapir", "ablate", str(whole / "recipe.yaml"), "--out", str(tmp_path / "out"),
        "--variants", "seed,pool", "--parallel", "2", "--set", f"ledger.path={whole / 'calls.sqlite'}",
    ]  # fmt: skip
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
    places = [tmp_path / f"out/rows/recipe/{arm}-1/round_1/04_mix.receipt.json" for arm in ("seed", "pool")]
    ablation = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while not all(place.exists() for place in places):
        assert ablation.poll() is None
        time.sleep(0.01)
    ablation.terminate()
    # The pipe is closed once no process of it is left.
    _, said = ablation.communicate(timeout=300)
    assert ablation.returncode == 143, said
    assert "the same command goes on from here" in said
    assert not list((tmp_path / "out/rows").rglob("08_measured.receipt.json"))


def test_a_wiped_folder_comes_back_from_the_store_and_no_arm_is_anothers(whole: Path, tmp_path: Path):
    shutil.copytree(whole / "out/base", tmp_path / "out/base")
    # Both forms have an arm in a folder `seed-1`; the second form trains longer.
    settings = ["ablate.variants=[seed]", "ablate.forms=[rows, tokens]", f"store=file://{tmp_path}/store"]
    folders = ablate(recipe_in(whole, *settings), tmp_path / "out")
    assert [folder.name for folder in folders] == ["seed-1", "seed-1"]
    before = [_rows(folder / "round_1/08_measured.parquet") for folder in folders]
    assert not list((tmp_path / "store").rglob("round_1/*/model.safetensors"))
    assert len(list((tmp_path / "store").rglob("*_student_0/model.safetensors"))) == 1

    shutil.rmtree(tmp_path / "out")
    heard = Heard()
    again = ablate(recipe_in(whole, *settings, "ledger.replay=true"), tmp_path / "out", progress=heard)
    # The arms' base student only names weights on this machine, so each machine makes it anew.
    assert heard.places == ["round_0/11_base"]
    assert [_rows(folder / "round_1/08_measured.parquet") for folder in again] == before
    lines = compare(tmp_path / "out", again).lines
    assert [(x.form, x.variant) for x in lines] == [
        ("rows", "student_0"), ("tokens", "student_0"), ("rows", "seed"), ("tokens", "seed"),
    ]  # fmt: skip


def _rows(path: Path) -> list[Any]:
    from tapir.evaluation.measured import Measured

    return list(read_rows(path, Measured))


def test_seeds_that_cannot_be_read_are_refused():
    done = CliRunner().invoke(app, ["ablate", "quickstart", "--dry-run", "--seeds", "[1"])
    assert isinstance(done.exception, RecipeError)
    assert str(done.exception) == "--seeds '[1': the values cannot be read; separate them by commas"


def test_the_plan_tells_arms_rows_and_what_is_left_without_doing_anything(whole: Path, tmp_path: Path):
    command = [sys.executable, "-m", "tapir", "ablate", str(whole / "recipe.yaml"), "--dry-run"]
    done = subprocess.run(
        [*command, "--seeds", "1,2,3", "--form", "rows,tokens", "--sweep", "alpha_start=0.3,0.5", "--out", "there"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "6 variants × 3 training seeds × 2 forms × 2 settings = 72 arms, in there" in done.stdout
    assert "seed_refined      base         teacher, refined                    5" in done.stdout
    assert not list(tmp_path.iterdir())
