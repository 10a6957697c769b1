"""A run's result in plain words: the closing table of `tapir run`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from tapir.curriculum.difficulty import difficulties
from tapir.report.bounds import with_bounds
from tapir.report.judge import canary_lines, run_trust
from tapir.store.rundir import RunDir
from tapir.store.tables import read_rows
from tapir.types import Difficulty, Result, Verdict

METRICS = {
    "checks_passed": ("held-out checks passed, %", "{:.1f}"),
    "win_rate": ("win rate against student_0, %", "{:.1f}"),
    "teacher_win_rate": ("win rate against the teacher, %", "{:.1f}"),
    "judge_score": ("mean judge score, 1 to 10", "{:.2f}"),
    "nll_per_token": ("NLL per token on the teacher's held-out answers", "{:.3f}"),
    "grade": ("mean grade of held-out answers, 1 to 10", "{:.2f}"),
    "alpaca_win_rate": ("AlpacaEval win rate, %", "{:.1f}"),
    "following_strict": ("verifiable prompts followed strictly, %", "{:.1f}"),
    "following_loose": ("verifiable prompts followed loosely, %", "{:.1f}"),
    "exact_accuracy": ("exact answers right, %", "{:.1f}"),
}
IN_WORDS = ("judge_score", "nll_change")
"""Told in a sentence, or in the table by another row."""


def metrics(found: list[Result]) -> dict[str, tuple[str, str]]:
    """Label and form of every metric: those known here, then those on several files, and lm-eval's tasks by name."""
    others = dict.fromkeys(r.metric for r in found if r.metric not in METRICS and r.metric not in IN_WORDS)
    return METRICS | {name: _shown(name) for name in others}


def _shown(metric: str) -> tuple[str, str]:
    """Of a benchmark on several files, "exact_accuracy (math)", as without the file."""
    known, bracket, file = metric.partition(" (")
    label, form = METRICS.get(known, (known, "{:.1f}"))
    return label + bracket + file, form


def results(run: RunDir) -> list[Result]:
    """All results of the run, in the order of rounds."""
    found: list[Result] = []
    tables = [f"round_{number}/*_{table}.parquet" for number in run.rounds() for table in ("evaluation", "benchmarks")]
    for path in (path for table in tables for path in run.root.glob(table)):
        rows = list(read_rows(path, Result))
        # Benchmarks write their own intervals; what lacks one in an evaluation follows from the run's rows.
        whole = path.name.endswith("_benchmarks.parquet")
        found += rows if whole else with_bounds(run, f"{path.parent.name}/{path.stem}", rows)
    return found


def students(found: list[Result]) -> list[str]:
    """The students that these results speak of, in order."""
    return sorted({r.student for r in found}, key=lambda n: int(n.removeprefix("student_")))


def table(found: list[Result]) -> list[list[str]]:
    """Before and after: a row a metric, a column a student."""
    names = students(found)
    rows = [["held-out", *names]]
    for metric, (label, form) in metrics(found).items():
        cells = [_cell(found, metric, name, names[-1], form) for name in names]
        if any(cell != "-" for cell in cells):
            rows.append([label, *cells])
    return rows


def _cell(found: list[Result], metric: str, name: str, last: str, form: str) -> str:
    rows = [r for r in found if r.metric == metric and r.student == name]
    if metric == "judge_score" and name == "student_0":
        # student_0 is scored beside each later student; the last comparison is the one the table is about.
        rows = [r for r in rows if r.against == last]
    if not rows:
        return "-"
    interval = f" ({form} to {form})".format(rows[-1].low, rows[-1].high) if rows[-1].low is not None else ""
    return form.format(rows[-1].value) + interval


def judge_lines(run: RunDir) -> list[str]:
    """How far the judge can be trusted, from this run's own verdicts."""
    pairs: list[Difficulty] = []
    methods: Counter[str] = Counter()
    tables = ["round_0/*_verdicts.parquet", *(f"round_{r}/*_evaluation.verdicts.parquet" for r in run.rounds())]
    for path in (path for table in tables for path in run.root.glob(table)):
        rows = list(read_rows(path, Verdict, without=("raw",)))
        methods.update(v.method for v in rows)
        pairs += difficulties(v for v in rows if v.method not in ("verified", "identical"))
    lines = [f"verdicts by method: {', '.join(f'{m} {n}' for m, n in sorted(methods.items()))}"]
    if pairs:
        turned = sum(not pair.consistent for pair in pairs)
        share = 100 * turned / len(pairs)
        lines.append(
            f"the judge changed its verdict with the order in {turned} of {len(pairs)} judged pairs ({share:.0f} %)"
            + ("; do not lean on judged numbers alone" if share > 30 else "")
        )
    return lines


def cost_line(run: RunDir) -> str:
    """What the run came to."""
    receipts = run.receipts().values()
    total = {k: sum(r[k] for r in receipts) for k in ("calls", "cached_calls", "replayed_calls", "seconds", "cost_usd")}
    tokens = sum(r["completion_tokens"] for r in receipts)
    return (
        f"{total['calls']} live calls ({tokens} tokens generated), {total['cached_calls']} from the ledger, "
        f"{total['replayed_calls']} of them replayed from a recording; ${total['cost_usd']:.2f}; "
        f"{total['seconds'] / 60:.1f} minutes"
    )


def closing_lines(run: RunDir) -> Iterator[str]:
    """What `tapir run` prints at the end."""
    found = results(run)
    rows = table(found)
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    yield ""
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    yield ""
    for result in found:
        if result.sentence:
            yield result.sentence
    yield from judge_lines(run)
    yield from canary_lines(run_trust(run))
    yield cost_line(run)
    if run.manifest().get("recipe_source") == "quickstart":
        yield "This was a smoke test of a real loop: too few rows to carry a claim. `make small` is the run for that."
