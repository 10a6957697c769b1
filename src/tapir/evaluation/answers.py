"""Tasks with one exact answer, of the GSM8K kind: the share of replies that settle on the right one.

Owns the file forms and the scoring; reading what a reply settles on is `curriculum.final_answer`'s.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tapir.curriculum.final_answer import final_number, normalised, only_number, short_answers
from tapir.errors import DataError
from tapir.evaluation.rows import REPLY, Estimate, Row, last_of_each, read_rows, reply_field, share_estimate

MARK = "####"
"""What stands before the final answer in GSM8K's solutions."""
_QUESTION = ("question", "instruction", "prompt")
_ANSWER = ("answer", "reference", "output", "target")

Outcome = Literal["right", "wrong", "unreadable"]


@dataclass(frozen=True, slots=True)
class Problem:
    """A question and its one right answer."""

    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class ExactScore:
    """`unreadable` replies name no answer at all: wrong, but for another reason, so counted apart as well."""

    accuracy: Estimate
    right: int
    wrong: int
    unreadable: int
    missing: int

    def to_json(self) -> Row:
        return {
            "accuracy": self.accuracy.to_json(), "right": self.right, "wrong": self.wrong,
            "unreadable": self.unreadable, "n": self.accuracy.n, "missing": self.missing,
        }  # fmt: skip


def read_problems(path: Path) -> list[Problem]:
    """Rows with `question` and `answer` (or `instruction` and `output`); the answer is what follows `####`, if any."""
    return [
        Problem(_one_of(row, _QUESTION, path), right_answer(_one_of(row, _ANSWER, path))) for row in read_rows(path)
    ]


def read_replies(path: Path) -> dict[str, str]:
    """Replies by their question; of a question answered twice the last reply counts, with a warning."""
    keyed = [(_one_of(row, _QUESTION, path), _reply(row, path)) for row in read_rows(path)]
    kept, dropped = last_of_each((question, (question, reply), True) for question, reply in keyed)
    if dropped:
        warnings.warn(f"{path}: {dropped} duplicate replies removed", stacklevel=2)
    return dict(kept)


def _reply(row: Row, path: Path) -> str:
    name = reply_field(row)
    return _one_of(row, (name,) if name else (*REPLY, "text"), path)


def _one_of(row: Row, names: Sequence[str], path: Path) -> str:
    for name in names:
        if isinstance(row.get(name), str | int | float):
            return str(row[name])
    raise DataError(f"{path}: a row has none of {', '.join(names)}; it has {', '.join(row)}")


def right_answer(solution: str) -> str:
    """The final answer of a stored solution."""
    return solution.rsplit(MARK, 1)[-1].strip()


_SOLVED = re.compile(r"\A\s*[A-Za-z]\s*=\s*")
"""What an equation is solved for: "x = 5" is 5."""
_WRAPPED = re.compile(r"\\(?:boxed|text|mathrm|textbf|mathbf)\s*\{([^{}]*)\}")
_TYPESETTING = re.compile(r"\$|\\[()\[\]]|\\(?:left|right)\b|\\[,;!]")
_DEGREES = re.compile(r"\s*\^\s*\{?\s*\\circ\s*\}?")
_CURRENCY = re.compile(r"([€£¥₹])\s+(?=\d)")


def _bare(text: str) -> str:
    """The text without what only typesets it: a box, dollars and brackets around formulas, upright letters."""
    text = _CURRENCY.sub(r"\1", _DEGREES.sub("°", _TYPESETTING.sub("", text)))
    while (unwrapped := _WRAPPED.sub(r"\1", text)) != text:
        text = unwrapped
    return text


def _marked(reply: str) -> list[str]:
    """What the reply marks as its answer: in a box, or after the mark."""
    boxed = [reply[m.end() : _closing(reply, m.end())] for m in re.finditer(r"\\boxed\s*\{", reply)]
    return [*boxed, *([right_answer(reply)] if MARK in reply else [])]


def _closing(text: str, start: int) -> int:
    """Where the brace that is open at `start` is closed, or the text's end."""
    depth = 1
    for at in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if depth == 0:
            return at
    return len(text)


def _joined(text: str) -> str:
    return text.replace(" ", "")


def judge_reply(answer: str, reply: str) -> Outcome:
    """Whether a reply settles on `answer`: as an exact number where all of it is one, else as a short text."""
    bare = _bare(answer)
    wanted = only_number(_SOLVED.sub("", bare))
    if wanted is None:
        if not reply.strip():
            return "unreadable"
        said = short_answers(_bare(reply)) | {normalised(_bare(text)) for text in _marked(reply)}
        return "right" if _joined(normalised(bare)) in map(_joined, said) else "wrong"
    found = final_number(reply)
    if found is None:
        return "unreadable"
    return "right" if found == wanted else "wrong"


def score_answers(problems: Sequence[Problem], replies: Mapping[str, str]) -> ExactScore:
    """Accuracy in percent over the questions that have a reply; the others are missing, not wrong."""
    outcomes = [judge_reply(p.answer, replies[p.question]) for p in problems if p.question in replies]
    missing = len(problems) - len(outcomes)
    right = outcomes.count("right")
    accuracy = share_estimate(right, len(outcomes), missing)
    if accuracy is None:
        raise DataError(
            f"none of {len(problems)} questions has a reply; replies are matched by the question's exact text"
        )
    return ExactScore(accuracy, right, outcomes.count("wrong"), outcomes.count("unreadable"), missing)
