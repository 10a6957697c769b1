"""The parts of `tapir evaluate` that run weights on this machine: multiple choice (lm-eval) and held-out fit.

Heavy libraries are loaded by the commands, never by importing this module.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from tapir.cli.outputs import apart
from tapir.cli.results import Finding, Handover, deliver, interval, spelled
from tapir.cli.unfolded import Without, unfolded
from tapir.curriculum import comparison
from tapir.errors import DataError, RecipeError
from tapir.evaluation import harness
from tapir.evaluation.fit import KINDS, FitScore, score_fit
from tapir.evaluation.heldout import Fit, fits
from tapir.evaluation.provenance import Provenance, stamp
from tapir.evaluation.rows import Estimate, Row, refuse_missing
from tapir.types import Answer, Instruction

if TYPE_CHECKING:
    from tapir.config import Model

Weights = Annotated[str, typer.Option("--model", help="RUN:student_2, a folder, catalogue name or hub id.")]
Before = Annotated[str | None, typer.Option("--before", help="Compare with this one (folder, name or result file).")]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    for command in (choice, fit):
        app.command()(unfolded(command))


def choice(
    model: Weights,
    task: Annotated[
        list[str] | None,
        typer.Option(help="lm-eval task NAME or NAME:shots, may be repeated; by default the leaderboard's four."),
    ] = None,
    shots: Annotated[
        int | None, typer.Option(min=0, help="Shots of tasks given without; default: leaderboard's.")
    ] = None,
    task_files: Annotated[Path | None, typer.Option(help="Folder of task files that need no network.")] = None,
    before: Before = None,
    limit: Annotated[int | None, typer.Option(min=1, help="So many questions of each task, for a trial.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, …")] = "cpu",
    batch_size: Annotated[int, typer.Option(min=1)] = 8,
    allow_code: Annotated[bool, typer.Option("--allow-code", help="Let task files run their Python.")] = False,
    *,
    how: Annotated[Handover, Without("allow_missing")],
) -> None:
    """Multiple choice through lm-eval, and whether training did harm (appendix E)."""
    apart((how.out,), (before,))
    tasks = read_tasks(task or [], shots)
    # A result file that cannot be read must not wait for the evaluation.
    earlier = stored_scores(Path(before)) if before is not None and Path(before).is_file() else None
    folder, _ = _weights(model)

    def run(weights: Path) -> list[harness.TaskScore]:
        return harness.evaluate(
            weights, tasks, task_files=task_files, device=device, batch_size=batch_size, limit=limit,
            allow_code=allow_code,
        )  # fmt: skip

    after = run(folder)
    if before is not None and earlier is None:
        earlier = run(_weights(before)[0])
    deliver(choice_finding(after, earlier, folder, limit), how)


def read_tasks(given: Sequence[str], shots: int | None = None) -> dict[str, int]:
    """Tasks with their shots: as written after the colon, else `shots`, else the leaderboard's, else 0."""
    found: dict[str, int] = {}
    for text in given or list(harness.LEADERBOARD_SHOTS):
        name, sign, number = text.partition(":")
        if not name or (sign and not number.isdigit()):
            raise RecipeError(f"--task {text!r}: write NAME or NAME:shots, as in hellaswag:10")
        default = harness.LEADERBOARD_SHOTS.get(name, 0) if shots is None else shots
        wanted = int(number) if sign else default
        if found.setdefault(name, wanted) != wanted:
            raise RecipeError(f"--task {name}: given with {found[name]} and with {wanted} shots; run it once for each")
    return found


def stored_scores(path: Path) -> list[harness.TaskScore]:
    """The tasks of a result file that `tapir evaluate choice --out` wrote."""
    try:
        rows = cast("dict[str, dict[str, Any]]", json.loads(path.read_text(encoding="utf-8"))["tasks"])
        return [
            harness.TaskScore(
                row["task"], row["metric"], row["shots"], Estimate(**row["accuracy"]), row["standard_error"]
            )
            for row in rows.values()
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path}: not a result that `tapir evaluate choice --out` wrote ({error!r}); "
            "give such a file, or a folder of weights"
        ) from None


def choice_finding(
    after: Sequence[harness.TaskScore],
    before: Sequence[harness.TaskScore] | None,
    folder: Path,
    limit: int | None = None,
) -> Finding:
    """Scores and, with an earlier model's, changes; `harmed` counts the drops beyond two standard errors."""
    changes = harness.compare(before, after) if before is not None else []
    flags = [c.harm for c in changes]
    numbers: Row = {
        "tasks": {s.task: s.to_json() for s in after},
        "changes": {c.task: c.to_json() for c in changes},
        # One change of unknown error leaves the number of harmed tasks unknown.
        "harmed": None if before is None or None in flags else flags.count(True),
        "limit": limit,
    }
    table = [["task", "shots", "metric", "accuracy, %", "n"]]
    table += [[s.task, str(s.shots), s.metric, spelled(s.accuracy), str(s.accuracy.n)] for s in after]
    said = [c.sentence for c in changes] or [
        f"{s.task} ({s.shots} shots): {s.accuracy.value:.1f} % of {s.accuracy.n} ({interval(s.accuracy)})"
        for s in after
    ]
    source = stamp(
        "choice", sum(s.accuracy.n for s in after), 0, (f"{s.task}:{s.shots}" for s in after), {},
        model_sha256=_hash(folder), sampling={"by": "log-likelihood"},
    )  # fmt: skip
    return Finding(numbers, [table], said, source)


def fit(
    model: Weights,
    run: Annotated[Path | None, typer.Option(help="Take a run's held-out instructions and direct answers.")] = None,
    instructions: Annotated[Path | None, typer.Option(help="Held-out instructions, JSONL or Parquet.")] = None,
    answers: Annotated[Path | None, typer.Option(help="The teacher's direct answers.")] = None,
    enhanced: Annotated[Path | None, typer.Option(help="The teacher's answers to the refined instructions.")] = None,
    before: Before = None,
    chat_template: Annotated[
        str | None, typer.Option(help="chatml, llama2, alpaca or a file; default: its own.")
    ] = None,
    *,
    how: Handover,
) -> None:
    """Negative log-likelihood per token on the teacher's direct and on its enhanced held-out answers."""
    apart((how.out,), (instructions, answers, enhanced))
    if run is not None:
        instructions, answers = _of_run(run, instructions, answers)
    if instructions is None or (answers is None and enhanced is None):
        raise RecipeError("give --run, or --instructions with --answers or --enhanced (or both)")
    files = {kind: path for kind, path in zip(KINDS, (answers, enhanced), strict=True) if path is not None}
    weights, earlier = _weights(model), None if before is None else _weights(before)
    from tapir.store.tables import read_rows

    asked = list(read_rows(instructions, Instruction))
    pairs = {kind: _pairs(asked, path) for kind, path in files.items()}
    of, answered = len(asked) * len(files), sum(map(len, pairs.values()))
    refuse_missing("fit", of - answered, of, how.allow_missing)  # now, and not after an hour of likelihoods
    mine = _fits(*weights, pairs, chat_template)
    before_fits = _fits(*earlier, pairs, chat_template) if earlier is not None else {}
    name = Path(model).name
    scores = [score_fit(name, k, mine[k], before_fits.get(k, ()), missing=len(asked) - len(mine[k])) for k in files]
    source = stamp(
        "fit", sum(s.nll_per_token.n for s in scores), sum(s.nll_per_token.missing for s in scores),
        (i.text for i in asked), {"instructions": instructions, **files}, model_sha256=_hash(weights[0]),
    )  # fmt: skip
    deliver(fit_finding(scores, None if before is None else Path(before).name, source), how)


def fit_finding(scores: Sequence[FitScore], before: str | None, source: Provenance) -> Finding:
    """Both kinds beside each other; one that was not measured is null."""
    by_kind = {s.kind: s for s in scores}
    numbers: Row = {"model": scores[0].model, "before": before}
    numbers |= {kind: by_kind[kind].to_json() if kind in by_kind else None for kind in KINDS}
    table = [["answers", "NLL per token", "change", "n", "tokens"]]
    said: list[str] = []
    for s in scores:
        change = "-" if s.change is None else f"{s.change.value:+.3f}"
        table.append([s.kind, spelled(s.nll_per_token, 3), change, str(s.nll_per_token.n), str(s.tokens)])
        said.append(
            f"{s.model} needs {s.nll_per_token.value:.3f} nats a token for the teacher's {s.kind} answers "
            f"({s.nll_per_token.n} answers, {interval(s.nll_per_token, 3)})"
        )
        if s.change is not None and before is not None:
            unit = f"nats a token of {s.kind} answers"
            said.append(comparison.sentence(s.change, s.model, before, unit, "instructions", digits=3))
    return Finding(numbers, [table], said, source)


def _of_run(run: Path, instructions: Path | None, answers: Path | None) -> tuple[Path, Path]:
    from tapir.store.rundir import open_run

    held_out = open_run(run).step("round_0/08_held_out", "")
    return instructions or held_out.table(), answers or held_out.table("answers")


def _pairs(asked: Sequence[Instruction], answers: Path) -> list[tuple[Instruction, str]]:
    """Each instruction with the answer that belongs to it."""
    from tapir.store.tables import read_rows

    texts = {a.instruction_id: a.text for a in read_rows(answers, Answer)}
    pairs = [(i, texts[i.id]) for i in asked if i.id in texts]
    if not pairs:
        raise DataError(f"{answers}: no answer belongs to one of the instructions; they are matched by id")
    return pairs


def _fits(
    folder: Path, model: Model, pairs: Mapping[str, list[tuple[Instruction, str]]], template: str | None
) -> dict[str, list[Fit]]:
    """All kinds of answers under one model, which is loaded once."""
    from tapir.models.local_hf import answer_nll

    everything = [(i.messages(), text) for of_kind in pairs.values() for i, text in of_kind]
    asked = model if template is None else model.model_copy(update={"chat_template": template})
    scores = iter(answer_nll(folder, everything, asked))
    return {kind: fits(folder.name, of_kind, [next(scores) for _ in of_kind]) for kind, of_kind in pairs.items()}


def _weights(text: str) -> tuple[Path, Model]:
    """The folder of weights that a round, folder, catalogue name or hub id stands for, and how it is to be loaded."""
    from tapir.cli.evaluate.who import read_who
    from tapir.models.resolve import resolve

    model = read_who(text).model
    if model is None or model.kind != "local":
        raise RecipeError(f"{text}: likelihoods need weights on this machine, not answers or an endpoint")
    return resolve(model), model


def _hash(folder: Path) -> str | None:
    from tapir.models.weights_hash import weights_hash

    return weights_hash(folder) if folder.is_dir() else None
