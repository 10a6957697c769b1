"""The trust report on a small made-up run, and on pairs with human labels judged by a scripted judge."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tapir.cli.judge import judge, print_trust
from tapir.errors import DataError
from tapir.report import verdicts
from tapir.report.facts import Facts
from tapir.report.judge import run_trust, trust_json, trust_lines
from tapir.report.text import judge_lines
from tapir.stages.rescore import Rescored
from tapir.store.rundir import RunDir, write_json
from tapir.store.tables import write_rows
from tapir.types import Answer, Instruction, Receipt, Verdict

ASKED = [Instruction(f"Why {n}?") for n in range(4)]


def both(instruction: Instruction, student: float, other: float, name: str, judge: str = "judge") -> list[Verdict]:
    orders = ("student_first", "teacher_first")
    return [Verdict(instruction.id, order, student, other, student=name, judge=judge) for order in orders]  # type: ignore[arg-type]


def write(run: RunDir, name: str, row_type: type, rows: list) -> None:  # type: ignore[type-arg]
    write_rows(run.root / name, row_type, rows)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDir:
    monkeypatch.chdir(tmp_path)
    made = RunDir(tmp_path / "run")
    scripted = {"kind": "scripted", "script": "builtin"}
    recipe = {"models": {"teacher": scripted, "student": {"kind": "local", "model": "nowhere"}}}
    made.root.mkdir()
    made.recipe_path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    write_json(made.manifest_path, {})
    write(made, "round_0/02_classified.parquet", Instruction, ASKED)
    for place, text in (("03_teacher_answers", "a long answer"), ("05_student_answers", "short")):
        write(made, f"round_0/{place}.parquet", Answer, [Answer(i.id, "x", text) for i in ASKED])
    first = [v for i in ASKED for v in both(i, 4, 7, "student_0")]
    first[1] = Verdict(ASKED[0].id, "teacher_first", 6, 5)
    write(made, "round_0/06_verdicts.parquet", Verdict, first)
    made.step("round_0/06_verdicts", "first").finish(Receipt("verdicts"))
    for place in ("round_0/09", "round_1/06"):
        write(made, f"{place}_evaluation.answers.parquet", Answer, [Answer(i.id, "x", "text") for i in ASKED])
    later = [v for n, i in enumerate(ASKED) for v in both(i, 6 + n / 2, 5, "student_1", "evaluator")]
    write(made, "round_1/06_evaluation.verdicts.parquet", Verdict, later)
    null = [v for n, i in enumerate(ASKED[:2]) for v in both(i, 8 + n, 5, "canary_constant", "evaluator")]
    write(made, "round_1/06_evaluation.canaries.parquet", Verdict, null)
    looked = [Rescored(i.id, "student_1", 1, "trained", 0.0, "mfd", True, False, True) for i in ASKED]
    write(made, "round_1/06_evaluation.rescored.parquet", Rescored, looked)
    return made


def test_each_judge_and_student_has_a_section(run: RunDir):
    found = run_trust(run)
    assert [(s.judge, s.student, s.against, s.trust.pairs) for s in found.sections] == [
        ("judge", "student_0", "teacher", 4),
        ("evaluator", "student_1", "student_0", 4),
    ]
    assert found.sections[0].trust.order_inconsistent == 0.25
    assert found.sections[0].trust.length.longer_wins == 1


def test_a_judge_that_likes_a_canary_is_said_not_to_be_trusted(run: RunDir):
    lines = list(trust_lines(run_trust(run)))
    assert any(line.startswith("the judge can't be trusted here") and "constant" in line for line in lines)
    assert (
        "student_1 on 4 trained rows (mfd): at zero 100 % (51 to 100), hard 0 % (0 to 49), mean +0.00 (+0.00 to +0.00)"
        in lines
    )


def test_canaries_of_one_prompt_give_no_verdict(run: RunDir):
    null = both(ASKED[0], 8, 5, "canary_constant", "evaluator")
    write(run, "round_1/06_evaluation.canaries.parquet", Verdict, null)
    lines = list(trust_lines(run_trust(run)))
    assert not any("can't be trusted" in line for line in lines)
    assert any(line.startswith("whether they (constant) reach student_1 can't be told") for line in lines)


def test_a_slip_in_one_of_many_votes_is_no_changed_verdict(run: RunDir):
    votes = [Verdict(i.id, "student_first", 4, 7, vote=vote) for i in ASKED for vote in range(3)]
    votes += [Verdict(i.id, "teacher_first", 4, 7, vote=vote) for i in ASKED for vote in range(2)]
    votes += [Verdict(i.id, "teacher_first", 6, 5, vote=2) for i in ASKED]
    write(run, "round_0/06_verdicts.parquet", Verdict, votes)
    assert run_trust(run).sections[0].trust.order_inconsistent == 0
    # Four pairs of the selection, four of the evaluation.
    assert judge_lines(run)[1] == "the judge changed its verdict with the order in 0 of 8 judged pairs (0 %)"


def test_the_json_form_holds_the_same(run: RunDir):
    found = json.loads(json.dumps(trust_json(run_trust(run))))
    assert found["canaries"]["student_1"]["reaching"] == ["canary_constant"]
    assert (found["second_judge"], found["gold"]) == (None, None)
    assert found["sections"][0]["trust"]["order_inconsistent_interval"][0] < 0.25
    assert found["rescored"][0]["zero"] == 1


def test_a_second_judge_shows_self_preference(run: RunDir, capsys: pytest.CaptureFixture[str]):
    judge(run.root, by="evaluator", sample=3, trust=False)
    capsys.readouterr()
    print_trust(run.root, None, as_json=True, trust=False)
    found = json.loads(capsys.readouterr().out)["second_judge"]
    # The scripted judge scores both of these short answers 2, so the MFD of 3 is the first judge's own.
    assert found["self_preference"]["value"] in (3, pytest.approx((3 + 3 + 1) / 3))


@pytest.mark.parametrize("how", ["replaced", "no stamp"])
def test_a_second_judge_of_earlier_answers_is_left_out_and_said_to_be(run: RunDir, how: str):
    judge(run.root, by="evaluator", sample=3, trust=False)
    assert run_trust(run).second is not None
    if how == "replaced":
        run.step("round_0/06_verdicts", "of another student").finish(Receipt("verdicts"))
    else:
        (run.root / "trust/second_judge.json").unlink()
    found = run_trust(run)
    line = "a second judge's verdicts are left out, as they may be on earlier answers: `tapir judge RUN` asks it again"
    assert (found.second, found.outdated) == (None, [line])
    assert line in trust_lines(found)
    assert line[1:] in page_text(run)
    judge(run.root, by="evaluator", sample=3, trust=False)
    assert run_trust(run).second is not None
    assert run_trust(run).outdated == []


def test_nothing_is_asked_of_a_second_judge_before_the_first_has_finished(run: RunDir):
    run.step("round_0/06_verdicts", "").receipt_path.unlink()
    with pytest.raises(DataError, match="has not finished; `tapir run` goes on with it"):
        judge(run.root, by="evaluator", sample=3, trust=False)


@pytest.mark.parametrize("how", ["another judge", "other verdicts", "no stamp"])
def test_agreement_of_an_earlier_judge_is_left_out_and_said_to_be(run: RunDir, how: str):
    gold = run.root / "gold.jsonl"
    gold.write_text('{"instruction": "Why?", "answer_1": "word word", "answer_2": "word", "label": 1}\n')
    print_trust(run.root, gold, as_json=False, trust=False)
    assert run_trust(run).gold is not None
    if how == "another judge":
        recipe = yaml.safe_load(run.recipe_path.read_text())
        recipe["models"]["judge"] = {"base_url": "http://127.0.0.1:9/v1", "model": "another"}
        run.recipe_path.write_text(yaml.safe_dump(recipe))
    elif how == "other verdicts":
        run.step("round_0/06_verdicts", "of another template").finish(Receipt("verdicts"))
    else:
        path = run.root / "trust/gold.json"
        plain = json.loads(path.read_text())
        del plain["made_with"]
        write_json(path, plain)
    found = run_trust(run)
    assert found.gold is None
    assert found.outdated[0].endswith(
        "as it may be an earlier judge's: `tapir report RUN --gold FILE` measures it again"
    )
    assert found.outdated[0][1:] in page_text(run)
    assert "gold labels" not in "".join(trust_lines(found))


def page_text(run: RunDir) -> str:
    return "".join(text for part in verdicts.judge(Facts(run)) for text in part.itertext())


def test_gold_pairs_are_judged_once_and_come_from_the_ledger_then(run: RunDir, capsys: pytest.CaptureFixture[str]):
    long, short = "word " * 20, "word"
    rows = [{"instruction": "Why?", "answer_1": long, "answer_2": short, "label": 1},
            {"instruction": "How?", "answer_1": short, "answer_2": long, "label": 2},
            {"instruction": "Who?", "answer_1": short, "answer_2": long, "label": 1}]  # fmt: skip
    gold = run.root / "gold.jsonl"
    gold.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    print_trust(run.root, gold, as_json=True, trust=False)
    said = capsys.readouterr()
    assert "6 calls, 0 from the ledger" in said.err
    found = json.loads(said.out)["gold"]
    assert (found["pairs"], found["accuracy"]["value"], found["same_after_swap"]["value"]) == (
        3,
        pytest.approx(2 / 3),
        1,
    )
    assert found["accuracy"]["interval"] is not None
    print_trust(run.root, gold, as_json=False, trust=False)
    said = capsys.readouterr()
    assert "0 calls, 6 from the ledger" in said.err
    assert "gold labels: 3 pairs read, 0 unscored" in said.out
    # Without the file the last agreement is still told, and the page has it too.
    print_trust(run.root, None, as_json=False, trust=False)
    assert "gold labels: 3 pairs read, 0 unscored" in capsys.readouterr().out
    assert "Agreement with human labels on 3 pairs" in page_text(run)


def test_a_run_without_judged_pairs_has_nothing_for_a_second_judge(run: RunDir):
    write(run, "round_0/06_verdicts.parquet", Verdict, [])
    with pytest.raises(DataError, match="has scored no pair"):
        judge(run.root, by="evaluator", sample=3, trust=False)
