"""What of a recipe, and of the files it names, makes a step another one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from whole_run import prepare, recipe

from tapir.config import Model
from tapir.errors import DataError, TapirError
from tapir.models.connection import identity_of
from tapir.pipeline import run
from tapir.report.facts import Facts
from tapir.report.text import results
from tapir.steps.common import _mark, judge_mark, student_number, student_place
from tapir.store.rundir import RunDir
from tapir.types import Receipt, Result
from tapir.wiring import load_recipe, open_session


def with_template(file: Path) -> dict[str, Any]:
    return {"judge": {"template": str(file)}}


def with_chat_template(file: Path) -> dict[str, Any]:
    return {"models": {"judge": {"kind": "local", "model": "anywhere", "chat_template": str(file)}}}


def with_script(file: Path) -> dict[str, Any]:
    return {"models": {"judge": {"kind": "scripted", "script": str(file)}}}


@pytest.mark.parametrize("named", [with_template, with_chat_template, with_script])
def test_an_edited_file_makes_other_verdicts_and_a_moved_one_does_not(
    named: Callable[[Path], dict[str, Any]], tmp_path: Path
):
    plain = yaml.safe_load(prepare(tmp_path).read_text(encoding="utf-8"))

    def mark(file: Path) -> list[Any]:
        given = named(file)
        parts = given | ({"models": plain["models"] | given["models"]} if "models" in given else {})
        loaded = load_recipe(prepare(tmp_path, **parts), [f"ledger.path={tmp_path / 'ledger.sqlite'}"])
        with open_session(loaded, tmp_path / "run") as session:
            return judge_mark(session, "judge")

    file, moved = tmp_path / "one.txt", tmp_path / "two.txt"
    for place in (file, moved):
        place.write_text("as it was", encoding="utf-8")
    before = mark(file)
    assert mark(moved) == before
    file.write_text("edited", encoding="utf-8")
    assert mark(file) != before


A, B, C = (f"http://{name}/v1" for name in "abc")


@pytest.mark.parametrize(
    ("named", "same"), [({}, False), ({"identity": "team model"}, True), ({"weights": "folder"}, True)]
)
def test_other_addresses_are_another_model_to_steps_where_they_are_to_the_ledger(named: dict[str, str], same: bool):
    def model(*urls: str) -> Model:
        return Model(kind="openai", model="m", base_urls=urls, **named)

    assert _mark(model(B, A)) == _mark(model(A, B))
    assert (_mark(model(A, B, C)) == _mark(model(A, B))) is same
    if "weights" not in named:  # whose ledger keys hold the weights' hash
        assert identity_of(model(B, A)) == identity_of(model(A, B))
        assert (identity_of(model(A, B, C)) == identity_of(model(A, B))) is same


def test_a_model_of_one_address_has_the_mark_it_always_had():
    assert "base_urls" not in _mark(Model(kind="openai", model="m", base_url=A))


STUDENT_0 = "round_0/04_student_0"


@pytest.mark.parametrize("student_0", ["train", "as_is"])
def test_other_weights_in_the_students_folder_make_another_student_0(student_0: str, tmp_path: Path):
    loaded = load_recipe(prepare(tmp_path, student_0=student_0), [f"ledger.path={tmp_path / 'ledger.sqlite'}"])

    def fingerprint() -> str:
        return run(loaded, tmp_path / "run", until="student_0").receipts()[STUDENT_0]["fingerprint"]

    first, folder = fingerprint(), tmp_path / "student"
    kept = folder.rename(tmp_path / "elsewhere")
    assert fingerprint() == first  # A machine that has not got the folder goes by what the receipt tells.
    kept.rename(folder)
    assert fingerprint() == first
    (folder / "generation_config.json").write_text('{"eos_token_id": [2, 1]}', encoding="utf-8")
    assert fingerprint() != first


def test_a_trained_student_is_back_when_a_wrong_recipe_is_set_right(tmp_path: Path):
    recipe, sets = prepare(tmp_path), [f"ledger.path={tmp_path / 'ledger.sqlite'}"]

    def receipt(*more: str) -> dict[str, Any]:
        return run(load_recipe(recipe, [*sets, *more]), tmp_path / "run", until="student_0").receipts()[STUDENT_0]

    weights, first = tmp_path / "run" / STUDENT_0 / "model.safetensors", receipt()
    made = weights.stat().st_mtime_ns
    for wrong, told in (("models.student={kind: local, model: ./typo}", "typo: not a folder of weights"),
                        ("train.max_tokens=8", "max_tokens")):  # fmt: skip
        with pytest.raises(TapirError, match=told):
            receipt(wrong)
    assert not weights.exists()
    assert receipt() == first
    assert weights.stat().st_mtime_ns == made


def test_a_student_0_is_found_without_the_folder_that_it_was_trained_from(tmp_path: Path):
    recipe = prepare(tmp_path)
    sets = [f"ledger.path={tmp_path / 'ledger.sqlite'}", f"store=file://{tmp_path / 'store'}"]

    def fingerprint(folder: str, *more: str) -> str:
        loaded = load_recipe(recipe, [*sets, *more])
        return run(loaded, tmp_path / folder / "run", until="student_0").receipts()[STUDENT_0]["fingerprint"]

    first = fingerprint("here")
    (tmp_path / "student").rename(tmp_path / "elsewhere")
    assert fingerprint("fresh_machine") == first
    with pytest.raises(TapirError, match="not a folder of weights"):
        fingerprint("here", "train.learning_rate=0.1")
    assert fingerprint("here") == first


def test_students_and_results_of_an_earlier_recipe_with_more_rounds_are_not_the_runs(tmp_path: Path):
    made = RunDir(tmp_path / "run")
    for number in range(3):
        student = made.step(student_place(number), "x")
        student.folder.mkdir(parents=True)
        student.finish(Receipt(student.stage))
        evaluation = made.step(f"round_{number}/{'06' if number else '09'}_evaluation", "x")
        evaluation.write(Result, [Result(f"student_{number}", "win_rate", 50.0, 4, 15.0, 85.0)])

    def seen() -> tuple[int, list[str], list[int], int]:
        facts = Facts(made)
        return student_number(made, None), [r.student for r in results(made)], facts.rounds, len(facts.students)

    plain = recipe(tmp_path)
    for rounds, expected in ((2, (2, ["student_0", "student_1", "student_2"], [1, 2], 3)),
                             (1, (1, ["student_0", "student_1"], [1], 2))):  # fmt: skip
        made.recipe_path.write_text(yaml.safe_dump(plain | {"curriculum": {"rounds": rounds}}), encoding="utf-8")
        assert seen() == expected
    with pytest.raises(DataError, match=r"student_2 is not there \(finished: student_0, student_1\)"):
        student_number(made, 2)
