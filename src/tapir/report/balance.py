"""What the data was made into, for the page: families of tasks, grown rows beside seeds, enhanced answers and direct.

Tables only; each is left out where a run did not ask for what it tells. The mix by task type is `making`'s.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean

from tapir.curriculum.comparison import paired_difference, sentence
from tapir.curriculum.statistics import bootstrap_mean, wilson
from tapir.report.facts import Facts
from tapir.report.markup import Element, el, foreign, table
from tapir.store.tables import read_rows
from tapir.types import Difficulty, Verdict

SEED = 17
"""For the bootstrap: the same run gives the same page."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Difficulties of one set of instructions, for one student."""

    what: str
    values: tuple[float, ...]
    delta: float | None

    @property
    def hard(self) -> int | None:
        return None if self.delta is None else sum(v > self.delta for v in self.values)


def families(facts: Facts) -> list[Element]:
    """Shares of the families of task types, for a look from afar."""
    if not facts.mixes or facts.taxonomy is None:
        return []
    family = {t.name: t.family for t in facts.taxonomy.tasks}
    target = by_family(facts.targets, family)
    sets = {name: by_family(counts, family) for name, counts in facts.mixes.items()}
    sums = {name: counts.total() for name, counts in facts.mixes.items()}
    rows = [
        [foreign(f, 60), f"{100 * share:.1f}", *(f"{100 * c.get(f, 0) / max(1, sums[n]):.1f}" for n, c in sets.items())]
        for f, share in sorted(target.items(), key=lambda item: (-item[1], item[0]))
    ]
    head = ("family", "target, %", *(f"{name}, %" for name in sets))
    title = "Families of task types"
    return [el("details", el("summary", title), table(head, rows, caption=title), class_="data")]


def by_family(shares: Mapping[str, float], family: Mapping[str, str]) -> dict[str, float]:
    """Shares or counts of task types summed by family; a type that the taxonomy does not have is its own."""
    found: dict[str, float] = {}
    for task, share in shares.items():
        name = family.get(task, task)
        found[name] = found.get(name, 0) + share
    return found


def grown_and_enhanced(facts: Facts) -> list[Element]:
    """How hard grown rows are beside seeds, and whether refined instructions drew better answers."""
    parts = [*_grown(facts), *_enhanced(facts)]
    said = (
        "Nothing here: the recipe asks for neither expand.check_difficulty nor refine.keep_better, or it is too early."
    )
    return parts or [el("p", said, class_="note")]


def measured(facts: Facts) -> list[Measured]:
    """MFD of the seeds, and of each round's grown rows where they were judged; empty where none were."""
    delta = facts.delta("mfd")
    tables = {r: facts.path(f"round_{r}/01_expanded", "difficulty") for r in facts.rounds}
    grown = [
        Measured(f"grown in round {r}, student_{r - 1}", _values(read_rows(path, Difficulty)), delta)
        for r, path in tables.items()
        if path.exists()
    ]
    if not any(m.values for m in grown):
        return []
    seeds = [d for d in facts.difficulties if d.kind == "mfd"]
    hard = [d for d in seeds if delta is not None and d.value > delta]
    return [
        Measured("all seeds, student_0", _values(seeds), delta),
        Measured("hard seeds, student_0", _values(hard), delta),
        *grown,
    ]


def _values(rows: Iterable[Difficulty]) -> tuple[float, ...]:
    return tuple(d.value for d in rows)


def _grown(facts: Facts) -> list[Element]:
    rows = [_measured_cells(m) for m in measured(facts) if m.values]
    if not rows:
        return []
    head = ("instructions, judged with", "judged", "mean MFD (95 % CI)", "above δ, % (95 % CI)")
    note = "Grown rows are judged with the student that they are to teach; those not above δ went to the easy pool."
    return [table(head, rows, caption="Difficulty of grown rows beside seeds"), el("p", note, class_="note")]


def _measured_cells(m: Measured) -> list[str]:
    low, high = bootstrap_mean(m.values, random.Random(SEED))
    mean = f"{fmean(m.values):+.2f} ({low:+.2f} to {high:+.2f})".replace("-", "−")
    if m.hard is None:
        return [m.what, f"{len(m.values):,}", mean, "–"]
    least, most = wilson(m.hard, len(m.values))
    share = f"{100 * m.hard / len(m.values):.0f} ({100 * least:.0f} to {100 * most:.0f})"
    return [m.what, f"{len(m.values):,}", mean, share]


def enhanced_scores(facts: Facts, number: int) -> tuple[dict[str, float], dict[str, float]]:
    """Mean scores of the enhanced and of the direct answers by instruction, where both orders could be read."""
    path = facts.path(f"round_{number}/03_enhanced_answers", "verdicts")
    votes: dict[str, list[Verdict]] = {}
    for v in read_rows(path, Verdict) if path.exists() else ():
        votes.setdefault(v.instruction_id, []).append(v)
    read = {i: found for i, found in votes.items() if all(v.scored for v in found)}
    enhanced = {i: fmean(v.student_score for v in found if v.student_score is not None) for i, found in read.items()}
    direct = {i: fmean(v.teacher_score for v in found if v.teacher_score is not None) for i, found in read.items()}
    return enhanced, direct


def _enhanced(facts: Facts) -> list[Element]:
    rows: list[list[str]] = []
    said: list[Element] = []
    for number in facts.rounds:
        enhanced, direct = enhanced_scores(facts, number)
        gap = paired_difference(enhanced, direct, random.Random(SEED))
        if gap is None:
            continue
        wins = sum(enhanced[i] > direct[i] for i in enhanced)
        losses = sum(enhanced[i] < direct[i] for i in enhanced)
        means = (f"{fmean(enhanced.values()):.2f}", f"{fmean(direct.values()):.2f}")
        rows.append([f"round {number}", f"{gap.n:,}", *means, f"{wins:,}", f"{gap.n - wins - losses:,}", f"{losses:,}"])
        line = sentence(gap, "Seed (RW)", "Seed", "points on average", "rewritten instructions")
        said.append(el("p", f"Round {number}: {line}."))
    if not rows:
        return []
    head = ("", "pairs", "Seed (RW), mean score", "Seed, mean score", "RW better", "equal", "RW worse")
    caption = "Answers to rewritten instructions, Seed (RW), against direct ones, Seed (Table 5)"
    return [table(head, rows, caption=caption), *said]
