"""`tapir refiner train|eval`: a small refiner fine-tuned on what a strong one wrote (appendix C)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from tapir.cli.printable import print_dropped
from tapir.cli.stage import Trust, open_stage
from tapir.config import Recipe as RecipeSettings
from tapir.errors import RecipeError
from tapir.stages.distil_classifier import read_labelled
from tapir.stages.distil_refiner import read_mark, trained_refiner
from tapir.steps import refiner as steps
from tapir.store.tables import read_rows
from tapir.types import Instruction, Receipt
from tapir.wiring import load_recipe

app = typer.Typer(help="A small model that refines instructions.", no_args_is_help=True)
Recipe = Annotated[str, typer.Option("--recipe", help="Recipe with the annotator, teacher and judge.")]
Sets = Annotated[list[str], typer.Option("--set", help="Override a value: part.key=value.")]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


@app.command()
def train(
    file: Annotated[str, typer.Argument(help="Instructions with `task`: a file, a run, or builtin.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the refiner; must be new.")],
    recipe: Recipe,
    model: Annotated[
        str | None, typer.Option(help="What is fine-tuned; by default the recipe's refiner.model.")
    ] = None,
    measure: Annotated[bool, typer.Option(help="Measure it on held-out instructions afterwards.")] = True,
    sets: Sets = [],  # noqa: B006
    trust: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Annotate instructions, fine-tune a small model on them, and measure it."""
    sets = [*sets, *([f"refiner.model={model}"] if model else [])]
    account = Receipt("refiner")
    with open_stage(recipe, sets, "refiner", trust=trust) as (session, receipt):
        rows = read_labelled(file, session.taxonomy, receipt=account, like=session.recipe.seeds)
        found = steps.train_refiner(session, rows, out, receipt)
    found["dropped"] = dict(sorted(account.dropped.items()))
    if measure and found["held_out"]:
        found["measured"] = _measured(out, recipe, sets, trust=trust)
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
        return
    refused = ", ".join(f"{n} {reason}" for reason, n in found["refused"].items()) or "none"
    print(f"{out}: trained on {found['trained_on']} of {found['annotated']} annotations (refused: {refused})")
    print_dropped(found["dropped"])
    print(f"to use it: `models.refiner: {{kind: local, model: {out}}}`")
    if "measured" in found:
        _print_measured(found["measured"])


@app.command("eval")
def evaluate(
    refiner: Annotated[Path, typer.Argument(help="Folder of a trained refiner.")],
    recipe: Recipe,
    file: Annotated[str | None, typer.Option(help="Instructions with `task`; by default those held out.")] = None,
    sets: Sets = [],  # noqa: B006
    trust: Trust = False,
    as_json: AsJson = False,
) -> None:
    """The trained refiner against the in-context one, by the recipe's judge."""
    found = _measured(refiner, recipe, sets, file, trust=trust)
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
        return
    _print_measured(found)


def _measured(folder: Path, recipe: str, sets: list[str], file: str | None = None, *, trust: bool) -> dict[str, Any]:
    sets = [*sets, *_as_refiner(folder, load_recipe(recipe, sets))]
    if trained_refiner(load_recipe(recipe, sets).models.resolved("refiner")) is None:
        raise RecipeError(f"{folder}: not a trained refiner; `tapir refiner train` makes one")
    if not read_mark(folder)["held_out"] and file is None:
        raise RecipeError(f"{folder}: nothing was held out when it was trained; give --file")
    account = Receipt("refiner")
    with open_stage(recipe, sets, "refiner", trust=trust) as (session, _):
        held_out = list(read_rows(folder / steps.HELD_OUT, Instruction)) if file is None else read_labelled(
            file, session.taxonomy, receipt=account, like=session.recipe.seeds
        )  # fmt: skip
        return {**steps.measure_refiner(session, held_out), "dropped": dict(sorted(account.dropped.items()))}


def _as_refiner(folder: Path, recipe: RecipeSettings) -> list[str]:
    """Overrides that make it the recipe's refiner: with the settings of a local one, or in place of another kind."""
    given = recipe.models.refiner
    if given.kind == "local" and given.same_as is None:
        return [f"models.refiner.model={json.dumps(str(folder))}"]
    return [f"models.refiner={json.dumps({'kind': 'local', 'model': str(folder)})}"]


def _print_measured(found: dict[str, Any]) -> None:
    print_dropped(found["dropped"])
    print(f"of {found['instructions']} held-out instructions, {found['same_text']} were refined alike by both")
    for who in ("trained", "in_context"):
        told = ", ".join(f"{n} {reason}" for reason, n in found[f"fallback_{who}"].items()) or "none"
        print(f"fell back to the original, {who.replace('_', '-')}: {told}")
    if found["win_rate"] is None:
        print(f"no pair could be judged ({found['unread']} unread)")
        return
    rate, low, high = (100 * found[name] for name in ("win_rate", "low", "high"))
    noise = "" if low > 50 or high < 50 else "; inside the noise"
    print(
        f"answers to the trained refiner's texts against the in-context one's: win rate {rate:.1f} % of "
        f"{found['n']} (95 % CI {low:.1f} to {high:.1f}{noise})"
    )
