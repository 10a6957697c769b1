"""`tapir difficulty`: bins and thresholds that suit the kind, before and after a selection."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tapir.cli.difficulty import difficulty
from tapir.errors import DataError
from tapir.store.rundir import RunDir, write_json
from tapir.store.tables import write_rows
from tapir.types import Difficulty, Instruction, Verdict

ASKED = [Instruction(f"Why {n}?", task="Math" if n < 6 else "Law") for n in range(10)]


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    write_json(tmp_path / "manifest.json", {})
    write_rows(tmp_path / "round_0/02_classified.parquet", Instruction, ASKED)
    return RunDir(tmp_path)


def test_ifd_has_fine_bins_and_counts_by_task(run: RunDir, capsys: pytest.CaptureFixture[str]):
    rows = [Difficulty(i.id, n / 10, "ifd", votes=0) for n, i in enumerate(ASKED)]
    write_rows(run.root / "round_0/07_hard.all.parquet", Difficulty, rows)
    difficulty(run.root, as_json=True)
    told = json.loads(capsys.readouterr().out)["ifd"]
    assert (told["seeds"], len(told["bins"]), told["tasks"]) == (10, 10, {"Math": 6, "Law": 4})
    kept = {k["delta"]: k["by_task"] for k in told["kept"]}
    # Above 0.4 are 0.5 of Math, and 0.6 to 0.9 of Law.
    assert kept[0.4] == {"Law": 4, "Math": 1}
    difficulty(run.root)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "conditioned loss ratio (IFD): 10 seeds"
    # The deltas are 0, 0.1 … 0.8 or 0.9; above 0.6 Law keeps 0.7, 0.8 and 0.9.
    assert next(line for line in lines if line.startswith("Law")).split()[:10] == ["Law", "(4)", *"44444432"]


def test_verdicts_alone_are_enough_to_choose_a_threshold(run: RunDir, capsys: pytest.CaptureFixture[str]):
    rows = [
        Verdict(i.id, order, 5, 5 + n / 2)  # type: ignore[arg-type]
        for n, i in enumerate(ASKED)
        for order in ("student_first", "teacher_first")
    ]
    write_rows(run.root / "round_0/06_verdicts.parquet", Verdict, rows)
    difficulty(run.root, deltas=[4.0], as_json=True)
    told = json.loads(capsys.readouterr().out)["mfd"]
    assert told["delta"] is None
    assert told["kept"] == [{"delta": 4.0, "seeds": 1, "by_task": {"Law": 1}}]


def test_before_any_verdict_it_says_how_to_get_there(run: RunDir):
    with pytest.raises(DataError, match="--until judge"):
        difficulty(run.root)
