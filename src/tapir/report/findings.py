"""The page's first part: what was distilled from what, what got better and by how much, what to worry about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import PurePath
from statistics import fmean

from tapir.config import Recipe, Role
from tapir.evaluation.rows import mean_estimate
from tapir.report import text
from tapir.report.charts import Point, figure, intervals, stacked_bars
from tapir.report.facts import Facts
from tapir.report.markup import Child, Element, el, foreign, table
from tapir.tasks import OTHERS

FEW_OF_TASK = 5
"""Of fewer rows a resampled interval says nothing."""
FEW_PROMPTS = 100
"""Below this many held-out prompts a 95 % interval of a rate is wider than about ± 10 points."""


def absent(what: str) -> Element:
    """What stands where a table is not there yet."""
    return el("p", f"Not there yet: {what}.", class_="absent")


def summary(facts: Facts) -> list[Element]:
    """The run in a few sentences, its numbers before and after, and what to worry about."""
    worries = list(_worries(facts))
    parts = [el("p", sentence) for sentence in [*_what(facts), *_better(facts)]]
    parts.append(el("p", f"It took {text.cost_line(facts.run)}."))
    tiles = list(_tiles(facts))
    if tiles:
        parts.insert(1, el("dl", tiles, class_="tiles"))
    if worries:
        listed = el("ul", (el("li", w) for w in worries))
        parts.append(el("div", el("h3", "What to worry about"), listed, class_="worries"))
    return parts


def _what(facts: Facts) -> Iterator[str]:
    recipe, rounds = facts.recipe, facts.rounds
    if recipe is not None:
        student, teacher = (_model_name(recipe, role) for role in ("student", "teacher"))
        done, wanted = _finished_rounds(facts), recipe.curriculum.rounds
        yield f"{student} was distilled from {teacher}: {done} of {wanted} round{'s' * (wanted > 1)} done."
    pool, hard = facts.rows("round_0/02_classified"), facts.rows("round_0/07_hard")
    if pool is not None and hard is not None:
        deltas = sorted({d for d in (facts.delta(k) for k in {x.kind for x in facts.difficulties}) if d is not None})
        above = f" (difficulty above {' or '.join(f'{d:g}' for d in deltas)})" if deltas else ""
        expanded = [n for n in (facts.rows(f"round_{r}/01_expanded") for r in rounds) if n is not None]
        many = sum(expanded)
        grown = f"; {many:,} instruction{'s were' if many != 1 else ' was'} grown from them" if expanded else ""
        yield f"Of {pool:,} seeds {hard:,} were hard for student_0{above}{grown}."
    trained = [(r, facts.receipts[f"round_{r}/04_mix"]) for r in rounds if f"round_{r}/04_mix" in facts.receipts]
    if trained:
        sizes = ", ".join(
            f"{x['rows_out']:,} rows in round {r} ({100 * x['notes'].get('hard_share_of_rows', 0):.0f} % hard)"
            for r, x in trained
        )
        yield f"The student was trained on {sizes}."


def _model_name(recipe: Recipe, role: Role) -> str:
    model = recipe.models.resolved(role)
    # Of a local folder only its name: where it lies says nothing to a reader, and may say too much.
    return foreign(PurePath(model.model).name if model.kind == "local" else model.model or f"a {model.kind} model", 120)


def _finished_rounds(facts: Facts) -> int:
    if any(place.endswith("_measured") for place in facts.receipts if not place.startswith("round_0/")):
        # An arm of an ablation, which measures its last student only.
        return len(facts.rounds)
    return sum(f"round_{r}/06_evaluation" in facts.receipts for r in facts.rounds)


def _better(facts: Facts) -> Iterator[str]:
    if not facts.students:
        yield "No student has been evaluated yet."
        return
    for result in facts.results:
        if result.student == facts.students[-1] and result.sentence:
            yield foreign(result.sentence, 400) + "."


def _tiles(facts: Facts) -> Iterator[Element]:
    """The last student's numbers, large, with student_0's beside them."""
    if len(facts.students) < 2:
        return
    for metric, (label, form) in text.metrics(facts.results).items():
        points = score_points(facts, metric)
        if not points or points[-1].label != facts.students[-1]:
            continue
        last = points[-1]
        interval = f"95 % CI {form.format(last.low)} to {form.format(last.high)}" if last.low is not None else None
        before = f"student_0: {form.format(points[0].value)}" if points[0].label == "student_0" else None
        notes = (el("small", note) for note in (interval, before) if note)
        yield el("div", el("dt", label), el("dd", form.format(last.value), notes))


def _worries(facts: Facts) -> Iterator[str]:
    recipe = facts.recipe
    if facts.recipe_problem:
        yield f"The recipe cannot be read by this version of tapir ({foreign(facts.recipe_problem, 300)})."
    if recipe is not None and _finished_rounds(facts) < recipe.curriculum.rounds:
        last = list(facts.receipts)[-1] if facts.receipts else "none"
        yield f"The run is not finished: the last finished step is {last}; the same `tapir run` goes on."
    if facts.manifest.get("recipe_source") == "quickstart":
        yield "This was a smoke test of a real loop: too few rows to carry a claim."
    yield from _doubts_on_results(facts)
    yield from _doubts_on_judge(facts)
    yield from _doubts_on_data(facts)


def _doubts_on_results(facts: Facts) -> Iterator[str]:
    if not facts.students:
        return
    last = [r for r in facts.results if r.student == facts.students[-1]]
    few = [r.n for r in last if r.metric in ("win_rate", "checks_passed") and r.n < FEW_PROMPTS]
    if few:
        yield f"Some rates rest on {min(few)} held-out prompts only: read their intervals, not their values."
    for r in last:
        if r.metric == "win_rate" and r.low is not None and r.high is not None and r.low <= 50 <= r.high:
            yield "The win rate's interval includes 50 %: the comparison does not tell the students apart."
        if r.missing > 0.1 * (r.n + r.missing):
            yield f"{r.missing} of {r.n + r.missing} held-out prompts have no {r.metric.replace('_', ' ')}."
    losses = sum(1 for gap in facts.held_out_gaps.values() if gap < 0)
    if losses:
        yield (
            f"{facts.students[-1]} scored below student_0 on {losses} of {len(facts.held_out_gaps)} held-out prompts; "
            "the worst are shown below."
        )


def canary_doubts(facts: Facts) -> Iterator[str]:
    """Whether answers that say nothing are judged as well as the students'."""
    by_canaries: dict[tuple[str, ...], list[str]] = {}
    for name, report in facts.trust.canaries.items():
        if report.reaching:
            by_canaries.setdefault(tuple(n.removeprefix("canary_") for n in report.reaching), []).append(name)
    for canaries, names in by_canaries.items():
        pairs = min(c.pairs for n in names for c in facts.trust.canaries[n].canaries)
        yield (
            f"The judge can't be trusted here: on {pairs} prompts answers that say nothing ({', '.join(canaries)}) "
            f"reach those of {' and '.join(names)}."
        )


def _doubts_on_judge(facts: Facts) -> Iterator[str]:
    yield from canary_doubts(facts)
    for name, report in facts.judgements.items():
        if report.order_inconsistent is not None and report.order_inconsistent > 0.3:
            yield (
                f"In the {name} the judge changed its verdict with the order of the answers in "
                f"{100 * report.order_inconsistent:.0f} % of pairs; do not lean on judged numbers alone."
            )
        if report.unscored > 0.1 * report.pairs:
            yield f"In the {name} {report.unscored} of {report.pairs} judged pairs have no readable verdict."
    recipe = facts.recipe
    if recipe is not None and facts.last_judged is not None:
        judge, evaluator = (recipe.models.resolved(r) for r in ("judge", "evaluator"))
        if (judge.kind, judge.model, judge.base_url) == (evaluator.kind, evaluator.model, evaluator.base_url):
            yield "The judge that selected the hard seeds also evaluated the students (the paper takes a stronger one)."


def _doubts_on_data(facts: Facts) -> Iterator[str]:
    cut = [f"{name} {100 * n / total:.0f} %" for name, (n, total) in facts.cut_answers.items() if n > 0.05 * total]
    if cut:
        yield f"Many answers ended at the token limit (max_answer_tokens): {', '.join(cut)}."
    for r in facts.rounds:
        unmet: dict[str, int] = facts.receipts.get(f"round_{r}/04_mix", {}).get("notes", {}).get("unmet") or {}
        if unmet:
            largest = sorted(unmet, key=lambda t: (-unmet[t], t))
            types = ", ".join(foreign(t, 40) for t in largest[:4]) + ("…" if len(unmet) > 4 else "")
            missing = sum(unmet.values())
            yield f"Round {r} lacked {missing:,} rows for its targets ({types}); other types took their place."
    replayed = sum(r["replayed_calls"] for r in facts.receipts.values())
    if replayed:
        yield f"{replayed:,} calls were replayed from a recording: they are not this run's own."
    if facts.recipe is not None and not facts.recipe.decontaminate.enabled:
        yield "Decontamination was switched off: evaluation texts may have been trained on."


def results(facts: Facts) -> list[Element]:
    """Before and after, and the score by round (Figure 3)."""
    if not facts.students:
        return [absent("no student has been evaluated")]
    head, *rows = text.table(facts.results)
    panels = list(_panels(facts))
    parts: list[Element] = []
    if rows:
        cells = ([row[0], *(_with_interval(c) for c in row[1:])] for row in rows)
        parts.append(table(head, cells, caption="Held-out results"))
        parts.append(el("p", "Under a number its 95 % interval. For NLL lower is better.", class_="note"))
    if panels and len(facts.students) > 1:
        parts.append(el("div", panels, class_="panels"))
    return parts or [absent("the evaluations measured nothing")]


def _with_interval(cell: str) -> Element:
    value, _, interval = cell.partition(" (")
    return el("span", "–" if value == "-" else value, el("small", interval.rstrip(")")) if interval else None)


def score_points(facts: Facts, metric: str) -> list[Point]:
    """A point a student. student_0's judge score is the one of the comparison with the last student."""
    found: dict[str, Point] = {}
    for r in facts.results:
        if r.metric == metric:
            found[r.student] = Point(r.student, r.value, r.low, r.high)
    return [found[name] for name in facts.students if name in found]


def _panels(facts: Facts) -> Iterator[Element]:
    for metric, (label, form) in text.metrics(facts.results).items():
        points = score_points(facts, metric)
        if not points:
            continue
        reference = 50.0 if metric == "win_rate" else None
        caption = label[0].upper() + label[1:] + (" (at 50 % they are even)" if reference else "")
        said = "; ".join(f"{p.label} {form.format(p.value)}" for p in points)
        chart = intervals(label, f"By student: {said}.", points, form=form, reference=reference)
        rows = [[p.label, *("–" if v is None else form.format(v) for v in (p.value, p.low, p.high))] for p in points]
        yield figure(chart, caption, ("student", "value", "95 % CI from", "to"), rows)


def by_task(facts: Facts) -> list[Element]:
    """Held-out wins, ties and losses against student_0, task by task."""
    if not facts.held_out_gaps:
        return [absent("no student has been compared with student_0 on the held-out instructions")]
    counts: dict[str, Counter[int]] = {}
    for i, gap in facts.held_out_gaps.items():
        task = facts.held_out[i].task if i in facts.held_out else None
        counts.setdefault(task or OTHERS, Counter())[(gap > 0) - (gap < 0)] += 1
    ordered = sorted(counts.items(), key=lambda item: (-item[1].total(), item[0]))[:40]
    rows = [(foreign(task, 60), (c[1], c[0], c[-1]), _rate(c)) for task, c in ordered]
    won, tied, lost = (sum(c[n] for c in counts.values()) for n in (1, 0, -1))
    name = f"student_{facts.last_judged}"
    said = f"{name} against student_0 on {won + tied + lost} held-out prompts: {won} won, {tied} tied, {lost} lost."
    chart = stacked_bars(f"{name} against student_0 by task", said, rows, ("won", "tied", "lost"))
    data: list[list[Child]] = [[label, *map(str, values), note] for label, values, note in rows]
    caption = (
        "Held-out comparisons by task type; at the end the win rate, ties counted half, with its 95 % interval from "
        f"{FEW_OF_TASK} rows on"
    )
    return [el("p", said), figure(chart, caption, ("task", "won", "tied", "lost", "win rate"), data)]


def _rate(counts: Counter[int]) -> str:
    """The win rate of a task, ties counted half."""
    wins = [1.0] * counts[1] + [0.5] * counts[0] + [0.0] * counts[-1]
    said = f"{100 * fmean(wins):.0f} % of {len(wins)}"
    if len(wins) < FEW_OF_TASK:
        return said
    rate = mean_estimate(wins, scale=100, bounds=(0, 1))
    return f"{said} ({rate.low:.0f} to {rate.high:.0f})" if rate else said
