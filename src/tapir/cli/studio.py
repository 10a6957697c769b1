"""`tapir studio`: look at runs in a browser, and mark what you see."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Annotated

import typer

from tapir.errors import DataError, MissingExtra, RecipeError


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(studio)


def studio(
    what: Annotated[
        list[str] | None,
        typer.Argument(metavar="[DIR] [N]", help="A run, or a folder of runs; N: how many random pairs to annotate."),
    ] = None,
    annotate: Annotated[
        bool, typer.Option("--annotate", help="Allow marks: verdicts, drops, labels, N blind pairs (50 by default).")
    ] = False,
    host: Annotated[
        str, typer.Option(help="Address to listen on; others than loopback ask for a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8321,
    author: Annotated[str | None, typer.Option(help="Whose marks these are; by default your user name.")] = None,
    name: Annotated[list[str], typer.Option(help="A further name of this host that a browser may use.")] = [],  # noqa: B006
) -> None:
    """Open the studio on a run or a folder of runs, also while they work."""
    folder, pairs = read_arguments(what or [], annotate=annotate)
    try:
        from tapir.studio.app import build
        from tapir.studio.guard import Access
        from tapir.studio.serving import bind, serve
    except ModuleNotFoundError as error:
        raise MissingExtra(f"the studio needs {error.name}: pip install 'tapir-distill[studio]'") from None
    access = Access.of(host, annotate=annotate, names=frozenset(n.lower() for n in name))
    app = build(folder, access, author=author or getpass.getuser(), pairs=pairs)
    with bind(host, port) as listening:
        shown = f"[{host}]" if ":" in host else host
        token = f"?token={access.token}" if access.token else ""
        print(f"http://{shown}:{listening.getsockname()[1]}/{token}", flush=True)
        serve(app, listening)


def read_arguments(what: list[str], *, annotate: bool) -> tuple[Path, int]:
    """The folder, and how many pairs: `studio runs`, `studio --annotate 20`, `studio runs --annotate 20`."""
    folders = [w for w in what if not (annotate and w.isdigit())]
    counts = [int(w) for w in what if annotate and w.isdigit()]
    if len(folders) > 1 or len(counts) > 1 or 0 in counts:
        raise RecipeError(f"tapir studio {' '.join(what)}: give one folder, and with --annotate one number of pairs")
    folder = Path(folders[0]) if folders else Path("runs")
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder; give a run, or a folder of runs")
    return folder, counts[0] if counts else 50
