"""Which steps a changed setting makes anew: those whose rows or weights it can change, and no others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from whole_run import prepare

from tapir.pipeline import run
from tapir.store.rundir import Step
from tapir.types import Receipt
from tapir.wiring import Session, load_recipe

Marks = dict[str, str]
EVALUATIONS = ["round_0/09_evaluation", "round_1/06_evaluation", "round_2/06_evaluation"]
ROUND_2 = [f"round_2/{step}" for step in ("01_expanded", "02_refined", "03_enhanced_answers", "04_mix", "05_student_2",
                                          "06_evaluation")]  # fmt: skip


@pytest.fixture
def marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Marks]:
    """Every step's mark under these settings, of a run whose steps do nothing."""

    def nothing(_session: Session, step: Step, _work: object, _total: object) -> None:
        step.finish(Receipt(step.stage))

    monkeypatch.setattr(Session, "_perform", nothing)
    recipe = prepare(tmp_path / "files")

    def found(*sets: str) -> Marks:
        loaded = load_recipe(recipe, [f"ledger.path={tmp_path / 'ledger.sqlite'}", *sets])
        receipts = run(loaded, tmp_path / f"run {' '.join(sets)}".replace("/", "")).receipts()
        return {place: receipt["fingerprint"] for place, receipt in receipts.items()}

    return found


@pytest.mark.parametrize(
    ("setting", "anew"),
    [
        ("train.save_every=3", []),
        ("train.report_to=[tensorboard]", []),
        ("train.launcher=accelerate", []),
        ("judge.max_unscored=0.9", []),
        ("budget.calls=500", []),
        ("difficulty.rescore_sample=50", []),
        ("difficulty.rescore=measure", EVALUATIONS),
        ("judge.canary=0", EVALUATIONS),
        ("models.evaluator={temperature: 0.2}", EVALUATIONS),
        ("curriculum.rounds=1", ROUND_2),
        ("curriculum.alpha_step=0.1", ROUND_2),
    ],
)
def test_what_a_setting_cannot_change_stays_done(setting: str, anew: list[str], marks: Callable[..., Marks]):
    before, after = marks(), marks(setting)
    assert [place for place in before if after.get(place) != before[place]] == anew


def test_one_more_round_leaves_those_before_it_as_they_are(marks: Callable[..., Marks]):
    two, three = marks(), marks("curriculum.rounds=3")
    assert {place: mark for place, mark in three.items() if not place.startswith("round_3/")} == two
    assert len(three) == len(two) + len(ROUND_2)


def test_how_a_student_answers_makes_other_answers_and_not_another_student_0(marks: Callable[..., Marks]):
    before, after = marks(), marks("models.student.temperature=0.1")
    changed = [place for place in before if after[place] != before[place]]
    assert changed[0] == "round_0/05_student_answers"
    assert "round_1/05_student_1" in changed


@pytest.mark.parametrize("setting", ["train.learning_rate=0.1", "models.student.chat_template=chatml"])
def test_how_a_student_is_trained_makes_another_student_0(setting: str, marks: Callable[..., Marks]):
    before, after = marks(), marks(setting)
    assert next(place for place in before if after[place] != before[place]) == "round_0/04_student_0"
