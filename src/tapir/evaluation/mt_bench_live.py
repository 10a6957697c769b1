"""MT-Bench run live, and single answers graded: the model answers turn by turn, the judge grades each answer.

Numbers made with our own prompt compare with each other, not with the published ones. Scoring is `mt_bench`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, cast

from tapir.evaluation import rows as files
from tapir.evaluation.mt_bench import Judgment, Question, read_rating
from tapir.models.calls import Asks, Reply, Request, Sampling
from tapir.prompts.delimit import fill, neutralise
from tapir.prompts.tasks import read_template
from tapir.types import Message

OWN_FILE_NOTE = "graded with a prompt file of yours: comparable only with results of the same prompt and judge"
NOTE = "graded with tapir's own prompt: not comparable with published MT-Bench scores"
PAPER_TEMPERATURE = 0.5
"""§4.1, inference details."""
CATEGORY_TEMPERATURES: Mapping[str, float] = {
    "writing": 0.7, "roleplay": 0.7, "extraction": 0.0, "math": 0.0, "coding": 0.0, "reasoning": 0.0,
    "stem": 0.1, "humanities": 0.1,
}  # fmt: skip
"""FastChat's, for results beside its leaderboard."""
NEED_REFERENCE = frozenset({"math", "reasoning", "coding"})
"""Categories in which a judge that is not shown the right answer is easily wrong itself."""
RETRY_TEMPERATURE = 0.7
GRADE_TOKENS = 1024
"""Longest reply of the grading judge."""


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """Replies to one question, turn by turn; a turn that got none is not there, nor is any after it."""

    question_id: str
    model: str
    turns: tuple[str, ...]


def temperature_for(category: str, by: Literal["paper", "category"]) -> float:
    """At which temperature the model under test answers: the paper's, or FastChat's by category (0.7 elsewhere)."""
    return PAPER_TEMPERATURE if by == "paper" else CATEGORY_TEMPERATURES.get(category, 0.7)


def answer(
    questions: Sequence[Question], model: Asks, *, name: str, temperatures: Literal["paper", "category"] = "paper",
    turns: Literal[1, 2] = 1, max_tokens: int = 2048, stage: str = "answer",
) -> list[ModelAnswer]:  # fmt: skip
    """Ask each question, and its second turn after the model's own first answer."""
    given: dict[str, list[str]] = {q.id: [] for q in questions}
    for turn in range(turns):
        ready = [q for q in questions if len(q.turns) > turn and len(given[q.id]) == turn]
        requests = [
            Request(
                _conversation(q, given[q.id]),
                Sampling(temperature_for(q.category, temperatures), max_tokens=max_tokens),
                row=q.id,
            )
            for q in ready
        ]
        replies = model.run(requests, stage=stage, accept_truncated=True)
        for question, (_, reply) in zip(ready, replies, strict=True):
            if reply.problem is None:
                given[question.id].append(reply.text)
    return [ModelAnswer(q.id, name, tuple(given[q.id])) for q in questions]


def read_model_answers(path: Path, questions: Sequence[Question], name: str) -> list[ModelAnswer]:
    """Stored answers in FastChat's form (`question_id`, `choices: [{turns}]`), for the questions asked."""
    turns: dict[str, tuple[str, ...]] = {}
    for row in files.read_rows(path):
        choices = cast("Sequence[Mapping[str, Any]]", files.field(row, "choices", path))
        said = cast("Sequence[Any]", choices[0].get("turns", ())) if choices else ()
        turns[str(files.field(row, "question_id", path))] = tuple(str(text) for text in said)
    return [ModelAnswer(q.id, name, turns.get(q.id, ())) for q in questions]


def _conversation(question: Question, answers: Sequence[str]) -> tuple[Message, ...]:
    spoken: list[Message] = []
    for i, reply in enumerate(answers):
        spoken += [Message("user", question.turns[i]), Message("assistant", reply)]
    return (*spoken, Message("user", question.turns[len(answers)]))


@dataclass(frozen=True, slots=True)
class Grading:
    """How the judge is asked. `references: needed` shows them in `NEED_REFERENCE` categories only."""

    sampling: Sampling = field(default_factory=lambda: Sampling(0.0, max_tokens=GRADE_TOKENS))
    repeats: int = 1
    retries: int = 2
    references: Literal["needed", "given"] = "needed"
    template: Path | None = None
    """A prompt file of the user's own; by default ours."""

    @property
    def note(self) -> str:
        return NOTE if self.template is None else OWN_FILE_NOTE


_BY_DEFAULT = Grading()


def grade(
    questions: Sequence[Question], answers: Sequence[ModelAnswer], judge: Asks, *, judge_name: str = "judge",
    turns: Literal[1, 2] = 1, how: Grading = _BY_DEFAULT, repeat: int = 0, stage: str = "grade",
) -> list[Judgment]:  # fmt: skip
    """One judgment for each wanted turn, as the `repeat`-th time of asking; an unreadable one is asked again, an answer
    that is not there is not graded but kept as unread, so that it is counted."""
    by_id = {q.id: q for q in questions}
    wanted = [
        (by_id[a.question_id], a, turn)
        for a in answers
        for turn in range(1, turns + 1)
        if len(by_id[a.question_id].turns) >= turn
    ]
    found = [Judgment(q.id, a.model, turn, None, judge_name) for q, a, turn in wanted]
    for attempt in range(how.retries + 1):
        to_ask = [i for i, (_, a, turn) in enumerate(wanted) if found[i].score is None and len(a.turns) >= turn]
        requests = [_request(*wanted[i], how, repeat + attempt * how.repeats) for i in to_ask]
        for i, (_, reply) in zip(to_ask, judge.run(requests, stage=stage), strict=True):
            found[i] = replace(found[i], score=_rating(reply), text=reply.text)
    return found


def mean_judgments(repeats: Sequence[Sequence[Judgment]]) -> list[Judgment]:
    """Each judgment with the mean of its readable repeats; one that was never read stays unread."""
    merged: list[Judgment] = []
    for same in zip(*repeats, strict=True):
        read = [j.score for j in same if j.score is not None]
        merged.append(replace(same[0], score=fmean(read) if read else None))
    return merged


def _rating(reply: Reply) -> float | None:
    return None if reply.problem else read_rating(reply.text)


def _request(question: Question, answer: ModelAnswer, turn: int, how: Grading, sample: int) -> Request:
    sampling = how.sampling
    if sample >= how.repeats and sampling.temperature == 0:
        # A judge at temperature 0 would say the same unreadable thing again.
        sampling = replace(sampling, temperature=RETRY_TEMPERATURE)
    return Request(grade_messages(question, answer.turns, turn, how), sampling, sample=sample, row=question.id)


def grade_messages(
    question: Question, answers: Sequence[str], turn: int, how: Grading = _BY_DEFAULT
) -> tuple[Message, ...]:
    """What the judge reads: the conversation up to the graded answer, and the reference where one helps."""
    system, user = read_template("grade", how.template)
    spoken = [
        part
        for i, (asked, reply) in enumerate(zip(question.turns[:turn], answers[:turn], strict=True), start=1)
        for part in (_tagged("instruction", asked), _tagged(f"answer_{i}", reply))
    ]
    helps = how.references == "given" or question.category in NEED_REFERENCE
    shown = question.references[:turn] if helps else ()
    reference = "".join(f"\n{_tagged('example', text)}\n" for text in shown)
    filled = fill(
        user,
        with_reference=", and an example of a right answer to each question" if shown else "",
        which="second" if turn > 1 else "first",
        conversation="\n\n".join(spoken),
        reference=reference,
    )
    return Message("system", system), Message("user", filled)


def _tagged(tag: str, text: str) -> str:
    return f"<{tag}>\n{neutralise(text)}\n</{tag}>"
