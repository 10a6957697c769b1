"""What a person sees of a training that goes on."""

from __future__ import annotations

import pytest

from tapir.cli import terminal
from tapir.cli.terminal import TerminalProgress
from tapir.training.result import StepLog


def step(number: int) -> StepLog:
    return StepLog(number, 9, 2.5, None, 1e-4, 100, 2.0 * number, None, None)


def test_without_a_terminal_a_training_says_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    progress = TerminalProgress()
    progress.start("round_1/05_student_1", None)
    progress.trained(step(1))
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(terminal, "QUIET_S", 0)
    progress.trained(step(2))
    assert capsys.readouterr().err == "  step 2 of 9: loss 2.500, 50 tokens/s, 0:00:14 left\n"
