"""The rows that cross from one stage to the next, and nothing else does.

Frozen and typed, with ids derived from content: the same instruction has the same id in every run. Reading and
writing them as tables is `tapir.store`'s business; deciding anything from them is `tapir.curriculum`'s.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from tapir.errors import DataError

Order = Literal["student_first", "teacher_first"]
Method = Literal["text", "schema", "soft", "verified", "identical"]
DifficultyKind = Literal["mfd", "verified", "ifd", "loss", "verifier"]


Passes = Callable[["Instruction", str], bool | None]
"""Whether an answer passes the instruction's own check; None where it has none, or one that cannot be run here."""


def content_id(*parts: str) -> str:
    """16 hex digits that stand for these texts, in this order."""
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "big"))
        digest.update(raw)
    return digest.hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Message:
    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Instruction:
    """What a model is asked. `check` is the JSON of a machine check (see `curriculum.checks`), if it carries one."""

    text: str
    system: str | None = None
    history: tuple[Message, ...] = ()
    task: str | None = None
    origin: Literal["seed", "expanded"] = "seed"
    parent_id: str | None = None
    round: int = 0
    check: str | None = None
    id: str = ""

    def __post_init__(self) -> None:
        if not self.id:
            spoken = (f"{m.role}\n{m.content}" for m in self.history)
            object.__setattr__(self, "id", content_id(self.system or "", self.text, *spoken))

    def messages(self, text: str | None = None) -> tuple[Message, ...]:
        """The conversation that asks for an answer; `text` replaces the instruction's own (a refined form)."""
        opening = (Message("system", self.system),) if self.system else ()
        return (*opening, *self.history, Message("user", self.text if text is None else text))


@dataclass(frozen=True, slots=True)
class Seed(Instruction):
    """An instruction with the answer that came with it: a row of a labelled file, which can be a pool again."""

    answer: str | None = None

    @property
    def instruction(self) -> Instruction:
        """The same without the answer."""
        return Instruction(**{f.name: getattr(self, f.name) for f in fields(Instruction)})


@dataclass(frozen=True, slots=True)
class Answer:
    """What `author` replied. `prompt` tells whether it saw the original instruction or its refined form."""

    instruction_id: str
    author: str
    text: str
    prompt: Literal["original", "refined"] = "original"
    round: int = 0
    sample: int = 0
    finish_reason: str = "stop"
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """One reading of one judgement. Either both scores are there, or `problem` says why they are not."""

    instruction_id: str
    order: Order
    student_score: float | None = None
    teacher_score: float | None = None
    problem: str | None = None
    student: str = "student_0"
    judge: str = "judge"
    vote: int = 0
    method: Method = "text"
    explained: bool = False
    raw: str = ""

    @property
    def scored(self) -> bool:
        return self.student_score is not None and self.teacher_score is not None

    @property
    def mfd(self) -> float:
        """How far the student falls short of the teacher (§3.2 with the sign of §D.2)."""
        if self.student_score is None or self.teacher_score is None:
            raise DataError(f"the verdict on {self.instruction_id} has no scores ({self.problem}), so no MFD")
        return self.teacher_score - self.student_score


@dataclass(frozen=True, slots=True)
class Difficulty:
    """How hard an instruction is for a student. Values of different kinds are never compared with each other."""

    instruction_id: str
    value: float
    kind: DifficultyKind = "mfd"
    student: str = "student_0"
    spread: float = 0.0
    """Absolute difference between the two orders' means."""
    votes: int = 2
    soft: bool = False
    low: float | None = None
    high: float | None = None
    """95 % interval, where there are more than two votes."""
    consistent: bool = True
    """Both orders name the same winner (or both a tie)."""

    @property
    def is_zero(self) -> bool:
        """No gap: exactly 0, or within half a point where scores are expectations."""
        return abs(self.value) < 0.5 if self.soft else self.value == 0


@dataclass(frozen=True, slots=True)
class Refinement:
    """A rewriting of an instruction that draws a better answer; `fallback` says why the original was kept instead."""

    instruction_id: str
    text: str
    fallback: str | None = None


@dataclass(frozen=True, slots=True)
class Example:
    """One conversation to train on; the last message is the answer, the only one whose tokens are trained."""

    messages: tuple[Message, ...]
    instruction_id: str
    task: str
    hard: bool
    weight: float = 1.0
    difficulty: float | None = None
    """To sort by: all kinds on one scale."""

    @property
    def answer(self) -> str:
        return self.messages[-1].content


@dataclass(frozen=True, slots=True)
class Rejection:
    """A new instruction that was not taken, kept so that a person can look at the reason."""

    text: str
    task: str
    parent_id: str
    reason: str
    detail: str = ""


MOST_DROPPED_CHARS = 500
"""Of a dropped text: enough to recognise it by, and little beside the pool."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """A row that a step did not hand on, kept so that a person can look at the reason."""

    reason: str
    text: str
    instruction_id: str = ""
    """Empty for a row that could not be read as an instruction."""
    where: str = ""
    """Where it stood in the source, as `file:line`."""
    repeats: str = ""
    """The id of the instruction, or the evaluation item, that it repeats."""

    def __post_init__(self) -> None:
        if len(self.text) > MOST_DROPPED_CHARS:
            object.__setattr__(self, "text", self.text[: MOST_DROPPED_CHARS - 1] + "…")


KeepDropped = Callable[[Dropped], object]


def forget(row: Dropped) -> None:
    """For whoever keeps no dropped rows."""


@dataclass(frozen=True, slots=True)
class Result:
    """One number of an evaluation with its 95 % interval."""

    student: str
    metric: str
    value: float
    n: int
    low: float | None = None
    high: float | None = None
    missing: int = 0
    against: str | None = None
    sentence: str = ""


@dataclass(frozen=True, slots=True)
class RoundPlan:
    """How many hard and easy rows of each task a round draws, and how many must be grown first."""

    round: int
    alpha: float
    size: int
    hard: dict[str, int]
    easy: dict[str, int]
    grow: dict[str, int] = field(default_factory=dict)
    unmet: dict[str, int] = field(default_factory=dict)
    """Rows of a type that its target asked for and that supply could not give; other types took their place."""

    @property
    def hard_rows(self) -> int:
        return sum(self.hard.values())

    @property
    def easy_rows(self) -> int:
        return sum(self.easy.values())


@dataclass(slots=True)
class Receipt:
    """The account of one stage: every row that went in came out or was dropped for a reason that is written down."""

    stage: str
    rows_in: int = 0
    rows_out: int = 0
    made: int = 0
    """Rows that the stage created (expansion, a second answer): counted beside those that came in."""
    dropped: Counter[str] = field(default_factory=lambda: Counter[str]())
    calls: int = 0
    cached_calls: int = 0
    replayed_calls: int = 0
    """Cached calls whose reply came from an imported recording."""
    retried_calls: int = 0
    """Further tries after a passing failure (a 500, a broken stream); what they may have cost is in `cost_usd`."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    seconds: float = 0.0
    notes: dict[str, Any] = field(default_factory=lambda: dict[str, Any]())

    def drop(self, reason: str, count: int = 1) -> None:
        self.dropped[reason] += count

    def check(self) -> None:
        """Refuse an account that does not add up; a row that vanished is a bug, and silence would hide it."""
        lost = self.rows_in + self.made - self.rows_out - sum(self.dropped.values())
        if lost:
            raise DataError(
                f"stage {self.stage}: {self.rows_in} rows in and {self.made} made, {self.rows_out} out and "
                f"{sum(self.dropped.values())} dropped leave {lost} unaccounted for; please report this as a bug"
            )


def canonical_json(value: Any) -> str:
    """One spelling for one value, so that equal values hash alike."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
