"""Evaluation texts are taken out of instructions and answers alike; a person can review the matches and allow some."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tapir.config import Decontaminate, Seeds
from tapir.curriculum.contamination import ContaminationIndex
from tapir.errors import DataError
from tapir.stages.decontaminate import (
    Contaminated,
    allowed,
    without_contaminated_answers,
    without_contamination,
)
from tapir.stages.seeds import evaluation_texts, load_evaluation
from tapir.store.tables import write_rows
from tapir.types import Answer, Instruction, Message, Receipt

ITEM = "A farmer has twelve sheep and buys nine more at the market on Monday; how many sheep are there?"
INDEX = ContaminationIndex([("bench", "7", ITEM)])
CLEAN = Instruction("Name a river that flows through Vienna.")


def found_in(instructions: list[Instruction], answers: dict[str, str] | None = None) -> list[Contaminated]:
    return without_contamination(instructions, answers or {}, INDEX, Receipt("seeds"))[1]


def test_a_match_is_dropped_counted_and_kept_with_both_texts_and_its_span():
    receipt = Receipt("seeds")
    copy = Instruction(f"Solve: {ITEM.upper()}")
    kept, matches = without_contamination([CLEAN, copy], {}, INDEX, receipt)
    assert (kept, receipt.dropped) == ([CLEAN], {"contaminated": 1})
    (match,) = matches
    assert (match.instruction_id, match.part, match.kind) == (copy.id, "instruction", "ngram")
    assert (match.text, match.item_text) == (copy.text, ITEM)
    assert match.text[match.start : match.end] == match.matched_text == ITEM.upper()[:-1]


def test_an_answer_or_an_earlier_turn_that_holds_an_item_is_found():
    assert [m.part for m in found_in([CLEAN], {CLEAN.id: f"The Danube. {ITEM}"})] == ["answer"]
    later = Instruction("And then?", history=(Message("user", ITEM), Message("assistant", "21")))
    assert [m.part for m in found_in([later])] == ["instruction"]


def test_a_system_text_that_holds_an_item_is_found_with_its_own_span():
    (match,) = found_in([Instruction("Go on.", system=f"Known tasks: {ITEM}")])
    assert (match.part, match.text) == ("instruction", f"Known tasks: {ITEM}")
    assert match.text[match.start : match.end] == match.matched_text == ITEM[:-1]


def test_an_item_in_other_words_is_found_after_other_turns_as_it_is_alone():
    reworded = "A farmer had twelve sheep, bought nine more at a market on Monday; how many sheep are there?"
    polite = (Message("user", "Good morning, could you help me?"), Message("assistant", "Of course, just ask me!"))
    for row in (Instruction(reworded), Instruction(reworded, history=polite)):
        (match,) = found_in([row])
        assert (match.kind, match.text) == ("near_duplicate", reworded)


def test_a_turn_of_a_word_or_two_is_an_item_alone_and_nothing_in_a_conversation():
    index = ContaminationIndex([("bench", "1", "Go on.")])
    alone, later = Instruction("Go on."), Instruction("Go on.", history=(Message("user", "Count to ten."),))
    assert without_contamination([alone, later], {}, index, Receipt("seeds"))[0] == [later]


def test_contaminated_answers_are_taken_back_from_the_receipt():
    receipt, matches = Receipt("annotate", rows_in=2, rows_out=2), list[Contaminated]()
    answers = [Answer("a", "teacher", "Vienna."), Answer("b", "teacher", ITEM)]
    kept = list(without_contaminated_answers(answers, INDEX, matches, receipt))
    receipt.check()
    assert ([a.instruction_id for a in kept], receipt.dropped) == (["a"], {"contaminated": 1})
    assert [m.instruction_id for m in matches] == ["b"]


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_a_reviewed_table_allows_the_marked_match_and_no_other(tmp_path: Path, ending: str):
    one, two = Instruction(ITEM), Instruction(f"Again: {ITEM}")
    first, second = found_in([one, two])
    reviewed = tmp_path / f"reviewed{ending}"
    write_rows(reviewed, Contaminated, [replace(first, allow=True), second])
    index = ContaminationIndex([("bench", "7", ITEM)], allow=allowed([str(reviewed)]))
    assert without_contamination([one, two], {}, index, Receipt("seeds"))[0] == [one]


def test_a_reviewed_table_may_come_back_from_a_spreadsheet(tmp_path: Path):
    path = tmp_path / "reviewed.csv"
    path.write_text("instruction_id,evaluation_set,item_id,allow\na,bench,7,TRUE\nb,bench,7,\n", encoding="utf-8")
    assert allowed(["some-id", str(path)]) == ["some-id", "a bench/7"]


def test_a_table_that_is_no_review_is_refused(tmp_path: Path):
    path = tmp_path / "reviewed.jsonl"
    path.write_text('{"allow": true}\n', encoding="utf-8")
    with pytest.raises(DataError, match="no instruction_id; start from the table"):
        allowed([str(path)])


def test_evaluation_files_give_their_instructions_and_their_long_answers(tmp_path: Path):
    path = tmp_path / "held_out.jsonl"
    long = "one two three four five six seven eight nine ten eleven twelve thirteen"
    path.write_text(f'{{"prompt": "Count.", "answer": "{long}"}}\n{{"prompt": "Stop.", "answer": "Yes."}}\n')
    texts = [text for _, _, text in evaluation_texts([str(path)], Decontaminate())]
    assert texts == ["Count.", "Stop.", long]


def test_every_turn_of_an_evaluation_conversation_is_kept_out_but_no_short_one_that_follows(tmp_path: Path):
    said = ["Hi!", "Hello.", ITEM, "Twenty-one.", "Now say it in French.", "Vingt et un.", f"And again: {ITEM}"]
    history = [{"role": role, "content": text} for role, text in zip(("user", "assistant") * 3, said, strict=False)]
    path = tmp_path / "held_out.jsonl"
    rows = [{"messages": [*history[:5]]}, {"messages": [*history, {"role": "user", "content": said[6]}]}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    short, long = (i.id for i in load_evaluation(Seeds(source=str(path)), seed=0).instructions)
    opener, follow_up = "Hi!", "Now say it in French."
    items = evaluation_texts([str(path)], Decontaminate())
    assert [(item, text) for _, item, text in items] == [
        (f"{short}:turn1", opener), (f"{short}:turn2", ITEM), (f"{short}:turn3", follow_up),
        (f"{long}:turn1", opener), (f"{long}:turn2", ITEM), (f"{long}:turn3", follow_up), (f"{long}:turn4", said[6]),
    ]  # fmt: skip
    question, innocent = Instruction(ITEM), Instruction("Translate 'dog'. Now say it in French.")
    index = ContaminationIndex(items[:3])
    assert not without_contamination([Instruction(follow_up)], {}, index, Receipt("seeds"))[0]
    assert without_contamination([question, innocent], {}, index, Receipt("seeds"))[0] == [innocent]
