"""Whole runs: a tiny student really trained, scripted teacher and judge, two rounds; killed, resumed, changed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from whole_run import finish, fork, kill_inside, prepare, start, tables

from tapir import pipeline
from tapir.errors import TapirError
from tapir.wiring import load_recipe

pytestmark = pytest.mark.xdist_group("run")

PLACES = (
    "round_0/01_seeds", "round_0/02_classified", "round_0/03_teacher_answers", "round_0/04_student_0",
    "round_0/05_student_answers", "round_0/06_verdicts", "round_0/07_hard", "round_0/08_held_out",
    "round_0/09_evaluation", "round_1/01_expanded", "round_1/02_refined", "round_1/03_enhanced_answers",
    "round_1/04_mix", "round_1/05_student_1", "round_1/06_evaluation", "round_2/05_student_2",
)  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe and an undisturbed run of it in `run`."""
    folder = tmp_path_factory.mktemp("whole")
    recipe = prepare(folder)
    (folder / "output.txt").write_text(finish(start(recipe, folder / "run", folder / "calls.sqlite")), encoding="utf-8")
    return folder


def test_a_run_leaves_every_table_and_receipts_that_add_up(whole: Path):
    receipts = {
        str(p.relative_to(whole / "run")): json.loads(p.read_text()) for p in (whole / "run").rglob("*.receipt.json")
    }
    assert len(receipts) == 9 + 2 * 6
    for place, receipt in receipts.items():
        assert receipt["rows_in"] + receipt["made"] == receipt["rows_out"] + sum(receipt["dropped"].values()), place
    assert (whole / "run/report.html").exists()


def test_the_output_has_a_line_a_stage_and_a_table_of_before_and_after(whole: Path):
    output = (whole / "output.txt").read_text(encoding="utf-8")
    assert all(place in output for place in PLACES)
    assert "replayed" in output
    assert "win rate against student_0" in output
    assert "report:" in output


def test_alpha_is_the_hard_share_of_each_rounds_rows(whole: Path):
    shares = [
        json.loads((whole / f"run/round_{r}/04_mix.receipt.json").read_text())["notes"]["hard_share_of_rows"]
        for r in (1, 2)
    ]
    assert shares == [0.3, 0.5]


def test_two_fresh_runs_give_identical_tables(whole: Path, tmp_path: Path):
    finish(start(whole / "recipe.yaml", tmp_path / "again", tmp_path / "calls.sqlite"))
    assert tables(tmp_path / "again") == tables(whole / "run")


def test_killed_in_each_stage_and_resumed_it_ends_with_the_same_tables(whole: Path, tmp_path: Path):
    run, ledger = tmp_path / "run", tmp_path / "calls.sqlite"
    kills = {place: kill_inside(fork(whole / "recipe.yaml", run, ledger), place, run, ledger) for place in PLACES}
    finish(start(whole / "recipe.yaml", run, ledger))
    assert "ended" not in kills.values(), kills
    # Some stages are over in a millisecond; those that call models or train are not.
    assert list(kills.values()).count("inside") >= 6, kills
    assert tables(run) == tables(whole / "run")


def test_only_what_follows_selection_runs_again_when_delta_changes(whole: Path, tmp_path: Path):
    run, ledger = tmp_path / "run", tmp_path / "calls.sqlite"
    finish(start(whole / "recipe.yaml", run, ledger, "--until", "select"))
    output = finish(start(whole / "recipe.yaml", run, ledger, "--until", "select", "--set", "difficulty.delta=1"))
    again = [line.split()[0] for line in output.splitlines() if line.startswith("round_") and "done before" not in line]
    assert again == ["round_0/07_hard"]


def test_a_second_writer_is_refused_with_the_firsts_pid(whole: Path, tmp_path: Path):
    first = start(whole / "recipe.yaml", tmp_path / "run", tmp_path / "calls.sqlite")
    while not (tmp_path / "run/manifest.json").exists():
        assert first.poll() is None
    output = finish(start(whole / "recipe.yaml", tmp_path / "run", tmp_path / "calls.sqlite"), expected=8)
    first.kill()
    first.communicate()
    assert f"process {first.pid} is already writing this run" in output


@pytest.mark.parametrize("train", [{"attention": "flash_attention_2"}, {"method": "lora", "lora": {"target": "foo"}}])
def test_a_training_that_cannot_be_had_here_is_refused_before_the_teacher_is_asked(
    train: dict[str, Any], tmp_path: Path
):
    recipe = load_recipe(prepare(tmp_path, train=train), [f"ledger.path={tmp_path / 'calls.sqlite'}"])
    with pytest.raises(TapirError, match=r"train\.(attention|lora\.target)"):
        pipeline.run(recipe, tmp_path / "run")
    assert not list((tmp_path / "run").glob("round_*/*.receipt.json"))
    # Up to there another machine may be the one that trains.
    done = pipeline.run(recipe, tmp_path / "run", until="classified")
    assert list(done.receipts()) == ["round_0/01_seeds", "round_0/02_classified"]


def test_a_judges_template_that_is_none_is_refused_before_the_teacher_is_asked(tmp_path: Path):
    (tmp_path / "judge.txt").write_text("### user\n{instruction} {answer_1} {answer2}", encoding="utf-8")
    raw = prepare(tmp_path, judge={"template": str(tmp_path / "judge.txt")})
    recipe = load_recipe(raw, [f"ledger.path={tmp_path / 'calls.sqlite'}"])
    with pytest.raises(TapirError, match=r"lacks \{answer_2\}, holds an unknown \{answer2\}"):
        pipeline.run(recipe, tmp_path / "run")
    assert not list((tmp_path / "run").glob("round_*/*.receipt.json"))


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({"mix": {"targets": {"Maths": 0.3}}}, "'Maths' is not a task type of the taxonomy"),
        ({"evaluate": [{"kind": "graded", "judge_prompt": "gone.txt"}]}, r"gone\.txt: the prompt template cannot be"),
        ({"evaluate": [{"kind": "alpaca", "prompts": "a", "judge_prompt": "gone.txt"}]}, r"gone\.txt: the judge's pro"),
    ],
)
def test_what_later_steps_read_is_refused_before_the_teacher_is_asked(parts: dict[str, Any], told: str, tmp_path: Path):
    recipe = load_recipe(prepare(tmp_path, **parts), [f"ledger.path={tmp_path / 'calls.sqlite'}"])
    with pytest.raises(TapirError, match=told):
        pipeline.run(recipe, tmp_path / "run")
    assert not list((tmp_path / "run").glob("round_*/*.receipt.json"))


def test_import_tapir_loads_neither_torch_nor_pandas():
    heavy = "('torch', 'pandas', 'transformers')"
    code = f"import sys, tapir; tapir.read_verdict; tapir.load_recipe; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
