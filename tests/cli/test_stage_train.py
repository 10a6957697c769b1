"""`tapir stage train` trains where the recipe says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from training_rows import examples
from typer.testing import CliRunner
from whole_run import prepare

from tapir.cli import app
from tapir.errors import ModelError
from tapir.stages import train as training
from tapir.store.tables import write_rows
from tapir.types import Example


def test_it_trains_on_the_recipes_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked: list[Any] = []

    def stop(*_: Any, **options: Any) -> None:
        asked.append(options["ray"])
        raise ModelError("stopped here")

    monkeypatch.setattr(training.launch, "train", stop)
    recipe = prepare(tmp_path)
    write_rows(tmp_path / "examples.parquet", Example, examples(2))
    sets = ["executor=ray", "train.launcher=ray", "ray.address=head:6379", "ray.training_workers=8",
            f"ledger.path={tmp_path / 'ledger.sqlite'}"]  # fmt: skip
    line = [
        "stage",
        "train",
        tmp_path / "examples.parquet",
        tmp_path / "student",
        "-o",
        tmp_path / "out",
        "--recipe",
        recipe,
    ]
    result = CliRunner().invoke(app, [str(word) for word in line] + [word for pair in sets for word in ("--set", pair)])
    assert str(result.exception) == "stopped here", result.output
    assert (asked[0].address, asked[0].training_workers) == ("head:6379", 8)
