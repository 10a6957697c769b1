"""The numbers of an ablation, from its run directories only: means over seeds and instructions, and differences.

How the table and the figure look is `ablation_page`'s; what an arm is, and how it came about, `tapir.ablation`'s.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, TypeAlias, cast, get_args

from tapir.curriculum.comparison import Difference, corrected
from tapir.curriculum.statistics import bootstrap_over_seeds, paired_p_value, smallest_resolvable
from tapir.errors import DataError
from tapir.evaluation.measured import Measured, Metric
from tapir.evaluation.rows import Bounds, interval_of_equals
from tapir.store.rundir import RunDir
from tapir.store.tables import read_rows

METRICS: tuple[Metric, ...] = get_args(Metric)
BOUNDS: Mapping[Metric, Bounds] = {"checks_passed": (0, 100), "win_rate": (0, 100)}
LESS_IS_BETTER: frozenset[Metric] = frozenset({"nll_per_token"})

Values: TypeAlias = dict[int, dict[str, float]]
"""By training seed, then instruction."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One metric of one variant, and how it differs from the variant it is held against."""

    value: float
    low: float | None
    high: float | None
    spread: float | None
    """Standard deviation of the seeds' means; None with one seed."""
    instructions: int
    difference: Difference | None = None
    against: str | None = None
    resolvable: float | None = None
    """The smallest difference that so many instructions show with power 0.8 at 5 %, at the spread seen here."""


@dataclass(frozen=True, slots=True)
class Line:
    """One variant in one form and setting, over its training seeds."""

    form: str
    cell: str
    variant: str
    says: str
    starts_from: str
    answers_by: str
    seeds: tuple[int, ...]
    rows: float
    """Mean over the seeds, all rounds together."""
    wanted: int
    trained_tokens: float
    measures: Mapping[Metric, Measure] = field(default_factory=lambda: dict[Metric, Measure]())

    @property
    def name(self) -> str:
        return self.variant if self.cell == "recipe" else f"{self.variant} ({self.cell})"


@dataclass(frozen=True, slots=True)
class Comparison:
    """The whole table."""

    lines: tuple[Line, ...]
    win_rate_by: str
    """`verdicts` or `checks`."""
    missing: int
    """Arms that were started and are not done."""

    def to_json(self) -> dict[str, Any]:
        plain = asdict(self)
        for line, said in zip(self.lines, plain["lines"], strict=True):
            for metric, m in line.measures.items():
                said["measures"][metric]["difference"] = m.difference and m.difference.to_json()
        return plain


@dataclass
class _Group:
    """What the arms of one line left."""

    note: dict[str, Any]
    values: dict[Metric, Values] = field(default_factory=lambda: defaultdict[Metric, Values](dict))
    rows: list[int] = field(default_factory=lambda: list[int]())
    tokens: list[int] = field(default_factory=lambda: list[int]())


Key: TypeAlias = tuple[str, str, str]


def compare(root: Path, folders: Sequence[Path], *, seed: int = 17) -> Comparison:
    """The table of these arms of the ablation in `root`, in their order.

    A variant is held against `full` of the same form and setting, `full` itself and everything without it against
    student_0. p-values are corrected over all comparisons of a metric (Holm).
    """
    done = [folder for folder in folders if (folder / "arm.json").exists()]
    if not done:
        raise DataError(f"{root}: no arm of an ablation is done here; `tapir ablate RECIPE --out {root}` goes on")
    groups: dict[Key, _Group] = {}
    for folder in done:
        note = json.loads((folder / "arm.json").read_text(encoding="utf-8"))
        _read(folder, note, groups.setdefault((note["form"], note["cell"], note["variant"]), _Group(note)))
    before = {cell: _values(RunDir(root / "base" / cell), 0, "12") for cell in {cell for _, cell, _ in groups}}
    by = next(iter(groups.values())).note
    tables = dict.fromkeys((form, cell) for form, cell, _ in groups)
    bases = [_base_line(root, form, cell, by["student_0_by"], before[cell], seed) for form, cell in tables]
    measures = {metric: _measures(metric, groups, before, seed) for metric in METRICS}
    lines = (
        *bases,
        *(
            _line(key, group, {m: measures[m][key] for m in METRICS if key in measures[m]})
            for key, group in groups.items()
        ),
    )
    return Comparison(lines, by["win_rate_by"], len(folders) - len(done))


def _base_line(
    root: Path, form: str, cell: str, answers_by: str, values: Mapping[Metric, dict[str, float]], seed: int
) -> Line:
    """student_0 itself, which the others are held against; it is trained once, so it has no spread."""
    receipt = RunDir(root / "base" / cell).receipts()["round_0/04_student_0"]
    found: dict[Metric, Measure] = {
        metric: measure({0: values[metric]}, random.Random(f"{seed}:{metric}"), None, None, BOUNDS.get(metric))
        for metric in METRICS
        if metric in values and metric != "win_rate"
    }
    rows, tokens = receipt["rows_out"], receipt["notes"].get("trained_tokens", 0)
    return Line(
        form, cell, "student_0", "what the rounds start from", "base", answers_by, (), rows, rows, tokens, found
    )


def _read(folder: Path, note: Mapping[str, Any], group: _Group) -> None:
    run, seed = RunDir(folder), note["seed"]
    for metric, values in _values(run, note["rounds"], "08").items():
        group.values[metric][seed] = values
    receipts = run.receipts()
    rounds = range(1, note["rounds"] + 1)
    group.rows.append(sum(receipts[f"round_{n}/04_mix"]["rows_out"] for n in rounds))
    group.tokens.append(sum(receipts[f"round_{n}/05_student_{n}"]["notes"]["trained_tokens"] for n in rounds))


def _values(run: RunDir, number: int, place: str) -> dict[Metric, dict[str, float]]:
    found: dict[Metric, dict[str, float]] = defaultdict(dict)
    for row in read_rows(run.step(f"round_{number}/{place}_measured", "").table(), Measured):
        found[cast("Metric", row.metric)][row.instruction_id] = row.value
    return found


def _measures(
    metric: Metric, groups: Mapping[Key, _Group], before: Mapping[str, Mapping[Metric, dict[str, float]]], seed: int
) -> dict[Key, Measure]:
    """This metric of every line that has it, with differences corrected together."""
    rng, bounds = random.Random(f"{seed}:{metric}"), BOUNDS.get(metric)
    found: dict[Key, Measure] = {}
    differences: dict[str, Difference] = {}
    for key, group in groups.items():
        values = group.values.get(metric)
        if not values:
            continue
        form, cell, variant = key
        full = groups.get((form, cell, "full"))
        against = "full" if full is not None and variant != "full" else "student_0"
        # Against itself student_0 wins half of the time, whichever instructions were judged.
        base = (
            dict.fromkeys(set().union(*values.values()), 50.0) if metric == "win_rate" else before[cell].get(metric, {})
        )
        other = full.values[metric] if full is not None and against == "full" else dict.fromkeys(values, base)
        gaps = gaps_by_seed(values, other)
        if gaps:
            differences["/".join(key)] = difference(gaps, rng, bounds)
        found[key] = measure(values, rng, against, _resolvable(gaps), bounds)
    holm = corrected(differences)
    return {
        key: Measure(m.value, m.low, m.high, m.spread, m.instructions, holm.get("/".join(key)), m.against, m.resolvable)
        for key, m in found.items()
    }


def measure(
    values: Values, rng: random.Random, against: str | None, resolvable: float | None, bounds: Bounds | None = None
) -> Measure:
    """Mean over the instructions that all seeds have, its interval over both, and the spread of the seeds' means."""
    common = sorted(set.intersection(*(set(row) for row in values.values())))
    if not common:
        raise DataError("no held-out instruction was measured under every training seed; finish the ablation")
    rows = [{i: row[i] for i in common} for row in values.values()]
    means = [fmean(row.values()) for row in rows]
    low, high = _interval(rows, rng, bounds)
    spread = stdev(means) if len(means) > 1 else None
    return Measure(fmean(means), low, high, spread, len(common), None, against, resolvable)


def _interval(
    by_seed: Sequence[Mapping[str, float]], rng: random.Random, bounds: Bounds | None
) -> tuple[float | None, float | None]:
    values = {v for row in by_seed for v in row.values()}
    if len(values) > 1:
        return bootstrap_over_seeds(by_seed, rng)
    return interval_of_equals(values.pop(), len(by_seed[0]), bounds)


def gaps_by_seed(values: Values, other: Values) -> Values:
    """How much more this variant has than the other, on the instructions and under the seeds that both have."""
    seeds = [seed for seed in values if seed in other]
    everywhere = [values[seed].keys() & other[seed].keys() for seed in seeds]
    common = sorted(set.intersection(*everywhere)) if everywhere else []
    return {seed: {i: values[seed][i] - other[seed][i] for i in common} for seed in seeds if common}


def difference(gaps: Values, rng: random.Random, bounds: Bounds | None = None) -> Difference:
    """The mean gap with its interval over seeds and instructions; p by random signs of the instructions' mean gaps.

    `bounds` are those of the values that the gaps are between.
    """
    by_instruction = _mean_gaps(gaps)
    widest = bounds and (bounds[0] - bounds[1], bounds[1] - bounds[0])
    low, high = _interval(list(gaps.values()), rng, widest)
    p = paired_p_value(by_instruction, rng) if len(by_instruction) > 1 else None
    return Difference(fmean(by_instruction), len(by_instruction), low, high, p)


def _mean_gaps(gaps: Values) -> list[float]:
    """Each instruction's gap, averaged over the seeds."""
    return [fmean(of_one) for of_one in zip(*(row.values() for row in gaps.values()), strict=True)]


def _resolvable(gaps: Values) -> float | None:
    by_instruction = _mean_gaps(gaps) if gaps else []
    return smallest_resolvable(stdev(by_instruction), len(by_instruction)) if len(by_instruction) > 1 else None


def _line(key: Key, group: _Group, measures: Mapping[Metric, Measure]) -> Line:
    note = group.note
    form, cell, variant = key
    seeds: Sequence[int] = sorted({seed for values in group.values.values() for seed in values})
    return Line(
        form, cell, variant, note["says"], note["starts_from"], note["answers_by"], tuple(seeds),
        fmean(group.rows), note["wanted"], fmean(group.tokens), measures,
    )  # fmt: skip
