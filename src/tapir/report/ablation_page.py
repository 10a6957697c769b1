"""The table and the figure of an ablation: Markdown, plain cells for a terminal, one SVG file.

Which numbers there are is `ablation`'s; how marks are drawn `charts`'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tapir.evaluation.measured import Metric
from tapir.report.ablation import LESS_IS_BETTER, METRICS, Comparison, Line, Measure
from tapir.report.charts import Point
from tapir.report.figures import standalone
from tapir.report.forest import forest
from tapir.store.rundir import write_json, write_text

NAMES: Mapping[Metric, str] = {
    "checks_passed": "checks passed, %",
    "win_rate": "win rate against student_0, %",
    "nll_per_token": "NLL a token",
}
DIGITS: Mapping[Metric, int] = {"checks_passed": 1, "win_rate": 1, "nll_per_token": 3}


def write_files(found: Comparison, root: Path) -> list[Path]:
    """`table.md`, `table.json` and one figure a form, beside the arms."""
    paths = [root / "table.md", root / "table.json"]
    write_text(paths[0], markdown(found))
    write_json(paths[1], found.to_json())
    for form in dict.fromkeys(line.form for line in found.lines):
        path = root / f"figure-{form}.svg"
        write_text(path, figure([line for line in found.lines if line.form == form], form))
        paths.append(path)
    return paths


HEAD = ("variant", "starts from", "answers by", "rows", "trained tokens", "against", *NAMES.values())
"""The table's columns; below each metric's value stands its difference."""


def cells(line: Line, new_line: str = "\n") -> list[str]:
    """One row of the table, in words."""
    short_of = "" if round(line.rows) >= line.wanted else f" of {line.wanted}"
    against = next((m.against for m in line.measures.values() if m.against), None)
    found = [line.name, line.starts_from, line.answers_by, f"{line.rows:,.0f}{short_of}"]
    found += [f"{line.trained_tokens:,.0f}", against or "-"]
    for metric in METRICS:
        m = line.measures.get(metric)
        found.append("-" if m is None else new_line.join([_value(m, DIGITS[metric]), *_difference(m, DIGITS[metric])]))
    return found


def _value(m: Measure, digits: int) -> str:
    spread = "" if m.spread is None else f" ±{m.spread:.{digits}f}"
    interval = "" if m.low is None or m.high is None else f" ({m.low:.{digits}f} to {m.high:.{digits}f})"
    return f"{m.value:.{digits}f}{spread}{interval}"


def _difference(m: Measure, digits: int) -> list[str]:
    d = m.difference
    if d is None or d.low is None or d.high is None:
        return []
    p = "" if d.p_holm is None else "p < 0.001" if d.p_holm < 0.001 else f"p {d.p_holm:.3f}"
    resolves = "" if m.resolvable is None else f"resolves {m.resolvable:.{digits}f}"
    change = f"{d.value:+.{digits}f} ({d.low:+.{digits}f} to {d.high:+.{digits}f})"
    return [change, ", ".join(part for part in (p, resolves, "noise" if d.noise else "") if part)]


def notes(found: Comparison) -> list[str]:
    """How to read the table."""
    seeds = max(len(line.seeds) for line in found.lines)
    said = [
        f"Means over {seeds} training seeds and all instructions with 95 % intervals that draw both anew; ± is the "
        "standard deviation of the seeds' means."
        if seeds > 1
        else "Means over the instructions with 95 % intervals; one training seed, so its luck is not in them.",
        "Below each value the paired difference on equal seeds and instructions; p by random signs of the "
        "instructions' mean differences, corrected over all comparisons of a metric (Holm). Training seeds share "
        "round 0, so its luck is in no interval.",
        "Where all values are equal the interval is Wilson's, between 0 and 100; of a NLL there is none then.",
        "`resolves` is the smallest difference that so many instructions show with power 0.8 at 5 %; `noise` marks a "
        "difference inside it.",
        f"The win rate is by {'the judge and checks' if found.win_rate_by == 'verdicts' else 'the checks alone'}. "
        f"Held-out instructions measured under all seeds: {_sizes(found)}.",
    ]
    if found.missing:
        said.append(f"{found.missing} arms are not done; the same command goes on with them.")
    return said


def _sizes(found: Comparison) -> str:
    """How many instructions each metric rests on, where lines differ from fewest to most."""
    said: list[str] = []
    for metric in METRICS:
        counts = sorted({m.instructions for line in found.lines if (m := line.measures.get(metric))})
        if counts:
            said.append(f"{NAMES[metric]} {' to '.join(str(n) for n in dict.fromkeys((counts[0], counts[-1])))}")
    return "; ".join(said)


def sentences(found: Comparison) -> list[str]:
    """Which differences are more than noise; or that none is."""
    said: list[str] = []
    for line in found.lines:
        for metric, m in line.measures.items():
            d = m.difference
            if d is None or d.noise is not False:
                continue
            better = (d.value > 0) != (metric in LESS_IS_BETTER)
            said.append(
                f"{line.form}: {line.name} is {'better' if better else 'worse'} than {m.against} in "
                f"{NAMES[metric]}: {d.value:+.{DIGITS[metric]}f} ({d.low:+.{DIGITS[metric]}f} to "
                f"{d.high:+.{DIGITS[metric]}f})"
            )
    return said or ["No difference between variants is more than noise at this size."]


def markdown(found: Comparison) -> str:
    """One table a form, the sentences and the notes."""
    parts: list[str] = []
    for form in dict.fromkeys(line.form for line in found.lines):
        said = "equal trained tokens" if form == "tokens" else "rows in the proportions of Table 5"
        parts += [f"## Ablation, {said}", "", _row(HEAD), _row(["---"] * len(HEAD))]
        parts += [_row(cells(line, "; ")) for line in found.lines if line.form == form] + [""]
    parts += [f"- {_plain(sentence)}" for sentence in sentences(found)] + [""]
    return "\n".join([*parts, *(f"{note}  " for note in notes(found))]) + "\n"


def _row(texts: Sequence[str]) -> str:
    return "| " + " | ".join(_plain(text) for text in texts) + " |"


def _plain(text: str) -> str:
    # A variant's or setting's name comes from a recipe, which may be anybody's.
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def figure(lines: Sequence[Line], form: str) -> str:
    """One panel a metric, one row a variant: the value with its interval, as an SVG file."""
    panels: dict[str, list[Point | None]] = {}
    for metric in METRICS:
        points = [line.measures.get(metric) for line in lines]
        if any(points):
            panels[NAMES[metric]] = [
                None if m is None else Point(line.name, m.value, m.low, m.high)
                for line, m in zip(lines, points, strict=True)
            ]
    said = "equal trained tokens" if form == "tokens" else "rows in the proportions of Table 5"
    description = f"Each variant's mean with its 95 % interval over training seeds and instructions; {said}."
    return standalone(forest("Ablation", description, [line.name for line in lines], panels))
