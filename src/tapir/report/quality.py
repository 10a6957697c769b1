"""Relative quality by task (Figure 4): one side's judged scores as a share of the other's.

The ratio and its interval are `evaluation.relative`'s. The page draws a radar, which shows the shape, and a table,
which has every task with its interval.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tapir.evaluation.relative import RelativeScore, reviews_from_verdicts, score_reviews
from tapir.evaluation.rows import Estimate
from tapir.report.facts import Facts
from tapir.report.findings import absent
from tapir.report.markup import Child, Element, el, foreign, table
from tapir.report.polar import MOST_AXES, MOST_LINES, radar
from tapir.store.tables import read_rows
from tapir.tasks import OTHERS
from tapir.types import Verdict

MOST_TASKS = 40
MOST_PAIRS = 5_000
"""Of more pairs a sample is scored: its intervals are narrow enough, and resampling a million takes minutes."""
FEW = 5
"""Of fewer rows a resampled interval says nothing."""
SEED = 17


@dataclass(frozen=True, slots=True)
class Quality:
    """Scores of some models relative to one reference."""

    reference: str
    rows: str
    """On what: held-out instructions, or the seed pool."""
    scores: dict[str, RelativeScore]

    @property
    def tasks(self) -> list[str]:
        """All tasks with a score, those with the most rows first."""
        counts: dict[str, int] = {}
        for score in self.scores.values():
            for task, estimate in score.categories.items():
                if estimate is not None:
                    counts[task] = max(counts.get(task, 0), estimate.n)
        return sorted(counts, key=lambda t: (-counts[t], t))


def qualities(facts: Facts) -> Iterator[Quality]:
    """Later students against student_0 on held-out instructions, and student_0 against the teacher on the seeds.

    Every student against the teacher on held-out instructions too, where the recipe asks for it
    (`evaluate: [{kind: pairwise, against: teacher}]`).
    """
    held_out = {i: instruction.task or OTHERS for i, instruction in facts.held_out.items()}
    places = {f"student_{r}": f"round_{r}/06_evaluation" for r in facts.rounds}
    every = {"student_0": "round_0/09_evaluation", **places}
    for reference, table_name, asked in (
        ("student_0", "verdicts", places), ("the teacher", "teacher_verdicts", every),
    ):  # fmt: skip
        found = {name: _score(facts, place, table_name, held_out) for name, place in asked.items()}
        scores = {name: score for name, score in found.items() if score is not None}
        if scores:
            yield Quality(reference, "held-out instructions", scores)
    first = _score(facts, "round_0/06_verdicts", None, facts.task_of)
    if first is not None:
        yield Quality("the teacher", "seeds", {"student_0": first})


def _score(facts: Facts, place: str, name: str | None, tasks: Mapping[str, str]) -> RelativeScore | None:
    path = facts.path(place, name)
    if not path.exists():
        return None
    verdicts = list(read_rows(path, Verdict, without=("raw",)))
    checked = {v.instruction_id for v in verdicts if v.method == "verified"}
    # A check knows better than a judge: where a pair has verified verdicts, the judge's are left out.
    told = [v for v in verdicts if v.method == "verified" or v.instruction_id not in checked]
    reviews = reviews_from_verdicts(told, tasks)
    if len(reviews) > MOST_PAIRS:
        reviews = random.Random(SEED).sample(reviews, MOST_PAIRS)
    if not any(r.scored and r.reference_score for r in reviews):
        return None
    return score_reviews(reviews)


def quality(facts: Facts) -> list[Element]:
    """The section on relative quality."""
    parts = [part for found in qualities(facts) for part in quality_parts(found)]
    return parts or [absent("no pair of answers has been judged")]


def quality_parts(found: Quality) -> list[Element]:
    """Sentences, radar and table of one comparison."""
    names = list(found.scores)[-MOST_LINES:]
    drawn = _radar(found, names) if len(found.tasks) > 2 else None
    return [
        el("h3", f"Relative quality: {', '.join(names)} against {found.reference}, on {found.rows}"),
        *(el("p", _sentence(name, found)) for name in names),
        el("div", drawn, _table(found, names), class_="beside"),
    ]


def _sentence(name: str, found: Quality) -> str:
    overall = found.scores[name].overall
    said = f"{name} reaches {overall.value:.1f} % of {found.reference}'s scores on {overall.n:,} {found.rows}"
    if overall.low is None or overall.high is None:
        return f"{said}; too few for an interval."
    noise = "; a difference inside the noise" if overall.low <= 100 <= overall.high else ""
    return f"{said} (95 % CI {overall.low:.1f} to {overall.high:.1f}{noise})."


def _radar(found: Quality, names: list[str]) -> Element:
    tasks = found.tasks[:MOST_AXES]
    values = {name: [_value(found.scores[name].categories.get(t)) for t in tasks] for name in names}
    said = "; ".join(_sentence(name, found) for name in names)
    axes = [foreign(t, 60) for t in tasks]
    chart = radar(
        f"Relative quality by task against {found.reference}", said, axes, values, reference=100.0,
        reference_name=found.reference,
    )  # fmt: skip
    more = f", the {len(tasks)} types with the most rows" if len(found.tasks) > len(tasks) else ""
    caption = (
        f"Judged scores as a share of {found.reference}'s, % by task type{more}; what passes the last ring is drawn on "
        "it. The table has every value."
    )
    return el("figure", el("div", chart, class_="scroll"), el("figcaption", caption))


def _table(found: Quality, names: list[str]) -> Element:
    rows: list[list[Child]] = [
        [foreign(t, 60), f"{_rows_of(found, t):,}", *(_cell(found.scores[n].categories.get(t)) for n in names)]
        for t in found.tasks[:MOST_TASKS]
    ]
    overall = [found.scores[n].overall for n in names]
    rows.append(["all", f"{max(e.n for e in overall):,}", *map(_cell, overall)])
    caption = f"Relative quality by task, % of {found.reference}'s scores, with its 95 % interval from {FEW} rows on"
    return table(("task", "rows", *names), rows, caption=caption)


def _rows_of(found: Quality, task: str) -> int:
    return max(e.n for s in found.scores.values() if (e := s.categories.get(task)) is not None)


def _value(estimate: Estimate | None) -> float | None:
    return None if estimate is None else estimate.value


def _cell(estimate: Estimate | None) -> Child:
    if estimate is None:
        return "–"
    if estimate.low is None or estimate.high is None or estimate.n < FEW:
        return f"{estimate.value:.0f}"
    return el("span", f"{estimate.value:.0f} ", el("i", f"{max(0, estimate.low):.0f} to {estimate.high:.0f}"))
