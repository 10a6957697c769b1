"""Two decisions to make by looking: δ on the distribution of difficulties, and a round's task mix."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from tapir.curriculum.mixture import plan_round
from tapir.errors import TapirError
from tapir.report.bins import bins_of
from tapir.report.charts import figure, histogram, mix_columns, stacked_bars
from tapir.report.making import KINDS
from tapir.report.markup import Child, Element, el, foreign, table
from tapir.studio.frame import labelled, options
from tapir.studio.rows import number
from tapir.studio.runs import View
from tapir.types import RoundPlan

Kept = Mapping[str, Mapping[float, int]]
"""Seeds by task and value."""


def difficulty_page(view: View, asked: Mapping[str, str]) -> list[Element]:
    """The distribution with a δ that can be moved, and how many seeds of each task it keeps."""
    kinds = view.tables.kept_by_task()
    if not kinds:
        return [el("p", "No seed has a difficulty yet; selection writes them.", class_="absent")]
    kind = asked.get("kind", "") if asked.get("kind") in kinds else max(kinds, key=lambda k: _size(kinds[k]))
    kept = kinds[kind]
    values = _values(kept)
    applied = view.facts.delta(kind)
    asked_delta = number(asked.get("delta", ""))
    delta = asked_delta if asked_delta is not None else (applied if applied is not None else 0.0)
    fine = all(v == round(2 * v) / 2 for v in values)
    slider = el(
        "input", type="range", name="delta", min=f"{min(values) - 0.5:.4g}", max=f"{max(values):.4g}",
        step="0.5" if fine else f"{max((max(values) - min(values)) / 200, 0.01):.2g}", value=f"{delta:.4g}",
        data_echo="delta-said",
    )  # fmt: skip
    form = el(
        "form",
        labelled("Kind", el("select", options({k: KINDS.get(k, k) for k in kinds}, kind), name="kind")),
        labelled("δ", el("span", slider, el("output", f"{delta:.4g}", id="delta-said"))),
        el("button", "Show", type="submit"),
        class_="filters slider", method="get", data_replace="result",
    )  # fmt: skip
    return [form, el("div", _distribution(kept, kind, delta, applied), id="result")]


def _size(kept: Kept) -> int:
    return sum(sum(by_value.values()) for by_value in kept.values())


def _values(kept: Kept) -> Counter[float]:
    return sum((Counter(by_value) for by_value in kept.values()), Counter[float]())


def _distribution(kept: Kept, kind: str, delta: float, applied: float | None) -> Iterator[Element]:
    values = _values(kept)
    hard = {task: sum(n for v, n in by_value.items() if v > delta) for task, by_value in kept.items()}
    total, keeps = values.total(), sum(hard.values())
    said = f"δ = {delta:.4g} keeps {keeps:,} of {total:,} seeds ({100 * keeps / total:.0f} %)"
    said += "." if applied is None else f"; the run took δ = {applied:.4g}."
    yield el("p", el("strong", said), role="status")
    scale, bins = bins_of(list(values), delta, kind), Counter[float]()
    for value, count in values.items():
        bins[scale.middle(value)] += count
    label = KINDS.get(kind, kind)
    chart = histogram(label, said, bins, width=scale.width, threshold=delta, axis=label)
    yield figure(chart, label, ("difficulty", "seeds"), [[scale.label(v), f"{n:,}"] for v, n in sorted(bins.items())])
    tasks = sorted(kept, key=lambda t: (-hard[t], -sum(kept[t].values()), t))
    sizes = {t: sum(kept[t].values()) for t in tasks}
    bars = [(foreign(t, 40), (hard[t], sizes[t] - hard[t]), f"{hard[t]:,} of {sizes[t]:,}") for t in tasks]
    data = [[foreign(t, 60), f"{hard[t]:,}", f"{sizes[t]:,}", f"{100 * hard[t] / sizes[t]:.0f} %"] for t in tasks]
    chart = stacked_bars("Seeds kept by task", said, bars, ("above δ", "at or below δ"), colours=(1, 2))
    yield figure(chart, "Seeds of each task that this δ keeps", ("task", "kept", "seeds", "share"), data)


def mix_page(view: View, asked: Mapping[str, str]) -> list[Element]:
    """What a round would draw of each task, leave undrawn and have to grow."""
    facts = view.facts
    pool, kinds = view.tables.answered_by_task(), view.tables.kept_by_task()
    if not pool or not kinds or not facts.targets:
        return [el("p", "The planner needs a judged pool and the recipe's target mix.", class_="absent")]
    recipe = facts.recipe
    assert recipe is not None  # there are targets
    alpha = _between(number(asked.get("alpha", "")), recipe.curriculum.alpha(1), 0, 1)
    # Kinds do not compare: until somebody gives a δ for all, each counts against its own.
    asked_delta = number(asked.get("delta", ""))
    applied = {kind: facts.delta(kind) or 0.0 for kind in kinds}
    deltas = applied if asked_delta is None else dict.fromkeys(kinds, asked_delta)
    size = number(asked["size"]) if "size" in asked else recipe.mix.size
    grow = number(asked.get("grow", ""))
    limit = int(_between(grow, recipe.expand.per_round, 0, 1e6))
    form = el(
        "form",
        labelled("α, share of hard rows", _number("alpha", f"{alpha:g}", "0.05")),
        labelled("δ", _number("delta", "" if asked_delta is None else f"{asked_delta:g}", "any", _as_applied(applied))),
        labelled("Rows of the round", _number("size", f"{size:g}" if size else "", "1", "as many as fit")),
        labelled("Grown at most", _number("grow", str(limit), "1")),
        el("button", "Plan", type="submit"),
        class_="filters", method="get", data_replace="result",
    )  # fmt: skip
    hard = Counter[str]()
    for kind, kept in kinds.items():
        above = {t: sum(n for value, n in v.items() if value > deltas[kind]) for t, v in kept.items()}
        hard.update({t: n for t, n in above.items() if n})
    easy = Counter(pool)
    easy.subtract(hard)
    room = {t: n * recipe.expand.per_seed for t, n in hard.items()}
    rows = max(0, int(size)) or None if size else None
    by_weight = recipe.curriculum.mixing == "loss"
    try:
        plan = plan_round(hard, +easy, facts.targets, alpha, rows, growable=room, grow_limit=limit, by_weight=by_weight)
    except TapirError as error:
        return [form, el("div", el("p", foreign(str(error), 300), class_="worries"), id="result")]
    return [form, el("div", _plan(plan, hard, +easy, facts.targets), id="result")]


def _as_applied(deltas: Mapping[str, float]) -> str:
    """What stands in the empty field: the run's δ, by kind where they differ."""
    if len(set(deltas.values())) == 1:
        return f"{next(iter(deltas.values())):.4g}"
    return ", ".join(f"{kind} {delta:.4g}" for kind, delta in deltas.items())


def _between(value: float | None, default: float, low: float, high: float) -> float:
    return min(high, max(low, default if value is None else value))


def _number(name: str, value: str, step: str, hint: str = "") -> Element:
    return el("input", type="number", name=name, value=value, step=step, placeholder=hint)


def _plan(plan: RoundPlan, hard: Counter[str], easy: Counter[str], targets: Mapping[str, float]) -> Iterator[Element]:
    grown = sum(plan.grow.values())
    yield el("p", el("strong", f"{plan.size:,} rows: {plan.hard_rows:,} hard and {plan.easy_rows:,} easy; "
                     f"{grown:,} of the hard ones have to be grown first."), role="status")  # fmt: skip
    tasks = sorted(targets, key=lambda t: (-targets[t], t))
    drawn = {t: plan.hard.get(t, 0) + plan.easy.get(t, 0) for t in tasks}
    supply = {t: hard[t] + easy[t] for t in tasks}
    sets = {
        name: {t: n / sum(counts.values()) for t, n in counts.items()}
        for name, counts in (("seed pool", supply), ("this round", drawn))
        if sum(counts.values())
    }
    head = ("task", "target, %", "round, %", "hard seeds", "easy seeds", "hard drawn", "easy drawn", "to grow", "unmet")
    data: list[list[Child]] = [
        [foreign(t, 60), f"{100 * targets[t]:.1f}", f"{100 * drawn[t] / max(1, plan.size):.1f}",
         *(f"{n:,}" for n in (hard[t], easy[t], plan.hard.get(t, 0), plan.easy.get(t, 0), plan.grow.get(t, 0),
                              plan.unmet.get(t, 0)))]
        for t in tasks
    ]  # fmt: skip
    chart = mix_columns(
        "Task mix of the planned round", "Share of each task type, %", {t: foreign(t, 40) for t in tasks}, sets, targets
    )
    caption = el("figcaption", "Share of each task type, %; the upright line is the target Pr(T)")
    yield el("figure", el("div", chart, class_="scroll"), caption)
    yield table(head, data, caption="The plan by task")
