"""Machine checks: what passes, what fails, and what is refused when a check is written down."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapir.curriculum.checks import CheckResult, ProgramRun, parse_check, score_check, verified_score
from tapir.errors import DataError


def result(check: dict[str, Any], answer: str) -> CheckResult:
    return score_check(parse_check(json.dumps(check)), answer)


def passes(check: dict[str, Any], answer: str) -> bool:
    return result(check, answer).passed


NUMBER = {"kind": "number", "value": 42}


@pytest.mark.parametrize(
    "answer",
    [
        "42",
        "42.",
        "The answer is 42.",
        "Answer: **42**",
        "6 * 7 = 42",
        "The answer is 6 * 7 = 42.",
        "The answer is 42. Check: 42 / 7 = 6.",
        "We had 50, lost 8.\n#### 42",
        "So \\(x = \\boxed{42}\\).",
        "It costs $42.00",
        "42 %",
        "42kg",
        "४२",
        "4２",
        "The answer is 84/2.",
        "\\boxed{\\frac{84}{2}}",
        "First 3, then 7, in all 42 apples",
        "4.2e1",
        "The answer is:\n\n42",
        "The answer is:\n- 42",
        "Answer:\n  – 42 apples",
        "Total cost – $42",
        "The total is 50 - 8, that is 50 - 8 = 42",
    ],
)
def test_a_final_number_is_read_from_many_ways_to_say_it(answer: str) -> None:
    assert passes(NUMBER, answer)


@pytest.mark.parametrize("answer", ["", "forty-two", "43", "-42", "420", "v42", "42 or 43", "4 2", "4.2", "9" * 10_000])
def test_another_number_or_none_fails(answer: str) -> None:
    assert not passes(NUMBER, answer)


@pytest.mark.parametrize(
    ("value", "tolerance", "answer", "passed"),
    [
        (1234567.5, 0, "1,234,567.5", True),
        (1234, 0, "$1,234", True),
        (1234, 0, "1 234", True),
        (3.5, 0, "3,5 Liter", True),
        (0.125, 0, "0,125", True),
        (-7, 0, "−7", True),
        (-7, 0, "The answer is -$7", True),
        (-7, 0, "The answer is - 7.", True),
        (-7, 0, "x = - 7", True),
        (-7, 0, "Answer: − 7", True),
        (-7, 0, "\\boxed{- 7}", True),
        (-7, 0, "- 7", True),
        (-7, 0, "Change – 7", False),
        (2.5, 0, "The answer is 2½ hours.", True),
        (2.5, 0, "\\boxed{2\\frac{1}{2}}", True),
        (2.5, 0, "$2\\tfrac{1}{2}$", True),
        (2.5, 0, "She needs 2 1/2 cups.", True),
        (-2.5, 0, "The answer is -2 ½.", True),
        (1234.5, 0, "1,234 1/2", True),
        (0.5, 0, "½", True),
        (10.5, 0, "2½", False),
        (0, 0, "The answer is 0.", True),
        (0, 0, "The answer is 5 - 5 = 0.", True),
        (3.14159, 0.01, "pi is about 3.14", True),
        (3.14159, 0.001, "pi is about 3.14", False),
        (0.1, 0, "0.1", True),
        (12345678901234567890, 0, "12345678901234567891", False),
        (5, 0, "1e999999999", False),
    ],
)
def test_numbers_are_compared_exactly_within_the_tolerance(
    value: float, tolerance: float, answer: str, passed: bool
) -> None:
    assert passes({"kind": "number", "value": value, "tolerance": tolerance}, answer) is passed


@pytest.mark.parametrize(
    ("answers", "answer", "passed"),
    [
        (["Paris"], "paris", True),
        (["Paris"], "**Paris**.", True),
        (["Paris"], "The capital of France is Paris.", True),
        (["Paris"], "The capital of France is **Paris**, on the Seine.", False),
        (["Paris"], "Let me think.\n\nParis", True),
        (["Paris"], "Answer:\n- Paris", True),
        (["Paris"], "The answer is Paris. It lies on the Seine, which is a river.", True),
        (["New York"], "new  york", True),
        (["C++"], "C#", False),
        (["C#"], "c#", True),
        (["Paris"], "Not Paris", False),
        (["Paris", "Lutetia"], "Lutetia", True),
        (["Paris"], "", False),
        (["!"], "!", True),
    ],
)
def test_an_exact_answer_may_stand_alone_or_at_the_end(answers: list[str], answer: str, passed: bool) -> None:
    assert passes({"kind": "exact", "answers": answers}, answer) is passed


@pytest.mark.parametrize(
    ("check", "answer", "passed"),
    [
        ({"all": ["mitosis"], "any": ["two", "2"], "none": ["meiosis"]}, "Mitosis makes 2 cells.", True),
        ({"all": ["mitosis"], "any": ["two", "2"], "none": ["meiosis"]}, "Mitosis makes 20 cells.", False),
        ({"all": ["mitosis"], "none": ["meiosis"]}, "Mitosis, unlike meiosis", False),
        ({"any": ["cat"]}, "concatenate", False),
        ({"all": ["two cells"]}, "two\ncells", True),
        ({"all": ["C++"]}, "I use C++, mostly", True),
        ({"all": ["细胞"]}, "有丝分裂产生两个细胞。", True),
    ],
)
def test_phrases_are_found_as_words_whatever_the_case(check: dict[str, Any], answer: str, passed: bool) -> None:
    assert passes({"kind": "contains", **check}, answer) is passed


@pytest.mark.parametrize(
    ("answer", "passed"),
    [
        ("B", True),
        ("b", True),
        ("(B)", True),
        ("**B**", True),
        ("Answer: B", True),
        ("The answer is B.", True),
        ("The correct option is (b).", True),
        ("B) mitochondria", True),
        ("I would choose B because it fits.", True),
        ("A) nucleus\nB) mitochondria\nC) wall\nThe answer is B", True),
        ("\\boxed{B}", True),
        ("A", False),
        ("A or B", False),
        ("The answer is (B), a mammal.", True),
        ("Answer: B, and a good one", True),
        ("The answer is (B) or (a) at will", False),
        ("The answer is b or a.", False),
        ("The answer is b or a at will", False),
        ("The answer is A or B", False),
        ("The answer is A. Wait, the answer is B.", False),
        ("A) nucleus\nB) mitochondria", False),
        ("A. That follows.\nAnswer: B", False),
        ("Because", False),
        ("", False),
    ],
)
def test_an_option_counts_when_it_is_the_only_one_settled_on(answer: str, passed: bool) -> None:
    assert passes({"kind": "choice", "answer": "B"}, answer) is passed


def test_an_article_is_not_option_a() -> None:
    assert not passes({"kind": "choice", "answer": "A"}, "The answer is a dog")


def test_a_pattern_is_searched_unless_full() -> None:
    assert passes({"kind": "pattern", "pattern": r"\d{4}"}, "in 1999")
    assert not passes({"kind": "pattern", "pattern": r"\d{4}", "full": True}, "in 1999")
    assert passes({"kind": "pattern", "pattern": "^YES$", "flags": "im"}, "well\nyes\n")


def test_a_pattern_that_takes_too_long_is_skipped_not_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tapir.curriculum.checks.PATTERN_TIMEOUT_S", 0.05)
    slow = r"^(?:(a+)+|(b+)+)+\1$"
    assert result({"kind": "pattern", "pattern": slow}, "a" * 5_000 + "!").skipped == "pattern_timeout"
    schema = {"type": "string", "pattern": slow}
    assert result({"kind": "json", "schema": schema}, f'"{"a" * 5_000}!"').skipped == "pattern_timeout"


SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


@pytest.mark.parametrize(
    ("answer", "passed"),
    [
        ('{"n": 1}', True),
        ('Here:\n```json\n{"n": 1}\n```\nDone.', True),
        ('```\n{"n": 1}\n```\n```\n{"n": 2}\n```', False),
        ('{"n": "1"}', False),
        ('{"n": NaN}', False),
        ("{n: 1}", False),
        ("[" * 100_000, False),
        ("1" * 10_000, False),
    ],
)
def test_json_is_the_answer_or_its_only_block(answer: str, passed: bool) -> None:
    assert passes({"kind": "json", "schema": SCHEMA}, answer) is passed


def test_a_schema_that_never_ends_or_points_nowhere_is_skipped() -> None:
    assert result({"kind": "json", "schema": {"$ref": "#"}}, "1").skipped == "schema_not_evaluable"
    assert result({"kind": "json", "schema": {"$ref": "#/$defs/x"}}, "1").skipped == "schema_ref_unresolved"


DIALECT = "https://json-schema.org/draft/2020-12/schema"


def test_a_schema_may_name_the_dialect_that_is_evaluated() -> None:
    named = {"$schema": DIALECT, "type": "array", "prefixItems": [{"const": 1}]}
    assert passes({"kind": "json", "schema": named}, "[1, 2]")
    assert not passes({"kind": "json", "schema": named}, "[2, 1]")


def test_a_schema_that_names_its_dialect_keeps_the_time_limit_of_its_patterns(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_slow(*_: Any, timeout: float) -> None:
        raise TimeoutError

    monkeypatch.setattr("tapir.curriculum.checks.regex.search", too_slow)
    again = {"$schema": DIALECT, "pattern": "a", "items": {"$ref": "#"}}
    assert result({"kind": "json", "schema": again}, '["a"]').skipped == "pattern_timeout"


@pytest.mark.parametrize(
    ("check", "what"),
    [
        ("{", "JSON"),
        ("[" * 100_000, "JSON"),
        ('{"kind": "sorcery"}', "sorcery"),
        ('{"kind": "number"}', "value"),
        ('{"kind": "number", "value": 1, "extra": 2}', "extra"),
        ('{"kind": "number", "value": NaN}', "value"),
        ('{"kind": "contains", "none": ["x"]}', "at least one phrase"),
        ('{"kind": "choice", "answer": "E"}', "one of options"),
        ('{"kind": "pattern", "pattern": "("}', "regular expression"),
        ('{"kind": "json", "schema": {"type": "numbre"}}', "JSON schema"),
        ('{"kind": "json", "schema": {"$ref": "http://example.com/s"}}', "nothing is fetched"),
        ('{"kind": "json", "schema": {"patternProperties": {"a": {}}}}', "patternProperties"),
        ('{"kind": "json", "schema": {"pattern": "("}}', "regex"),
        ('{"kind": "json", "schema": {"$schema": 3}}', "$schema 3 is not supported"),
        ('{"kind": "json", "schema": {"$schema": null}}', "$schema None is not supported"),
        ('{"kind": "json", "schema": {"$schema": "http://json-schema.org/draft-07/schema#"}}', "2020-12"),
        ('{"kind": "json", "schema": {"not": {"$schema": "http://json-schema.org/draft-04/schema#"}}}', "at the top"),
        ('{"kind": "format", "constraints": []}', "constraints"),
        ('{"kind": "format", "constraints": [{"id": "max_words"}]}', "constraints.0.max_words.n"),
    ],
)
def test_a_check_that_cannot_be_used_is_refused_with_what_is_wrong(check: str, what: str) -> None:
    with pytest.raises(DataError, match="docs/checks") as refused:
        parse_check(check)
    assert what in str(refused.value)


def test_a_format_check_gives_the_share_of_constraints_met() -> None:
    check = {"kind": "format", "constraints": [{"id": "max_words", "n": 3}, {"id": "no_commas"}]}
    assert result(check, "one two three") == CheckResult(True, 1.0)
    assert result(check, "one, two three") == CheckResult(False, 0.5)


def test_verified_scores_run_from_1_to_10() -> None:
    assert [verified_score(CheckResult(s == 1, s)) for s in (0.0, 0.5, 1.0)] == [1.0, 5.5, 10.0]


def test_a_skipped_check_has_no_score() -> None:
    with pytest.raises(DataError, match="code_not_allowed"):
        verified_score(CheckResult(False, 0.0, skipped="code_not_allowed"))


PROGRAM = json.dumps({"kind": "program", "language": "python", "call": "f(3)", "output": "6"})
ANSWER = "Use this:\n```python\ndef f(x):\n    return 2 * x\n```\nFor instance:\n```python\nf(1)\n```"


def test_a_program_is_not_run_unless_a_sandbox_is_given() -> None:
    assert score_check(parse_check(PROGRAM), ANSWER).skipped == "code_not_allowed"


def test_the_block_that_defines_the_call_is_run_with_the_call_printed() -> None:
    seen: list[str] = []

    def sandbox(language: str, source: str) -> ProgramRun:
        seen.append(source)
        return ProgramRun(stdout="its own example\n6\n")

    assert score_check(parse_check(PROGRAM), ANSWER, sandbox).passed
    assert seen == ["def f(x):\n    return 2 * x\n\n\nprint(f(3))\n"]


@pytest.mark.parametrize(
    ("ran", "expected"),
    [
        (ProgramRun(stdout="7"), CheckResult(False, 0.0)),
        (ProgramRun(stdout=""), CheckResult(False, 0.0)),
        (ProgramRun(stdout="6", ok=False), CheckResult(False, 0.0)),
        (ProgramRun(skipped="no_sandbox"), CheckResult(False, 0.0, skipped="no_sandbox")),
    ],
)
def test_a_program_fails_by_what_it_prints_and_is_skipped_without_sandbox(
    ran: ProgramRun, expected: CheckResult
) -> None:
    assert score_check(parse_check(PROGRAM), ANSWER, lambda language, source: ran) == expected


HOSTILE = [
    "####",
    "1,11",
    "```a\n",
    "A. ",
    ".",
    "<<",
    "\n",
    " ",
    "answer ",
    "A\n",
    "is ",
    "[",
    "1 ",
    "$",
    "9",
    "\\boxed{",
    "a",
]
"""Said a hundred thousand times over, each once made some pattern try every split."""


@pytest.mark.parametrize("piece", HOSTILE)
def test_an_answer_of_one_piece_repeated_is_scored(piece: str) -> None:
    for check in EVERY_KIND:
        assert 0 <= result(check, "answer" + piece * (200_000 // len(piece)) + "x").share <= 1


EVERY_KIND = [
    NUMBER,
    {"kind": "exact", "answers": ["a"]},
    {"kind": "contains", "any": ["a"]},
    {"kind": "choice", "answer": "A"},
    {"kind": "pattern", "pattern": "a+b"},
    {"kind": "json", "schema": SCHEMA},
    {
        "kind": "format",
        "constraints": [
            *({"id": i, "n": 2} for i in ("min_words", "max_sentences", "exact_lines", "bullets", "numbered")),
            *({"id": i} for i in ("all_lowercase", "no_commas", "json_valid", "title", "quoted")),
            {"id": "includes", "words": ["a"]},
            {"id": "ends_with", "text": "a"},
            {"id": "word_count_of", "word": "a", "n": 1},
            {"id": "language", "code": "fr"},
        ],
    },
    json.loads(PROGRAM),
]


@pytest.mark.parametrize("check", EVERY_KIND, ids=lambda c: c["kind"])
@settings(max_examples=60)
@given(
    answer=st.one_of(
        st.text(st.characters(codec=None)),
        st.text("0123456789.,/eE-+=$ \nA(){}[]\"'*#answeri", max_size=60),
    )
)
def test_no_answer_whatever_makes_a_check_raise(check: dict[str, Any], answer: str) -> None:
    scored = result(check, answer)
    assert 0 <= scored.share <= 1
