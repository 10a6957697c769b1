"""The page's middle part: how the data came about (difficulty, mix) and what it cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from tapir.curriculum.difficulty import delta_table
from tapir.report.balance import families
from tapir.report.bins import bins_of, counted, thresholds
from tapir.report.charts import figure, histogram, mix_columns, stacked_bars
from tapir.report.facts import Facts
from tapir.report.findings import absent
from tapir.report.funnel import place
from tapir.report.learning import rescoring
from tapir.report.markup import Child, Element, el, foreign, table
from tapir.types import Difficulty

KINDS = {
    "mfd": "MFD: teacher's score − student_0's score",
    "verified": "MFD by machine check",
    "ifd": "conditioned loss ratio (IFD)",
    "loss": "loss on the teacher's answer",
    "verifier": "failure rate of the check",
}
MOST_TASKS = 40
COUNTED = ("calls", "retried_calls", "cached_calls", "replayed_calls", "prompt_tokens", "completion_tokens")


def difficulty(facts: Facts) -> list[Element]:
    """The distribution of difficulties with δ (Figure 6), what other thresholds would keep, and the later looks."""
    if not facts.difficulties:
        return [absent("no seed has been judged")]
    parts: list[Element] = []
    for kind in sorted({d.kind for d in facts.difficulties}):
        parts += _one_kind(facts, kind, [d for d in facts.difficulties if d.kind == kind])
    return [*parts, *rescoring(facts)]


def _one_kind(facts: Facts, kind: str, rows: list[Difficulty]) -> Iterator[Element]:
    delta, values = facts.delta(kind), [d.value for d in rows]
    scale = bins_of(values, 0.0 if delta is None else delta, kind)
    bins = counted(values, scale)
    hard = sum(1 for v in values if delta is not None and v > delta)
    above = f"; {hard:,} ({100 * hard / len(rows):.0f} %) above δ = {delta:g}" if delta is not None else ""
    zero = sum(1 for d in rows if d.is_zero) if kind in ("mfd", "verified") else 0
    none = f", {zero:,} ({100 * zero / len(rows):.0f} %) without a gap" if zero else ""
    said = f"{len(rows):,} seeds{above}{none}."
    label = KINDS.get(kind, kind)
    chart = histogram(label, said, bins, width=scale.width, threshold=delta, axis=label)
    yield figure(
        chart, f"{label}. {said}", ("difficulty", "seeds"), [[scale.label(v), f"{n:,}"] for v, n in bins.items()]
    )
    yield _what_if(kind, rows, facts.task_of)


def _what_if(kind: str, rows: list[Difficulty], task_of: Mapping[str, str]) -> Element:
    kept = delta_table(rows, task_of, thresholds([d.value for d in rows], kind))
    data = [
        [
            f"{d:g}",
            f"{n:,}",
            f"{100 * n / len(rows):.0f} %",
            f"{sum(1 for c in by_task.values() if c):,}",
            _largest(by_task),
        ]
        for d, by_task in kept.items()
        if (n := sum(by_task.values()))
    ]
    head = ("δ", "seeds kept", "share", "task types", "most of them")
    title = "What another δ would keep"
    return el("details", el("summary", title), table(head, data, caption=f"{title} ({kind})"), class_="data")


def _largest(by_task: dict[str, int]) -> str:
    top = sorted(by_task.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{foreign(t, 40)} {n}" for t, n in top[:4])


def mix(facts: Facts) -> list[Element]:
    """Shares of the task types in the pool, the hard seeds, the grown rows and each round, against Pr(T) (Figure 5)."""
    if not facts.mixes:
        return [absent("the pool has not been classified")]
    sets = _readable_sets(facts)
    shares = {name: {t: n / c.total() for t, n in c.items()} for name, c in sets.items() if c.total()}
    tasks = sorted(
        {t for s in shares.values() for t in s} | {t for t, share in facts.targets.items() if share},
        key=lambda t: (-facts.targets.get(t, 0), -max(s.get(t, 0) for s in shares.values()), t),
    )
    shown = tasks[:MOST_TASKS]
    named = {t: foreign(t, 60) for t in shown}
    sizes = ", ".join(f"{name} {c.total():,}" for name, c in sets.items())
    chart = mix_columns("Task mix", f"Rows: {sizes}.", named, shares, facts.targets)
    head = ("task", "target, %", *(f"{n}, %" for n in shares), *(f"{n}, rows" for n in shares))
    data: list[list[Child]] = [
        [
            named[t],
            f"{100 * facts.targets[t]:.1f}" if t in facts.targets else "–",
            *(f"{100 * s.get(t, 0):.1f}" for s in shares.values()),
            *(f"{sets[n][t]:,}" for n in shares),
        ]
        for t in shown
    ]
    left_out = f" {len(tasks) - len(shown)} rarer types are not shown." if len(tasks) > len(shown) else ""
    caption = f"Share of each task type, % (rows: {sizes}); the upright line is the target Pr(T).{left_out}"
    return [figure(chart, caption, head, data), *families(facts)]


def _readable_sets(facts: Facts) -> dict[str, Counter[str]]:
    """No more columns than can be read: of many rounds the first and the last three."""
    rounds = [n for n in facts.mixes if n.startswith("round ")]
    hidden = set(rounds[1:-3]) if len(rounds) > 4 else set[str]()
    return {n: c for n, c in facts.mixes.items() if n not in hidden}


def cost(facts: Facts) -> list[Element]:
    """Calls, tokens, cache hits, money and time of each step."""
    if not facts.receipts:
        return [absent("no step is finished")]
    timed = [(place(p), (float(r["seconds"]),), duration(r["seconds"])) for p, r in facts.receipts.items()]
    total = sum(r["seconds"] for r in facts.receipts.values())
    chart = stacked_bars("Time of each step", f"{duration(total)} in all.", timed, ("time",))
    head = ("step", "live calls", "sent again", "from the ledger", "of them replayed", "cache hits", "prompt tokens",
            "reply tokens", "USD", "time")  # fmt: skip
    all_steps = cost_of(facts)
    data = [
        [name, *(f"{r.get(c, 0):,}" for c in COUNTED[:4]), _hits(r), *(f"{r[c]:,}" for c in COUNTED[4:]),
         f"{r['cost_usd']:.2f}", duration(r["seconds"])]
        for name, r in [*((place(p), r) for p, r in facts.receipts.items()), ("all", all_steps)]
    ]  # fmt: skip
    times = figure(
        chart, f"Time of each step, {duration(total)} in all", ("step", "time"), [[a, c] for a, _, c in timed]
    )
    return [times, table(head, data, caption="Calls, tokens, money and time")]


def cost_of(facts: Facts) -> dict[str, float]:
    """What all finished steps took together."""
    # Receipts of an older version have no count of what was sent again.
    return {c: sum(r.get(c, 0) for r in facts.receipts.values()) for c in (*COUNTED, "cost_usd", "seconds")}


def _hits(receipt: Mapping[str, float]) -> str:
    """Share of the calls that the ledger answered."""
    asked = receipt["calls"] + receipt["cached_calls"]
    return f"{100 * receipt['cached_calls'] / asked:.0f} %" if asked else "–"


def duration(seconds: float) -> str:
    """A time that a reader takes in at a glance."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6_000 else f"{seconds / 3600:.1f} h"
