"""Several runs beside each other (Figure 1, Table 5): what they reached, by how much they differ, in what they differ.

Owns the numbers; the page is `compare_page`'s. Runs are compared instruction by instruction where they were evaluated
on the same ones, and p-values are corrected for all comparisons on the page (Holm).
"""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tapir.curriculum.comparison import Difference, corrected, difference_of, paired_difference
from tapir.evaluation.heldout import Fit, change_per_token
from tapir.report import text
from tapir.report.benchmarks import alike
from tapir.report.differences import flat
from tapir.report.facts import Facts
from tapir.report.markup import foreign
from tapir.store.rundir import RunDir
from tapir.store.tables import read_rows
from tapir.types import Result

SEED = 17
LOWER_IS_BETTER = ("nll_per_token",)


@dataclass(frozen=True)
class Entry:
    """One run under the name it has on the page."""

    name: str
    facts: Facts

    @property
    def last(self) -> str | None:
        """The last student that was evaluated."""
        return self.facts.students[-1] if self.facts.students else None

    def result(self, metric: str, student: str | None = None) -> Result | None:
        """One metric of one student, by default of the last."""
        wanted = student or self.last
        found = [r for r in self.facts.results if r.metric == metric and r.student == wanted]
        return found[-1] if found else None

    @functools.cached_property
    def held_out_ids(self) -> frozenset[str]:
        return frozenset(self.facts.held_out)

    def outcomes(self) -> dict[str, float]:
        """What the last student won on each held-out instruction, in percent."""
        return {i: 100.0 * ((g > 0) + (g == 0) / 2) for i, g in self.facts.held_out_gaps.items()}

    def fits(self) -> list[Fit]:
        """How well the last student predicts each of the teacher's held-out answers."""
        number = self.facts.students[-1].removeprefix("student_") if self.facts.students else "0"
        place = "round_0/09_evaluation" if number == "0" else f"round_{number}/06_evaluation"
        path = self.facts.path(place, "fit")
        return [f for f in read_rows(path, Fit) if f.tokens] if path.exists() else []


@dataclass(frozen=True, slots=True)
class Gap:
    """How a run's last student differs from the first run's in one metric."""

    name: str
    metric: str
    difference: Difference
    paired: bool
    alike: bool = True
    """Whether both were measured by one benchmark: the same settings on the same files."""

    @property
    def verdict(self) -> str:
        """In a word: better, worse, or inside the noise."""
        if not self.alike:
            return "not comparable"
        if self.difference.noise is None:
            return "unknown: no interval"
        if self.difference.noise:
            return "inside the noise"
        return "better" if (self.difference.value > 0) != (self.metric in LOWER_IS_BETTER) else "worse"


def entries(runs: Sequence[RunDir]) -> list[Entry]:
    """Runs under names that tell them apart: the recipe's, or the directory's where two share one."""
    facts = [Facts(run) for run in runs]
    names = [foreign(f.recipe.name if f.recipe else f.run.root.name, 60) for f in facts]
    taken: set[str] = set()
    found: list[Entry] = []
    for f, name in zip(facts, names, strict=True):
        said = name if names.count(name) == 1 else foreign(f.run.root.name, 60)
        unique = next(n for n in (said, *(f"{said} ({k})" for k in range(2, len(facts) + 2))) if n not in taken)
        taken.add(unique)
        found.append(Entry(unique, f))
    return found


def gaps(found: Sequence[Entry]) -> list[Gap]:
    """Every later run against the first, metric by metric."""
    first, *others = found
    raw = [gap for other in others for metric in metrics(found) if (gap := _gap(first, other, metric)) is not None]
    adjusted = corrected({f"{g.name}\0{g.metric}": g.difference for g in raw})
    return [Gap(g.name, g.metric, adjusted[f"{g.name}\0{g.metric}"], g.paired, g.alike) for g in raw]


def metrics(found: Sequence[Entry]) -> dict[str, tuple[str, str]]:
    """Label and form of every metric that these runs may have."""
    return text.metrics([r for e in found for r in e.facts.results])


def _gap(first: Entry, other: Entry, metric: str) -> Gap | None:
    if (paired := _paired(first, other, metric)) is not None:
        return Gap(other.name, metric, paired, paired=True)
    a, b = first.result(metric), other.result(metric)
    if a is None or b is None:
        return None
    n = min(a.n, b.n)
    if not alike(first.facts, other.facts, metric):
        return Gap(other.name, metric, Difference(b.value - a.value, n), paired=False, alike=False)
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return Gap(other.name, metric, Difference(b.value - a.value, n), paired=False)
    return Gap(other.name, metric, difference_of(b.value, (b.low, b.high), a.value, (a.low, a.high), n), paired=False)


def _paired(first: Entry, other: Entry, metric: str) -> Difference | None:
    """Instruction by instruction, where the runs' tables have the metric so."""
    if metric == "win_rate":
        return paired_difference(other.outcomes(), first.outcomes(), random.Random(SEED))
    return change_per_token(other.fits(), first.fits(), random.Random(SEED)) if metric == "nll_per_token" else None


def recipe_changes(found: Sequence[Entry]) -> dict[str, list[Any]]:
    """Values of the recipes in which the runs are not all the same, run by run; None is the default."""
    plain = [
        flat(e.facts.recipe.model_dump(mode="json", exclude_defaults=True)) if e.facts.recipe else {} for e in found
    ]
    keys = dict.fromkeys(k for p in plain for k in p if k != "name")
    values = {key: [p.get(key) for p in plain] for key in keys}
    return {key: told for key, told in values.items() if any(v != told[0] for v in told)}


def cautions(found: Sequence[Entry]) -> Iterator[str]:
    """Why numbers of these runs may not be comparable."""
    if len({e.held_out_ids for e in found}) > 1:
        yield "These runs were evaluated on different held-out instructions: only what they share is compared in pairs."
    for role in ("evaluator", "student", "teacher"):
        models = {_model(e, role) for e in found} - {None}
        if len(models) > 1:
            yield f"These runs have different {role}s: {', '.join(sorted(str(m) for m in models))}."
    for metric, (label, _) in metrics(found).items():
        measured = [e for e in found if e.result(metric)]
        others = [e.name for e in measured[1:] if not alike(measured[0].facts, e.facts, metric)]
        if others:
            runs = " and ".join([measured[0].name, *others])
            yield f"{label}: {runs} measured it on different files or with different settings; not comparable."
    for e in found:
        if e.last is None:
            yield f"{e.name} has evaluated no student yet."
        reaching = [name for name, report in e.facts.trust.canaries.items() if report.reaching]
        if reaching:
            yield f"The judge of {e.name} can't be trusted: it finds answers that say nothing as good as the students'."


def _model(entry: Entry, role: Any) -> str | None:
    recipe = entry.facts.recipe
    if recipe is None:
        return None
    model = recipe.models.resolved(role)
    return foreign(str(model.model or model.kind).rstrip("/").split("/")[-1], 80)


def as_json(found: Sequence[Entry]) -> dict[str, Any]:
    """The comparison as data."""
    return {
        "runs": [
            {
                "name": e.name,
                "student": e.last,
                "results": {m: _result_json(r) for m in metrics(found) if (r := e.result(m)) is not None},
            }
            for e in found
        ],
        "against": found[0].name,
        "differences": [
            {"run": g.name, "metric": g.metric, "paired": g.paired, "verdict": g.verdict, **g.difference.to_json()}
            for g in gaps(found)
        ],
        "recipes": {key: dict(zip((e.name for e in found), values, strict=True))
                    for key, values in recipe_changes(found).items()},
        "cautions": list(cautions(found)),
    }  # fmt: skip


def _result_json(result: Result) -> dict[str, Any]:
    return {"value": result.value, "low": result.low, "high": result.high, "n": result.n, "missing": result.missing}
