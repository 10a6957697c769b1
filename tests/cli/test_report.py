"""`tapir report`: its forms, where they go, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tapir.cli.report import report
from tapir.errors import DataError, RecipeError
from tapir.report.figures import has_font
from tapir.store.rundir import RunDir, write_json
from tapir.store.tables import write_rows
from tapir.types import Difficulty, Instruction


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDir:
    monkeypatch.chdir(tmp_path)
    made = RunDir(tmp_path / "mine")
    write_json(made.manifest_path, {"tapir": "0.1.0"})
    asked = [Instruction(f"Why {n}?", task="Math") for n in range(4)]
    write_rows(made.root / "round_0/02_classified.parquet", Instruction, asked)
    rows = [Difficulty(i.id, float(n)) for n, i in enumerate(asked)]
    write_rows(made.root / "round_0/07_hard.all.parquet", Difficulty, rows)
    return made


def test_html_goes_into_the_run_and_its_path_to_standard_output(run: RunDir, capsys: pytest.CaptureFixture[str]):
    report([run.root])
    assert capsys.readouterr().out == f"{run.root / 'report.html'}\n"
    assert (run.root / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_several_runs_make_a_comparison_here(run: RunDir, capsys: pytest.CaptureFixture[str]):
    report([run.root, run.root])
    assert capsys.readouterr().out == "comparison.html\n"
    assert "mine (2)" in Path("comparison.html").read_text(encoding="utf-8")


def test_markdown_and_json_go_to_standard_output_or_a_file(run: RunDir, capsys: pytest.CaptureFixture[str]):
    report([run.root], form="md")
    assert capsys.readouterr().out.startswith("# mine\n")
    report([run.root], as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["difficulty"]["mfd"]["kept"][2] == {"delta": 2.0, "seeds": 1, "by_task": {"Math": 1}}
    report([run.root, run.root], form="json", out=Path("both.json"))
    assert [r["name"] for r in json.loads(Path("both.json").read_text(encoding="utf-8"))["runs"]] == [
        "mine",
        "mine (2)",
    ]


@pytest.mark.skipif(not has_font(), reason="no font is installed here (Debian: fonts-dejavu-core)")
def test_figures_are_written_beside_any_form(run: RunDir, capsys: pytest.CaptureFixture[str]):
    report([run.root], form="json", figures=Path("figures"))
    told = capsys.readouterr()
    json.loads(told.out)
    assert "2 figures in figures" in told.err or "4 figures in figures" in told.err
    assert {p.suffix for p in Path("figures").iterdir()} == {".svg", ".png"}


def test_what_it_cannot_do_is_said(run: RunDir):
    with pytest.raises(RecipeError, match="choose html, md or json"):
        report([run.root], form="pdf")
    with pytest.raises(RecipeError, match="name one"):
        report([run.root, run.root], judge=True)
    with pytest.raises(DataError, match="no run here"):
        report([run.root / "nothing"])
