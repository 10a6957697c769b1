"""New instructions that repeat, leak or stray are refused, each with its reason."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tapir.curriculum import dedup
from tapir.curriculum.contamination import ContaminationIndex
from tapir.curriculum.hygiene import Hygiene
from tapir.types import Answer, Instruction

SEED = Instruction("How many minutes does a train need for 120 km at 80 km an hour?", task="Math")
EVALUATION = ContaminationIndex([("held_out", "1", "Which metal is liquid at room temperature in a house?")])


def refused(text: str, task: str = "Math") -> str | None:
    return Hygiene([SEED], EVALUATION).refuses(Instruction(text, task=task), SEED)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("   ", "empty"),
        ("Answer like the given instruction: how many apples are left of twelve?", "talks_about_given_instruction"),
        ("how many minutes does a train need for 120 km at 80 km an hour", "exact_duplicate"),
        ("How many minutes does a train need for 150 km at 80 km an hour?", "near_duplicate"),
        ("D) the train needs ninety minutes for it", "answers"),
        ("The answer is ninety minutes, since the train is fast.", "answers"),
        ("```python\nprint(120 / 80 * 60)\n``` prints the minutes that the train needs.", "answers"),
        ("Here is a shell command that prints how many minutes that are.", "answers"),
        ("36", "answers"),
        ("Here is a list of trains. Which of them needs the most minutes for its way?", None),
        ("Tell me. " * 30, "too_long"),
        ("Combien de pommes est-ce que la fille et le garçon ont dans une boîte avec des poires ?", "other_language"),
        ("Say which metal is liquid at room temperature in a house?", "near_duplicate"),
        ("A baker sells 45 rolls in one hour. How many does she sell from six until noon?", None),
    ],
)
def test_the_first_fitting_reason_is_given(text: str, reason: str | None):
    expected = "contaminated" if text.startswith("Say which metal") else reason
    assert refused(text) == expected


def test_another_language_is_right_for_a_multilingual_task():
    assert refused("Combien de pommes la fille et le garçon ont dans la boîte ?", task="Multilingual") is None


def test_what_is_taken_must_not_be_repeated():
    hygiene = Hygiene([SEED], EVALUATION)
    child = Instruction("A baker sells 45 rolls in one hour. How many does she sell from six until noon?", task="Math")
    assert hygiene.refuses(child, SEED) is None
    assert hygiene.refuses(child, SEED) == "exact_duplicate"


def test_a_classifier_may_refuse_the_type():
    hygiene = Hygiene([SEED], EVALUATION, off_type=lambda child: True)
    assert (
        hygiene.refuses(Instruction("Write a poem about the moon over a quiet sea.", task="Math"), SEED) == "off_type"
    )


def test_an_encoder_may_say_that_it_is_the_same_in_other_words():
    class Fruit:
        """Knows only whether a text speaks of apples."""

        def __init__(self) -> None:
            self.known = False

        def add(self, texts: Sequence[str]) -> None:
            self.known |= any("apple" in text for text in texts)

        def repeats(self, text: str) -> bool:
            return self.known and "apple" in text

    hygiene = Hygiene([SEED], EVALUATION, likeness=Fruit())
    first = Instruction("How many apples are in five boxes of twenty if each third one is bad?", task="Math")
    second = Instruction("A crate holds an apple for every day of March. Half are eaten. What is left?", task="Math")
    assert hygiene.refuses(first, SEED) is None
    assert hygiene.refuses(second, SEED) == "same_meaning"


def test_above_the_limit_near_duplicates_are_sought_by_rare_words(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dedup, "PREFIX_FROM", 1)
    child = Instruction("How many minutes does a train need for 150 km at 80 km an hour?", task="Math")
    assert Hygiene([SEED], EVALUATION).refuses(child, SEED) == "near_duplicate"


CHECKED = Instruction(
    "Anna has 12 pears and eats 5. How many are left?", task="Math", check='{"kind":"number","value":7}'
)
LOOSE = Instruction("Name a fruit that is red.", task="Others", check='{"kind":"contains","all":["apple"]}')


@pytest.mark.parametrize(
    ("parent", "text", "reason"),
    [
        (CHECKED, "Anna has eaten five of them, which leaves 7.", "answers"),
        (CHECKED, "Ben has 12 coins and finds 5. How many has he then?", None),
        (LOOSE, "Name a vegetable that an apple tree shades.", None),
    ],
)
def test_a_text_that_passes_the_check_of_its_parent_is_an_answer(parent: Instruction, text: str, reason: str | None):
    assert Hygiene([parent], EVALUATION).refuses(Instruction(text, task=parent.task), parent) == reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("The storm broke the window of the house.", "answers"),
        ("Rewrite this in the active voice: The cake was eaten by my brother.", None),
    ],
)
def test_a_text_like_the_known_answer_is_an_answer(text: str, reason: str | None):
    parent = Instruction(
        "Rewrite this sentence in the active voice: The window was broken by the storm.", task="Writing"
    )
    known = {parent.id: Answer(parent.id, "teacher", "The storm broke the window.")}
    child = Instruction(text, task="Writing")
    assert Hygiene([parent], EVALUATION, answers=known).refuses(child, parent) == reason
    assert Hygiene([parent], EVALUATION).refuses(child, parent) is None
