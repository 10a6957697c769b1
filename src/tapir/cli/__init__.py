"""The `tapir` command. Data goes to standard output, progress and messages to standard error.

Every user error is one line and the exit code of its kind (`tapir.errors`); 130 after Ctrl-C, 143 after SIGTERM.
"""

from __future__ import annotations

import os
import signal
import sys

import typer

from tapir.cli.lazy import lazy_group
from tapir.errors import DataError, TapirError

COMMANDS = {
    "init": "run",
    "doctor": "run",
    "run": "run",
    "status": "status",
    "report": "report",
    "difficulty": "difficulty",
    "data": "data",
    "decontaminate": "decontaminate",
    "mix": "mix",
    "select": "files",
    "check": "files",
    "diff": "diff",
    "judge": "judge",
    "show": "show",
    "studio": "studio",
    "ablate": "ablate",
    "chat": "chat",
    "export": "export",
    "evaluate": "evaluate",
    "models": "models",
    "ledger": "ledger",
    "stage": "stage",
    "classify": "classify",
    "classifier": "classifier",
    "refiner": "refiner",
    "serve-fake": "files",
}
"""Command → the module that has it, in the order of `tapir --help`."""
GOES_ON = {"run", "ablate", "judge", "evaluate", "models", "stage", "classify", "classifier", "refiner"}
"""Commands that lose nothing when they are stopped."""
INTERRUPTED = 128 + signal.SIGINT

app = typer.Typer(
    name="tapir",
    cls=lazy_group(COMMANDS),
    help="Distil instruction following into a small model by task-aware curriculum planning.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def tapir() -> None:
    """Distil instruction following into a small model by task-aware curriculum planning."""


def main() -> None:
    """Entry point: errors a user can mend become one line and their exit code."""
    # Libraries draw bars of their own for every file they read; ours tell what matters.
    os.environ.setdefault("TQDM_DISABLE", "1")
    received = [signal.SIGINT]

    def interrupt(*_: object) -> None:
        received.append(signal.SIGTERM)
        raise KeyboardInterrupt

    # Schedulers and clouds send it before they take the machine: time to leave things in order, as after Ctrl-C.
    signal.signal(signal.SIGTERM, interrupt)
    try:
        app()
    except (KeyboardInterrupt, SystemExit) as ended:
        # Typer makes the second of the first.
        if isinstance(ended, SystemExit) and ended.code != INTERRUPTED:
            raise
        if sys.argv[1:2] and sys.argv[1] in GOES_ON:
            print("tapir: stopped; the same command goes on from here", file=sys.stderr)
        raise SystemExit(128 + received[-1]) from None
    except TapirError as error:
        print(f"tapir: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except (OSError, UnicodeError) as error:
        # The last net, for files and sockets: any other exception is a mistake of ours and shows its traceback.
        print(f"tapir: {_said(error)}", file=sys.stderr)
        raise SystemExit(DataError.exit_code) from None


def _said(error: OSError | UnicodeError) -> str:
    """What failed, and on which file where the error knows it."""
    if isinstance(error, UnicodeError):
        return f"a text cannot be read or written as it is ({error}); save files as UTF-8, and set PYTHONUTF8=1"
    where = " → ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
    why = " ".join((error.strerror or str(error) or type(error).__name__).split())
    return f"{where}: {why}" if where else why
