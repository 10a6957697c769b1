"""Training as a stage: what reaches the training, and what its receipt says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tapir.config import Model, Train
from tapir.stages.train import train
from tapir.training import launch
from tapir.training.folder import Allowed
from tapir.training.resident import Resident
from tapir.training.result import TrainResult
from tapir.types import Example, Message, Receipt

ROWS = [Example((Message("user", "q"), Message("assistant", "a")), f"id{n}", "Math", hard=False) for n in range(5)]


def test_what_the_recipe_says_of_the_student_reaches_the_training_and_its_account_the_receipt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    given: dict[str, Any] = {}

    def fake(*places: Any, **more: Any) -> TrainResult:
        given.update(more)
        return TrainResult(tmp_path, 2, 4, 90, 40, 1.5, 8.0, {"too_long": 1}, 0, 0.25, 0.3)

    monkeypatch.setattr(launch, "train", fake)
    resident, receipt = Resident(), Receipt("student_1")
    student = Model(kind="local", chat_template="chatml", trust_remote_code=True, allow_pickle=True)
    train(tmp_path, ROWS, tmp_path / "student_1", Train(), student=student, seed=3, trained=lambda _: None,
          show=lambda _: None, receipt=receipt, resident=resident)  # fmt: skip
    assert given["template"] == "chatml"
    assert given["allowed"] == Allowed(remote_code=True, pickle=True)
    assert given["resident"] is resident
    assert given["log_path"] == tmp_path / "student_1.log.jsonl"
    assert (receipt.rows_in, receipt.rows_out, receipt.dropped) == (5, 4, {"too_long": 1})
    assert (receipt.notes["trained_tokens_per_s"], receipt.notes["hard_share_of_rows"]) == (5.0, 0.25)
    receipt.check()
