"""Who names a task type: the classifier where it is sure, the teacher where it is not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from tapir.errors import ModelError
from tapir.models.classifier import Guess
from tapir.stages.classify import check_labels, classify_with, off_type
from tapir.tasks import load_taxonomy
from tapir.types import Instruction, Receipt


class Sure:
    """A classifier that reads its guess off the text: `Math 0.9`."""

    labels = ("Math", "Art")

    def guesses(self, instructions: Sequence[Instruction]) -> Iterator[Guess]:
        return (Guess(i.text.split()[0], float(i.text.split()[1])) for i in instructions)


def teacher(rows: list[Instruction], account: Receipt) -> Iterator[Instruction]:
    account.notes["unknown_label"] = 0
    return (replace(i, task="History") for i in rows)


def test_the_teacher_is_asked_only_below_the_confidence():
    receipt = Receipt("classify")
    given = [Instruction("Math 0.9"), Instruction("Art 0.79"), Instruction("Math 0.8")]
    found = list(classify_with(given, Sure(), teacher, confidence=0.8, receipt=receipt))
    assert [i.task for i in found] == ["Math", "History", "Math"]
    assert receipt.notes["labelled_by"] == {"classifier": 2, "teacher": 1}
    assert (receipt.rows_in, receipt.rows_out) == (3, 3)


def test_without_a_teacher_the_classifier_names_all_and_says_of_how_many_it_is_unsure():
    receipt = Receipt("classify")
    given = [Instruction("Math 0.9"), Instruction("Art 0.1")]
    found = list(classify_with(given, Sure(), None, confidence=0.8, receipt=receipt))
    assert [i.task for i in found] == ["Math", "Art"]
    assert receipt.notes == {"labelled_by": {"classifier": 2, "teacher": 0}, "below_confidence": 1}


def test_only_a_sure_guess_makes_an_instruction_off_type():
    says = off_type(Sure(), 0.8)
    assert says(Instruction("Math 0.9", task="Art"))
    assert not says(Instruction("Math 0.7", task="Art"))
    assert not says(Instruction("Math 0.9", task="Math"))
    # A type that the classifier was never shown is one that it cannot miss.
    assert not says(Instruction("Math 0.9", task="History"))


def test_a_classifier_of_another_taxonomy_is_refused():
    class Other(Sure):
        labels = ("Math", "Cooking")

    with pytest.raises(ModelError, match="the classifier knows Cooking, which the taxonomy does not"):
        check_labels(Other(), load_taxonomy())
