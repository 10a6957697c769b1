"""MT-Bench (§4.2): answers graded 1 to 10, scored per model, turn and category.

Owns the files' forms (FastChat's) and the scoring of judgments. Asking the model under test and the judge is
`mt_bench_live`'s.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from tapir.errors import DataError
from tapir.evaluation.rows import Estimate, Row, as_number, clustered_mean, field, last_of_each, placed_rows, read_rows

CATEGORIES = ("writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities")
SCALE = (1.0, 10.0)
_FIRST_PUBLIC_ID, _A_CATEGORY = 81, 10
"""The public questions are numbered 81 to 160, ten of each category in this order."""


@dataclass(frozen=True, slots=True)
class Question:
    """One question of one or two turns; `references` are answers for the judge to compare with, turn by turn."""

    id: str
    category: str
    turns: tuple[str, ...]
    references: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Judgment:
    """One grade. `score` is None where no rating could be read."""

    question_id: str
    model: str
    turn: int
    score: float | None
    judge: str = "judge"
    text: str = ""

    def to_json(self) -> Row:
        """The row as FastChat spells it, -1 for a rating that could not be read."""
        return {
            "question_id": int(self.question_id) if self.question_id.isdigit() else self.question_id,
            "model": self.model, "judge": self.judge, "judgment": self.text,
            "score": -1 if self.score is None else self.score, "turn": self.turn,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class ModelScore:
    """One model's grades. The paper reports turn 1 (Table 3); `both` averages all judgments of both turns."""

    model: str
    turn_1: Estimate | None
    turn_2: Estimate | None
    both: Estimate | None
    categories: dict[str, Estimate | None]
    """Turn 1, by category."""
    categories_both: dict[str, Estimate | None]

    def to_json(self) -> Row:
        def spelled(values: Mapping[str, Estimate | None]) -> Row:
            return {name: v.to_json() if v else None for name, v in values.items()}

        overall = {"turn_1": self.turn_1, "turn_2": self.turn_2, "both": self.both}
        categories = {"categories": spelled(self.categories), "categories_both": spelled(self.categories_both)}
        return {"model": self.model} | spelled(overall) | categories


@dataclass(frozen=True, slots=True)
class MtBenchScore:
    """Every model of a file, best first turn first."""

    judge: str
    models: tuple[ModelScore, ...]
    n: int
    missing: int
    duplicates: int

    def to_json(self) -> Row:
        return {
            "judge": self.judge, "models": {m.model: m.to_json() for m in self.models},
            "n": self.n, "missing": self.missing, "duplicates": self.duplicates,
        }  # fmt: skip


def read_questions(path: Path) -> list[Question]:
    """Questions in FastChat's form: `question_id`, `category`, `turns` and perhaps `reference`."""
    questions: list[Question] = []
    for where, row in placed_rows(path):
        turns = field(row, "turns", where)
        if not isinstance(turns, list) or not turns:
            raise DataError(f"{where}: question {row.get('question_id')} has no list of turns")
        questions.append(
            Question(
                str(field(row, "question_id", where)),
                str(row.get("category", "all")),
                tuple(str(t) for t in cast("list[Any]", turns)),
                _references(row.get("reference"), where),
            )
        )
    if len({q.id for q in questions}) < len(questions):
        raise DataError(f"{path}: two questions have the same question_id; keep one of each")
    return questions


def _references(given: Any, where: str) -> tuple[str, ...]:
    """One a turn; a single text is the first turn's."""
    texts: Any = [given] if isinstance(given, str) else given or []
    listed = cast("list[Any]", texts) if isinstance(texts, list) else [None]
    if not all(isinstance(t, str | int | float) for t in listed):
        raise DataError(f"{where}: `reference` is {given!r}; it should be a text, or a list of texts, one a turn")
    return tuple(str(t) for t in listed)


def category_of(question_id: str) -> str:
    """The category of a public question, by its number; `all` for any other."""
    place = int(question_id) - _FIRST_PUBLIC_ID if question_id.isdigit() else -1
    return CATEGORIES[place // _A_CATEGORY] if 0 <= place < _A_CATEGORY * len(CATEGORIES) else "all"


def read_judgments(path: Path) -> list[Judgment]:
    """Stored judgments in FastChat's form, duplicates still in."""
    return [_judgment(row, path) for row in read_rows(path)]


def _judgment(row: Row, path: Path) -> Judgment:
    if "model" not in row and "model_1" in row:
        raise DataError(f"{path}: these are pairwise judgments; the single-answer ones have `model` and `score`")
    judge: Any = row.get("judge", "judge")
    turn = row.get("turn", 1)
    if turn not in (1, 2):
        raise DataError(f"{path}: question {row.get('question_id')} has turn {turn!r}; there are turns 1 and 2")
    score = as_number(field(row, "score", path))
    return Judgment(
        question_id=str(field(row, "question_id", path)),
        model=str(field(row, "model", path)),
        turn=int(turn),
        # -1 stands for a rating that could not be read; so does any other number off the scale.
        score=score if score is not None and 1 <= score <= 10 else None,
        judge=str(cast("list[Any]", judge)[0]) if isinstance(judge, list) and judge else str(judge),
        text=str(row.get("judgment", "")),
    )


def score_judgments(
    judgments: Sequence[Judgment], questions: Sequence[Question] = (), *, judge: str | None = None
) -> MtBenchScore:
    """Scores of every model; a question that one model has and another lacks counts as missing for the other."""
    judges = sorted({j.judge for j in judgments})
    if judge is None and len(judges) > 1:
        raise DataError(f"judgments by several judges ({', '.join(judges)}); say which counts with --judge")
    chosen = [j for j in judgments if judge is None or j.judge == judge]
    if not chosen:
        raise DataError(f"no judgment by {judge}; there are some by {', '.join(judges) or 'nobody'}")
    kept, dropped = last_of_each(((j.question_id, j.model, j.turn), j, j.score is not None) for j in chosen)
    if dropped:
        warnings.warn(f"{dropped} duplicate judgments removed; of each the last readable one counts", stacklevel=2)
    expected = _expected(kept, questions)
    category = {q.id: q.category for q in questions}
    models = [
        _model_score(name, [j for j in kept if j.model == name], expected, category)
        for name in sorted({j.model for j in kept})
    ]
    models.sort(key=lambda m: -m.turn_1.value if m.turn_1 else 0.0)
    read = sum(j.score is not None for j in kept)
    return MtBenchScore(chosen[0].judge, tuple(models), read, len(expected) * len(models) - read, dropped)


def _expected(judgments: Iterable[Judgment], questions: Sequence[Question]) -> set[tuple[str, int]]:
    """(question, turn) that each model should have: all that any has, of the turns that were judged."""
    found = {(j.question_id, j.turn) for j in judgments}
    judged_turns = {turn for _, turn in found}
    asked = {(q.id, t) for q in questions for t in range(1, len(q.turns) + 1) if t in judged_turns}
    stray = {question for question, _ in found} - {q.id for q in questions}
    if questions and stray:
        raise DataError(f"judgments of questions that the question file lacks: {', '.join(sorted(stray)[:5])}")
    return found | asked


def _model_score(
    name: str, judgments: Sequence[Judgment], expected: set[tuple[str, int]], category: Mapping[str, str]
) -> ModelScore:
    def named(question_id: str) -> str:
        return category.get(question_id) or category_of(question_id)

    def estimate(turns: tuple[int, ...], only: str | None = None) -> Estimate | None:
        wanted = {(q, t) for q, t in expected if t in turns and (only is None or named(q) == only)}
        clusters: dict[str, list[float]] = {}
        for j in judgments:
            if (j.question_id, j.turn) in wanted and j.score is not None:
                clusters.setdefault(j.question_id, []).append(j.score)
        read = sum(map(len, clusters.values()))
        return clustered_mean(clusters, missing=len(wanted) - read, bounds=SCALE)

    known = {named(q) for q, _ in expected}
    ordered = [c for c in CATEGORIES if c in known] + sorted(known - set(CATEGORIES))
    return ModelScore(
        name, estimate((1,)), estimate((2,)), estimate((1, 2)),
        {c: estimate((1,), c) for c in ordered}, {c: estimate((1, 2), c) for c in ordered},
    )  # fmt: skip


_DOUBLE = re.compile(r"\[\[\s*(\d{1,3}(?:\.\d+)?)\s*(?:/\s*10\s*)?\]\]")
_SINGLE = re.compile(r"\[\s*(\d{1,3}(?:\.\d+)?)\s*(?:/\s*10\s*)?\]")
_WORDED = re.compile(r"^\W*rating\W*?:\W*(\d{1,3}(?:\.\d+)?)\s*(?:/\s*10)?\W*$", re.IGNORECASE | re.MULTILINE)


def read_rating(text: str) -> float | None:
    """The one rating from 1 to 10 that a reply gives; None if there is none, several, or one off the scale."""
    for pattern in (_DOUBLE, _SINGLE, _WORDED):
        found = {float(number) for number in pattern.findall(text)}
        if found:
            rating = found.pop()
            return rating if not found and 1 <= rating <= 10 else None
    return None
