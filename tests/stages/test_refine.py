"""Which answer of a refined row is trained on: the enhanced one unless something speaks against it."""

from __future__ import annotations

from tapir.models.calls import Reply, Sampling
from tapir.stages.refine import better_of, enhanced_answers
from tapir.types import Answer, Difficulty, Instruction, Receipt, Refinement

ROWS = [Instruction(f"Question {n}?", id=f"i{n}") for n in range(4)]
REFINED = {i.id: Refinement(i.id, f"{i.text} Step by step.") for i in ROWS}
DIRECT = {i.id: Answer(i.id, "teacher", f"direct {i.id}", tokens=2) for i in ROWS}


class Teacher:
    """Answers the refined texts; one of its answers is cut at the token limit."""

    def run(self, requests, *, stage, accept_truncated=False, accept_empty=False):
        for q in requests:
            cut = q.row == "i1"
            yield q, Reply(f"enhanced {q.row}", finish_reason="length" if cut else "stop",
                           problem="truncated" if cut else None)  # fmt: skip


def test_cut_and_refused_answers_are_replaced_by_the_direct_ones_and_counted():
    receipt = Receipt("enhance")

    def refuses(instruction: Instruction, text: str) -> str | None:
        return "mentions_rewriting" if instruction.id == "i2" else None

    found = enhanced_answers(ROWS, REFINED, DIRECT, Teacher(), Sampling(), refuses=refuses, round=1, receipt=receipt)
    texts = {a.instruction_id: (a.text, a.prompt) for a in found}
    receipt.check()
    assert texts == {
        "i0": ("enhanced i0", "refined"),
        "i1": ("direct i1", "original"),
        "i2": ("direct i2", "original"),
        "i3": ("enhanced i3", "refined"),
    }
    assert receipt.notes["direct_answer_instead"] == {"mentions_rewriting": 1, "truncated": 1}


def test_an_enhanced_answer_stays_only_where_the_judge_prefers_it():
    answers = [Answer(i.id, "teacher", f"enhanced {i.id}", "refined", 2) for i in ROWS]
    # Direct score minus enhanced score; nothing is known of i3.
    verdicts = [Difficulty("i0", -1.5), Difficulty("i1", 0.0), Difficulty("i2", 2.0)]
    receipt = Receipt("enhance")
    kept = better_of(answers, DIRECT, verdicts, receipt=receipt)
    assert [(a.text, a.prompt, a.round) for a in kept] == [
        ("enhanced i0", "refined", 2),
        ("direct i1", "original", 2),
        ("direct i2", "original", 2),
        ("direct i3", "original", 2),
    ]
    assert receipt.notes["enhanced_against_direct"] == {"better": 1, "equal": 1, "unscored": 1, "worse": 1}
    assert receipt.notes["mean_gain"] == round((1.5 + 0 - 2) / 3, 4)


def test_without_a_direct_answer_there_is_no_choice():
    answer = Answer("new", "teacher", "enhanced", "refined", 1)
    assert better_of([answer], {}, [], receipt=Receipt("enhance")) == [answer]
