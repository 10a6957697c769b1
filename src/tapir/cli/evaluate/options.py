"""Options of `tapir evaluate …` that several commands share. Importing them loads no model library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

WHO = (
    "RUN:student_2, RUN (its last student), a folder of weights, a catalogue name, a hub id, URL#MODEL, a role of "
    "--recipe, or a file of stored answers"
)
Model = Annotated[
    str | None, typer.Option("--model", help=f"Live: {WHO}. Stored: which model, where the file has several.")
]
Models = Annotated[list[str], typer.Option("--model", metavar="WHO", help=f"{WHO}; may be repeated.")]
Rated = Annotated[str | None, typer.Option("--model", metavar="WHO", help=f"Live: {WHO}.")]
Prompts = Annotated[
    Path | None,
    typer.Option("--prompts", help="Prompts, JSON, JSONL or Parquet; by default the held-out ones of the model's run."),
]


@dataclass(frozen=True, slots=True)
class Live:
    """Options of every evaluation that asks models: how they answer, and from which recipe the rest comes."""

    recipe: Annotated[
        str | None, typer.Option("--recipe", help="Recipe with judge, ledger, budget; default: the run's own.")
    ] = None
    key_env: Annotated[
        str | None, typer.Option("--key-env", help="Variable with the key of a --model given as URL#MODEL.")
    ] = None
    temperature: Annotated[
        float | None, typer.Option(min=0, help="Of the answers; by default the model's own, or 0.5 (§4.1).")
    ] = None
    max_answer_tokens: Annotated[
        int | None,
        typer.Option("--max-answer-tokens", min=1, help="Longest answer; by default as in the recipe, or 2048."),
    ] = None
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many prompts, for a trial.")] = None
    sets: Annotated[list[str], typer.Option("--set", help="Override a value of the recipe: part.key=value.")] = field(
        default_factory=lambda: list[str]()
    )
    trust: Annotated[bool, typer.Option("--trust", help="Confirm that the hosts may get the keys named for them.")] = (
        False
    )
    write: Annotated[
        Path | None, typer.Option("--write", help="Also write the judged rows, in the public form, here.")
    ] = None


@dataclass(frozen=True, slots=True)
class Judged:
    """Options of every evaluation that has a judge."""

    judge: Annotated[
        str | None,
        typer.Option("--judge", help="Live: WHO judges (default: the recipe's evaluator). Stored: which, by name."),
    ] = None
    judge_prompt: Annotated[
        Path | None,
        typer.Option("--judge-prompt", exists=True, help="The judge's prompt: used live, and named in the result."),
    ] = None
    judge_key_env: Annotated[
        str | None, typer.Option("--judge-key-env", help="Variable with the key of a --judge given as URL#MODEL.")
    ] = None
    repeats: Annotated[
        int, typer.Option(min=1, help="Ask the judge so many times: the mean counts, the spread shows its noise.")
    ] = 1
    judge_temperature: Annotated[
        float | None,
        typer.Option("--judge-temperature", min=0, help="By default 0 for one repeat, 0.7 for several."),
    ] = None


@dataclass(frozen=True, slots=True)
class Asked:
    """How a live evaluation was asked for."""

    models: Sequence[str]
    live: Live = Live()
    judged: Judged = Judged()
