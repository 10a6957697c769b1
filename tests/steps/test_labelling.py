"""A run whose recipe names a classifier: who labels, and when labels are stale."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from tiny import build_tiny_encoder, typed_questions
from typer.testing import CliRunner
from whole_run import recipe as tiny_recipe

from tapir import cli
from tapir.curriculum.hygiene import Hygiene
from tapir.errors import RecipeError
from tapir.models.classifier import SETTINGS
from tapir.stages.distil_classifier import Choices, train_classifier
from tapir.steps.round_0 import classify_seeds, gather_seeds
from tapir.store.tables import read_rows
from tapir.tasks import load_taxonomy
from tapir.training.encoder import EncoderSettings
from tapir.types import Instruction
from tapir.wiring import load_recipe, open_session

ROWS = typed_questions(12)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe, a pool, and a classifier that knows three types and is never quite sure."""
    folder = tmp_path_factory.mktemp("labelling")
    train_classifier(
        build_tiny_encoder(folder / "base"),
        [Instruction(text, task=task) for task, text in ROWS],
        load_taxonomy(),
        folder / "classifier",
        Choices(held_out=0.2),
        EncoderSettings(learning_rate=1e-2, epochs=12, patience=12, batch=8, max_tokens=32),
        say=lambda epoch, note: None,
    )
    texts = [text for _, text in ROWS[::4]]
    (folder / "pool.jsonl").write_text("".join(json.dumps({"instruction": t}) + "\n" for t in texts))
    raw = tiny_recipe(folder, ledger={"path": str(folder / "ledger.sqlite")}, evaluate=[])
    raw["classify"] = {"by": "classifier", "classifier": str(folder / "classifier"), "confidence": 0.5}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(raw))
    return folder


def classified(place: Path, run: Path, *sets: str) -> tuple[list[str | None], dict[str, object], str]:
    with open_session(load_recipe(place / "recipe.yaml", sets), run) as session:
        step = classify_seeds(session, gather_seeds(session))
        receipt = step.receipt() or {}
        return [i.task for i in step.read(Instruction)], receipt["notes"], step.fingerprint


def test_a_sure_classifier_spares_the_teacher(place: Path, tmp_path: Path):
    tasks, notes, _ = classified(place, tmp_path / "run")
    assert tasks == ["Math"] * 3 + ["Writing"] * 3 + ["History"] * 3
    assert notes["labelled_by"] == {"classifier": 9, "teacher": 0}


def test_below_the_confidence_the_teacher_labels(place: Path, tmp_path: Path):
    _, notes, _ = classified(place, tmp_path / "run", "classify.confidence=1.0")
    assert notes["labelled_by"] == {"classifier": 0, "teacher": 9}


def test_a_small_pool_is_the_teachers_alone(place: Path, tmp_path: Path):
    _, notes, _ = classified(place, tmp_path / "run", "classify.small_pool=10")
    assert notes["labelled_by"] == {"teacher": 9}


def test_a_classifier_that_was_trained_again_makes_the_labels_stale(place: Path, tmp_path: Path):
    _, _, before = classified(place, tmp_path / "run")
    assert classified(place, tmp_path / "run")[2] == before
    settings = place / "classifier" / SETTINGS
    kept = settings.read_text()
    settings.write_text(json.dumps({**json.loads(kept), "max_tokens": 16}))
    try:
        assert classified(place, tmp_path / "run")[2] != before
    finally:
        settings.write_text(kept)


def test_a_run_with_a_classifier_refuses_grown_instructions_of_another_type(place: Path, tmp_path: Path):
    parent = Instruction("which king ruled in the year 3 ?", task="History")
    straying = Instruction("write a story about 7 boats", task="History", parent_id=parent.id)
    with open_session(load_recipe(place / "recipe.yaml"), tmp_path / "run") as session:
        hygiene = Hygiene([parent], session.contamination(), session.off_type)
    assert hygiene.refuses(straying, parent) == "off_type"
    assert hygiene.refuses(replace(straying, task="Writing"), parent) is None


def test_a_classifier_must_be_named(place: Path):
    with pytest.raises(RecipeError, match="by: classifier needs `classifier`"):
        load_recipe(place / "recipe.yaml", ["classify.classifier=null"])


def test_the_commands_classify_and_eval(place: Path, tmp_path: Path):
    out, classifier = tmp_path / "labels.jsonl", str(place / "classifier")
    said = CliRunner().invoke(
        cli.app, ["classify", str(place / "pool.jsonl"), "-o", str(out), "--classifier", classifier]
    )
    assert (said.exit_code, len(list(read_rows(out, Instruction)))) == (0, 9), said.output
    assert "9 labelled by the classifier, 0 labelled by the teacher" in said.output
    told = CliRunner().invoke(cli.app, ["classifier", "eval", str(out), "--classifier", classifier, "--json"])
    assert told.exit_code == 0, told.output
    found = json.loads(told.stdout)
    assert (found["agree"], found["n"]) == (9, 9)
