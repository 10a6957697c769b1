"""`tapir evaluate …` on tiny files with values worked out by hand; what each command prints, refuses and exits with."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tapir.cli.evaluate import app
from tapir.cli.evaluate.weights import choice_finding, fit_finding, read_tasks, stored_scores
from tapir.cli.results import Handover, deliver
from tapir.errors import DataError, GateFailed, RecipeError
from tapir.evaluation.fit import score_fit
from tapir.evaluation.harness import TaskScore
from tapir.evaluation.heldout import Fit
from tapir.evaluation.provenance import stamp
from tapir.evaluation.rows import Estimate


def call(*words: object) -> Result:
    return CliRunner().invoke(app, [str(w) for w in words])


def numbers(*words: object) -> dict[str, Any]:
    result = call(*words, "--json")
    assert result.exit_code == 0, result.exception
    return json.loads(result.stdout)


def jsonl(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def annotations(path: Path, *preferences: float | None, model: str = "ours") -> Path:
    fixed = {"output_1": "a", "output_2": "b", "generator_1": "base", "generator_2": model, "annotator": "judge"}
    rows = [{"instruction": f"q{n}", "preference": p} | fixed for n, p in enumerate(preferences)]
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


# alpaca


def test_alpaca_gives_the_win_rate_with_interval_and_provenance(tmp_path: Path):
    found = numbers("alpaca", "--annotations", annotations(tmp_path / "a.json", 2.0, 1.0, 1.5, 1.7))
    # (100 + 0 + 50 + 70) / 4
    assert found["win_rate"]["value"] == pytest.approx(55.0)
    assert found["win_rate"]["low"] < 55 < found["win_rate"]["high"]
    assert (found["n"], found["missing"], found["wins"], found["losses"], found["draws"]) == (4, 0, 2, 1, 1)
    source = found["provenance"]
    assert (source["judge"], source["n"], source["missing"], source["prompt_sha256"]) == ("judge", 4, 0, None)
    assert found["sentences"][0].startswith("ours beats base: win rate 55.0 % on 4 instructions (95 % CI ")
    assert found["sentences"][0].endswith("; a difference inside the noise)")


def test_alpaca_for_people_is_a_table_and_a_sentence(tmp_path: Path):
    result = call("alpaca", "--annotations", annotations(tmp_path / "a.json", *[2.0] * 20))
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["ours", "against", "base", "%"]
    assert lines[1].split()[:3] == ["win", "rate", "100.0"]
    assert any(line.startswith("ours beats base: win rate 100.0 % on 20 instructions") for line in lines)
    assert "noise" not in result.stdout


def test_missing_rows_fail_unless_allowed(tmp_path: Path):
    path = annotations(tmp_path / "a.json", 2.0, 1.5, None)
    result = call("alpaca", "--annotations", path, "--json")
    assert isinstance(result.exception, DataError)
    assert "1 of 3 rows are missing" in str(result.exception)
    assert result.stdout == ""
    assert numbers("alpaca", "--annotations", path, "--allow-missing", 1)["missing"] == 1
    too_many = call("alpaca", "--annotations", path, "--expected", 5, "--allow-missing", 2)
    assert "3 of 5 rows are missing" in str(too_many.exception)


def test_a_requirement_that_fails_exits_with_10_after_the_result_is_shown(tmp_path: Path):
    path = annotations(tmp_path / "a.json", 2.0, 1.0, 1.5, 1.7)
    words = ("alpaca", "--annotations", path, "--json", "--require")
    assert call(*words, "win_rate >= 55").exit_code == 0
    failed = call(*words, "win_rate.low >= 50")
    assert isinstance(failed.exception, GateFailed)
    assert failed.exception.exit_code == 10
    assert json.loads(failed.stdout)["n"] == 4


def test_a_requirement_that_cannot_be_read_is_refused_before_any_work(tmp_path: Path):
    result = call("alpaca", "--annotations", tmp_path / "none.json", "--require", "win_rate is good")
    assert isinstance(result.exception, RecipeError)


def test_alpaca_from_given_weights(tmp_path: Path):
    glm, difficulty = tmp_path / "glm.csv", tmp_path / "d.csv"
    glm.write_text("model,instruction_difficulty,not_gamed_baseline.astype(float)\nbase,0,0\nours,2,0\n")
    difficulty.write_text("instruction_difficulty\n0\n0\n")
    path = annotations(tmp_path / "a.json", 2.0, 1.0)
    found = numbers("alpaca", "--annotations", path, "--glm", glm, "--difficulty", difficulty)
    assert found["length_controlled_win_rate"] == 50.0
    assert set(found["provenance"]["inputs"]) == {"annotations", "glm", "difficulty"}
    alone = call("alpaca", "--annotations", path, "--glm", glm)
    assert "needs both --glm" in str(alone.exception)


def test_two_models_are_compared_instruction_by_instruction(tmp_path: Path):
    ours = annotations(tmp_path / "a.json", *[2.0] * 20)
    theirs = annotations(tmp_path / "b.json", *[1.5, 1.7] * 10, model="theirs")
    found = numbers("alpaca", "--annotations", ours, "--against", theirs)
    # 50 and 30 points in turn.
    assert found["against"]["value"] == pytest.approx(40.0)
    assert (found["against"]["model"], found["against"]["n"], found["against"]["noise"]) == ("theirs", 20, False)
    assert "ours has 40.0 more points of win rate than theirs on 20 instructions" in found["sentences"][1]


def test_models_judged_by_different_judges_are_not_compared(tmp_path: Path):
    ours, theirs = annotations(tmp_path / "a.json", 2.0), annotations(tmp_path / "b.json", 2.0)
    theirs.write_text(theirs.read_text().replace('"judge"', '"another"'))
    assert "only equal references and judges" in str(
        call("alpaca", "--annotations", ours, "--against", theirs).exception
    )


def test_duplicates_are_warned_of_in_one_line_on_standard_error(tmp_path: Path):
    path = annotations(tmp_path / "a.json", 2.0, 1.0)
    rows = json.loads(path.read_text())
    path.write_text(json.dumps([*rows, rows[0]]))
    result = call("alpaca", "--annotations", path, "--json")
    assert result.stderr.splitlines() == [f"tapir: warning: {path}: 1 duplicate annotations removed"]
    assert json.loads(result.stdout)["n"] == 2


def test_the_result_file_holds_what_json_shows(tmp_path: Path):
    path, out = annotations(tmp_path / "a.json", 2.0, 1.0), tmp_path / "result.json"
    shown = numbers("alpaca", "--annotations", path, "--out", out)
    assert json.loads(out.read_text()) == shown


def test_a_models_name_cannot_command_the_terminal(tmp_path: Path):
    result = call("alpaca", "--annotations", annotations(tmp_path / "a.json", 2.0, model="\x1b[2Jours"))
    assert "ours beats" in result.stdout
    assert "\x1b" not in result.stdout


def test_stored_annotations_are_scored_without_torch_pandas_or_transformers(tmp_path: Path):
    path = annotations(tmp_path / "a.json", *[1.0, 2.0, 1.5, 1.2, 1.9] * 161)
    code = (
        "import sys; from tapir.cli.evaluate import app\n"
        f"app(['alpaca', '--annotations', {str(path)!r}, '--json'], standalone_mode=False)\n"
        "print(sorted({'torch', 'pandas', 'transformers', 'lm_eval', 'datasets'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    result, heavy = done.stdout.splitlines()
    assert json.loads(result)["n"] == 805
    assert heavy == "[]"


# mt-bench


def grade(question: int, model: str, score: float, turn: int = 1) -> dict[str, Any]:
    return {
        "question_id": question, "model": model, "judge": ["gpt-4", "single-v1"], "judgment": f"[[{score}]]",
        "score": score, "turn": turn,
    }  # fmt: skip


def test_mt_bench_scores_every_model_in_the_file(tmp_path: Path):
    # Question 81 is writing, 111 math.
    rows = [grade(81, "a", 8), grade(111, "a", 4), grade(81, "b", 9), grade(111, "b", 8), grade(81, "b", 5, turn=2),
            grade(81, "a", 6, turn=2)]  # fmt: skip
    path = jsonl(tmp_path / "j.jsonl", *rows)
    found = numbers("mt-bench", "--judgments", path)
    assert list(found["models"]) == ["b", "a"]
    assert (found["models"]["a"]["turn_1"]["value"], found["models"]["a"]["both"]["value"]) == (6.0, 6.0)
    assert (found["models"]["b"]["turn_1"]["value"], found["models"]["b"]["turn_2"]["value"]) == (8.5, 5.0)
    assert found["models"]["a"]["categories"]["math"]["value"] == 4.0
    assert (found["provenance"]["judge"], found["n"], found["missing"]) == ("gpt-4", 6, 0)
    shown = call("mt-bench", "--judgments", path).stdout
    assert "a is graded 6.00 of 10 on turn 1 (2 questions, 95 % CI" in shown
    assert [line.split()[0] for line in shown.splitlines()[:3]] == ["model", "b", "a"]


def test_an_unread_grade_is_missing_and_fails_unless_allowed(tmp_path: Path):
    path = jsonl(tmp_path / "j.jsonl", grade(81, "a", 8), grade(82, "a", -1))
    assert "1 of 2 rows are missing" in str(call("mt-bench", "--judgments", path).exception)
    found = numbers("mt-bench", "--judgments", path, "--allow-missing", 1)
    assert found["models"]["a"]["turn_1"]["value"] == 8.0


def test_models_are_compared_on_equal_questions_with_corrected_p_values(tmp_path: Path):
    rows = [
        grade(q, m, s) for q in range(81, 101) for m, s in (("base", 5), ("up", 7 + q % 2), ("same", 4 + 2 * (q % 2)))
    ]
    found = numbers("mt-bench", "--judgments", jsonl(tmp_path / "j.jsonl", *rows), "--against", "base")["against"]
    up, same = found["differences"]["up"], found["differences"]["same"]
    assert (up["value"], same["value"]) == (2.5, 0.0)
    assert (up["noise"], same["noise"], same["p"]) == (False, True, 1.0)
    assert up["p_holm"] == pytest.approx(2 * up["p"])
    missing = call("mt-bench", "--judgments", tmp_path / "j.jsonl", "--against", "nobody")
    assert "the judgments are of" in str(missing.exception)


# relative


def test_relative_quality_is_a_ratio_of_sums_by_category(tmp_path: Path):
    rows = [
        {"question_id": 1, "score": [8, 4]},
        {"question_id": 2, "score": [10, 8]},
        {"question_id": 61, "text": "9 6\nok"},
    ]
    found = numbers("relative", "--reviews", jsonl(tmp_path / "r.jsonl", *rows), "--judge", "gpt-4")
    # 18 / 27; generic 12 / 18; coding 6 / 9.
    assert found["relative_quality"]["value"] == pytest.approx(66.6667, abs=1e-4)
    assert found["categories"]["coding"]["value"] == pytest.approx(66.6667, abs=1e-4)
    assert (found["n"], found["provenance"]["judge"]) == (3, "gpt-4")


def test_reviews_of_several_models_ask_which(tmp_path: Path):
    rows = [{"question_id": 1, "score": [8, 4], "model": "a"}, {"question_id": 1, "score": [8, 8], "model": "b"}]
    path = jsonl(tmp_path / "r.jsonl", *rows)
    assert "say which with --model" in str(call("relative", "--reviews", path).exception)
    assert numbers("relative", "--reviews", path, "--model", "b")["relative_quality"]["value"] == 100.0


def test_questions_give_categories_and_tell_what_is_missing(tmp_path: Path):
    reviews = jsonl(tmp_path / "r.jsonl", {"question_id": "x", "score": [8, 4]})
    questions = jsonl(tmp_path / "q.jsonl", *({"question_id": q, "category": "odd"} for q in ("x", "y")))
    found = numbers("relative", "--reviews", reviews, "--questions", questions, "--allow-missing", 1)
    assert (found["missing"], list(found["categories"])) == (1, ["odd"])


# following and exact


def test_following_counts_prompts_and_instructions(tmp_path: Path):
    two = {"instruction_id_list": ["punctuation:no_comma", "change_case:english_lowercase"], "kwargs": [{}, {}]}
    prompts = jsonl(tmp_path / "p.jsonl", {"prompt": "one"} | two, {"prompt": "two"} | two)
    responses = jsonl(
        tmp_path / "r.jsonl",
        {"prompt": "one", "response": "this is the answer"},
        {"prompt": "two", "response": "this is, of course, the answer"},
    )
    found = numbers("following", "--prompts", prompts, "--responses", responses, "--require", "prompt_strict == 50")
    assert (found["prompt_strict"]["value"], found["instruction_strict"]["value"]) == (50.0, 75.0)
    assert found["by_instruction"]["punctuation:no_comma"]["value"] == 50.0
    assert found["provenance"]["judge"] is None
    assert "50.0 % of 2 prompts are followed strictly (95 % CI" in found["sentences"][0]


def test_exact_counts_right_wrong_and_unreadable(tmp_path: Path):
    problems = jsonl(
        tmp_path / "p.jsonl", *({"question": q, "answer": f"so\n#### {a}"} for q, a in (("x", 4), ("y", 5), ("z", 6)))
    )
    replies = jsonl(
        tmp_path / "r.jsonl",
        {"question": "x", "response": "The answer is 4."},
        {"question": "y", "response": "The answer is 7."},
        {"question": "z", "response": "I do not know."},
    )
    found = numbers("exact", "--problems", problems, "--replies", replies)
    assert (found["right"], found["wrong"], found["unreadable"], found["n"]) == (1, 1, 1, 3)
    # Wilson for 1 of 3: centre (1/3 + 1.92073/3) / (1 + 3.84146/3) = 0.42692, less and plus 0.36577.
    assert found["accuracy"]["low"] == pytest.approx(6.149, abs=0.01)
    assert found["accuracy"]["high"] == pytest.approx(79.234, abs=0.01)


# choice


def task(value: float, error: float | None = 2.0) -> TaskScore:
    return TaskScore("arc", "acc", 25, Estimate(value, 100), error)


def test_tasks_are_read_with_their_shots():
    assert read_tasks([]) == {"arc_challenge": 25, "hellaswag": 10, "mmlu": 5, "truthfulqa_mc2": 0}
    assert set(read_tasks([], 0).values()) == {0}
    assert read_tasks(["hellaswag", "mine", "mmlu:2"]) == {"hellaswag": 10, "mine": 0, "mmlu": 2}
    with pytest.raises(RecipeError, match="NAME or NAME:shots"):
        read_tasks(["mmlu:many"])
    with pytest.raises(RecipeError, match="with 5 and with 0 shots"):
        read_tasks(["mmlu", "mmlu:0"])


def test_harm_is_counted_and_unknown_harm_does_not_pass_the_gate(tmp_path: Path):
    # Each error is 2, so the change's is 2.83: a drop of 6 is harm.
    harmed = choice_finding([task(44)], [task(50)], tmp_path)
    assert (harmed.numbers["harmed"], harmed.numbers["changes"]["arc"]["harm"]) == (1, True)
    assert "a drop of more than two standard errors" in harmed.sentences[0]
    unknown = choice_finding([task(44, None)], [task(50)], tmp_path)
    assert unknown.numbers["harmed"] is None
    with pytest.raises(GateFailed, match="unknown does not pass"):
        deliver(unknown, Handover(as_json=True, require=["harmed == 0"]))


def test_an_earlier_result_file_can_stand_for_the_model_before(tmp_path: Path):
    out = tmp_path / "before.json"
    deliver(choice_finding([task(50)], None, tmp_path), Handover(as_json=True, out=out))
    assert stored_scores(out) == [task(50)]
    out.write_text('{"win_rate": 3}')
    with pytest.raises(DataError, match="not a result that `tapir evaluate choice --out` wrote"):
        stored_scores(out)


# fit


def test_fit_shows_both_kinds_and_null_for_one_that_was_not_measured():
    direct = score_fit("now", "direct", [Fit("q", "now", 6.0, 4)], [Fit("q", "then", 8.0, 4)])
    source = stamp("fit", 1, 0, ["q"], {})
    found = fit_finding([direct], "then", source)
    assert found.numbers["direct"]["nll_per_token"]["value"] == 1.5
    assert found.numbers["enhanced"] is None
    assert (
        found.sentences[0]
        == "now needs 1.500 nats a token for the teacher's direct answers (1 answers, too few for an interval)"
    )
    assert found.sentences[1].startswith("now has 0.500 fewer nats a token of direct answers than then")


def test_fit_asks_for_what_it_needs():
    assert "give --run, or --instructions" in str(call("fit", "--model", "m").exception)


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed (extra `local`)")
@pytest.mark.filterwarnings("ignore")
def test_fit_measures_a_tiny_student_on_both_kinds_of_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from tiny import build_tiny_model

    from tapir.store.tables import write_rows
    from tapir.types import Answer, Instruction

    model = build_tiny_model(tmp_path / "model")
    asked = [Instruction(f"What is {n} and {n}?") for n in range(3)]
    write_rows(tmp_path / "i.jsonl", Instruction, asked)
    write_rows(tmp_path / "d.jsonl", Answer, [Answer(i.id, "teacher", "The answer.") for i in asked])
    write_rows(tmp_path / "e.jsonl", Answer, [Answer(i.id, "teacher", "A better answer.") for i in asked[:2]])
    words = ("fit", "--model", model, "--instructions", tmp_path / "i.jsonl", "--answers", tmp_path / "d.jsonl",
             "--enhanced", tmp_path / "e.jsonl", "--before", model)  # fmt: skip
    with monkeypatch.context() as nothing_computed:
        nothing_computed.setattr("tapir.models.local_hf.answer_nll", None)
        assert "1 of 6 rows are missing" in str(call(*words).exception)
    found = numbers(*words, "--allow-missing", 1)
    assert (found["direct"]["nll_per_token"]["n"], found["enhanced"]["nll_per_token"]["n"]) == (3, 2)
    assert found["direct"]["nll_per_token"]["value"] > 0
    assert found["direct"]["change"]["value"] == 0
    assert len(found["provenance"]["model_sha256"]) == 64
