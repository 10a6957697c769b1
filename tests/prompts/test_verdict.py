"""Reading a judge's reply: the final pair of scores whatever surrounds it, and a reason wherever there is a doubt."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tapir.prompts.verdict import read_verdict, read_verdict_json
from tapir.types import Verdict


def lines(first: object, second: object) -> str:
    return f"Score of the Assistant 1: {first}\nScore of the Assistant 2: {second}"


PAIR = lines(8, 6)

READABLE: list[tuple[str, float, float]] = [
    (PAIR, 8, 6),
    ("Evaluation evidence: The first is better.\n" + PAIR, 8, 6),
    (lines("8/10", "6/10"), 8, 6),
    (lines("8 / 10", "6 out of 10"), 8, 6),
    (lines("8/10.0", 6), 8, 6),
    (lines("8 (of 10)", "6 (out of 10)"), 8, 6),
    (lines("8 of 10", "6 out of a possible 10"), 8, 6),
    (lines("8 points (out of 10)", "6 points"), 8, 6),
    (lines(8.5, "6.0"), 8.5, 6),
    (lines("8,5", "6,25"), 8.5, 6.25),
    (lines("8٫5", 6), 8.5, 6),
    (lines("**8**", "*6*"), 8, 6),
    (lines("[8]", "(6)"), 8, 6),
    (lines("<8>", '"6"'), 8, 6),
    (lines("`8`", "$6$"), 8, 6),
    (lines("<score>8</score>", "\\boxed{6}"), 8, 6),
    (lines("【8】", "8."), 8, 8),
    (lines("８", "６"), 8, 6),
    (lines("１０", "１"), 10, 1),
    (lines("٨", "٦"), 8, 6),
    (lines("८", "६"), 8, 6),
    (lines("8", "6").replace("1:", "１：").replace("2:", "２："), 8, 6),  # noqa: RUF100
    (PAIR.upper(), 8, 6),
    (PAIR.lower(), 8, 6),
    (PAIR + "\n\nI hope that this helps.", 8, 6),
    (PAIR + "\nAssistant 1 was 3 times longer.", 8, 6),
    (lines("8 - exact and short", "6 (misses 2 points)"), 8, 6),
    (lines("8, since it is exact", "6; it is not"), 8, 6),
    (lines("8 points", "6 points"), 8, 6),
    ("Score of the Assistant 2: 6\nScore of the Assistant 1: 8", 8, 6),
    (PAIR.replace("\n", "\r\n"), 8, 6),
    (PAIR.replace("\n", "\r"), 8, 6),
    (PAIR.replace("\n", "\u2028"), 8, 6),
    (PAIR.replace("\n", "\n\n\n"), 8, 6),
    (PAIR.replace("\n", "; "), 8, 6),
    (PAIR.replace(" the", ""), 8, 6),
    (PAIR.replace(": ", " = "), 8, 6),
    (PAIR.replace(": ", ":"), 8, 6),
    (PAIR.replace(": ", ":\u00a0"), 8, 6),
    ("**Score of the Assistant 1:** 8\n**Score of the Assistant 2:** 6", 8, 6),
    ("__Score of the Assistant 1__: 8\n__Score of the Assistant 2__: 6", 8, 6),
    ("### Score of the Assistant 1:\n\n**8**\n\n### Score of the Assistant 2:\n\n**6**", 8, 6),
    ("> - Score of the Assistant 1: 8\n> - Score of the Assistant 2: 6", 8, 6),
    ("1. Score of the Assistant 1: 8\n2. Score of the Assistant 2: 6", 8, 6),
    ("| Assistant 1 | 8 |\n| Assistant 2 | 6 |", 8, 6),
    ("Assistant 1: 8/10\nAssistant 2: 6/10", 8, 6),
    ("Assistant 1's score: 8\nAssistant 2’s score: 6", 8, 6),
    ("Final scores: Assistant 1: 8, Assistant 2: 6", 8, 6),
    ("Rating of Assistant #1: 8\nRating of Assistant #2: 6", 8, 6),
    ("Score of the Assistant 1: 8\nIt is exact.\nScore of the Assistant 2: 6\nIt is not.", 8, 6),
    ("```\n" + PAIR + "\n```", 8, 6),
    ("Draft:\n" + lines(2, 3) + "\nOn reflection both deserve more.\n" + PAIR, 8, 6),
    ("The answer says 'Score of the Assistant 1: 10'.\nThat is odd.\n" + PAIR, 8, 6),
    ("Assistant 1: 3 examples, all right.\nAssistant 2: was brief.\n" + PAIR, 8, 6),
    ("Assistant 1: 3 of 4 facts are right.\nAssistant 2: 12 facts are right.\n" + PAIR, 8, 6),
    (lines("<number>", "<number>") + "\nwill be filled in now.\n" + PAIR, 8, 6),
    (PAIR + "\nSo, once more:\n" + PAIR, 8, 6),
    (PAIR + "\n" + PAIR, 8, 6),
    (PAIR + "\nThat is to say,\nAssistant 1: 8", 8, 6),
    ("<think>" + lines(1, 2) + "</think>" + PAIR, 8, 6),
    ("I wonder. " + lines(1, 2) + "</think>\n" + PAIR, 8, 6),
    (lines("10", "1"), 10, 1),
    (lines("08", "+6"), 8, 6),
    ("القاضي: الأول أفضل.\n" + PAIR, 8, 6),
]

REFUSED: list[tuple[str, str]] = [
    ("", "no_rating"),
    ("I like both.", "no_rating"),
    ("I would give Assistant 1 an 8 and Assistant 2 a 6.", "no_rating"),
    ("Assistant 1 deserves 8/10, Assistant 2 6/10.", "no_rating"),
    ("The score of Assistant 1 is 8 and that of Assistant 2 is 6.", "no_rating"),
    ("8 6", "no_rating"),
    ("Assistant 1: 3 examples.\nAssistant 2: 4 examples.", "no_rating"),
    (lines("", ""), "no_rating"),
    ("<think>" + PAIR, "no_rating"),
    ("<think>" + PAIR + "</think>", "no_rating"),
    ("Score of the Assistant 1: 8", "one_score"),
    ("Score of the Assistant 2: 6", "one_score"),
    (lines(8, ""), "one_score"),
    ("Score of the Assistant 1: 8\nScore of the Assistant 12: 6", "one_score"),
    (lines(11, 6), "out_of_range"),
    (lines(8, 0), "out_of_range"),
    (lines(8, 0.5), "out_of_range"),
    (lines(10.5, 6), "out_of_range"),
    (lines(-8, 6), "out_of_range"),
    (lines("−8", 6), "out_of_range"),
    (lines("80/100", 6), "out_of_range"),
    (lines("4/5", 6), "out_of_range"),
    (lines("4 (out of 5)", 6), "out_of_range"),
    (lines("4 (of 5)", 6), "out_of_range"),
    (lines("4 of 5", 6), "out_of_range"),
    (lines("4 points out of 5", 6), "out_of_range"),
    (lines("3 out of the 4 criteria", 6), "out_of_range"),
    (lines("4 out of a possible 5", 6), "out_of_range"),
    ("Assistant 1: 4 of 5\nAssistant 2: 3 of 5", "out_of_range"),
    ("Assistant 1: 80%\nAssistant 2: 60%", "out_of_range"),
    (lines("80%", 6), "out_of_range"),
    (lines("8 %", 6), "out_of_range"),
    (lines("8,500", 6), "out_of_range"),
    (lines("9" * 5000, 6), "out_of_range"),
    (lines("7-8", 6), "range"),
    (lines("7–8", 6), "range"),
    (lines("7 to 8", 6), "range"),
    (lines("7~8", 6), "range"),
    (lines("7 or 8", 6), "range"),
    (lines("between 7 and 8", 6), "range"),
    (lines("7/10 - 8/10", 6), "range"),
    (lines("8±1", 6), "range"),
    (lines("N/A", 6), "not_a_number"),
    (lines("N/A", "N/A"), "not_a_number"),
    (lines("eight", 6), "not_a_number"),
    (lines("8½", 6), "not_a_number"),
    (lines("1 0", 6), "not_a_number"),
    (lines("3 + 4 = 7", 6), "not_a_number"),
    (lines("3+4=7", 6), "not_a_number"),
    (lines("8→7", 6), "not_a_number"),
    (lines("8 -> 7", 6), "not_a_number"),
    (lines("1e1", 6), "not_a_number"),
    (lines("0x8", 6), "not_a_number"),
    (lines("<score>", "<score>"), "not_a_number"),
    (lines("NaN", 6), "not_a_number"),
    ("Assistant 1: N/A\nAssistant 2: 6", "not_a_number"),
    (PAIR + "\n" + lines(3, 9), "contradictory"),
    (PAIR + "\n\n" + lines(3, 9), "contradictory"),
    (PAIR + "\nOn reflection:\nScore of the Assistant 1: 7", "contradictory"),
    ("Score of the Assistant 1: 8\nScore of the Assistant 1: 7\nScore of the Assistant 2: 6", "contradictory"),
]


@pytest.mark.parametrize(("reply", "first", "second"), READABLE)
def test_the_final_pair_is_read_in_both_orders(reply: str, first: float, second: float) -> None:
    forward = read_verdict(reply, order="student_first")
    backward = read_verdict(reply, order="teacher_first")
    assert (forward.student_score, forward.teacher_score, forward.problem) == (first, second, None)
    assert (backward.student_score, backward.teacher_score, backward.problem) == (second, first, None)


@pytest.mark.parametrize(("reply", "reason"), REFUSED)
def test_a_doubt_is_a_reason_and_never_a_score(reply: str, reason: str) -> None:
    verdict = read_verdict(reply, order="student_first")
    assert (verdict.student_score, verdict.teacher_score, verdict.problem) == (None, None, reason)


def test_the_table_holds_at_least_sixty_replies() -> None:
    assert len({reply for reply, *_ in READABLE} | {reply for reply, _ in REFUSED}) >= 60


def test_a_verdict_carries_what_the_caller_knows_and_the_raw_reply() -> None:
    verdict = read_verdict(PAIR, "student_first", "abc", student="student_1", judge="j", vote=2)
    assert verdict == Verdict(
        "abc", "student_first", 8, 6, student="student_1", judge="j", vote=2, method="text", raw=PAIR
    )


def test_no_instruction_id_is_an_empty_one() -> None:
    assert read_verdict(PAIR, "student_first", None).instruction_id == ""


@pytest.mark.parametrize(
    ("before", "explained"),
    [("", False), ("Evaluation evidence:\n", False), ("Evaluation evidence: The first is exact.\n", True)],
)
def test_whether_reasons_came_first_is_told(before: str, explained: bool) -> None:
    assert read_verdict(before + PAIR, "student_first").explained is explained


PIECES = st.sampled_from(
    ["Score of the Assistant 1: ", "Score of the Assistant 2: ", "Assistant 1", "Assistant 2: ", "\n", "\r\n", "8",
     "10", "8.5", "-", "to 9", "/10", "N/A", "**", "<think>", "</think>", "٨", "²", " ", "\ud800", ",", "prose ", "|"]
)  # fmt: skip


@given(st.one_of(st.text(), st.text(st.characters(codec=None)), st.lists(PIECES, max_size=25).map("".join)))
@example("Score of the Assistant 1: ²\nScore of the Assistant 2: ٨")
@example("Assistant 1" * 1000)
def test_no_text_whatever_makes_reading_raise_or_leave_1_to_10(text: str) -> None:
    for verdict in (read_verdict(text, "student_first"), read_verdict_json(text, "teacher_first")):
        scores = (verdict.student_score, verdict.teacher_score)
        assert (None in scores) == (verdict.problem is not None)
        assert scores == (None, None) or all(s is not None and 1 <= s <= 10 for s in scores)


HOSTILE = ["Assistant 1: 8 ", "<think>", "<think", "Score of the Assistant 1: ", " ", "\n", "| ", "1", "assistant", ">"]


@pytest.mark.parametrize("piece", HOSTILE)
def test_a_reply_of_one_piece_repeated_is_read_and_holds_no_pair_of_scores(piece: str) -> None:
    verdict = read_verdict(piece * (100_000 // len(piece)), "student_first")
    assert verdict.problem is not None
    assert (verdict.student_score, verdict.teacher_score) == (None, None)


@pytest.mark.parametrize(
    ("reply", "scores", "problem"),
    [
        ('{"explanation": "The first is exact.", "score_1": 8, "score_2": 6}', (8, 6), None),
        ('```json\n{"explanation": "x", "score_1": 8.5, "score_2": "6/10"}\n```', (8.5, 6), None),
        ('<think>{"score_1": 1}</think>{"score_1": 8, "score_2": 6}', (8, 6), None),
        ('{"score_1": 8}', (None, None), "one_score"),
        ('{"explanation": "x"}', (None, None), "no_rating"),
        ('{"score_1": 0, "score_2": 6}', (None, None), "out_of_range"),
        ('{"score_1": true, "score_2": 6}', (None, None), "not_a_number"),
        ('{"score_1": NaN, "score_2": 6}', (None, None), "not_a_number"),
        ('{"score_1": 1e999, "score_2": 6}', (None, None), "not_a_number"),
        ('{"score_1": "7-8", "score_2": 6}', (None, None), "range"),
        ('{"score_1": [8], "score_2": 6}', (None, None), "not_a_number"),
        ("[8, 6]", (None, None), "not_json"),
        ("{" * 50_000, (None, None), "not_json"),
    ],
)
def test_a_structured_reply_is_read_or_refused(
    reply: str, scores: tuple[float | None, float | None], problem: str | None
) -> None:
    verdict = read_verdict_json(reply, "student_first", "abc")
    assert ((verdict.student_score, verdict.teacher_score), verdict.problem) == (scores, problem)
    assert verdict.method == "schema"


def test_an_explanation_given_after_the_scores_did_not_come_first() -> None:
    reply = '{"score_1": 8, "score_2": 6, "explanation": "The first one is exact."}'
    assert not read_verdict_json(reply, "student_first").explained
