"""`tapir export`: a run's student or its training data in the forms that others use, with their cards.

Only what the run's files hold goes out; pushes to the hub are private unless told otherwise.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from tapir.cli.terminal import printable
from tapir.errors import GateFailed, RecipeError
from tapir.report.card import card_facts
from tapir.steps.common import instructions_of, student_number, the_student, trained_examples
from tapir.store.rundir import RunDir, open_run
from tapir.training import export as exporting
from tapir.training import gguf_export
from tapir.training import verify as verifying
from tapir.training.cards import data_card, model_card
from tapir.types import Message

FORMS = ("safetensors", "gguf", "dataset", "hub")


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(export)


def export(
    path: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")],
    to: Annotated[str, typer.Option("--to", help=f"One of {', '.join(FORMS)}.")] = "safetensors",
    number: Annotated[int | None, typer.Option("--round", min=0, help="Which round's; by default the last.")] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Where to write; by default under exports/.")] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Compare 20 answers with the run's student.")] = False,
    repository: Annotated[str | None, typer.Option(help="For the hub: owner/name.")] = None,
    public: Annotated[bool, typer.Option("--public", help="For the hub: for everybody to see.")] = False,
    with_data: Annotated[bool, typer.Option("--with-data", help="For the hub: the data too, as NAME-data.")] = False,
    dtype: Annotated[exporting.Dtype, typer.Option(help="Precision of safetensors.")] = "float32",
    gguf_type: Annotated[gguf_export.GgufType, typer.Option(help="Precision of GGUF.")] = "f16",
) -> None:
    """A student for any server, as GGUF, on the hub, or the data it was trained on; with a card."""
    if to not in FORMS:
        raise RecipeError(f"--to {to}: choose one of {', '.join(FORMS)}")
    if (to == "hub") != (repository is not None):
        raise RecipeError("--to hub needs --repository owner/name, and nothing else does")
    run = open_run(path)
    name = run.root.resolve().name
    if to == "dataset":
        if verify:
            raise RecipeError("--verify compares answers, and a dataset gives none; leave it out")
        _dataset(run, number, out or Path("exports") / f"{name}-data")
        return
    found, student = the_student(run, number)
    target = out or Path("exports") / f"{name}-student_{found}{verifying.GGUF if to == 'gguf' else ''}"
    if to == "gguf" and target.suffix != verifying.GGUF:
        raise RecipeError(f"-o {target}: name it {target}{verifying.GGUF}; servers know the format by its ending")
    if to == "gguf":
        exporting.refuse_existing(target)
        gguf_export.export_gguf(student, target, kind=gguf_type)
    else:
        card = model_card(card_facts(run, found))
        exporting.export_safetensors(student, target, dtype=dtype, card=card)
    print(target)
    if verify:
        _verify(run, student, target, gguf_type if to == "gguf" else dtype)
    _say(f"serve it: {exporting.serve_line(target)}")
    if repository is not None:
        print(exporting.push(target, repository, kind="model", private=not public))
        if with_data:
            data = _dataset(run, number, target.with_name(f"{target.name}-data"))
            print(exporting.push(data, f"{repository}-data", kind="dataset", private=not public))


def _dataset(run: RunDir, number: int | None, target: Path) -> Path:
    """Without a round, what all rounds were trained on."""
    rows = trained_examples(run, number)
    last = student_number(run, number)
    card = data_card(card_facts(run, last, rows), examples=len(rows))
    made = exporting.export_dataset(rows, target, name=run.root.resolve().name, card=card)
    forms = "messages.jsonl, alpaca.json and sharegpt.json, with files for LLaMA-Factory and axolotl"
    _say(f"{made.examples} examples: {forms}")
    if made.not_alpaca:
        _say(
            f"alpaca.json lacks {made.not_alpaca} of them, in which user and assistant do not speak by turns; "
            "messages.jsonl and sharegpt.json hold them all"
        )
    print(target)
    return target


def prompts_of(run: RunDir, count: int) -> list[tuple[Message, ...]]:
    """The run's first held-out instructions; where they are too few, seeds after them."""
    steps = [run.step(place, "") for place in ("round_0/08_held_out", "round_0/02_classified")]
    rows = [i for step in steps if step.receipt() is not None for i in instructions_of(step)]
    return [i.messages() for i in rows[:count]]


def _verify(run: RunDir, student: Path, target: Path, precision: str) -> None:
    found = verifying.verify(student, target, prompts_of(run, verifying.PROMPTS))
    for prompt, before, after in found.differing:
        _say(f"differs: {_short(prompt)}\n  the run:    {_short(before)}\n  the export: {_short(after)}")
    line = (
        f"{found.same} of {found.prompts} greedy answers are the run's to the last token; "
        f"{found.spelt_alike} of {found.prompts} prompts are spelt alike"
    )
    if not found.sound:
        raise GateFailed(
            f"{target}: {line}; this export does not answer as the run does: delete it, and export it again"
        )
    print(line)
    if found.differing and precision not in ("float32", "f32"):
        _say(f"{precision} rounds what was trained, which turns close calls; --dtype float32 or --gguf-type f32 do not")


def _short(text: str, most: int = 100) -> str:
    line = " ".join(printable(text).split())
    return line if len(line) <= most else line[: most - 1] + "…"


def _say(*lines: str) -> None:
    print(*lines, sep="\n", file=sys.stderr)
