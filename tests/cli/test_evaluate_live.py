"""`tapir evaluate …` live: a scripted model answers, a scripted judge judges, the ledger keeps every call."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_endpoint import fake, serving
from typer.testing import CliRunner, Result

from tapir.cli.evaluate import app
from tapir.errors import BudgetReached, DataError, RecipeError
from tapir.models.ledger import Ledger
from tapir.models.scripted import load_rules

WORDS = ("apples", "boats", "clouds", "drums", "engines", "forests")
GRADE = "Below is a conversation"
JUDGE = [
    # Grades and scores by the number of words, so that they can be worked out by hand.
    {"pattern": rf"\A{GRADE}.*<answer_2>\nlong", "reply": "Fine. Rating: [[6]]"},
    {"pattern": rf"\A{GRADE}.*<answer_1>\nlong", "reply": "Fine. Rating: [[8]]"},
    {"pattern": rf"\A{GRADE}.*<answer_1>\nshort", "reply": "Thin. Rating: [[5]]"},
    {"pattern": rf"\A{GRADE}", "reply": "I cannot say."},
    {"pattern": r"\ACompare.*<answer_1>\nlong.*<answer_2>\nshort",
     "reply": "So.\nScore of the Assistant 1: 8\nScore of the Assistant 2: 4"},
    {"pattern": r"\ACompare.*<answer_1>\nshort.*<answer_2>\nlong",
     "reply": "So.\nScore of the Assistant 1: 4\nScore of the Assistant 2: 8"},
    {"pattern": r"\ABelow are.*<answer_1>\nlong", "reply": "m", "probabilities": {"m": 0.9, "M": 0.1}},
    {"pattern": r"\ABelow are.*<answer_2>\nlong", "reply": "M", "probabilities": {"m": 0.1, "M": 0.9}},
    {"pattern": r"\AWhat of", "reply": "long and thorough"},
    {"pattern": r"\AAnd", "reply": "long again"},
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with prompts, a short reference answer to each, and a recipe of scripted models."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    prompts = [{"instruction": f"What of {w}?", "output": "short", "generator": "ref"} for w in WORDS]
    Path("prompts.json").write_text(json.dumps(prompts), encoding="utf-8")
    jsonl("short.jsonl", *({"instruction": f"What of {w}?", "output": "short"} for w in WORDS))
    jsonl("long.jsonl", *({"instruction": f"What of {w}?", "output": "long one"} for w in WORDS))
    Path("rules.yaml").write_text(yaml.safe_dump(JUDGE), encoding="utf-8")
    recipe = {"models": {"teacher": {"kind": "scripted", "script": "rules.yaml"}, "student": {"kind": "local"}}}
    Path("recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return tmp_path


def jsonl(path: str, *rows: dict[str, Any]) -> None:
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def call(*words: object) -> Result:
    return CliRunner().invoke(app, [*(str(w) for w in words)])


def live(*words: object) -> dict[str, Any]:
    result = call(*words, "--recipe", "recipe.yaml", "--json")
    assert result.exit_code == 0, result.exception
    return json.loads(result.stdout) | {"told": result.stderr}


PROMPTS = ("--prompts", "prompts.json")


def test_alpaca_is_judged_live_by_the_public_rule(folder: Path):
    found = live("alpaca", "--model", "teacher", *PROMPTS, "--write", "rows.json")
    # P(the long one is better) = 0.9 in whichever place it stands.
    assert found["win_rate"]["value"] == pytest.approx(90.0)
    assert (found["model"], found["reference"], found["wins"], found["n"]) == ("teacher", "ref", 6, 6)
    assert "not comparable with the AlpacaEval leaderboard" in found["note"]
    source = found["provenance"]
    assert source["judge"].startswith("scripted rules.yaml")
    assert source["models"] == {"teacher": source["judge"]}
    assert source["sampling"]["teacher"] == {"temperature": 0.5, "top_p": 1.0, "max_tokens": 1024}
    assert source["sampling"]["judge"] == {"temperature": 1.0, "top_p": 1.0, "max_tokens": 1, "repeats": 1}
    assert len(source["prompt_sha256"]) == 64
    stored = json.loads(call("alpaca", "--annotations", "rows.json", "--json").stdout)
    assert stored["win_rate"] == found["win_rate"]


def test_a_second_evaluation_pays_for_nothing(folder: Path):
    words = ("alpaca", "--model", "teacher", *PROMPTS)
    assert live(*words)["told"].strip() == "12 calls, 0 from the ledger"
    assert live(*words)["told"].strip() == "0 calls, 12 from the ledger"


def test_a_budget_stops_an_evaluation_and_what_was_done_is_kept(folder: Path):
    words = ("alpaca", "--model", "teacher", *PROMPTS, "--recipe", "recipe.yaml")
    assert isinstance(call(*words, "--set", "budget.calls=6").exception, BudgetReached)
    assert live("alpaca", "--model", "teacher", *PROMPTS)["told"].strip() == "6 calls, 6 from the ledger"


def test_a_judges_prompt_of_ones_own_is_used_and_named(folder: Path):
    Path("mine.txt").write_text("Below are {instruction}\n<answer_1>\n{output_1}\n<answer_2>\n{output_2}", "utf-8")
    found = live("alpaca", "--model", "long.jsonl", *PROMPTS, "--judge-prompt", "mine.txt")
    assert "a prompt file of yours" in found["note"]
    assert found["provenance"]["models"]["long"].startswith("file ")


def test_pairwise_says_who_beats_whom_with_holm_over_several(folder: Path):
    found = live("pairwise", "--model", "long.jsonl", "--model", "teacher", "--against", "short.jsonl", *PROMPTS)
    long, teacher = found["models"]["long"], found["models"]["teacher"]
    assert (long["win_rate"]["value"], long["against"], long["order_decided"]) == (100.0, "short", 0)
    # Wilson for 6 of 6: 1 / (1 + 3.84146 / 6).
    assert long["win_rate"]["low"] == pytest.approx(60.97, abs=0.01)
    assert teacher["edge"]["p_holm"] == pytest.approx(2 * teacher["edge"]["p"])
    assert found["sentences"][0].startswith("long beats short on 100.0 % of 6 prompts (95 % CI 61.0 to 100.0, p ")


def test_repeats_of_the_judge_are_made_warm_and_shown(folder: Path):
    found = live("pairwise", "--model", "long.jsonl", *PROMPTS, "--repeats", 3)
    assert found["repeats"] == {"n": 3, "values": [100.0, 100.0, 100.0], "standard_deviation": 0.0}
    sampling = found["provenance"]["sampling"]["judge"]
    assert (sampling["temperature"], sampling["repeats"]) == (0.7, 3)
    assert found["told"].strip() == "36 calls, 0 from the ledger"


def test_graded_compares_models_on_equal_prompts(folder: Path):
    words = ("graded", "--model", "long.jsonl", "--model", "short.jsonl", "--against", "short", *PROMPTS)
    found = live(*words, "--require", "models.long.turn_1 >= 8")
    assert {name: m["turn_1"]["value"] for name, m in found["models"].items()} == {"long": 8.0, "short": 5.0}
    assert found["against"]["differences"]["long"]["value"] == 3.0
    assert found["sentences"][0].startswith("long is graded 8.00 of 10 (6 questions, 95 % CI ")


def test_the_model_to_compare_with_may_be_named_as_it_was_given(folder: Path):
    words = ("graded", "--model", "long.jsonl", "--model", "./short.jsonl", *PROMPTS)
    found = live(*words, "--against", "short.jsonl")
    assert found["against"]["model"] == "short"
    assert found["against"]["differences"]["long"]["value"] == 3.0


MT_BENCH = ("mt-bench", "--model", "teacher", "--questions", "q.jsonl")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("graded", "--model", "teacher", "--against", "taecher", *PROMPTS),
            "--against taecher: none of the models is",
        ),
        ((*MT_BENCH, "--against", "taecher"), "--against taecher: none of the models is called so; name teacher"),
        (("pairwise", "--model", "teacher", "--against", "./sohrt", *PROMPTS), "./sohrt: not a folder of weights"),
        (("pairwise", "--model", "teacher", "--judge", "./jugde", *PROMPTS), "./jugde: not a folder of weights"),
        (("pairwise", "--model", "teacher", "--model", "./taecher", *PROMPTS), "./taecher: not a folder of weights"),
        (("pairwise", "--model", "teacher", "--prompts", "bare.json"), "say whom to compare with"),
        (("relative", "--model", "teacher", "--reference", "./sohrt", *PROMPTS), "./sohrt: not a folder of weights"),
        (("alpaca", "--model", "teacher", "--reference", "./sohrt", *PROMPTS), "./sohrt: not a folder of weights"),
        (("alpaca", "--model", "teacher", "--against", "gone.json", *PROMPTS), "gone.json: there is no such file"),
    ],
)
def test_a_mistyped_name_costs_no_call(folder: Path, words: tuple[str, ...], said: str):
    Path("bare.json").write_text(json.dumps([{"instruction": "What of apples?"}]), encoding="utf-8")
    jsonl("q.jsonl", {"question_id": 111, "category": "math", "turns": ["What of it?"]})
    failed = call(*words, "--recipe", "recipe.yaml")
    assert said in str(failed.exception)
    with Ledger(".tapir/ledger.sqlite") as ledger:
        assert ledger.stats() == []


def test_relative_quality_by_our_own_judging(folder: Path):
    found = live("relative", "--model", "short.jsonl", "--reference", "long.jsonl", *PROMPTS, "--write", "r.jsonl")
    assert (found["relative_quality"]["value"], found["n"]) == (50.0, 6)
    assert json.loads(Path("r.jsonl").read_text().splitlines()[0])["score"] == [8.0, 4.0]
    stored = json.loads(call("relative", "--reviews", "r.jsonl", "--json").stdout)
    assert stored["relative_quality"]["value"] == 50.0


def test_mt_bench_is_answered_and_graded_turn_by_turn(folder: Path):
    jsonl("q.jsonl", *({"question_id": q, "category": "math", "turns": [f"What of {q}?", "And?"]} for q in (111, 112)))
    words = ("mt-bench", "--model", "teacher", "--questions", "q.jsonl", "--temperatures", "category")
    found = live(*words, "--turns", 2, "--write", "j.jsonl")["models"]["teacher"]
    assert (found["turn_1"]["value"], found["turn_2"]["value"], found["both"]["value"]) == (8.0, 6.0, 7.0)
    rows = [json.loads(line) for line in Path("j.jsonl").read_text().splitlines()]
    assert [(r["question_id"], r["turn"], r["score"]) for r in rows[:2]] == [(111, 1, 8.0), (111, 2, 6.0)]
    one = live(*words)
    assert (one["models"]["teacher"]["turn_2"], one["n"]) == (None, 2)
    assert one["provenance"]["sampling"]["teacher"]["temperature"] == "category"


def test_what_could_not_be_judged_or_answered_fails_unless_allowed(folder: Path):
    jsonl("odd.jsonl", {"instruction": "What of apples?", "output": "odd"},
          {"instruction": "What of boats?", "output": "long"})  # fmt: skip
    words = ("graded", "--model", "odd.jsonl", *PROMPTS, "--recipe", "recipe.yaml")
    failed = call(*words)
    assert isinstance(failed.exception, DataError)
    # One grade that could not be read, four prompts without an answer.
    assert "5 of 6 rows are missing" in str(failed.exception)
    assert json.loads(call(*words, "--json", "--allow-missing", 5).stdout)["models"]["odd"]["turn_1"]["value"] == 8.0


def test_rules_check_live_replies_without_a_judge(folder: Path):
    jsonl("f.jsonl", {"prompt": "What of apples?", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]})
    jsonl("e.jsonl", {"question": "What of boats?", "answer": "#### 4"})
    assert live("following", "--prompts", "f.jsonl", "--model", "teacher")["prompt_strict"]["value"] == 100.0
    found = live("exact", "--problems", "e.jsonl", "--model", "teacher", "--write", "said.jsonl")
    assert (found["unreadable"], found["provenance"]["judge"]) == (1, None)
    assert json.loads(Path("said.jsonl").read_text()) == {"question": "What of boats?", "response": "long and thorough"}


def test_endpoints_are_named_by_url_and_a_key_is_confirmed_once(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("EVALUATION_KEY", "sk-secret")
    with serving(fake(rules=load_rules("rules.yaml"))) as url:
        words = ("graded", "--model", f"{url}#fake", "--judge", f"{url}#judge", "--limit", 2, *PROMPTS,
                 "--judge-key-env", "EVALUATION_KEY")  # fmt: skip
        refused = call(*words)
        assert isinstance(refused.exception, RecipeError)
        assert "this evaluation would send $EVALUATION_KEY to 127.0.0.1" in str(refused.exception)
        found = call(*words, "--trust", "--json")
    assert found.exit_code == 0, found.exception
    result = json.loads(found.stdout)
    assert (result["n"], list(result["models"])) == (2, ["fake"])
    assert "sk-secret" not in found.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("pairwise", "--model", "long.jsonl", *PROMPTS), "say who judges"),
        (("pairwise", "--model", "long.jsonl", "--judge", "teacher", *PROMPTS), "is a role; say of which recipe"),
        (("graded", "--model", "http://127.0.0.1:1/v1", *PROMPTS), "URL#MODEL"),
        (("graded", "--model", "teacher", "--recipe", "recipe.yaml"), "say which prompts"),
        (("graded", "--model", "teacher", "--model", "teacher", "--recipe", "recipe.yaml"), "given twice"),
        (("alpaca",), "give --annotations"),
        (("mt-bench",), "give --judgments"),
        (("relative",), "give --reviews"),
        (("exact", "--problems", "prompts.json"), "stored replies"),
        (("mt-bench", "--model", "teacher", "--recipe", "recipe.yaml"), "which questions"),
    ],
)
def test_what_is_not_said_is_asked_for(folder: Path, words: tuple[str, ...], said: str):
    assert said in str(call(*words).exception)
