"""The page's part on learning: how training went, and how difficulty moved from round to round (Figure 6)."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean
from typing import Any

from tapir.curriculum.trust import share_interval
from tapir.report.bins import bins_of, counted
from tapir.report.charts import Point, figure, intervals, lines, thin
from tapir.report.facts import Facts
from tapir.report.findings import absent
from tapir.report.judge import distributions as rescored_shares
from tapir.report.judge import points
from tapir.report.markup import Child, Element, el, foreign
from tapir.report.multiples import curves, distributions
from tapir.stages.rescore import Rescored
from tapir.training.result import StepLog

GROUPS = {"trained": "seeds trained on", "not_trained": "seeds not trained on", "held_out": "held-out instructions"}
MOST_TASKS = 40
MOST_PANELS = 32
MOST_ROUNDS = 8
"""Of more rounds the first and the last are drawn; the table has all."""


def rescoring(facts: Facts) -> list[Element]:
    """Difficulty of a fixed sample, measured again with every student; trained-on rows and held-out ones apart."""
    rows = [r for r in facts.trust.rescored if r.sampled]
    if not rows:
        said = "Difficulty was measured once, with student_0; `difficulty.rescore: measure` looks again in every round."
        return [el("p", said, class_="note")]
    parts = [el("h3", "Difficulty round by round")]
    for kind in sorted({r.kind for r in rows}):
        parts += _rescored_kind(facts, kind, [r for r in rows if r.kind == kind])
    return parts


def _rescored_kind(facts: Facts, kind: str, rows: list[Rescored]) -> Iterator[Element]:
    delta = facts.delta(kind)
    values = [r.value for r in rows]
    scale = bins_of(values, 0.0 if delta is None else delta, kind)
    rounds = sorted({r.round for r in rows})
    drawn = rounds if len(rounds) <= MOST_ROUNDS else [rounds[0], *rounds[1 - MOST_ROUNDS :]]
    cells = {
        f"student_{n}": {
            label: counted([r.value for r in rows if r.round == n and r.group == group], scale)
            for group, label in GROUPS.items()
            if any(r.group == group for r in rows)
        }
        for n in drawn
    }
    found = [d for d in rescored_shares(rows) if d["kind"] == kind]
    said = f"{kind} of the same rows under each student; the upright line is δ."
    chart = distributions(f"Difficulty by round, {kind}", said, cells, width=scale.width, threshold=delta)
    head = ("student", "rows of", "rows", "at zero", "above δ", "mean")
    data: list[list[Child]] = [
        [f"student_{d['round']}", GROUPS[d["group"]], f"{d['rows']:,}", _with_bounds(d["zero"], d["rows"]),
         _with_bounds(d["hard"], d["rows"]), points(d["mean"], d["mean_interval"])]
        for d in found
    ]  # fmt: skip
    yield figure(chart, f"Distribution of {said}", head, data)
    if len(rounds) > 1:
        yield el("div", _zero_panels(found), class_="panels")


def _with_bounds(share: float, rows: int) -> str:
    low, high = share_interval(share, rows) or (0.0, 1.0)
    return f"{100 * share:.0f} % ({100 * low:.0f} to {100 * high:.0f})"


def _zero_panels(found: list[dict[str, Any]]) -> Iterator[Element]:
    """The share of rows without a gap, which the paper sees growing from round to round (§D.2)."""
    for group, label in GROUPS.items():
        told: list[Point] = []
        for d in found:
            if d["group"] == group:
                low, high = share_interval(d["zero"], d["rows"]) or (0.0, 1.0)
                told.append(Point(f"student_{d['round']}", 100 * d["zero"], 100 * low, 100 * high))
        if not told:
            continue
        said = "; ".join(f"{p.label} {p.value:.0f} %" for p in told)
        chart = intervals(f"Share at zero, {label}", said, told, form="{:.0f}")
        rows = [[p.label, f"{p.value:.0f}", f"{p.low:.0f}", f"{p.high:.0f}"] for p in told]
        yield figure(chart, f"Rows without a gap, %: {label}", ("student", "%", "95 % CI from", "to"), rows)


def training(facts: Facts) -> list[Element]:
    """Curves of every student's training, hard and easy apart, and by task."""
    if not facts.training_logs:
        return [absent("no student of this run has been trained")]
    panels = [_curve(name, log) for name, log in facts.training_logs.items()]
    return [el("div", panels, class_="panels"), *_by_task(facts)]


def _curve(name: str, log: list[StepLog]) -> Element:
    series = {
        "easy": [(float(s.step), s.easy) for s in log if s.easy is not None],
        "hard": [(float(s.step), s.hard) for s in log if s.hard is not None],
    }
    if not any(series.values()):
        series = {"all": [(float(s.step), s.loss) for s in log]}
    series = {part: points for part, points in series.items() if points}
    steps = f"{log[-1].step} of {log[-1].steps} steps"
    said = f"{name}: {steps}, loss {log[0].loss:.3f} at first, {log[-1].loss:.3f} at last."
    chart = lines(f"Training of {name}", said, series, x_axis="step", y_axis="NLL per trained token")
    rows = [[part, f"{x:.0f}", f"{y:.3f}"] for part, points in series.items() for x, y in thin(points, 20)]
    return figure(chart, f"{name}, {steps}", ("part", "step", "NLL"), rows)


def _by_task(facts: Facts) -> Iterator[Element]:
    """A panel for each task: its curve in every student's training, one after the other."""
    logs = facts.training_logs
    steps_with: dict[str, int] = {}
    for log in logs.values():
        for step in log:
            for task in step.by_task:
                steps_with[task] = steps_with.get(task, 0) + 1
    tasks = sorted(steps_with, key=lambda t: (-facts.targets.get(t, 0), -steps_with[t], t))[:MOST_TASKS]
    if not tasks:
        return
    panels = {
        foreign(t, 60): {
            name: points
            for name, log in logs.items()
            if (points := [(float(s.step), s.by_task[t]) for s in log if t in s.by_task])
        }
        for t in tasks[:MOST_PANELS]
    }
    said = f"Training loss of {len(panels)} task types, one student after the other."
    chart = curves("Training by task", said, panels, unit="NLL per trained token")
    # A quarter of the steps at each end: one step's mean over one task is mostly noise.
    rows = [[foreign(t, 60), *(_first_and_last(log, t) for log in logs.values())] for t in tasks]
    caption = "NLL per trained token by task; in the table the mean of the first and of the last quarter of the steps"
    yield figure(chart, caption, ("task", *logs), rows)


def _first_and_last(log: list[StepLog], task: str) -> str:
    quarter = max(1, len(log) // 4)
    ends = (_mean(log[:quarter], task), _mean(log[-quarter:], task))
    return " → ".join("–" if v is None else f"{v:.3f}" for v in ends)


def _mean(steps: list[StepLog], task: str) -> float | None:
    values = [s.by_task[task] for s in steps if task in s.by_task]
    return fmean(values) if values else None
