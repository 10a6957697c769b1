from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from fake_endpoint import ask
from whole_run import prepare, recipe

from tapir.models.calls import Reply
from tapir.models.ledger import Entry, Ledger
from tapir.store.rundir import RunDir
from tapir.trial import NOTHING, Reckoned, forecast, lines
from tapir.wiring import load_recipe

PLACES = {"round_0/03_teacher_answers": 20.0, "round_0/06_verdicts": 10.0, "round_0/08_held_out": 5.0,
          "round_1/02_refined": 4.0, "round_1/07_benchmarks": 2.0}  # fmt: skip
TOKENS = {"round_0/03_teacher_answers": [10, 20, 30, 40], "round_0/06_verdicts": [8, 8], "round_0/08_held_out": [7],
          "round_1/02_refined": [6, 6], "round_1/07_benchmarks": [3]}  # fmt: skip


@pytest.fixture
def trial(tmp_path: Path):
    """A trial on 4 seeds: its receipts, the calls it used, and the ledger that holds them."""
    run, used = RunDir(tmp_path / "run"), []
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        for place, seconds in PLACES.items():
            path = run.root / f"{place}.receipt.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"fingerprint": "", "stage": place, "seconds": seconds}), encoding="utf-8")
            for number, tokens in enumerate(TOKENS[place]):
                request = ask(f"{place} {number}")
                reply = Reply("x", prompt_tokens=100, completion_tokens=tokens, cost_usd=tokens / 100)
                ledger.put([Entry(request.address("m"), "m", request, reply)])
                used.append(f"{place} {request.address('m')}")
        run.calls_path.write_text("\n".join(used) + "\n", encoding="utf-8")
        yield run, ledger


def stages(trial, tmp_path: Path, *sets: str, seeds: int = 40):
    recipe = load_recipe(prepare(tmp_path / "files"), list(sets))
    return {s.place: s for s in forecast(*trial, recipe, seeds=seeds, tried=4)}


def test_what_grows_with_the_pool_is_multiplied_and_what_does_not_stays(trial, tmp_path: Path):
    found = stages(trial, tmp_path, "judge.max_pairs=8")
    answers = found["round_0/03_teacher_answers"]
    assert (answers.calls, answers.completion_tokens.value, answers.usd.value) == (40, 1000, pytest.approx(10.0))
    assert found["round_0/08_held_out"].usd == Reckoned(0.07, 0.07, 0.07)
    assert found["round_0/08_held_out"].seconds == Reckoned(5.0, 5.0, 5.0)
    assert found["round_1/07_benchmarks"].usd == Reckoned(0.03, 0.03, 0.03)
    assert found["round_1/07_benchmarks"].seconds == Reckoned(2.0, 2.0, 2.0)
    # 4 of the trial's pairs against at most 8 of the whole run's.
    assert found["round_0/06_verdicts"].calls == 4
    assert found["round_0/06_verdicts"].seconds.value == pytest.approx(20.0)


@pytest.mark.parametrize(("student_0", "seconds"), [("as_is", 6.0), ("train", 60.0)])
def test_a_student_that_is_taken_as_it_is_does_not_grow_with_the_pool(trial, tmp_path: Path, student_0, seconds):
    receipt = {"fingerprint": "", "stage": "student_0", "seconds": 6.0}
    (trial[0].root / "round_0/04_student_0.receipt.json").write_text(json.dumps(receipt), encoding="utf-8")
    found = stages(trial, tmp_path, f"student_0={student_0}")
    assert found["round_0/04_student_0"].seconds.value == pytest.approx(seconds)


def test_rounds_that_an_earlier_recipe_left_in_the_folder_are_not_reckoned(trial, tmp_path: Path):
    receipt = {"fingerprint": "", "stage": "student_2", "seconds": 6.0}
    (trial[0].root / "round_2").mkdir()
    (trial[0].root / "round_2/05_student_2.receipt.json").write_text(json.dumps(receipt), encoding="utf-8")
    assert "round_2/05_student_2" in stages(trial, tmp_path)
    plain = recipe(tmp_path, curriculum={"rounds": 1})
    trial[0].recipe_path.write_text(yaml.safe_dump(plain), encoding="utf-8")
    assert set(stages(trial, tmp_path)) == set(PLACES)


ROUNDS = {
    "round_1/01_expanded": {"rows_out": 3},
    # 3 grown rows and 9 seeds; of the next round's all are grown.
    "round_1/02_refined": {"rows_in": 12},
    "round_1/03_enhanced_answers": {"rows_in": 12},
    "round_1/04_mix": {"rows_out": 5},
    "round_1/05_student_1": {},
    "round_2/01_expanded": {"rows_out": 12},
    "round_2/02_refined": {"rows_in": 12},
}


@pytest.mark.parametrize(
    ("sets", "factors"),
    [
        # 12 / 3 for what is grown, 1/4 * 4 + 3/4 * 10 for what is refined, 20 / 5 for what is trained; 12 / 12.
        (["expand.per_round=12", "mix.size=20"], [4, 8.5, 8.5, 4, 4, 1, 1]),
        # Nothing is more than the pool is.
        (["expand.per_round=1000", "mix.size=2000"], [10] * 7),
        (["expand.per_round=0", "mix.size=null"], [0, 7.5, 7.5, 10, 10, 0, 0]),
    ],
)
def test_growth_and_training_multiply_up_to_what_the_recipe_allows(trial, tmp_path: Path, sets, factors):
    for place, rows in ROUNDS.items():
        path = trial[0].root / f"{place}.receipt.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"fingerprint": "", "stage": place, "seconds": 1.0, **rows}), encoding="utf-8")
    found = stages(trial, tmp_path, *sets)
    assert [found[place].seconds.value for place in ROUNDS] == pytest.approx(factors)


def test_the_interval_holds_the_draws_to_come_and_the_doubt_about_their_mean(trial, tmp_path: Path):
    tokens = stages(trial, tmp_path)["round_0/03_teacher_answers"].completion_tokens
    # The variance of 10, 20, 30, 40 is 500/3; 40 draws, known from 4: half-width 1.96 * sqrt(500/3 * 40 * 11).
    assert tokens.high - tokens.value == pytest.approx(530.8, abs=0.1)
    assert tokens.low == pytest.approx(469.2, abs=0.1)


def test_in_the_rounds_it_is_chance_how_many_seeds_need_a_call(trial, tmp_path: Path):
    tokens = stages(trial, tmp_path)["round_1/02_refined"].completion_tokens
    # Every call has 6 tokens; only their number is uncertain: half-width 1.96 * sqrt(36 * 20 * 11).
    assert tokens.high - tokens.value == pytest.approx(174.4, abs=0.1)


def test_half_widths_of_independent_parts_add_in_squares():
    total = NOTHING + Reckoned(10, 7, 13) + Reckoned(20, 16, 24)
    assert total == Reckoned(30, 25, 35)


def test_a_person_reads_cost_and_time_with_their_intervals(trial, tmp_path: Path):
    recipe = load_recipe(prepare(tmp_path / "files"))
    said = "\n".join(lines(forecast(*trial, recipe, seeds=40, tried=4), seeds=40, tried=4))
    assert "all 40 seeds, reckoned from this trial on 4" in said
    # 10.00 for answers, 0.48 for verdicts (12 of them at most), 0.07 held out, 1.20 for refinements, 0.03 benchmarks.
    assert "cost: 11.78 USD (" in said
    assert "minutes (" in said
