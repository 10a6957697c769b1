from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from fake_endpoint import ask
from typer.testing import CliRunner
from whole_run import prepare

from tapir.cli import app
from tapir.errors import DataError, ReplayMiss
from tapir.models.calls import Reply
from tapir.models.ledger import Entry, Ledger
from tapir.pipeline import run
from tapir.store.rundir import RunDir, open_run
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


def test_the_export_of_a_run_holds_what_recordings_served_and_tells_of_what_is_nowhere(folder: Path, tmp_path: Path):
    """The run is read beside an empty ledger: all its calls came from a recording, of which one has gone."""
    whole, lost = tmp_path / "whole.jsonl", tmp_path / "lost.jsonl"
    used = len(set(open_run(folder / "run").calls_used()))
    invoke("ledger", "export", whole, "--ledger", folder / "ledger.sqlite", "--run", folder / "run")
    again = tmp_path / "run"
    shutil.copytree(folder / "run", again)
    recipe = yaml.safe_load((again / "recipe.yaml").read_text("utf-8"))
    empty = tmp_path / "empty.sqlite"
    Ledger(empty).close()
    for recorded, count, told in ((whole, used, ""), (lost, used - 1, f"1 of the run's {used} calls are neither in")):
        lost.write_text("".join(whole.read_text("utf-8").splitlines(keepends=True)[:-1]), encoding="utf-8")
        recipe["ledger"] = {"recordings": [str(recorded)]}
        (again / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
        arguments = ["ledger", "export", tmp_path / "out.jsonl", "--ledger", empty, "--run", again]
        result = CliRunner().invoke(app, [str(a) for a in arguments])
        assert result.stdout.startswith(f"{count} entries written"), result.output
        assert (result.stderr[: len(told)], bool(result.stderr)) == (told, bool(told))


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


def test_pruning_spares_what_a_killed_run_paid_for(tmp_path: Path):
    """Its first step was under way: the run has a manifest and no list of calls yet."""
    made = RunDir(tmp_path / "run")
    made.root.mkdir()
    made.manifest_path.write_text('{"run_id": "run-1"}', encoding="utf-8")
    ledger = tmp_path / "ledger.sqlite"
    with Ledger(ledger) as opened:
        opened.put([called("a", "run-1"), called("b", "run-2")])
    assert invoke("ledger", "prune", "--ledger", ledger, "--keep-run", made.root) == "1 entries removed\n"
    with Ledger(ledger) as opened:
        assert [e.run for e in opened.entries()] == ["run-1"]


def called(text: str, run_id: str) -> Entry:
    return Entry(ask(text).address("m"), "m", ask(text), Reply(text="hello"), run=run_id)


def refused(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert isinstance(result.exception, DataError)
    return str(result.exception)


@pytest.mark.parametrize("command", [["stats"], ["show", "ab"], ["export", "good.jsonl"], ["prune", "--identity", "m"]])
def test_a_mistyped_ledger_is_told_and_neither_made_nor_exported(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    Path("good.jsonl").write_text("calls", encoding="utf-8")
    Path("empty.sqlite").touch()
    for name in ("typo.sqlite", "empty.sqlite", "good.jsonl"):
        assert f"{name}: there is no ledger here" in refused("ledger", *command, "--ledger", name)
    assert {p.name: p.read_text("utf-8") for p in tmp_path.iterdir()} == {"good.jsonl": "calls", "empty.sqlite": ""}


def test_files_that_cannot_be_read_or_written_are_one_line(tmp_path: Path):
    ledger = tmp_path / "ledger.sqlite"
    assert "nope: cannot be read" in refused("ledger", "import", tmp_path / "nope", "--ledger", ledger)
    assert not ledger.exists()
    Ledger(ledger).close()
    out = tmp_path / "no folder" / "x.jsonl"
    assert "x.jsonl: cannot be written (No such file" in refused("ledger", "export", out, "--ledger", ledger)


def test_a_run_brought_from_the_store_still_names_its_calls(folder: Path, tmp_path: Path):
    sets = [f"ledger.path={folder / 'ledger.sqlite'}", f"store=file://{tmp_path}/store"]
    loaded = load_recipe(folder / "files/recipe.yaml", sets)
    used = run(loaded, tmp_path / "run", until="teacher_answers").calls_used()
    assert used
    shutil.rmtree(tmp_path / "run")
    brought = run(loaded, tmp_path / "run", until="teacher_answers")
    assert brought.calls_used() == used
    file = tmp_path / "run.jsonl.gz"
    said = invoke("ledger", "export", file, "--ledger", folder / "ledger.sqlite", "--run", tmp_path / "run")
    assert said.startswith(f"{len(set(used))} entries")


def test_prune_without_a_condition_is_refused(folder: Path):
    result = CliRunner().invoke(app, ["ledger", "prune", "--ledger", str(folder / "ledger.sqlite")])
    assert result.exit_code == 1
    assert "prune needs a condition" in str(result.exception)
