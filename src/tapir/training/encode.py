"""From an example to token ids, a loss mask and a weight.

Owns which tokens are trained: those of the last message's answer, its end-of-turn token included, and no others.
How a conversation is spelt is the chat format's business; what a bad encoding costs is `training.preflight`'s.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from tapir.types import Example

if TYPE_CHECKING:
    from tapir.models.chat_template import ChatFormat

UNTRAINED = -100
"""The label that torch's and TRL's losses ignore."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """One example as the student sees it. `labels` is aligned with `input_ids`; the trainer shifts."""

    input_ids: tuple[int, ...]
    labels: tuple[int, ...]
    instruction_id: str
    task: str
    hard: bool
    weight: float = 1.0
    """Of each of its trained tokens (equation 4)."""
    difficulty: float | None = None
    cut: bool = False
    """The answer's end was cut off, so its end-of-turn token is not trained."""

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def trained(self) -> int:
        """Trained tokens. The first position is never one: nothing predicts it."""
        return sum(label != UNTRAINED for label in self.labels[1:])


@dataclass(frozen=True, slots=True)
class Shares:
    """How much of a round is hard, as realised; α is what was asked for."""

    rows: float | None
    weight: float | None
    """Share of Σ w over trained tokens. None where the whole is zero."""


@dataclass(slots=True)
class EncodedSet:
    """The rows of a round and what was left out of it."""

    rows: list[Encoded] = field(default_factory=lambda: list[Encoded]())
    dropped: Counter[str] = field(default_factory=lambda: Counter[str]())
    too_long: int = 0
    """Examples longer than the window, dropped or cut."""
    seen: int = 0

    @property
    def cut(self) -> int:
        return sum(row.cut for row in self.rows)

    @property
    def trained_tokens(self) -> int:
        return sum(row.trained for row in self.rows)

    def hard_share(self) -> Shares:
        whole = sum(row.weight * row.trained for row in self.rows)
        hard = [row for row in self.rows if row.hard]
        return Shares(
            rows=len(hard) / len(self.rows) if self.rows else None,
            weight=sum(row.weight * row.trained for row in hard) / whole if whole else None,
        )


def encode(example: Example, chat: ChatFormat) -> Encoded:
    """The prompt as generation builds it, then the answer and its end-of-turn token, which alone are trained."""
    prompt = chat.prompt_ids(example.messages[:-1])
    answer = chat.answer_ids(example.answer)
    return Encoded(
        input_ids=(*prompt, *answer),
        labels=(*[UNTRAINED] * len(prompt), *answer),
        instruction_id=example.instruction_id,
        task=example.task,
        hard=example.hard,
        weight=example.weight,
        difficulty=example.difficulty,
    )


def unfit(example: Example) -> str | None:
    """Why a conversation cannot be trained on, whatever its length; None if it can."""
    if not example.messages or example.messages[-1].role != "assistant":
        return "no_answer"
    return None if example.messages[:-1] else "no_user_turn"


def encode_all(
    examples: Iterable[Example], chat: ChatFormat, *, max_tokens: int, too_long: Literal["drop", "cut"]
) -> EncodedSet:
    """Every example encoded, or counted under the reason it was left out."""
    result = EncodedSet()
    for example in examples:
        result.seen += 1
        if reason := unfit(example):
            result.dropped[reason] += 1
            continue
        row = encode(example, chat)
        if len(row) > max_tokens:
            result.too_long += 1
            if too_long == "drop":
                result.dropped["too_long"] += 1
                continue
            row = _cut(row, max_tokens)
            if not row.trained:
                result.dropped["prompt_too_long"] += 1
                continue
        result.rows.append(row)
    return result


def _cut(row: Encoded, max_tokens: int) -> Encoded:
    # Cutting the answer's end, not the prompt's start, keeps the question; the end-of-turn token falls away with it,
    # so a cut answer never teaches the student to stop in mid-sentence.
    return Encoded(
        input_ids=row.input_ids[:max_tokens],
        labels=row.labels[:max_tokens],
        instruction_id=row.instruction_id,
        task=row.task,
        hard=row.hard,
        weight=row.weight,
        difficulty=row.difficulty,
        cut=True,
    )
