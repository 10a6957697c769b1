"""Several runs on one page: a table and a figure of what they reached, then difficulty, data, cost, run by run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from tapir.report.bins import bins_of, counted
from tapir.report.charts import Point, figure, intervals, lines, mix_columns
from tapir.report.compare import Entry, cautions, entries, gaps, metrics, recipe_changes
from tapir.report.findings import absent, score_points, summary
from tapir.report.html import document
from tapir.report.making import KINDS, cost_of, duration
from tapir.report.markup import Child, Element, el, foreign, render, table
from tapir.report.multiples import distributions
from tapir.report.quality import Quality, qualities, quality_parts
from tapir.store.rundir import RunDir, write_text

MOST_RUNS = 24
MOST_LINES = 4
MOST_COLUMNS = 6


def write_comparison(runs: Sequence[RunDir], out: Path) -> Path:
    """Write the page that compares these runs; the same files give the same bytes."""
    write_text(out, render(comparison(runs)))
    return out


def comparison(runs: Sequence[RunDir]) -> Element:
    """The whole document."""
    found = entries(runs)
    sections = (
        ("results", "What they reached", _results(found)),
        ("differences", "Differences", _differences(found)),
        ("rounds", "Round by round", _rounds(found)),
        ("quality", "Relative quality", _quality(found)),
        ("difficulty", "Difficulty", _difficulty(found)),
        ("mix", "Task mix", _mix(found)),
        ("recipe", "Recipes", _recipes(found)),
        ("costs", "Cost", _cost(found)),
        ("runs", "Each run in a few sentences", _each(found)),
    )
    names = ", ".join(e.name for e in found)
    return document(f"{len(found)} runs", f"Comparison by tapir of {names}", sections)


def _results(found: Sequence[Entry]) -> Iterator[Element]:
    doubts = list(cautions(found))
    if doubts:
        yield el("div", el("h3", "What to worry about"), el("ul", (el("li", d) for d in doubts)), class_="worries")
    shown = {m: told for m, told in metrics(found).items() if any(e.result(m) for e in found)}
    if not shown:
        yield absent("no student of these runs has been evaluated")
        return
    forms = {m: form for m, (_, form) in shown.items()}
    rows: list[list[Child]] = [[e.name, e.last or "–", *(_cell(e, m, f) for m, f in forms.items())] for e in found]
    head = ("run", "student", *(label for label, _ in shown.values()))
    yield table(head, rows, caption="Held-out results of each run's last student")
    yield el("p", "Under a number its 95 % interval. For NLL lower is better.", class_="note")
    yield el("div", (_panel(found, m, *told) for m, told in shown.items()), class_="panels")


def _cell(entry: Entry, metric: str, form: str) -> Child:
    result = entry.result(metric)
    if result is None:
        return "–"
    bounds = f"{form} to {form}".format(result.low, result.high) if result.low is not None else None
    return el("span", form.format(result.value), el("small", bounds) if bounds else None)


def _panel(found: Sequence[Entry], metric: str, label: str, form: str) -> Element:
    """A point a run with its interval (Figure 1)."""
    told = [(e, r) for e in found if (r := e.result(metric)) is not None]
    points = [Point(e.name, r.value, r.low, r.high) for e, r in told][:MOST_RUNS]
    said = "; ".join(f"{p.label} {form.format(p.value)}" for p in points)
    reference = 50.0 if metric == "win_rate" else None
    chart = intervals(label, said, points, form=form, reference=reference, joined=False)
    rows = [[p.label, *("–" if v is None else form.format(v) for v in (p.value, p.low, p.high))] for p in points]
    return figure(chart, label[0].upper() + label[1:], ("run", "value", "95 % CI from", "to"), rows)


def _differences(found: Sequence[Entry]) -> Iterator[Element]:
    told = gaps(found)
    if not told:
        yield absent("there is nothing that two of these runs have both measured")
        return
    rows, labels = list[list[Child]](), metrics(found)
    for g in told:
        d = g.difference
        bounds = "–" if d.low is None or d.high is None else f"{d.low:+.3g} to {d.high:+.3g}".replace("-", "−")
        p = "–" if d.p_holm is None else f"{d.p_holm:.3f}"
        way = "in pairs" if g.paired else "apart"
        value = f"{d.value:+.3g}".replace("-", "−")
        rows.append([g.name, labels[g.metric][0], value, bounds, f"{d.n:,}", way, p, g.verdict])
    head = ("run", "measure", "difference", "95 % CI", "rows", "compared", "p (Holm)", "so it is")
    yield table(head, rows, caption=f"Each run's last student less that of {found[0].name}")
    note = (
        "In pairs: instruction by instruction, on those that both runs have; the NLL is then per token over all their "
        "answers together. Apart: from the two intervals, which overstates the difference's on equal prompts. A win "
        "rate is against each run's own student_0."
    )
    yield el("p", note, class_="note")


def _rounds(found: Sequence[Entry]) -> Iterator[Element]:
    """Score by round (Figure 3)."""
    panels: list[Element] = []
    for metric, (label, form) in metrics(found).items():
        points = {e.name: score_points(e.facts, metric) for e in found}
        series = {name: [(float(p.label.removeprefix("student_")), p.value) for p in told]
                  for name, told in points.items() if len(told) > 1}  # fmt: skip
        if not series:
            continue
        shown = dict(list(series.items())[:MOST_LINES])
        said = "; ".join(
            f"{name} {form.format(told[0][1])} to {form.format(told[-1][1])}" for name, told in shown.items()
        )
        chart = lines(f"{label} by round", said, shown, x_axis="round", y_axis=label)
        rows = [[name, p.label, *("–" if v is None else form.format(v) for v in (p.value, p.low, p.high))]
                for name, told in points.items() for p in told]  # fmt: skip
        more = f" (the first {MOST_LINES} runs)" if len(series) > MOST_LINES else ""
        caption = f"{label[0].upper()}{label[1:]} by round{more}"
        panels.append(figure(chart, caption, ("run", "student", "value", "95 % CI from", "to"), rows))
    yield el("div", panels, class_="panels") if panels else absent("no run has evaluated two students")


def _quality(found: Sequence[Entry]) -> list[Element]:
    """Relative quality by task (Figure 4): each run's last student against its own student_0."""
    scores = {e.name: next(reversed(q.scores.values()))
              for e in found for q in qualities(e.facts) if q.reference == "student_0"}  # fmt: skip
    if not scores:
        return [absent("no student has been compared with student_0 on the held-out instructions")]
    return quality_parts(Quality("student_0", "held-out instructions", scores))


def _difficulty(found: Sequence[Entry]) -> Iterator[Element]:
    """Distributions over one scale (Figure 6)."""
    kinds = sorted({d.kind for e in found for d in e.facts.difficulties})
    for kind in kinds:
        values = {e.name: v for e in found if (v := [d.value for d in e.facts.difficulties if d.kind == kind])}
        deltas = {e.facts.delta(kind) for e in found if e.name in values}
        delta = deltas.pop() if len(deltas) == 1 else None
        scale = bins_of([v for told in values.values() for v in told], delta or 0.0, kind)
        cells = {name: {KINDS.get(kind, kind): counted(told, scale)} for name, told in values.items()}
        said = "; ".join(f"{name} {len(told):,} seeds" for name, told in values.items())
        chart = distributions(f"Difficulty, {kind}", said, cells, width=scale.width, threshold=delta)
        rows = [[e.name, f"{len(values[e.name]):,}", _delta(e, kind), _hard(e, kind, values[e.name])]
                for e in found if e.name in values]  # fmt: skip
        yield figure(chart, f"{KINDS.get(kind, kind)}: {said}", ("run", "seeds", "δ", "hard"), rows)
    if not kinds:
        yield absent("no seed has been judged")


def _delta(entry: Entry, kind: str) -> str:
    delta = entry.facts.delta(kind)
    return "–" if delta is None else f"{delta:g}"


def _hard(entry: Entry, kind: str, values: Sequence[float]) -> str:
    delta = entry.facts.delta(kind)
    return "–" if delta is None else f"{sum(v > delta for v in values):,}"


def _mix(found: Sequence[Entry]) -> list[Element]:
    """What each run's students were trained on, all rounds together (Figure 5)."""
    sets = {e.name: sum((c for n, c in e.facts.mixes.items() if n.startswith("round ")), Counter[str]()) for e in found}
    shares = {n: {t: k / c.total() for t, k in c.items()} for n, c in sets.items() if c.total()}
    if not shares:
        return [absent("no run has drawn a training set")]
    targets = found[0].facts.targets
    tasks = sorted({t for s in shares.values() for t in s}, key=lambda t: (-targets.get(t, 0), t))[:40]
    shown = dict(list(shares.items())[:MOST_COLUMNS])
    sizes = ", ".join(f"{n} {sets[n].total():,}" for n in shares)
    named = {t: foreign(t, 60) for t in tasks}
    chart = mix_columns("Task mix of the runs", f"Rows: {sizes}.", named, shown, targets)
    rows = [[named[t], *(f"{100 * s.get(t, 0):.1f}" for s in shares.values())] for t in tasks]
    caption = (
        f"Share of each task type in the training sets of all rounds, % (rows: {sizes}); the upright line is the target"
    )
    return [figure(chart, caption, ("task", *shares), rows)]


def _recipes(found: Sequence[Entry]) -> list[Element]:
    changes = recipe_changes(found)
    if not changes:
        return [el("p", "The recipes are the same but for their names.")]
    rows = [[foreign(key, 80), *("(default)" if v is None else foreign(str(v), 120) for v in values)]
            for key, values in list(changes.items())[:200]]  # fmt: skip
    return [table(("value", *(e.name for e in found)), rows, caption="Values in which the recipes differ", wide=True)]


def _cost(found: Sequence[Entry]) -> list[Element]:
    rows: list[list[Child]] = []
    for e in found:
        total = cost_of(e.facts)
        rows.append(
            [e.name, *(f"{total[c]:,}" for c in ("calls", "cached_calls", "prompt_tokens", "completion_tokens")),
             f"{total['cost_usd']:.2f}", duration(total["seconds"])]
        )  # fmt: skip
    head = ("run", "live calls", "from the ledger", "prompt tokens", "reply tokens", "USD", "time")
    return [table(head, rows, caption="What each run took")]


def _each(found: Sequence[Entry]) -> Iterator[Element]:
    for e in found:
        folder = foreign(e.facts.run.root.name, 80)
        title = el("summary", e.name, f" (in {folder})" if folder != e.name else None)
        yield el("details", title, summary(e.facts), class_="case")
