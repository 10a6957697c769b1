"""A tiny encoder really trained: what its folder holds, what it says, and what its identity depends on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny import build_tiny_encoder, typed_questions

from tapir.errors import DataError, ModelError
from tapir.models.classifier import INT8, Classifier, TransformersEngine, identity, open_classifier
from tapir.stages.distil_classifier import Choices, outcome, read_labelled, train_classifier
from tapir.tasks import load_taxonomy
from tapir.training.encoder import EncoderSettings
from tapir.types import Instruction, Receipt

ROWS = [Instruction(text, task=task) for task, text in typed_questions(12)]
SETTINGS = EncoderSettings(learning_rate=1e-2, epochs=12, patience=12, batch=8, max_tokens=32)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    place = tmp_path_factory.mktemp("classifier")
    base = build_tiny_encoder(place / "base")
    told = train_classifier(
        base, ROWS, load_taxonomy(), place / "out", Choices(held_out=0.2), SETTINGS, say=lambda epoch, note: None
    )
    return place / "out", told


def test_it_learns_types_that_a_few_words_tell_apart(trained: tuple[Path, dict[str, Any]]):
    _, told = trained
    assert told["rows"] == {"train": 30, "held_out": 6, "left_out": 0}
    assert told["held_out"]["agree"] == 6
    assert told["labels"] == ["Math", "Writing", "History"]
    assert "Art" in told["never_seen"]


def test_the_folder_holds_all_that_its_labels_depend_on(trained: tuple[Path, dict[str, Any]]):
    folder, told = trained
    config = json.loads((folder / "config.json").read_text())
    assert config["id2label"] == {"0": "Math", "1": "Writing", "2": "History"}
    assert {"model.safetensors", "taxonomy.yaml", "tapir-classifier.json", "tokenizer.json"} <= {
        p.name for p in folder.iterdir()
    }
    assert load_taxonomy(folder / "taxonomy.yaml") == load_taxonomy()
    held_out = json.loads((folder / "tapir-classifier.json").read_text())["held_out"]
    assert held_out["confusion"]["rows_given_columns_said"] == [[2, 0, 0], [0, 2, 0], [0, 0, 2]]
    assert held_out["by_type"]["Math"] == {"given": 2, "said": 2, "precision": 1.0, "recall": 1.0}
    assert told["training"]["epochs"] <= 12


def test_the_int8_engine_says_what_the_weights_say(trained: tuple[Path, dict[str, Any]]):
    folder, _ = trained
    small, full = open_classifier(folder), Classifier(folder, TransformersEngine(folder))
    assert (small.engine.name, full.engine.name) == (INT8, "transformers")
    pairs = list(zip(small.guesses(ROWS), full.guesses(ROWS), strict=True))
    assert all(a.task == b.task for a, b in pairs)
    assert max(abs(a.confidence - b.confidence) for a, b in pairs) < 0.05


def test_guesses_come_in_the_order_of_the_rows_whatever_their_lengths(trained: tuple[Path, dict[str, Any]]):
    opened = open_classifier(trained[0])
    long = Instruction("write a story about " + "boats " * 200)
    mixed = [ROWS[0], long, ROWS[30], ROWS[12]]
    assert [g.task for g in opened.guesses(mixed)] == ["Math", "Writing", "History", "Writing"]
    assert list(opened.guesses([])) == []


def test_other_weights_are_another_identity(trained: tuple[Path, dict[str, Any]], tmp_path: Path):
    copy = Path(shutil.copytree(trained[0], tmp_path / "copy"))
    assert identity(copy) == identity(trained[0])
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert identity(copy) != identity(trained[0])


def test_a_folder_without_a_classifier_is_an_error(tmp_path: Path):
    with pytest.raises(ModelError, match=r"not a trained classifier .*`tapir classifier train` makes one"):
        open_classifier(tmp_path)


def test_rows_of_an_unknown_type_are_dropped_and_counted(tmp_path: Path):
    file = tmp_path / "rows.jsonl"
    tasks = ("math", "Cooking", None)
    lines = [json.dumps({"instruction": f"text {n}", "task": task}) for n, task in enumerate(tasks)]
    file.write_text("\n".join(lines))
    receipt = Receipt("classifier")
    assert [i.task for i in read_labelled(str(file), load_taxonomy(), receipt=receipt)] == ["Math"]
    assert receipt.dropped == {"unknown_label": 1, "no_label": 1}
    receipt.check()


def test_a_label_that_the_classifier_never_saw_counts_against_it(trained: tuple[Path, dict[str, Any]]):
    found, plain = outcome(open_classifier(trained[0]), [*ROWS[:2], Instruction("which king ruled ?", task="Art")])
    assert (found.right, found.n) == (2, 3)
    assert plain["by_type"]["Art"]["recall"] == 0.0


def test_one_type_alone_cannot_be_learnt(tmp_path: Path):
    with pytest.raises(DataError, match="all instructions are of one task type"):
        train_classifier(
            tmp_path, ROWS[:5], load_taxonomy(), tmp_path / "out", Choices(), SETTINGS, say=lambda epoch, note: None
        )
    assert not (tmp_path / "out").exists()
