from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner
from whole_run import prepare

from tapir.cli import app
from tapir.errors import ReplayMiss
from tapir.pipeline import run
from tapir.store.rundir import open_run
from tapir.wiring import load_recipe


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run as far as the teacher's answers, and another one whose calls lie in the same ledger."""
    folder = tmp_path_factory.mktemp("ledger")
    recipe = prepare(folder / "files")
    for name, sets in (("run", []), ("other", ["models.teacher.temperature=0.9"])):
        loaded = load_recipe(recipe, [*sets, f"ledger.path={folder / 'ledger.sqlite'}"])
        run(loaded, folder / name, until="teacher_answers")
    return folder


def invoke(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_export_of_a_run_holds_its_calls_alone_and_is_enough_to_replay_it(folder: Path, tmp_path: Path):
    file = tmp_path / "run.jsonl.gz"
    used = len(set(open_run(folder / "run").calls_used()))
    said = invoke("ledger", "export", file, "--ledger", folder / "ledger.sqlite", "--run", folder / "run")
    assert said.startswith(f"{used} entries")
    sets = [f"ledger.path={tmp_path / 'none.sqlite'}", "ledger.replay=true", f"ledger.recordings=[{file}]"]
    replayed = run(load_recipe(folder / "files/recipe.yaml", sets), tmp_path / "again", until="teacher_answers")
    receipt = replayed.receipts()["round_0/03_teacher_answers"]
    assert (receipt["calls"], receipt["replayed_calls"]) == (0, receipt["cached_calls"])
    with pytest.raises(ReplayMiss, match=r"stage \S+, row [0-9a-f]{16}: .* holds no call"):
        run(load_recipe(folder / "files/recipe.yaml", sets), tmp_path / "again", until="verdicts")


def test_pruning_can_spare_what_runs_still_use(folder: Path):
    ledger = folder / "ledger.sqlite"
    both = [
        line.split()[1]
        for name in ("run", "other")
        for line in (folder / name / "calls.txt").read_text().split("\n")
        if line
    ]
    assert invoke("ledger", "prune", "--ledger", ledger, "--keep-run", folder / "run", "--keep-run", folder / "other")
    kept = invoke("ledger", "stats", "--ledger", ledger)
    assert sum(int(part.removeprefix("calls=")) for part in kept.split() if part.startswith("calls=")) == len(both)


def test_prune_without_a_condition_is_refused(folder: Path):
    result = CliRunner().invoke(app, ["ledger", "prune", "--ledger", str(folder / "ledger.sqlite")])
    assert result.exit_code == 1
    assert "prune needs a condition" in str(result.exception)
