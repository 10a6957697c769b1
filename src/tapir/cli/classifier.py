"""`tapir classifier train|eval`: the distilled task classifier made and measured. `tapir classify` uses it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from tapir.cli.pools import Sets, pool_recipe
from tapir.cli.printable import print_dropped
from tapir.cli.terminal import TerminalProgress, printable
from tapir.config import Model
from tapir.models.classifier import open_classifier
from tapir.stages.distil_classifier import Choices, outcome, read_labelled, train_classifier
from tapir.tasks import load_taxonomy
from tapir.types import Receipt

app = typer.Typer(help="A small encoder that names task types.", no_args_is_help=True)
Source = Annotated[str, typer.Argument(help="Rows with `task` (JSONL, Parquet), a run, builtin or builtin:held_out.")]
TaxonomyFile = Annotated[Path | None, typer.Option("--taxonomy", help="Another task taxonomy (YAML).")]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


@app.command()
def train(
    file: Source,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the classifier; must be new.")],
    model: Annotated[str, typer.Option(help="Encoder: a catalogue name, folder or hub id.")] = "minilm-l6-v2",
    revision: Annotated[str | None, typer.Option(help="Hub revision.")] = None,
    per_type: Annotated[int | None, typer.Option(min=2, help="At most this many of a type (paper: 2,000).")] = None,
    held_out: Annotated[float, typer.Option(min=0, max=0.5, help="Share kept to stop early and to measure.")] = 0.1,
    learning_rate: Annotated[float, typer.Option(min=0)] = 1e-4,
    epochs: Annotated[int, typer.Option(min=1, help="At most so many.")] = 30,
    patience: Annotated[int, typer.Option(min=1, help="Epochs without a better held-out loss.")] = 3,
    batch: Annotated[int, typer.Option(min=1)] = 32,
    max_tokens: Annotated[int, typer.Option(min=8, max=512, help="Longer instructions lose their middle.")] = 256,
    seed: int = 17,
    allow_pickle: Annotated[bool, typer.Option(help="Accept .bin weights, which can run code.")] = False,
    taxonomy: TaxonomyFile = None,
    sets: Sets = [],  # noqa: B006
    as_json: AsJson = False,
) -> None:
    """Fine-tune an encoder on labelled instructions."""
    from tapir.models.resolve import resolve
    from tapir.training.encoder import EncoderSettings

    progress, receipt, types = TerminalProgress(), Receipt("classifier"), load_taxonomy(taxonomy)
    rows = read_labelled(file, types, receipt=receipt, like=pool_recipe(file, None, None, sets).seeds)

    def said(epoch: int, note: str) -> None:
        progress.say(f"  epoch {epoch}: {note}")

    wanted = Model(kind="local", model=model, revision=revision, allow_pickle=allow_pickle)
    found = train_classifier(
        resolve(wanted, progress=progress.fetching),
        rows,
        types,
        out,
        Choices(per_type, held_out, seed),
        EncoderSettings(learning_rate, epochs, batch, patience=patience, max_tokens=max_tokens, seed=seed),
        say=said,
    )
    found["rows"]["dropped"] = dict(sorted(receipt.dropped.items()))
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
        return
    print(f"{out}: {len(found['labels'])} task types from {found['rows']['train']} instructions")
    print_dropped(receipt.dropped)
    if found["never_seen"]:
        print(f"no instruction of {', '.join(found['never_seen'])}: it will never name them")
    if "held_out" in found:
        _print_outcome(found["held_out"])
        print("these rows also chose the epoch; `tapir classifier eval` measures on others")


@app.command("eval")
def evaluate(
    file: Source,
    classifier: Annotated[Path, typer.Option("--classifier", help="Folder of a trained classifier.")],
    taxonomy: TaxonomyFile = None,
    sets: Sets = [],  # noqa: B006
    as_json: AsJson = False,
) -> None:
    """How far a classifier agrees with the labels of a file."""
    receipt = Receipt("classifier")
    like = pool_recipe(file, None, None, sets).seeds
    rows = read_labelled(file, load_taxonomy(taxonomy), receipt=receipt, like=like)
    _, found = outcome(open_classifier(classifier), rows)
    found["dropped"] = dict(sorted(receipt.dropped.items()))
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
        return
    _print_outcome(found)
    print_dropped(receipt.dropped)


def _print_outcome(found: dict[str, Any]) -> None:
    print(f"{'task type':<24}{'rows':>6}{'said':>6}{'precision':>11}{'recall':>8}")
    for label, score in found["by_type"].items():
        shares = "".join(f"{'-' if v is None else f'{v:.2f}':>{w}}" for v, w in
                         ((score["precision"], 11), (score["recall"], 8)))  # fmt: skip
        print(printable(f"{label:<24}{score['given']:>6}{score['said']:>6}{shares}"))
    for at in found["at_confidence"]:
        right = f"{100 * at['right'] / at['kept']:.1f} % right" if at["kept"] else "none"
        print(f"confidence {at['confidence']:.1f} and above: {at['kept']} of {found['n']} rows, {right}")
    low, high = 100 * found["low"], 100 * found["high"]
    print(
        f"agrees on {found['agree']} of {found['n']} rows: {100 * found['share']:.1f} % "
        f"(95 % CI {low:.1f} to {high:.1f})"
    )
