"""What `run --dry-run` says of calls, tokens and money, with values worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tapir.config import Recipe, parse_recipe
from tapir.errors import RecipeError
from tapir.planning import cost_lines, describe, pool_size, stage_name

PRICE = {"prompt": 0, "completion": 1000}
"""A dollar for a thousand tokens of a reply."""


@pytest.fixture
def parts(tmp_path: Path) -> dict[str, Any]:
    """One round on ten seeds. 20 direct answers, 10 verdicts, 10 refinements of 256 tokens, 20 enhanced answers."""
    pool = tmp_path / "pool.jsonl"
    pool.write_text("".join(json.dumps({"instruction": f"Why is it {n}?"}) + "\n" for n in range(10)), encoding="utf-8")
    teacher = {"model": "m", "base_url": "http://127.0.0.1:1/v1", "price_per_million": PRICE, "max_answer_tokens": 100}
    return {
        "seeds": {"source": str(pool), "near_duplicates": False},
        "models": {"teacher": teacher, "student": {"kind": "local", "model": "s", "max_answer_tokens": 50}},
        "classify": {"by": "keep"},
        "judge": {"max_pairs": 5, "retries": 0},
        "curriculum": {"rounds": 1},
        "expand": {"per_round": 0},
        "refine": {"easy": True},
    }


def costs(parts: dict[str, Any], **changes: Any) -> list[list[str]]:
    return [line.split() for line in cost_lines(parse_recipe({**parts, **changes}), 10)]


def test_the_bounds_are_summed_up(parts: dict[str, Any]):
    lines = costs(parts)
    assert [(line[0], line[-4], line[-2], line[-1]) for line in lines[1:7]] == [
        ("annotate", "20", "2000", "2.00"),
        ("student's", "10", "500", "-"),
        ("judge", "10", "1000", "1.00"),
        ("refine", "10", "2560", "2.56"),
        ("enhanced", "20", "2000", "2.00"),
        ("total", "70", "8060", "7.56"),
    ]
    assert not [line for line in lines if line[0] == "above"]


def test_a_cap_that_the_bounds_pass_is_named_with_the_step_where_the_run_would_stop(parts: dict[str, Any]):
    stages = {"judge": {"calls": 9}, "refined": {"completion_tokens": 2560}, "enhance": {"usd": 1.5}}
    above = [" ".join(line) for line in costs(parts, budget={"usd": 5, "calls": 69, "per_stage": stages})
             if line[0] == "above"]  # fmt: skip
    assert above == [
        # 2.00 + 1.00 + 2.56 dollars; 20 + 10 + 10 + 10 + 20 calls, the student's among them.
        "above budget.usd 5: at these bounds the run would stop in round_1/02_refined",
        "above budget.calls 69: at these bounds the run would stop in round_1/03_enhanced_answers",
        "above budget.per_stage.judge.calls 9: at these bounds the run would stop in round_0/06_verdicts",
        "above budget.per_stage.enhance.usd 1.5: at these bounds the run would stop in round_1/03_enhanced_answers",
    ]


def test_later_rounds_count_for_what_they_add(parts: dict[str, Any]):
    held_out = [{"kind": "pairwise", "prompts": parts["seeds"]["source"], "against": "teacher"}]
    rounds = {"curriculum": {"rounds": 3}, "expand": {"per_round": 2, "max_tries": 1}, "evaluate": held_out}
    # Each student, student_0 too, gives ten answers, and five of its pairs are judged in both orders: 20 calls.
    above = [line[-1] for line in costs(parts, **rounds, budget={"per_stage": {"evaluate": {"calls": 59}}})
             if line[0] == "above"]  # fmt: skip
    assert above == ["round_2/06_evaluation"]


def bound(parts: dict[str, Any], what: str, **changes: Any) -> list[str]:
    """Calls of the lines that begin so."""
    return [line[-4] for line in costs(parts, **changes) if " ".join(line).startswith(what)]


def test_held_out_instructions_of_several_evaluations_add_up(parts: dict[str, Any], tmp_path: Path):
    files = {"a": (0, 3), "b": (1, 6)}  # 3 and 5 prompts, 2 of them in both.
    for name, (first, end) in files.items():
        rows = (json.dumps({"instruction": f"Why is the sea {n}?"}) + "\n" for n in range(first, end))
        (tmp_path / name).with_suffix(".jsonl").write_text("".join(rows), encoding="utf-8")
    evaluate = [{"kind": kind, "prompts": str(tmp_path / f"{name}.jsonl")} for kind, name in
                (("verified", "a"), ("held_out_fit", "b"))]  # fmt: skip
    assert bound(parts, "held-out answers", evaluate=evaluate) == ["6"]
    assert bound(parts, "student's held-out", evaluate=evaluate) == ["12"]  # Two students.


@pytest.mark.parametrize(
    ("rescore", "answered", "judged"),
    # Two rounds of 3 seeds, or 6 with as many hard ones, are answered and judged, and 3 held-out ones of 3 students.
    [("measure", 6, 15), ("move", 12, 21)],
)
def test_moving_rows_asks_about_hard_seeds_beside_the_sample(
    parts: dict[str, Any], rescore: str, answered: int, judged: int
):
    evaluate = [{"kind": "verified", "prompts": parts["seeds"]["source"]}]
    changes = {"difficulty": {"rescore": rescore, "rescore_sample": 3}, "curriculum": {"rounds": 2}}
    assert bound(parts, "student's, re-scoring", evaluate=evaluate, **changes) == [str(answered)]
    # Each pair in both orders.
    assert bound(parts, "re-scoring", evaluate=evaluate, **changes) == [str(2 * judged)]


def test_a_sample_of_conversations_is_no_number_of_instructions(parts: dict[str, Any]):
    seeds = {"source": "hub:somebody/pool", "revision": "main", "sample": 5}
    assert pool_size(parse_recipe({**parts, "seeds": seeds})) == 5
    each = parse_recipe({**parts, "seeds": seeds | {"turns": "each"}})
    assert pool_size(each) is None
    assert "save the data set as a file" in cost_lines(each, None)[0]


def test_what_the_total_lacks_is_said(parts: dict[str, Any]):
    evaluator = {"model": "big", "base_url": "http://127.0.0.1:1/v1"}
    evaluate = [{"kind": "graded", "prompts": parts["seeds"]["source"]}, {"kind": "exact", "prompts": "gone.jsonl"}]
    said = [" ".join(line) for line in costs(parts, models={**parts["models"], "evaluator": evaluator},
                                             evaluate=evaluate)]  # fmt: skip
    assert any(line.startswith("total, at least") and line.endswith("at least 8.56") for line in said)
    assert "no price is known for models.evaluator; give price_per_million" in said
    assert "not in it: exact, whose prompts are not on this machine" in said


def test_a_run_is_not_to_stop_at_a_stage_that_its_recipe_lacks(parts: dict[str, Any]):
    plain = parse_recipe(parts)
    assert [stage_name(said, plain) for said in ("judge", "mix", "student_1")] == ["verdicts", "mix", "student_1"]
    for said in ("benchmark", "benchmarks", "student_2", "nonsense"):
        with pytest.raises(RecipeError, match=f"--until {said}: this recipe has no such stage; choose among ") as told:
            stage_name(said, plain)
        assert str(told.value).endswith(", evaluation, expanded, refined, enhanced_answers, mix, student_1")
        assert "benchmark" not in str(told.value).split(" among ")[1]
    asks = parse_recipe({**parts, "evaluate": [{"kind": "choice"}]})
    assert stage_name("benchmark", asks) == "benchmarks"


def test_an_endpoint_without_an_address_is_refused_as_the_run_does(parts: dict[str, Any]):
    def recipe(**changes: Any) -> Recipe:
        return parse_recipe({**parts, "models": {**parts["models"], "teacher": {"model": "m"}}, **changes})

    for source in (parts["seeds"], {"source": "hub:somebody/pool", "revision": "main"}):
        with pytest.raises(RecipeError, match=r"models\.teacher: an openai model needs base_url"):
            describe(recipe(seeds=source))
    # An evaluator that no evaluation asks is never opened.
    unasked = {**parts["models"], "evaluator": {"model": "m"}}
    assert describe(parse_recipe({**parts, "models": unasked}))
