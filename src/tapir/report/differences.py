"""Two runs beside each other: recipe, settings, model calls, data and results.

Owns what counts as a difference; `a` is the first run, `b` the second, and `added` is what only `b` has. Rows are
`table_changes`'.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import yaml

from tapir.curriculum.comparison import Difference, difference_of
from tapir.errors import DataError
from tapir.report.benchmarks import alike
from tapir.report.facts import Facts
from tapir.report.table_changes import TableChange, table_change
from tapir.report.text import METRICS
from tapir.store.rundir import RunDir
from tapir.types import Result

UNSET = None
"""A value that a run's recipe does not give: its default, by the version of tapir that made the run."""
Change = tuple[Any, Any]


@dataclass(frozen=True, slots=True)
class Calls:
    """Model calls of a step by their ledger keys, so also prompts, models and sampling: equal keys are equal calls."""

    shared: int
    only_a: int
    only_b: int


@dataclass(frozen=True, slots=True)
class ResultChange:
    """One metric of one student in both runs; `difference` is b − a, None where a run lacks it or it is not `alike`."""

    student: str
    metric: str
    against: str | None
    a: Result | None
    b: Result | None
    difference: Difference | None
    alike: bool = True
    """Whether both were measured by one benchmark: the same settings on the same files."""

    def in_words(self) -> tuple[str, str, str, str]:
        """What was measured, in `a`, in `b`, and the difference."""
        name = f"{self.student}: {_label(self.metric)}"
        if self.against and self.metric != "win_rate":
            name += f" (against {self.against})"
        return name, _number(self.a), _number(self.b), self._said()

    def _said(self) -> str:
        gap = self.difference
        if not self.alike:
            return "not comparable: other files or settings"
        if gap is None:
            return "-"
        if gap.low is None or gap.high is None:
            return f"{gap.value:+.3g}"
        noise = ", inside the noise" if gap.noise else ""
        return f"{gap.value:+.3g} ({gap.low:+.3g} to {gap.high:+.3g}{noise})"


@dataclass(frozen=True, slots=True)
class Differences:
    recipe: dict[str, Change]
    prompts: dict[str, Change]
    """Prompt files of which the two runs had different texts, by the hashes in their manifests."""
    manifest: dict[str, Change]
    settings: dict[str, str]
    """Steps that were not made from the same settings and inputs: `differs`, `only a` or `only b`."""
    calls: dict[str, Calls]
    """Steps whose calls are not all the same."""
    data: dict[str, TableChange]
    """Tables that differ."""
    results: list[ResultChange]

    def to_json(self) -> dict[str, Any]:
        def sides(found: Mapping[str, Change]) -> dict[str, Any]:
            return {name: {"a": a, "b": b} for name, (a, b) in found.items()}

        return {
            "recipe": sides(self.recipe),
            "prompts": sides(self.prompts),
            "manifest": sides(self.manifest),
            "settings": self.settings,
            "calls": {place: asdict(c) for place, c in self.calls.items()},
            "data": {name: asdict(t) for name, t in self.data.items()},
            "results": [
                asdict(r) | {"difference": r.difference.to_json() if r.difference else None} for r in self.results
            ],
        }


def differences(a: RunDir, b: RunDir) -> Differences:
    """Everything in which two runs differ, and all their results."""
    made_a, made_b = a.manifest(), b.manifest()
    return Differences(
        recipe=_changes(_recipe(a), _recipe(b)),
        # Names of files hold dots, so these are taken out before the others are flattened.
        prompts=_changes(made_a.pop("prompts", {}), made_b.pop("prompts", {})),
        manifest=_changes(flat(made_a), flat(made_b)),
        settings=_settings(a, b),
        calls=_calls(a, b),
        data=_data(a, b),
        results=_results(Facts(a), Facts(b)),
    )


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """Nested plain data as `part.key: value`; an empty part is a value."""
    if isinstance(value, dict) and value:
        items = [(str(k), v) for k, v in cast("dict[Any, Any]", value).items()]
    elif isinstance(value, list) and value:
        items = [(str(n), v) for n, v in enumerate(cast("list[Any]", value))]
    else:
        return {path: value}
    found: dict[str, Any] = {}
    for key, inner in items:
        found |= flat(inner, f"{path}.{key}" if path else key)
    return found


def _changes(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Change]:
    keys = [*a, *(k for k in b if k not in a)]
    return {k: (a.get(k, UNSET), b.get(k, UNSET)) for k in keys if (k in a, a.get(k)) != (k in b, b.get(k))}


def _recipe(run: RunDir) -> dict[str, Any]:
    """As it stands in the run, not through this version's reader: a run of an older tapir must compare too."""
    try:
        return flat(yaml.safe_load(run.recipe_path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError) as error:
        raise DataError(f"{run.recipe_path}: cannot be read ({error}); `tapir run` writes it") from None


def _settings(a: RunDir, b: RunDir) -> dict[str, str]:
    """Fingerprints hold the settings of a step and of all before it, so what follows a change differs too."""
    marks_a, marks_b = ({place: r["fingerprint"] for place, r in run.receipts().items()} for run in (a, b))
    found: dict[str, str] = {}
    for place in _union(marks_a, marks_b):
        if place not in marks_b:
            found[place] = "only a"
        elif place not in marks_a:
            found[place] = "only b"
        elif marks_a[place] != marks_b[place]:
            found[place] = "differs"
    return found


def _calls(a: RunDir, b: RunDir) -> dict[str, Calls]:
    keys_a, keys_b = _keys(a), _keys(b)
    found: dict[str, Calls] = {}
    for place in _union(keys_a, keys_b):
        mine, theirs = keys_a.get(place, set()), keys_b.get(place, set())
        if mine != theirs:
            found[place] = Calls(len(mine & theirs), len(mine - theirs), len(theirs - mine))
    return found


def _keys(run: RunDir) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    if run.calls_path.exists():
        for line in run.calls_path.read_text(encoding="utf-8").splitlines():
            place, _, key = line.partition(" ")
            found.setdefault(place, set()).add(key)
    return found


def _data(a: RunDir, b: RunDir) -> dict[str, TableChange]:
    paths_a, paths_b = _tables(a), _tables(b)
    found: dict[str, TableChange] = {}
    for name in _union(paths_a, paths_b):
        if not _is_results(name):
            change = table_change(paths_a.get(name), paths_b.get(name))
            if not change.same:
                found[name] = change
    return found


def _tables(run: RunDir) -> dict[str, Path]:
    return {str(p.relative_to(run.root).with_suffix("")): p for p in run.root.glob("round_*/*.parquet")}


def _is_results(table: str) -> bool:
    """Results are compared as results, with their intervals."""
    return table.endswith(("_evaluation", "_benchmarks"))


def _union(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Places of either, in the order of a run."""
    return sorted(a.keys() | b.keys(), key=lambda p: (int(p.split("/")[0].removeprefix("round_")), p))


def _results(a: Facts, b: Facts) -> list[ResultChange]:
    """By student and metric, in the order of the first run; the same two models in both."""
    mine, theirs = ({(r.student, r.metric, r.against): r for r in side.results} for side in (a, b))
    keys = [*mine, *(k for k in theirs if k not in mine)]
    return [_change(key, mine.get(key), theirs.get(key), same=alike(a, b, key[1])) for key in keys]


def _change(key: tuple[str, str, str | None], a: Result | None, b: Result | None, *, same: bool) -> ResultChange:
    comparable = same or a is None or b is None
    return ResultChange(*key, a, b, _gap(a, b) if comparable else None, comparable)


def _gap(a: Result | None, b: Result | None) -> Difference | None:
    if a is None or b is None:
        return None
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return Difference(b.value - a.value, min(a.n, b.n))
    return difference_of(b.value, (b.low, b.high), a.value, (a.low, a.high), min(a.n, b.n))


def _label(metric: str) -> str:
    """A metric in words, where the report has some."""
    if metric == "nll_change":  # a sentence in the report, and so none of its metrics
        return "change of the NLL per token"
    return METRICS[metric][0] if metric in METRICS else metric


def _number(result: Result | None) -> str:
    if result is None:
        return "-"
    if result.low is None or result.high is None:
        return f"{result.value:.4g}"
    return f"{result.value:.4g} ({result.low:.4g} to {result.high:.4g})"
