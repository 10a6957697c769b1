from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from tapir import sandbox
from tapir.cli import app

PROGRAM = {"kind": "program", "language": "python", "call": "double(4)", "output": "8"}
ROWS = [
    {"check": {"kind": "exact", "answers": ["Paris"]}, "answer": "Paris"},
    {"check": {"kind": "exact", "answers": ["Paris"]}, "answer": "Rome"},
    {"check": json.dumps({"kind": "pattern", "pattern": r"^\d+$"}), "answer": "12"},
    {"check": {"kind": "no such kind"}, "answer": "x"},
    {"check": {"kind": "exact", "answers": ["Paris"]}},
    {"answer": "nothing to check"},
]


def outcomes(file: Path, *options: str) -> dict[str, int]:
    result = CliRunner().invoke(app, ["check", str(file), "--json", *options])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_every_row_is_counted_once_and_a_bad_one_costs_itself(tmp_path: Path):
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    assert outcomes(file) == {"passed": 2, "failed": 1, "bad_check": 1, "no_answer": 1, "no_check": 1}


def test_program_checks_run_in_the_sandbox_when_that_is_allowed(tmp_path: Path):
    file = tmp_path / "rows.jsonl"
    answer = "```python\ndef double(n):\n    return 2 * n\n```"
    file.write_text(json.dumps({"check": PROGRAM, "answer": answer}) + "\n", encoding="utf-8")
    assert outcomes(file).keys() == {"code_not_allowed"}
    expected = "passed" if sandbox.is_available() else "no_sandbox"
    assert outcomes(file, "--allow-code") == {expected: 1}
