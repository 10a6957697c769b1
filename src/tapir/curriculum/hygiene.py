"""Why a new instruction is not taken: it repeats another, leaks its own making, or is not of its seed's kind.

Every refusal has one reason, counted and kept by the stage. Reasons are tried in a fixed order, cheap ones first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

from tapir.curriculum.checks import parse_check, score_check
from tapir.curriculum.contamination import ContaminationIndex
from tapir.curriculum.dedup import ExactIndex, naive_rouge_l, near_duplicate_index
from tapir.curriculum.languages import language_of
from tapir.curriculum.words import words
from tapir.types import Answer, Instruction

LONGEST, SHORTEST = 2.5, 0.4
"""A new instruction may be this many times as long as its seed, in words; a few words more or less always may."""
SLACK_WORDS = 8
MULTILINGUAL = "Multilingual"

_LEAK = re.compile(
    r"(given|created|new|original|example|above)\s+instruction|#\s*(given|created)|</?(example|instruction|answer_\d)>"
    r"|task type\s*:|<\|im_(start|end)\|>",
    re.IGNORECASE,
)

_OPENS_ANSWER = re.compile(
    r"\s*(?:\(?[A-Ha-h][).:](?:\s|$)|(?:the )?(?:answer|solution) is\b|answer\s*:|```"
    r"|here(?:'s| is) (?:the|an?|one|your)(?: \w+)? (?:answer|code|command|function|line|query|script|solution)\b)",
    re.IGNORECASE,
)
"""How a small teacher begins when it answers the example instead of writing another one: a choice, or code at once."""
LIKE_THE_ANSWER = 0.5
"""ROUGE-L from which a text is taken for the known answer in other words."""
_STATE_AN_ANSWER = {"number", "exact", "choice"}
"""Checks that only an answer passes; one of form or content a new instruction may pass by chance."""

OffType = Callable[[Instruction], bool]
"""Whether a classifier says that an instruction is not of its own task type."""


class Likeness(Protocol):
    """Texts that later ones must not repeat in other words."""

    def add(self, texts: Sequence[str]) -> None: ...

    def repeats(self, text: str) -> bool: ...


class Hygiene:
    """The checks of one expansion. What it takes, later instructions must not repeat."""

    def __init__(
        self,
        known: Sequence[Instruction],
        evaluation: ContaminationIndex,
        off_type: OffType | None = None,
        likeness: Likeness | None = None,
        answers: Mapping[str, Answer] = MappingProxyType({}),
    ) -> None:
        """`answers` are those known of the parents: a text that says one again is no new instruction."""
        self._known_answers = answers
        self._evaluation = evaluation
        self._off_type = off_type
        self._likeness = likeness
        self._exact = ExactIndex()
        self._near = near_duplicate_index([], expected=len(known))
        for i in known:
            self._exact.add(i.id, i.text)
            self._near.add(i.id, i.text)
        if likeness is not None:
            likeness.add([i.text for i in known])

    def _remember(self, instruction: Instruction) -> None:
        self._exact.add(instruction.id, instruction.text)
        self._near.add(instruction.id, instruction.text)
        if self._likeness is not None:
            self._likeness.add([instruction.text])

    def refuses(self, child: Instruction, parent: Instruction) -> str | None:
        """The reason not to take `child`; None takes it and remembers it."""
        reason = self._reason(child, parent)
        if reason is None:
            self._remember(child)
        return reason

    def _answers(self, child: Instruction, parent: Instruction) -> bool:
        """Whether the text answers its parent, as small teachers often do when asked for another instruction."""
        if _OPENS_ANSWER.match(child.text) and not _OPENS_ANSWER.match(parent.text):
            return True
        if not any(map(str.isalpha, child.text)):
            return True
        if _passes_as_answer(parent.check, child.text):
            return True
        known = self._known_answers.get(parent.id)
        return known is not None and naive_rouge_l(child.text, known.text) >= LIKE_THE_ANSWER

    def _reason(self, child: Instruction, parent: Instruction) -> str | None:
        new, old = len(words(child.text)), len(words(parent.text))
        if not new:
            return "empty"
        if _LEAK.search(child.text):
            return "talks_about_given_instruction"
        if self._answers(child, parent):
            return "answers"
        if new > LONGEST * old + SLACK_WORDS:
            return "too_long"
        if new < SHORTEST * old - SLACK_WORDS:
            return "too_short"
        if child.task != MULTILINGUAL and _changed_language(parent.text, child.text):
            return "other_language"
        if self._exact.match(child.text) is not None:
            return "exact_duplicate"
        if self._near.match(child.text) is not None:
            return "near_duplicate"
        if self._evaluation.hits(child.text):
            return "contaminated"
        if self._off_type is not None and self._off_type(child):
            return "off_type"
        return "same_meaning" if self._likeness is not None and self._likeness.repeats(child.text) else None


def _passes_as_answer(check: str | None, text: str) -> bool:
    if check is None or (parsed := parse_check(check)).kind not in _STATE_AN_ANSWER:
        return False
    return score_check(parsed, text).passed


def _changed_language(before: str, after: str) -> bool:
    old, new = language_of(before), language_of(after)
    return old is not None and new is not None and old != new
