"""`tapir export RUN`: what comes out of a run, with cards that say what it is and nothing about this machine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from finished_run import AGAIN, EXAMPLES, write_run

from tapir.cli.export import export
from tapir.errors import DataError, GateFailed, RecipeError
from tapir.training import export as exporting
from tapir.training import verify as verifying


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs"))


def call(run: Path, **given: Any) -> None:
    options: dict[str, Any] = {"to": "safetensors", "number": None, "out": None, "verify": False, "repository": None,
                               "public": False, "with_data": False, "dtype": "float32", "gguf_type": "f32"}  # fmt: skip
    export(run, **(options | given))


def test_the_last_student_is_exported_and_verified_with_the_line_that_serves_it(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    call(run, out=tmp_path / "out", verify=True)
    told = capsys.readouterr()
    assert "3 of 3 greedy answers are the run's to the last token; 3 of 3 prompts are spelt alike" in told.out
    assert f"vllm serve {tmp_path / 'out'}" in told.err
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"model.safetensors", "README.md", "tokenizer.json", "chat_template.jinja"} <= names
    assert not [name for name in names if name.startswith(".")]


def test_the_model_card_says_what_it_is_and_how_to_make_it_again(run: Path, tmp_path: Path):
    call(run, out=tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "tiny, student\\_2" in card
    assert "| 1 | 0.30 | 2 | 50.0% | 4 | 1.500 |" in card
    assert "student\\_2 passes 3 of 4 checks" in card
    assert "base model: unknown" in card
    assert "commit abc1234" in card


def test_an_export_that_is_not_the_runs_student_fails(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    other = run / "round_1" / "05_student_1"
    write = exporting.export_safetensors
    monkeypatch.setattr(exporting, "export_safetensors", lambda _, target, **more: write(other, target, **more))
    with pytest.raises(GateFailed, match=r"0 of 3 greedy answers.*export it again"):
        call(run, out=tmp_path / "out", verify=True)
    assert "differs: What is the sum of" in capsys.readouterr().err


def test_answers_that_rounding_turned_are_told_with_the_precision_that_keeps_them(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    rounded = verifying.Verification(2, 2, 1, (("Which?", "A", "B"),))
    monkeypatch.setattr(verifying, "verify", lambda *given: rounded)
    call(run, out=tmp_path / "rounded", verify=True, dtype="bfloat16")
    assert "--dtype float32" in capsys.readouterr().err
    call(run, out=tmp_path / "whole", verify=True, dtype="float32")
    assert "--dtype float32" not in capsys.readouterr().err


def test_gguf_is_verified_like_any_other(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    call(run, to="gguf", number=1, out=tmp_path / "one.gguf", verify=True)
    told = capsys.readouterr()
    assert "3 of 3 prompts are spelt alike" in told.out
    assert f"llama-server -m {tmp_path / 'one.gguf'}" in told.err


def test_a_rounds_data_is_its_training_set_and_all_data_holds_each_example_once(run: Path, tmp_path: Path):
    call(run, to="dataset", number=1, out=tmp_path / "one")
    call(run, to="dataset", out=tmp_path / "all")
    one, every = (
        [json.loads(line) for line in (tmp_path / name / "messages.jsonl").read_text().splitlines()]
        for name in ("one", "all")
    )
    assert [(row["instruction_id"], row["weight"]) for row in one] == [(e.instruction_id, 1.0) for e in EXAMPLES]
    assert [(row["instruction_id"], row["weight"]) for row in every] == [("id1", AGAIN.weight), ("id2", 1.0)]
    assert set(json.loads((tmp_path / "all" / "dataset_info.json").read_text())) == {"tiny_alpaca", "tiny_sharegpt"}
    card = (tmp_path / "all" / "README.md").read_text()
    assert "2 conversations" in card
    assert "| Math | 1 |" in card


def test_what_the_alpaca_form_cannot_hold_is_told(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(exporting, "export_dataset", lambda *given, **more: exporting.Written(2, not_alpaca=1))
    call(run, to="dataset", out=tmp_path / "data")
    assert "alpaca.json lacks 1 of them" in capsys.readouterr().err


def test_students_deleted_to_save_disk_stop_only_their_own_export(run: Path, tmp_path: Path):
    thinned = tmp_path / "thinned"
    shutil.copytree(run, thinned)
    shutil.rmtree(thinned / "round_1" / "05_student_1")
    call(thinned, out=tmp_path / "last")
    assert (tmp_path / "last" / "model.safetensors").exists()
    call(thinned, to="dataset", number=1, out=tmp_path / "data")
    assert (tmp_path / "data" / "messages.jsonl").exists()
    with pytest.raises(DataError, match="weights were deleted"):
        call(thinned, number=1, out=tmp_path / "one")


def test_the_hub_gets_a_private_model_and_its_data_unless_told_otherwise(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pushed: list[tuple[str, str, str, bool]] = []

    def push(folder: Path, repository: str, *, kind: str, private: bool = True) -> str:
        pushed.append((folder.name, repository, kind, private))
        return f"https://hub/{repository}"

    monkeypatch.setattr(exporting, "push", push)
    call(run, to="hub", out=tmp_path / "m", repository="me/tiny", with_data=True)
    call(run, to="hub", out=tmp_path / "p", repository="me/tiny", public=True)
    assert pushed == [
        ("m", "me/tiny", "model", True),
        ("m-data", "me/tiny-data", "dataset", True),
        ("p", "me/tiny", "model", False),
    ]


def test_what_cannot_be_exported_is_refused_with_a_remedy(run: Path, tmp_path: Path):
    with pytest.raises(DataError, match=r"student_3 is not there \(finished: student_0, student_1, student_2\)"):
        call(run, number=3, out=tmp_path / "x")
    with pytest.raises(RecipeError, match="--repository"):
        call(run, to="hub", out=tmp_path / "x")
    with pytest.raises(RecipeError, match=r"name it .*x\.gguf; servers"):
        call(run, to="gguf", out=tmp_path / "x", verify=True)
    with pytest.raises(RecipeError, match="--verify compares answers"):
        call(run, to="dataset", verify=True, out=tmp_path / "x")
    with pytest.raises(DataError, match=r"round 0 has no training set.*rounds count from 1"):
        call(run, to="dataset", number=0, out=tmp_path / "x")
    with pytest.raises(RecipeError, match="choose one of safetensors, gguf, dataset, hub"):
        call(run, to="onnx")
