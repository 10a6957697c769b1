"""A whole run that uses what recipes may ask of the data: a taxonomy of one's own, decontamination by a benchmark's
name, grown rows judged with the current student, enhanced answers kept only where they are better."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from whole_run import prepare, tables

from tapir import pipeline
from tapir.curriculum.difficulty import difficulties
from tapir.store.rundir import RunDir
from tapir.store.tables import read_rows
from tapir.types import Answer, Difficulty, Dropped, Example, Instruction, Verdict

pytestmark = pytest.mark.xdist_group("data options")

TYPES = {"Math": "numbers", "Writing": "words", "Chores": "words", "Others": "other"}
TAXONOMY = [
    {"name": name, "family": family, "definition": f"About {name}.", "examples": ["One.", "Two."], "style": "Short."}
    for name, family in TYPES.items()
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe with all of it, and a copy of one seed in the user's own copy of a benchmark."""
    folder = tmp_path_factory.mktemp("options")
    (folder / "tasks.yaml").write_text(yaml.safe_dump(TAXONOMY), encoding="utf-8")
    seed = "Why do people knock before they enter a bedroom whose door is closed? Answer in one or two sentences."
    (folder / "gsm8k.jsonl").write_text(json.dumps({"question": seed.upper()}) + "\n", encoding="utf-8")
    prepare(
        folder,
        seeds={"source": "builtin", "sample": 48},
        taxonomy=str(folder / "tasks.yaml"),
        student_0="as_is",
        judge={"max_pairs": 24},
        difficulty={"delta": 3},
        # More hard rows than there are, most of the type with most seeds: each round grows as many as it may.
        curriculum={"rounds": 2, "alpha_start": 0.8, "alpha_step": 0.1},
        mix={"size": 1000, "targets": {"Others": 0.85}},
        expand={"per_round": 4, "per_seed": 4, "max_tries": 30, "check_difficulty": True},
        refine={"keep_better": True},
        evaluate=[],
        decontaminate={"against": ["gsm8k", "mmlu"], "waive": ["mmlu"], "folder": str(folder)},
        ledger={"path": str(folder / "calls.sqlite")},
    )
    return folder


@pytest.fixture(scope="module")
def run(folder: Path) -> RunDir:
    return pipeline.run(folder / "recipe.yaml", folder / "run")


def rows(run: RunDir, place: str, row_type: type, name: str | None = None) -> list:
    return list(read_rows(run.step(place, "").table(name), row_type))


def notes(run: RunDir, place: str) -> dict:
    return run.receipts()[place]["notes"]


def test_every_row_has_a_type_of_the_users_taxonomy(run: RunDir):
    pool = rows(run, "round_0/02_classified", Instruction)
    trained = rows(run, "round_2/04_mix", Example)
    assert {i.task for i in pool} | {e.task for e in trained} <= TYPES.keys()
    # Types that the scripted teacher names and the list does not have become Others.
    assert notes(run, "round_0/02_classified")["unknown_label"] > 0


def test_a_seed_that_a_benchmark_holds_is_gone_and_kept_for_review(run: RunDir):
    receipt = run.receipts()["round_0/01_seeds"]
    (match,) = (row for row in tables(run.root)["round_0/01_seeds.contaminated.parquet"])
    assert receipt["dropped"]["contaminated"] == 1
    assert (match["evaluation_set"], match["part"], match["allow"]) == ("gsm8k", "instruction", False)
    assert match["instruction_id"] not in {i.id for i in rows(run, "round_0/02_classified", Instruction)}
    (told,) = (d for d in rows(run, "round_0/01_seeds", Dropped, "dropped") if d.reason == "contaminated")
    assert (told.instruction_id, told.repeats) == (match["instruction_id"], f"gsm8k/{match['item_id']}")
    assert told.text == match["text"]
    assert told.where.partition(":")[2].isdigit()


@pytest.mark.parametrize("number", [1, 2])
def test_grown_rows_not_above_delta_are_easy_and_are_not_refined(run: RunDir, number: int):
    place = f"round_{number}/01_expanded"
    measured = rows(run, place, Difficulty, "difficulty")
    easy = {d.instruction_id for d in rows(run, place, Difficulty, "easy")}
    grown = {i.id for i in rows(run, place, Instruction)}
    # The student of that moment is asked: student_0 in round 1, student_1 in round 2.
    assert {d.student for d in measured} == {f"student_{number - 1}"}
    assert {d.instruction_id for d in measured} == grown
    assert easy == {d.instruction_id for d in measured if d.value <= notes(run, place)["difficulty"]["delta"]}
    refined = {row["instruction_id"] for row in tables(run.root)[f"round_{number}/02_refined.parquet"]}
    assert refined & grown == grown - easy


def test_easy_grown_rows_are_never_drawn_as_hard(run: RunDir):
    easy = {d.instruction_id for r in (1, 2) for d in rows(run, f"round_{r}/01_expanded", Difficulty, "easy")}
    hard = {e.instruction_id for r in (1, 2) for e in rows(run, f"round_{r}/04_mix", Example) if e.hard}
    assert easy
    assert not hard & easy


def test_an_enhanced_answer_is_trained_on_only_where_the_judge_prefers_it(run: RunDir):
    place = "round_1/03_enhanced_answers"
    direct_ahead = {d.instruction_id: d.value for d in difficulties(rows(run, place, Verdict, "verdicts"))}
    answers = rows(run, place, Answer)
    assert direct_ahead
    assert all(direct_ahead[a.instruction_id] < 0 for a in answers if a.prompt == "refined")
    counts = notes(run, place)["enhanced_against_direct"]
    assert counts.get("better", 0) == sum(a.prompt == "refined" for a in answers)


def test_two_fresh_runs_give_identical_tables(run: RunDir, folder: Path, tmp_path: Path):
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8"))
    recipe["ledger"] = {"path": str(tmp_path / "calls.sqlite")}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    again = pipeline.run(tmp_path / "recipe.yaml", tmp_path / "run")
    assert tables(again.root) == tables(run.root)
