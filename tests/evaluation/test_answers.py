"""Exact answers of the GSM8K kind."""

import json

import pytest

from tapir.errors import DataError
from tapir.evaluation.answers import Problem, judge_reply, read_problems, read_replies, score_answers


@pytest.mark.parametrize(
    ("answer", "reply", "outcome"),
    [
        ("18", "She makes 9 * 2 = $18 every day.\n#### 18", "right"),
        ("18", "The answer is $18.00.", "right"),
        ("1,234", "That makes 1234 apples.", "right"),
        ("18", "16 - 3 = 13", "wrong"),
        ("18", "I do not know.", "unreadable"),
        ("Paris", "The answer is **Paris**.", "right"),
        ("Paris", "It might be London.", "wrong"),
        ("Paris", " ", "unreadable"),
        ("10:30", "It ends at 9:30.", "wrong"),
        ("10:30", "The answer is 10:30.", "right"),
        ("2x + 3", "7y + 3", "wrong"),
        ("2x + 3", "The result is 2x + 3.", "right"),
        ("2023-01-03", "2024-05-03", "wrong"),
        ("x^2", "y^2", "wrong"),
        ("2xy", "2ab", "wrong"),
        ("(7, 2)", "(1, 2)", "wrong"),
        ("(7, 2)", "The answer is (7, 2).", "right"),
        (r"\sqrt{2}", "2", "wrong"),
        ("World War 2", "The answer is World War 2.", "right"),
        ("World War 2", "2", "wrong"),
        (r"3\pi", r"The answer is $3\pi$.", "right"),
        (r"3\pi", "3", "wrong"),
        ("2x+3", r"So \boxed{2x + 3}.", "right"),
        (r"\frac{\pi}{2}", r"Thus it is \(\boxed{\frac{\pi}{2}}\), as was asked.", "right"),
        (r"\frac{\pi}{2}", r"Thus it is \(\boxed{\frac{\pi}{3}}\), as was asked.", "wrong"),
        ("Paris", "It was there.\n#### Paris", "right"),
        ("x = 5", "Hence x = 5.", "right"),
        ("x = 5", "Hence x = 6.", "wrong"),
        ("9 am", "9 pm", "wrong"),
        ("0", "The answer is 5 - 5 = 0.", "right"),
        ("5", "The answer is 5 - 5 = 0.", "wrong"),
    ],
)
def test_a_reply_is_right_wrong_or_unreadable(answer, reply, outcome):
    assert judge_reply(answer, reply) == outcome


@pytest.mark.parametrize(
    ("answer", "reply"),
    [
        ("$1,234.50", "1234.5"),
        ("−7", "It is -7."),
        (r"\frac{3}{4}", "0.75"),
        ("25 %", "25"),
        (r"25\%", "25"),
        ("**18**.", "18"),
        (".5", "1/2"),
        ("5kg", "5 kilograms"),
        ("60 miles per hour", "60"),
        ("12 cm^2", "12"),
        ("18 €", "€18"),
        ("€ 5", "The answer is €5."),
        (r"90^\circ", r"The answer is $\boxed{90^\circ}$."),
        (r"5\text{ cm}", "The answer is 5 cm."),
        (r"\boxed{5}", r"So \boxed{5}."),
    ],
)
def test_an_answer_with_sign_currency_or_unit_is_a_number(answer, reply):
    assert judge_reply(answer, reply) == "right"


def test_unreadable_replies_are_wrong_and_missing_ones_are_not():
    problems = [Problem(q, "1") for q in "abcd"]
    score = score_answers(problems, {"a": "1", "b": "2", "c": "none"})
    assert score.accuracy.value == pytest.approx(100 / 3)
    assert (score.right, score.wrong, score.unreadable, score.missing) == (1, 1, 1, 1)


def test_files_are_read_in_the_public_form(tmp_path):
    problems, replies = tmp_path / "test.jsonl", tmp_path / "replies.jsonl"
    problems.write_text(json.dumps({"question": "q", "answer": "3 * 6 = <<3*6=18>>18\n#### 18"}), encoding="utf-8")
    rows = [{"question": "q", "response": "17"}, {"question": "q", "response": "18"}]
    replies.write_text(json.dumps(rows), encoding="utf-8")
    assert read_problems(problems) == [Problem("q", "18")]
    with pytest.warns(UserWarning, match="1 duplicate replies"):
        assert read_replies(replies) == {"q": "18"}


def test_a_reply_comes_before_the_right_answer_beside_it(tmp_path):
    path = tmp_path / "replies.jsonl"
    path.write_text(json.dumps({"question": "q", "output": "GOLD 18", "completion": "17"}), encoding="utf-8")
    assert read_replies(path) == {"q": "17"}


def test_no_reply_at_all_is_an_error():
    with pytest.raises(DataError, match="none of 1 questions"):
        score_answers([Problem("q", "1")], {})
