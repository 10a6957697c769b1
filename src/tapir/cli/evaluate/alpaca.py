"""`tapir evaluate alpaca`: AlpacaEval 2.0 from stored annotations, or judged live."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tapir.cli.evaluate.options import Asked, Judged, Live, Model, Prompts
from tapir.cli.outputs import apart
from tapir.cli.results import Finding, Handover, deliver, interval, spelled, warnings_as_lines, write_jsonl
from tapir.cli.unfolded import Without, unfolded
from tapir.curriculum.comparison import Difference, paired_difference, sentence
from tapir.errors import DataError, RecipeError
from tapir.evaluation import alpaca as alpaca_eval
from tapir.evaluation.pairwise import repeats_json, repeats_sentence
from tapir.evaluation.provenance import Provenance, stamp
from tapir.evaluation.rows import INTERVAL_SEED, Row

if TYPE_CHECKING:
    from tapir.cli.evaluate.live import Bench


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(unfolded(alpaca))


def alpaca(
    annotations: Annotated[Path | None, typer.Option(help="Stored: AlpacaEval's annotations.json.")] = None,
    model: Model = None,
    prompts: Prompts = None,
    reference: Annotated[
        str | None, typer.Option(help="Live: WHO is the reference; by default the outputs in the prompts' file.")
    ] = None,
    glm: Annotated[Path | None, typer.Option(help="The public GLM weights, for the length-controlled rate.")] = None,
    difficulty: Annotated[Path | None, typer.Option(help="The public instruction_difficulty.csv.")] = None,
    against: Annotated[Path | None, typer.Option(help="Another model's annotations: compare instruction-wise.")] = None,
    expected: Annotated[int | None, typer.Option(min=1, help="Stored: how many rows there should be.")] = None,
    *,
    live: Live,
    judged: Annotated[Judged, Without("judge_temperature")],
    how: Handover,
) -> None:
    """AlpacaEval 2.0's win rate by the public rules: of stored annotations, or of a model judged live."""
    apart(
        (how.out, live.write), (annotations, model, prompts, reference, glm, difficulty, against, judged.judge_prompt)
    )
    controls = {"glm": glm, "difficulty": difficulty, "against": against}
    if annotations is None and model is None:
        raise RecipeError("give --annotations to score a stored file, or --model and --prompts to judge live")
    with warnings_as_lines():
        theirs = None if against is None else _of_one_side(against)
        if annotations is not None:
            found = alpaca_eval.score_annotations(annotations, model=model, expected=expected)
            rows = [a for a in alpaca_eval.read_annotations(annotations) if a.model == found.model]
            source = stamp(
                "alpaca", found.n, found.missing, (a.instruction for a in rows),
                {"annotations": annotations} | controls, judge=rows[0].annotator or None, prompt=judged.judge_prompt,
            )  # fmt: skip
            by_repeat: list[float] = []
        else:
            asked = Asked([str(model)], live, judged)
            found, rows, by_repeat, source = _live(asked, prompts, reference, controls)
        found = alpaca_eval.length_controlled(found, glm, difficulty)
        other = None if theirs is None else _compared(found, rows, theirs, against)
    deliver(_finding(found, by_repeat, other, source), how)


def _live(
    asked: Asked, prompts: Path | None, reference: str | None, inputs: dict[str, Path | None]
) -> tuple[alpaca_eval.AlpacaScore, list[alpaca_eval.Annotation], list[float], Provenance]:
    """The model's answers, and every pair judged as often as asked."""
    from tapir.cli.evaluate.live import open_bench

    with open_bench(asked) as bench:
        who, questions = bench.contenders[0], bench.prompts(prompts)
        name, theirs = bench.others(reference, questions)
        mine = bench.answers(who, [p.instruction for p in questions])
        pairs = [
            alpaca_eval.Pair(p.instruction.text, theirs[p.instruction.id], mine[p.instruction.id])
            for p in questions
            if p.instruction.id in mine and p.instruction.id in theirs
        ]
        scored, rows = _judged(bench, pairs, who.name, name, len(questions))
        merged = alpaca_eval.mean_annotations(rows)
        if asked.live.write is not None:
            # The means over repeats: scored again, the file gives the same numbers.
            write_jsonl(asked.live.write, (a.to_json() for a in merged))
        note = scored[0].note
        found = alpaca_eval.score(merged, expected=len(questions), note=note)
        source = bench.stamp(
            "alpaca", found.n, found.missing, (p.instruction.text for p in questions), {"prompts": prompts} | inputs,
            asked.judged.judge_prompt or alpaca_eval.OWN_PROMPT,
        )  # fmt: skip
    return found, merged, [s.win_rate.value for s in scored], source


def _judged(
    bench: Bench, pairs: Sequence[alpaca_eval.Pair], model: str, reference: str, expected: int
) -> tuple[list[alpaca_eval.AlpacaScore], list[list[alpaca_eval.Annotation]]]:
    """One score and its annotations for each repeat."""
    if not pairs:
        raise DataError(f"none of {expected} prompts has an answer of both {model} and {reference}")
    judge = bench.judge()
    bench.judged_with(alpaca_eval.JUDGING)
    scored: list[alpaca_eval.AlpacaScore] = []
    rows: list[list[alpaca_eval.Annotation]] = []
    for repeat in range(bench.asked.judged.repeats):
        annotations, score = alpaca_eval.live(
            pairs, judge, model=model, reference=reference, annotator=judge.identity,
            prompt=bench.asked.judged.judge_prompt, repeat=repeat, stage="evaluation",
        )  # fmt: skip
        scored.append(score)
        rows.append(annotations)
    return scored, rows


def _finding(
    found: alpaca_eval.AlpacaScore, by_repeat: Sequence[float], other: tuple[str, Difference] | None, source: Provenance
) -> Finding:
    numbers: Row = found.to_json() | {"repeats": repeats_json(by_repeat)}
    sentences = [alpaca_sentence(found)]
    if other is not None:
        name, difference = other
        numbers["against"] = {"model": name, **difference.to_json()}
        sentences.append(sentence(difference, found.model, name, "points of win rate", "instructions", digits=1))
    noise = repeats_sentence(by_repeat, "points")
    controlled = found.length_controlled_win_rate
    table = [
        [f"{found.model} against {found.reference}", "%"],
        ["win rate", spelled(found.win_rate)],
        ["standard error", "-" if found.standard_error is None else f"{found.standard_error:.2f}"],
        ["length-controlled win rate", "-" if controlled is None else f"{controlled:.1f}"],
        ["discrete win rate", spelled(found.discrete_win_rate)],
        ["wins, losses, draws", f"{found.wins}, {found.losses}, {found.draws}"],
        ["n, missing", f"{found.n}, {found.missing}"],
    ]
    return Finding(numbers, [table], [*sentences, *([noise] if noise else []), found.note], source)


def _of_one_side(against: Path) -> list[alpaca_eval.Annotation]:
    """The other model's annotations; read first, since a file that cannot be used must not cost a live evaluation."""
    theirs = alpaca_eval.read_annotations(against)
    if len({(a.model, a.reference, a.annotator) for a in theirs}) > 1:
        raise DataError(f"{against}: several models, references or annotators; give a file of one")
    return theirs


def _compared(
    found: alpaca_eval.AlpacaScore, rows: list[alpaca_eval.Annotation], theirs: list[alpaca_eval.Annotation],
    against: Path | None,
) -> tuple[str, Difference]:  # fmt: skip
    """Name of the other model, and the paired difference of win rates in points."""
    name, reference, annotator = theirs[0].model, theirs[0].reference, theirs[0].annotator
    if (reference, annotator) != (found.reference, rows[0].annotator):
        raise DataError(
            f"{against}: judged against {reference} by {annotator or 'somebody'}, not against {found.reference} by "
            f"{rows[0].annotator or 'somebody'}; only equal references and judges compare"
        )
    mine, other = ({a.instruction: a.preference for a in side if a.preference is not None} for side in (rows, theirs))
    difference = paired_difference(mine, other, random.Random(INTERVAL_SEED), scale=100)
    if difference is None:
        raise DataError(f"{against}: no instruction in common with the annotations of {found.model}")
    return name, difference


def alpaca_sentence(found: alpaca_eval.AlpacaScore) -> str:
    """The win rate in words; an interval that holds 50 is called noise."""
    rate = found.win_rate
    noise = rate.low is not None and rate.high is not None and rate.low <= 50 <= rate.high
    verb = "beats" if rate.value > 50 else "ties with" if rate.value == 50 else "falls behind"
    return (
        f"{found.model} {verb} {found.reference}: win rate {rate.value:.1f} % on {rate.n} instructions "
        f"({interval(rate)}{'; a difference inside the noise' if noise else ''})"
    )
