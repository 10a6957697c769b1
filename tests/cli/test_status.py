"""`tapir status`: what is under way, and watching until a run ends."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tapir.cli import status as command
from tapir.cli.status import Look, clock, follow, status
from tapir.config import parse_recipe
from tapir.pipeline import run as distil
from tapir.store.progress import ProgressFile
from tapir.store.rundir import RunDir, write_json
from tapir.types import Receipt

STEPS = ("round_0/01_seeds", "round_0/02_classified")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDir:
    """A run of two steps, whose states follow from the receipts alone."""
    made = RunDir(tmp_path)
    write_json(made.manifest_path, {})

    def states(run: RunDir) -> list[dict[str, Any]]:
        done = run.receipts()
        return [
            {"place": p, "state": "done" if p in done else "missing",
             "rows": done.get(p, {}).get("rows_out", 0), "seconds": done.get(p, {}).get("seconds", 0.0)}
            for p in STEPS
        ]  # fmt: skip

    monkeypatch.setattr(command.planning, "status", states)
    return made


def finish(run: RunDir, place: str) -> None:
    receipt = Receipt(place.split("_")[-1], rows_in=4, rows_out=3, calls=7, seconds=75)
    receipt.drop("empty")
    run.step(place, "0123456789abcdef").finish(receipt)


def test_steps_have_their_receipts_numbers(run: RunDir, capsys: pytest.CaptureFixture[str]):
    finish(run, STEPS[0])
    status(run.root)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["round_0/01_seeds", "done", "3", "1", "7", "1:15", "min"]
    assert lines[2].split() == ["round_0/02_classified", "missing"]
    assert "1 of 2 steps are done and nobody is at work" in lines[3]


def test_the_step_under_way_shows_how_far_it_is(run: RunDir):
    finish(run, STEPS[0])
    with run.writing():
        clock_s = iter([0.0, 10.0, 10.0, 10.0])
        live = ProgressFile(run.root, clock=lambda: next(clock_s))
        live.start(STEPS[1], 40)
        live.update(done=20, calls=20)
        step = Look(run).steps()[1]
        assert "round_0/02_classified: 20/40, 2.0 a second, 10.0 s left" in Look(run).said(Look(run).steps())
        assert (step["state"], step["calls"], step["seconds"]) == ("working", 20, 10.0)
        assert step["progress"]["left_s"] == 10.0
    assert Look(run).steps()[1]["state"] == "missing"


def test_a_run_is_being_written_only_while_its_lock_is_held(run: RunDir):
    import os

    assert run.writer() is None
    with run.writing():
        assert run.writer() == os.getpid()
    assert run.writer() is None


def steps_of_a_run(run: RunDir) -> Iterator[None]:
    """A run that does one step between two looks, then ends."""
    with run.writing():
        finish(run, STEPS[0])
        yield
        finish(run, STEPS[1])
        yield


@pytest.mark.parametrize("terminal", [False, True])
def test_watching_ends_when_the_run_ends(run: RunDir, terminal: bool):
    working = steps_of_a_run(run)
    next(working)
    at = Console(file=io.StringIO(), force_terminal=terminal, width=100, height=30)
    follow(Look(run), 0.1, console=at, wait=lambda _: next(working))
    told = at.file.getvalue()  # type: ignore[attr-defined]
    assert "all 2 steps are done" in told
    assert ("\x1b[" in told) == terminal


def test_watching_a_killed_run_ends_too_and_says_how_to_go_on(run: RunDir, capsys: pytest.CaptureFixture[str]):
    finish(run, STEPS[0])

    def never(seconds: float) -> None:
        raise AssertionError("nobody is at work: there is nothing to wait for")

    follow(Look(run), 0.1, wait=never)
    assert "the same `tapir run` goes on from here" in capsys.readouterr().out


def test_for_scripts_a_change_is_a_line_of_json(run: RunDir, capsys: pytest.CaptureFixture[str]):
    working = steps_of_a_run(run)
    next(working)
    follow(Look(run), 0.1, as_json=True, wait=lambda _: next(working))
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(t["place"], t["state"]) for t in told] == [
        (STEPS[0], "done"), (STEPS[1], "missing"), (STEPS[1], "done"),
    ]  # fmt: skip


def test_a_run_may_be_asked_about_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    for folder in (home, elsewhere):
        folder.mkdir()
    monkeypatch.chdir(home)
    Path("pool.jsonl").write_text('{"instruction": "What is sand?"}\n', encoding="utf-8")
    models = {"teacher": {"kind": "scripted"}, "student": {"kind": "local", "model": "base"}}
    distil(parse_recipe({"models": models, "seeds": {"source": "pool.jsonl"}}), "made", until="seeds")

    def first(root: str) -> str:
        return Look(RunDir(Path(root))).steps()[0]["state"]

    assert first("made") == "done"
    monkeypatch.chdir(elsewhere)
    assert first("../home/made") == "done"
    assert Path.cwd() == elsewhere
    # Gone with all that it held, or another machine: the files are looked for from here, as far as they go.
    home.rename(tmp_path / "moved")
    assert first("../moved/made") == "stale"
    monkeypatch.chdir(tmp_path / "moved")
    assert first("made") == "done"
    assert str(tmp_path) not in Path("made/manifest.json").read_text(encoding="utf-8")


def test_times_fit_a_narrow_column():
    assert [clock(s) for s in (3.25, 75, 3_725)] == ["3.2 s", "1:15 min", "1:02 h"]


def test_looking_again_is_cheap_while_nothing_changes(run: RunDir, monkeypatch: pytest.MonkeyPatch):
    look = Look(run)
    before = look.steps()
    monkeypatch.setattr(command.planning, "status", lambda run: pytest.fail("worked out anew"))
    assert look.steps() == before
