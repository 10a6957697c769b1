"""Benchmarks of a run, on a tiny student with a scripted evaluator; nothing is trained."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny import build_tiny_model

from tapir.config import Evaluation, parse_recipe
from tapir.errors import RecipeError
from tapir.evaluation import harness
from tapir.evaluation.harness import TaskScore
from tapir.evaluation.rows import Estimate
from tapir.models.weights_hash import weights_hash
from tapir.report.text import results, table
from tapir.stages.train import link_student
from tapir.steps import benchmark
from tapir.store.rundir import Step
from tapir.types import Answer, Instruction, Receipt
from tapir.wiring import Session, open_session

pytestmark = pytest.mark.filterwarnings("ignore")
HELD_OUT = [Instruction(f"What of {w}?", task="Math") for w in ("apples", "boats", "clouds")]


def jsonl(path: Path, *rows: dict[str, object]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("student"))


@pytest.fixture
def session(tmp_path: Path, student: Path) -> Iterator[Session]:
    local = {"kind": "local", "model": str(student), "engine": "transformers", "max_answer_tokens": 6}
    asked = [{"instruction": i.text, "output": "A short answer.", "generator": "gpt"} for i in HELD_OUT]
    no_comma = {"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
    recipe = parse_recipe(
        {
            "models": {"teacher": {"kind": "scripted", "script": "builtin"}, "student": local},
            "ledger": {"path": str(tmp_path / "ledger.sqlite")},
            "evaluate": [
                {"kind": "verified"},
                {"kind": "graded", "repeats": 2},
                {"kind": "alpaca", "prompts": jsonl(tmp_path / "alpaca.jsonl", *asked)},
                {"kind": "following", "prompts": jsonl(tmp_path / "f.jsonl", {"prompt": "Say a word."} | no_comma)},
                {"kind": "exact", "prompts": jsonl(tmp_path / "e.jsonl", {"question": "1 + 1?", "answer": "#### 2"})},
                {"kind": "choice", "tasks": {"mine": 3}},
            ],
        }
    )
    with open_session(recipe, tmp_path / "run") as opened:
        yield opened


def made(session: Session, place: str) -> Step:
    step = session.run.step(place, "done")
    step.finish(Receipt(step.stage))
    return step


def steps(session: Session, number: int, weights: Path) -> tuple[Step, Step, Step]:
    """A student, the held-out instructions with the teacher's answers, and the student's answers to all but one."""
    student = made(session, f"round_{number}/05_student_{number}")
    link_student(student.folder, weights, weights_hash(weights))
    held_out = made(session, "round_0/08_held_out")
    held_out.write(Instruction, HELD_OUT)
    held_out.write(Answer, [Answer(i.id, "teacher", "The teacher's answer.") for i in HELD_OUT], "answers")
    evaluated = made(session, f"round_{number}/{'09' if number == 0 else '06'}_evaluation")
    texts = ("one " * 16, "one " * 8)
    rows = [Answer(i.id, f"student_{number}", t) for i, t in zip(HELD_OUT, texts, strict=False)]
    evaluated.write(Answer, rows, "answers")
    return student, held_out, evaluated


def test_every_benchmark_gives_its_results_and_counts_what_is_missing(
    session: Session, student: Path, monkeypatch: pytest.MonkeyPatch
):
    before, after = ([TaskScore("mine", "acc", 3, Estimate(v, 100, v - 5, v + 5), 2.0)] for v in (60.0, 40.0))
    scores = iter((before, after))
    monkeypatch.setattr(harness, "evaluate", lambda *_, **__: next(scores))
    baseline = benchmark(session, 0, *steps(session, 0, student))
    benchmark(session, 1, *steps(session, 1, student), baseline=baseline)
    found = {(r.student, r.metric): r for r in results(session.run)}
    # The scripted judge gives 2 and a quarter of the words, 6 and 4; a warm one wavers upwards by one at most.
    grade = found["student_1", "grade"]
    assert 5 <= grade.value <= 6
    assert (grade.n, grade.missing) == (2, 1)
    assert found["student_1", "alpaca_win_rate"].against == "gpt"
    assert "not comparable with the AlpacaEval leaderboard" in found["student_1", "alpaca_win_rate"].sentence
    assert {m for s, m in found if s == "student_1"} == {
        "grade", "alpaca_win_rate", "following_strict", "following_loose", "exact_accuracy", "mine, 3 shots, %",
    }  # fmt: skip
    # Twenty points less, with errors of 2 each.
    harmed = found["student_1", "mine, 3 shots, %"]
    assert (harmed.value, harmed.against) == (40.0, "student_0")
    assert "a drop of more than two standard errors" in harmed.sentence
    rows = {row[0]: row[1:] for row in table(results(session.run))}
    assert rows["mine, 3 shots, %"] == ["60.0 (55.0 to 65.0)", "40.0 (35.0 to 45.0)"]


def test_a_finished_benchmark_is_passed_over(session: Session, student: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(harness, "evaluate", lambda *_, **__: [TaskScore("mine", "acc", 3, Estimate(1.0, 1), None)])
    first = benchmark(session, 0, *steps(session, 0, student))
    written = first.receipt_path.stat().st_mtime_ns
    assert benchmark(session, 0, *steps(session, 0, student)).receipt_path.stat().st_mtime_ns == written


def test_a_recipe_without_benchmarks_has_no_such_step(session: Session, student: Path):
    session.recipe = session.recipe.model_copy(update={"evaluate": session.recipe.evaluate[:1]})
    assert benchmark(session, 0, *steps(session, 0, student)) is None


def test_two_files_of_one_kind_give_two_results(session: Session, student: Path, tmp_path: Path):
    files = [
        jsonl(tmp_path / f"{name}.jsonl", *({"question": f"{n} + 1?", "answer": str(n + 1)} for n in range(rows)))
        for name, rows in (("gsm8k", 2), ("math", 3))
    ]
    exact = tuple(Evaluation(kind="exact", prompts=file) for file in files)
    session.recipe = session.recipe.model_copy(update={"evaluate": exact})
    step = benchmark(session, 0, *steps(session, 0, student))
    found = results(session.run)
    assert [(r.metric, r.n) for r in found] == [("exact_accuracy (gsm8k)", 2), ("exact_accuracy (math)", 3)]
    assert [r.sentence.split(" answers")[0] for r in found] == ["gsm8k: student_0", "math: student_0"]
    labels = [row[0] for row in table(found)]
    assert labels == ["held-out", "exact answers right, % (gsm8k)", "exact answers right, % (math)"]
    notes = step.receipt()["notes"]
    assert (notes["exact (gsm8k)"]["asked"], notes["exact (math)"]["asked"]) == (2, 3)
    assert set(notes["sources"]) == set(files)


@pytest.mark.parametrize(
    ("evaluate", "said"),
    [
        (["a/test.jsonl", "b/test.jsonl"], "exact 2 times on a file named test; .* rename its file"),
        (["test.jsonl", "test.jsonl.gz"], "exact 2 times on a file named test"),
        ([{"kind": "choice"}, {"kind": "choice", "tasks": {"mine": 3}}], "choice 2 times.* name all tasks in one"),
        ([{"kind": "graded"}, {"kind": "graded", "repeats": 2}], "graded 2 times.* leave one"),
    ],
)
def test_benchmarks_whose_results_would_have_one_name_are_refused(evaluate: list[Any], said: str):
    models = {"teacher": {"kind": "scripted"}, "student": {"kind": "local"}}
    listed = [e if isinstance(e, dict) else {"kind": "exact", "prompts": e} for e in evaluate]
    with pytest.raises(RecipeError, match=said):
        parse_recipe({"models": models, "evaluate": listed})


def test_a_benchmark_names_its_own_file():
    models = {"teacher": {"kind": "scripted"}, "student": {"kind": "local"}}
    with pytest.raises(RecipeError, match="alpaca needs `prompts`"):
        parse_recipe({"models": models, "evaluate": [{"kind": "alpaca"}]})
