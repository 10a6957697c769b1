"""`tapir data …`, `tapir decontaminate` and `tapir mix --plan` on small files, as a user calls them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tapir.cli import app
from tapir.errors import DataError, RecipeError
from tapir.stages.rescore import Rescored
from tapir.store.rundir import RunDir, write_text
from tapir.store.tables import read_plain
from tapir.types import Answer, Difficulty, Instruction, Receipt

ITEM = "A farmer has twelve sheep and buys nine more at the market on Monday; how many sheep are there?"


def write(path: Path, *rows: object) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def call(*words: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.stdout


def fails(error: type[Exception], match: str, *words: object) -> None:
    with pytest.raises(error, match=match):
        call(*words)


@pytest.fixture
def pool(tmp_path: Path) -> str:
    return write(
        tmp_path / "pool.jsonl",
        {"instruction": "Name the longest river of France.", "output": "The Loire.", "task": "Geography"},
        {"instruction": "Name the longest river of France.", "output": "The Loire."},
        {"instruction": "Name the longest river of Spain.", "output": "The Tagus."},
        {"instruction": " "},
        "broken",
        {"instruction": f"solve this — {ITEM.lower()}", "output": "Twenty-one.", "task": "Math"},
    )


def test_check_tells_what_a_run_would_drop_and_why(pool: str):
    found = json.loads(call("data", "check", pool, "--json"))
    assert (found["form"], found["rows"], found["instructions"], found["answers"]) == ("alpaca", 6, 2, 2)
    assert found["dropped"] == {"empty": 1, "exact_duplicate": 1, "near_duplicate": 1, "not_an_object": 1}
    assert found["tasks"] == {"Geography": 1, "Math": 1}
    # Six words, and two more than the nineteen of the item.
    assert (found["instruction_words"]["shortest"], found["instruction_words"]["longest"]) == (6, 21)
    ((text, other, score),) = found["near_duplicates"]
    assert (text[-6:], other[-7:], round(score, 3)) == ("Spain.", "France.", 0.833)


def test_check_shows_rows_that_are_not_utf8(tmp_path: Path):
    path = tmp_path / "pool.csv"
    path.write_text("instruction,output\nName a café.,x\nName a river.,The Elbe.\n", encoding="latin-1")
    said = call("data", "check", path)
    assert "dropped             not_utf8 1" in said
    assert "pool.csv:2: not_utf8" in said


def test_a_form_that_is_none_is_refused_in_one_line(pool: str, tmp_path: Path):
    said = r"pool\.jsonl: seeds\.format: Input should be 'auto', 'alpaca', 'messages', 'sharegpt' or 'columns'$"
    fails(RecipeError, said, "data", "check", pool, "--format", "column")
    fails(RecipeError, said, "decontaminate", pool, "--against", pool, "--format", "column")


def test_columns_are_named_as_a_recipe_does(tmp_path: Path):
    pool, recipe = tmp_path / "pool.csv", tmp_path / "recipe.yaml"
    pool.write_text(f"q,a\n{ITEM},21\nName a river.,The Elbe.\n", encoding="utf-8")
    held_out = write(tmp_path / "held_out.jsonl", {"prompt": ITEM})
    models = "{teacher: {kind: scripted}, student: {kind: local, model: x}}"
    seeds = "{source: other.csv, sample: 1, columns: {instruction: q, answer: a}}"
    recipe.write_text(f"models: {models}\nseeds: {seeds}\n", encoding="utf-8")
    by_hand = ("--set", "seeds.columns.instruction=q", "--set", "seeds.columns.answer=a")
    for named in (by_hand, ("--recipe", recipe)):
        found = json.loads(call("data", "check", pool, "--json", *named))
        assert (found["form"], found["rows"], found["instructions"], found["answers"]) == ("columns", 2, 2, 2)
        assert "1 of 2 rows" in call("decontaminate", pool, "--against", held_out, *named, code=1)
    fails(DataError, r"--set seeds\.columns\.instruction=NAME", "data", "check", pool)


def test_a_column_that_is_not_there_is_named_beside_those_that_are(tmp_path: Path):
    pool = tmp_path / "pool.csv"
    pool.write_text("q,a\nName a river.,The Elbe.\n", encoding="utf-8")
    for form in ((), ("--format", "columns")):
        wrong = ("data", "check", pool, *form, "--set", "seeds.columns.instruction=quest")
        fails(DataError, r"pool\.csv: no column `quest`; it has q, a; set seeds\.columns\.instruction to fit", *wrong)
    unnamed = ("data", "check", pool, "--format", "columns")
    fails(
        DataError, "no column `instruction` or `prompt` or `question` or `text`; it has q, a; set seeds.col", *unnamed
    )
    fails(DataError, "no column `messages`; it has q, a; set seeds.format", *unnamed[:3], "--format", "messages")
    unknown = ("data", "check", pool, "--set", "seeds.columns.prompt=q")
    fails(RecipeError, r"seeds\.columns\.prompt.*Input should be 'instruction', 'input', 'system', 'answer'", *unknown)


def test_decontamination_says_which_rows_of_the_pool_it_could_not_look_at(tmp_path: Path):
    pool = tmp_path / "pool.jsonl"
    pool.write_text('{"instruction": "Name a café."}\n{"instruction": "Name a river."}\n', encoding="latin-1")
    held_out = write(tmp_path / "held_out.jsonl", {"prompt": ITEM})
    assert "not looked at, as a run would drop them: not_utf8 1" in call("decontaminate", pool, "--against", held_out)
    assert json.loads(call("decontaminate", pool, "--against", held_out, "--json"))["dropped"] == {"not_utf8": 1}


@pytest.mark.parametrize("text", [b"caf\xe9", rb"half \ud800 a character"])
def test_an_evaluation_text_that_is_not_utf8_is_refused(pool: str, tmp_path: Path, text: bytes):
    held_out = tmp_path / "held_out.jsonl"
    held_out.write_bytes(b'{"prompt": "' + text + b'"}\n{"prompt": "Count to ten."}\n')
    fails(DataError, r"held_out\.jsonl:1 \(not_utf8\)", "decontaminate", pool, "--against", held_out)


def test_check_prints_no_control_characters(tmp_path: Path):
    path = write(tmp_path / "pool.jsonl", {"instruction": "Say \x1b[31mred twice."}, {"instruction": "Say red twice."})
    assert "\x1b" not in call("data", "check", path)


@pytest.mark.parametrize("command", [("decontaminate",), ("data", "decontaminate")])
def test_both_names_find_the_same_and_end_with_1(pool: str, tmp_path: Path, command: tuple[str, ...]):
    held_out = write(tmp_path / "held_out.jsonl", {"prompt": ITEM})
    out = call(*command, pool, "--against", held_out, "-o", tmp_path / "matches.jsonl", code=1)
    (match,) = read_plain(tmp_path / "matches.jsonl")
    assert "1 of 3 rows repeat one of 1 evaluation texts" in out
    assert match["text"][match["start"] : match["end"]] == match["matched_text"] == ITEM.lower()[:-1]
    assert match["item_text"] == ITEM


def test_an_evaluation_file_with_a_byte_order_mark_is_searched_for_from_its_first_row(pool: str, tmp_path: Path):
    (tmp_path / "held_out.jsonl").write_text(json.dumps({"prompt": ITEM}) + '\n{"prompt": "Stop."}\n', "utf-8-sig")
    out = call("decontaminate", pool, "--against", tmp_path / "held_out.jsonl", code=1)
    assert "1 of 3 rows repeat one of 2 evaluation texts" in out


@pytest.mark.parametrize(
    ("bad", "reason"),
    [('{"prompt": ', "broken_json"), ('"a text"', "not_an_object"), ('{"prompt": 7}', "not_a_string")],
)
def test_an_evaluation_row_that_cannot_be_read_is_refused_with_its_place(
    pool: str, tmp_path: Path, bad: str, reason: str
):
    held_out = tmp_path / "held_out.jsonl"
    held_out.write_text(f'{{"prompt": "Count to ten."}}\n\n{bad}\n{bad}\n', encoding="utf-8")
    said = rf"held_out\.jsonl:3 \({reason}\), and 1 more; mend or remove it"
    fails(DataError, said, "decontaminate", pool, "--against", held_out)


def test_an_evaluation_text_of_any_length_is_searched_for(pool: str, tmp_path: Path):
    held_out = write(tmp_path / "held_out.jsonl", {"prompt": f"{ITEM} {'Think. ' * 4_000}"})
    assert "1 of 3 rows" in call("decontaminate", pool, "--against", held_out, code=1)


def test_a_reviewed_match_is_let_pass(pool: str, tmp_path: Path):
    held_out = write(tmp_path / "held_out.jsonl", {"prompt": ITEM})
    reviewed = tmp_path / "matches.jsonl"
    call("decontaminate", pool, "--against", held_out, "-o", reviewed, code=1)
    write(reviewed, *({**row, "allow": True} for row in list(read_plain(reviewed))))
    assert "0 of 3 rows" in call("decontaminate", pool, "--against", held_out, "--allow", reviewed)


def test_a_benchmark_is_named_and_a_missing_one_waived(pool: str, tmp_path: Path):
    write(tmp_path / "gsm8k.jsonl", {"question": ITEM})
    named = ("decontaminate", pool, "--folder", tmp_path, "--against", "gsm8k", "--against", "mmlu", "--waive", "mmlu")
    assert "gsm8k/0:question" in call(*named, code=1)
    assert "gsm8k" in call("data", "benchmarks")


def test_a_plan_of_a_labelled_pool_says_what_is_drawn_left_and_grown(tmp_path: Path):
    rows = [{"instruction": f"Question {n}", "task": "Math" if n < 30 else "Reasoning"} for n in range(40)]
    plan = json.loads(call("mix", "--plan", write(tmp_path / "p.jsonl", *rows), "--size", 12, "--json"))
    by_task = {row["task"]: row for row in plan["tasks"]}
    # A sixth of 12 each; the missing types' 8 rows are shared by both: 6 and 6.
    assert {t: by_task[t]["draw"] for t in ("Math", "Reasoning", "Law")} == {"Math": 6, "Reasoning": 6, "Law": 0}
    assert (by_task["Math"]["undrawn"], by_task["Reasoning"]["undrawn"]) == (24, 4)
    assert by_task["Code Debug"]["grow"] == 1
    (tmp_path / "p.jsonl").write_text((tmp_path / "p.jsonl").read_text() + "{broken\n")
    assert json.loads(call("mix", "--plan", tmp_path / "p.jsonl", "--json"))["dropped"] == {"broken_json": 1}
    assert "dropped broken_json 1" in call("mix", "--plan", tmp_path / "p.jsonl")


def test_a_plan_takes_columns_and_targets_as_a_recipe_names_them(tmp_path: Path):
    (tmp_path / "pool.csv").write_text("q,topic\n" + "".join(f"Question {n},Math\n" for n in range(9)), "utf-8")
    named = ("--set", "seeds.columns.instruction=q", "--set", "seeds.columns.task=topic", "--set", "mix.targets.Math=1")
    plan = json.loads(call("mix", "--plan", tmp_path / "pool.csv", "--size", 6, "--json", *named))
    (math,) = (row for row in plan["tasks"] if row["task"] == "Math")
    assert (math["target %"], math["draw"]) == (100, 6)


def test_a_pool_without_labels_and_a_plan_without_the_word_are_refused(pool: str, tmp_path: Path):
    bare = write(tmp_path / "bare.jsonl", {"instruction": "Name a river."})
    fails(DataError, "stage classify", "mix", "--plan", bare)
    fails(RecipeError, "add --plan", "mix", pool)


def test_a_plan_of_a_run_reads_its_tables(tmp_path: Path):
    run = RunDir(tmp_path / "run")
    models = "{teacher: {kind: scripted}, student: {kind: local, model: x}}"
    write_text(run.recipe_path, f"models: {models}\nmix: {{size: 10}}\nexpand: {{per_round: 2}}\n")
    write_text(run.manifest_path, "{}")
    fails(DataError, "--until select", "mix", "--plan", run.root)
    rows = [Instruction(f"Question {n}", task="Math") for n in range(12)]
    for place, kind, table in (
        ("round_0/02_classified", Instruction, rows),
        ("round_0/03_teacher_answers", Answer, [Answer(i.id, "teacher", "So.") for i in rows]),
        ("round_0/07_hard", Difficulty, [Difficulty(rows[0].id, 3.0)]),
    ):
        step = run.step(place, "x")
        step.write(kind, table)
        step.finish(Receipt(step.stage))
    plan = json.loads(call("mix", "--plan", run.root, "--json"))
    (math,) = (row for row in plan["tasks"] if row["task"] == "Math")
    # Three of ten are hard; one is there, two may be grown.
    assert (plan["alpha"], plan["rows"]) == (0.3, 10)
    assert (math["hard"], math["grow"], math["draw hard"], math["draw easy"]) == (1, 2, 3, 7)


def test_a_plan_of_a_run_takes_mastered_seeds_for_easy_as_its_rounds_do(tmp_path: Path):
    run = RunDir(tmp_path / "run")
    models = "{teacher: {kind: scripted}, student: {kind: local, model: x}}"
    rows = [Instruction(f"Question {n}", task="Math") for n in range(12)]
    run.step("round_0/02_classified", "x").write(Instruction, rows)
    run.step("round_0/03_teacher_answers", "x").write(Answer, [Answer(i.id, "teacher", "So.") for i in rows])
    run.step("round_0/07_hard", "x").write(Difficulty, [Difficulty(i.id, 3.0) for i in rows[:4]])
    # Round 0 looks again too, but moves nothing; round 2 is over when round 2 is planned again.
    for number, asked in ((0, rows[0]), (1, rows[1]), (2, rows[2])):
        seen = Rescored(asked.id, f"student_{number}", number, "trained", 0.0, "mfd", True, False, True)
        run.step(f"round_{number}/{'06' if number else '09'}_evaluation", "x").write(Rescored, [seen], "rescored")
    write_text(run.manifest_path, "{}")
    for rescore, hard in (("move", [4, 3, 2]), ("measure", [4, 4, 4])):
        write_text(run.recipe_path, f"models: {models}\nmix: {{size: 10}}\ndifficulty: {{rescore: {rescore}}}\n")
        plans = [json.loads(call("mix", "--plan", run.root, "--round", n, "--json"))["tasks"] for n in (1, 2, 3)]
        assert [row["hard"] for plan in plans for row in plan if row["task"] == "Math"] == hard
        assert [row["easy"] for plan in plans for row in plan if row["task"] == "Math"] == [12 - n for n in hard]
