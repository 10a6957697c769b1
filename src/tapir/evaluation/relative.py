"""Relative quality on Vicuna-Instructions (Figure 4): the model's scores as a share of the reference's.

Owns the ratio and the public review form. Making verdicts is the judge stage's.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, cast

from tapir.errors import DataError
from tapir.evaluation.rows import Estimate, Row, as_number, field, interval_of_ratio, last_of_each, read_rows
from tapir.types import Verdict

_PUBLIC_CATEGORIES = (
    ("generic", 10), ("knowledge", 20), ("roleplay", 30), ("common-sense", 40), ("fermi", 50),
    ("counterfactual", 60), ("coding", 67), ("math", 70), ("writing", 80),
)  # fmt: skip
"""Category and the number of its last question in the public set, which runs from 1 to 80."""
_TWO_NUMBERS = re.compile(r"\s*(\d+(?:\.\d+)?)(?:\s*/\s*10)?(?:\s*[,;/|]\s*|\s+)(\d+(?:\.\d+)?)(?:\s*/\s*10)?\s*\.?\s*")


@dataclass(frozen=True, slots=True)
class Review:
    """Scores of both sides on one question; None where they could not be read."""

    question_id: str
    reference_score: float | None
    model_score: float | None
    category: str = "all"
    model: str = "model"

    @property
    def scored(self) -> bool:
        return self.reference_score is not None and self.model_score is not None

    def to_json(self) -> Row:
        """The row in the public form, -1 for scores that could not be read."""
        scores = [-1 if score is None else score for score in (self.reference_score, self.model_score)]
        return {"question_id": self.question_id, "category": self.category, "model": self.model, "score": scores}


@dataclass(frozen=True, slots=True)
class RelativeScore:
    """100 × sum of the model's scores over sum of the reference's."""

    model: str
    overall: Estimate
    categories: dict[str, Estimate | None]
    missing: int
    duplicates: int = 0

    def to_json(self) -> Row:
        return {
            "model": self.model, "relative_quality": self.overall.to_json(),
            "categories": {name: e.to_json() if e else None for name, e in self.categories.items()},
            "n": self.overall.n, "missing": self.missing, "duplicates": self.duplicates,
        }  # fmt: skip


def read_reviews(path: Path, categories: Mapping[str, str] | None = None) -> list[Review]:
    """Stored reviews: `score: [reference, model]`, else the two numbers on the first line of `text`."""
    return [_review(row, path, categories or {}) for row in read_rows(path)]


def _review(row: Row, path: Path, categories: Mapping[str, str]) -> Review:
    question_id = str(field(row, "question_id", path))
    if "score" not in row and "text" not in row:
        raise DataError(f"{path}: the review of {question_id} has neither `score` nor `text`")
    reference, model = _listed(row.get("score")) or read_first_line(str(row.get("text", ""))) or (None, None)
    category = str(row.get("category") or categories.get(question_id) or category_of(question_id))
    return Review(question_id, reference, model, category, str(row.get("model") or row.get("answer2_model") or "model"))


def _listed(value: Any) -> tuple[float, float] | None:
    if not isinstance(value, list) or len(cast("list[Any]", value)) != 2:
        return None
    return _on_scale(*(as_number(v) for v in cast("list[Any]", value)))


def read_first_line(text: str) -> tuple[float, float] | None:
    """The two scores that a reply of the public form opens with; None if its first line is not two numbers."""
    lines = text.strip().splitlines()
    match = _TWO_NUMBERS.fullmatch(lines[0]) if lines else None
    return _on_scale(float(match[1]), float(match[2])) if match else None


def _on_scale(reference: float | None, model: float | None) -> tuple[float, float] | None:
    """Both from 0 to 10, or none: -1 stands for a review that could not be read."""
    if reference is None or model is None or not (0 <= reference <= 10 and 0 <= model <= 10):
        return None
    return reference, model


def category_of(question_id: str) -> str:
    """The category of a public question, by its number; `all` for any other."""
    number = int(question_id) if question_id.isdigit() else 0
    if number < 1:
        return "all"
    return next((name for name, last in _PUBLIC_CATEGORIES if number <= last), "all")


def reviews_from_verdicts(verdicts: Sequence[Verdict], categories: Mapping[str, str] | None = None) -> list[Review]:
    """One review an instruction: each side's mean over both orders; one unread verdict leaves it unscored."""
    by_instruction: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        by_instruction.setdefault(verdict.instruction_id, []).append(verdict)
    return [_from_verdicts(i, found, (categories or {}).get(i, "all")) for i, found in by_instruction.items()]


def _from_verdicts(instruction_id: str, verdicts: list[Verdict], category: str) -> Review:
    name = verdicts[0].student
    if {v.student for v in verdicts} != {name}:
        raise DataError(f"verdicts on {instruction_id} are about several students; score one student at a time")
    orders = [sum(v.order == order for v in verdicts) for order in ("student_first", "teacher_first")]
    # A score in one order only would carry the judge's bias for a position.
    if orders[0] != orders[1] or not all(v.scored for v in verdicts):
        return Review(instruction_id, None, None, category, name)
    reference = fmean(v.teacher_score for v in verdicts if v.teacher_score is not None)
    model = fmean(v.student_score for v in verdicts if v.student_score is not None)
    return Review(instruction_id, reference, model, category, name)


def by_vote(verdicts: Sequence[Verdict]) -> list[float]:
    """Relative quality in percent by each repeat of the judge alone; empty for one."""
    votes = sorted({v.vote for v in verdicts})
    if len(votes) < 2:
        return []
    found = [_ratio(reviews_from_verdicts([v for v in verdicts if v.vote == vote]), 0) for vote in votes]
    return [estimate.value for estimate in found if estimate is not None]


def score_reviews(reviews: Sequence[Review], *, expected: int | None = None) -> RelativeScore:
    """Relative quality overall and by category; `expected` counts questions without a review as missing."""
    names = sorted({r.model for r in reviews})
    if len(names) != 1:
        raise DataError(f"reviews of {len(names)} models ({', '.join(names)}); score one model at a time")
    kept, dropped = last_of_each((r.question_id, r, r.scored) for r in reviews)
    if dropped:
        warnings.warn(f"{dropped} duplicate reviews removed; of each the last readable one counts", stacklevel=2)
    missing = max(expected or 0, len(kept)) - sum(r.scored for r in kept)
    overall = _ratio(kept, missing)
    if overall is None:
        raise DataError(f"none of {len(kept)} reviews has readable scores with a reference above 0")
    by_category: dict[str, list[Review]] = {}
    for review in kept:
        by_category.setdefault(review.category, []).append(review)
    categories = {name: _ratio(found, sum(not r.scored for r in found)) for name, found in sorted(by_category.items())}
    return RelativeScore(names[0], overall, categories, missing, dropped)


def _ratio(reviews: Sequence[Review], missing: int) -> Estimate | None:
    pairs = [
        (r.reference_score, r.model_score)
        for r in reviews
        if r.reference_score is not None and r.model_score is not None
    ]
    total = sum(reference for reference, _ in pairs)
    if not total:
        return None
    ratio = sum(model for _, model in pairs) / total
    low, high = interval_of_ratio([model for _, model in pairs], [reference for reference, _ in pairs])
    low, high = (None if bound is None else 100 * bound for bound in (low, high))
    return Estimate(100 * ratio, len(pairs), low, high, missing)
