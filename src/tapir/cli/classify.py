"""`tapir classify`: task types for the instructions of a file, by a classifier, a teacher, or both."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from tapir.cli.outputs import table_for
from tapir.cli.pools import pool_recipe
from tapir.cli.printable import print_dropped
from tapir.cli.stage import Trust, open_stage
from tapir.errors import RecipeError
from tapir.models.classifier import Classifier, open_classifier
from tapir.stages.classify import check_labels, classify_with
from tapir.stages.reading import read_pool
from tapir.steps.labelling import by_teacher, labelled
from tapir.store.rundir import as_plain
from tapir.store.tables import write_rows
from tapir.types import Instruction, Receipt, Seed
from tapir.wiring import Session

AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(classify)


def classify(
    file: Annotated[str, typer.Argument(help="Instructions, in any form that a pool may have.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Where to write, .jsonl or .parquet.")],
    classifier: Annotated[Path | None, typer.Option(help="Folder of a trained classifier.")] = None,
    confidence: Annotated[float, typer.Option(min=0, max=1, help="Below it the recipe's teacher is asked.")] = 0.8,
    recipe: Annotated[str | None, typer.Option(help="Recipe whose teacher is asked.")] = None,
    sets: Annotated[list[str], typer.Option("--set", help="Override a value: part.key=value.")] = [],  # noqa: B006
    trust: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Name task types: by a classifier where it is sure, by the teacher where it is not or where there is none."""
    table_for(out, file)
    like = pool_recipe(file, None, recipe, sets).seeds
    if recipe is not None:
        with open_stage(recipe, sets, "classify", trust=trust) as (session, receipt):
            pool = read_pool(file, receipt, like)
            opened = open_classifier(classifier) if classifier else None
            found = list(_labelled(session, pool.instructions, opened, confidence, receipt))
    elif classifier is not None:
        receipt = Receipt("classify")
        pool = read_pool(file, receipt, like)
        opened = open_classifier(classifier)
        found = list(classify_with(pool.instructions, opened, None, confidence=confidence, receipt=receipt))
    else:
        raise RecipeError("nobody is there to name task types; give --classifier, --recipe, or both")
    write_rows(out, Seed, pool.seeds(found))
    if as_json:
        print(json.dumps(as_plain(receipt), ensure_ascii=False))
        return
    by = receipt.notes.get("labelled_by", {})
    print(f"{out}: {len(found)} instructions, {', '.join(f'{n} labelled by the {who}' for who, n in by.items())}")
    print_dropped(receipt.dropped)
    unsure = receipt.notes.get("below_confidence", 0)
    if unsure and not by.get("teacher"):
        print(f"{unsure} of them below confidence {confidence:g}; --recipe names a teacher to ask about those")


def _labelled(
    session: Session, rows: list[Instruction], classifier: Classifier | None, confidence: float, receipt: Receipt
) -> Iterator[Instruction]:
    """As the recipe wants it, or by the classifier given and the recipe's teacher."""
    if classifier is None:
        return labelled(session, rows, receipt)
    check_labels(classifier, session.taxonomy)
    return classify_with(
        rows,
        classifier,
        lambda some, account: by_teacher(session, some, account),
        confidence=confidence,
        receipt=receipt,
    )
