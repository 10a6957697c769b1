"""`tapir evaluate …`: a benchmark a command, on stored files or live on any model. Scoring is `tapir.evaluation`'s.

Each command's module is imported when it is asked for: scoring stored files must load no model library.
"""

from __future__ import annotations

import typer

from tapir.cli.lazy import lazy_group

COMMANDS = {
    "alpaca": "evaluate.alpaca",
    "mt-bench": "evaluate.mt_bench",
    "relative": "evaluate.relative",
    "pairwise": "evaluate.own_sets",
    "graded": "evaluate.own_sets",
    "following": "evaluate.rules",
    "exact": "evaluate.rules",
    "choice": "evaluate.weights",
    "fit": "evaluate.weights",
}
"""Command → its module below `tapir.cli`."""

app = typer.Typer(
    cls=lazy_group(COMMANDS), help="Benchmarks, live or from stored answers and judgments.", no_args_is_help=True
)


@app.callback()
def evaluate() -> None:
    """Benchmarks, live or from stored answers and judgments."""
