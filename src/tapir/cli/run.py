"""Commands that make a run: init, doctor, run."""

from __future__ import annotations

import json
import sys
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from tapir import doctor as checking
from tapir import pipeline, planning, trial
from tapir.cli.terminal import TerminalProgress
from tapir.config import Recipe
from tapir.errors import RecipeError
from tapir.report.text import closing_lines
from tapir.store.rundir import RunDir
from tapir.trust import require_trust
from tapir.wiring import SHIPPED, load_recipe, open_ledger

Source = Annotated[str, typer.Argument(help=f"A recipe file, or a shipped one: {', '.join(SHIPPED)}.")]
Assignments = Annotated[list[str], typer.Option("--set", help="Override a value: part.key=value.")]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
Trust = Annotated[bool, typer.Option(help="Confirm that the recipe's hosts may get the keys it names.")]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    for command in (init, doctor, run):
        app.command()(command)


def init(
    file: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("recipe.yaml"),
    recipe: Annotated[str, typer.Option("--from", help="Which shipped recipe to start from.")] = "openai-teacher",
    force: Annotated[bool, typer.Option(help="Replace an existing file.")] = False,
) -> None:
    """Write a commented recipe to start from."""
    if recipe not in SHIPPED:
        raise RecipeError(f"there is no shipped recipe {recipe!r}; there are {', '.join(SHIPPED)}")
    if file.exists() and not force:
        raise RecipeError(f"{file} exists; give another name, or --force to replace it")
    text = (resources.files("tapir.data") / "recipes" / f"{recipe}.yaml").read_text(encoding="utf-8")
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RecipeError(f"{file}: cannot be written ({error.strerror}); name another place") from None
    print(f"{file} written; look at it, then `tapir doctor {file}` and `tapir run {file} --dry-run`")


def doctor(
    recipe: Source,
    sets: Assignments = [],  # noqa: B006
    trust: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Check that everything the recipe needs is there; each problem comes with its remedy."""
    loaded = load_recipe(recipe, sets)
    if trust:
        require_trust(loaded, confirmed=True)
    findings = checking.examine(loaded)
    if as_json:
        rows = [{"what": f.what, "ok": f.ok, "remedy": f.remedy} for f in findings]
        shown = [f.preview.marked() if f.preview else None for f in findings]
        print(json.dumps([row | ({"example": text} if text else {}) for row, text in zip(rows, shown, strict=True)]))
    else:
        for f in findings:
            print(f"{'ok     ' if f.ok else 'PROBLEM'} {f.what}" + (f": {f.remedy}" if f.remedy else ""))
            if f.preview:
                print(f.preview.coloured() if sys.stdout.isatty() else f.preview.marked())
    if not all(f.ok for f in findings):
        raise typer.Exit(1)


def run(
    recipe: Source,
    sets: Assignments = [],  # noqa: B006
    out: Annotated[Path | None, typer.Option(help="Run directory; by default runs/NAME.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="A separate trial run on this many seeds.")] = None,
    until: Annotated[str | None, typer.Option(help="Stop after this stage, so that you can look first.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan; nothing is sent or loaded.")] = False,
    trust: Trust = False,
) -> None:
    """Distil, or go on where an earlier `tapir run` stopped."""
    loaded = load_recipe(recipe, [*sets, *([f"seeds.sample={limit}"] if limit else [])])
    if dry_run:
        for line in planning.describe(loaded):
            print(line)
        return
    root = out or Path("runs") / loaded.name
    if limit:
        root = root.with_name(f"{root.name}-trial-{limit}")
    require_trust(loaded, confirmed=trust)
    progress = TerminalProgress()
    wanted = planning.stage_name(until, loaded) if until else None
    done = pipeline.run(loaded, root, until=wanted, progress=progress, source=recipe)
    if wanted and planning.unfinished(done):
        progress.say(f"stopped after {wanted}, as asked; the same command without --until goes on")
        return
    from tapir.report.html import write_report

    page = write_report(done)
    for line in closing_lines(done):
        print(line)
    print(f"report: {page}")
    if limit:
        _print_forecast(load_recipe(recipe, sets), loaded, done)


def _print_forecast(whole: Recipe, tried: Recipe, done: RunDir) -> None:
    """What the whole recipe would come to, from its trial."""
    seeds, trial_seeds = planning.pool_size(whole), planning.pool_size(tried)
    if seeds is None or trial_seeds is None:
        remedy = planning.size_remedy(whole)
        print(f"what the whole pool would cost can't be reckoned before its size is known; {remedy}")
        return
    with open_ledger(tried, replay=True) as ledger:
        stages = trial.forecast(done, ledger, whole, seeds=seeds, tried=trial_seeds)
    for line in trial.lines(stages, seeds=seeds, tried=trial_seeds):
        print(line)
