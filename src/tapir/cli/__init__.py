"""The `tapir` command. Data goes to standard output, progress and messages to standard error.

Every user error is one line and the exit code of its kind (`tapir.errors`); 130 after Ctrl-C.
"""

from __future__ import annotations

import os
import sys

import typer

from tapir.cli import (
    chat,
    data,
    diff,
    difficulty,
    evaluate,
    export,
    judge,
    ledger,
    models,
    report,
    run,
    show,
    stage,
    status,
)
from tapir.errors import TapirError

app = typer.Typer(
    name="tapir",
    help="Distil instruction following into a small model by task-aware curriculum planning.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
run.register(app)
status.register(app)
report.register(app)
data.register(app)
difficulty.register(app)
diff.register(app)
judge.register(app)
show.register(app)
chat.register(app)
export.register(app)
app.add_typer(evaluate.app, name="evaluate")
app.add_typer(models.app, name="models")
app.add_typer(ledger.app, name="ledger")
app.add_typer(stage.app, name="stage")


def main() -> None:
    """Entry point: errors a user can mend become one line and their exit code."""
    # Libraries draw bars of their own for every file they read; ours tell what matters.
    os.environ.setdefault("TQDM_DISABLE", "1")
    try:
        app()
    except TapirError as error:
        print(f"tapir: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        print("tapir: stopped; the same command goes on from here", file=sys.stderr)
        raise SystemExit(130) from None
