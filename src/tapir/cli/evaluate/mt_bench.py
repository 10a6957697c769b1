"""`tapir evaluate mt-bench`: grades of 1 to 10 from stored judgments, or given live."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tapir.cli.evaluate.options import Asked, Judged, Live
from tapir.cli.outputs import apart
from tapir.cli.results import Finding, Handover, deliver, interval, spelled, warnings_as_lines, write_jsonl
from tapir.cli.unfolded import Without, unfolded
from tapir.curriculum.comparison import Difference, corrected, paired_difference, sentence
from tapir.errors import DataError, RecipeError
from tapir.evaluation import mt_bench
from tapir.evaluation.pairwise import repeats_json, repeats_sentence
from tapir.evaluation.provenance import Provenance, stamp
from tapir.evaluation.rows import INTERVAL_SEED, Row

if TYPE_CHECKING:
    from tapir.cli.evaluate.live import Bench
    from tapir.evaluation.mt_bench_live import Grading, ModelAnswer

Turns = Literal[1, 2]
Temperatures = Literal["paper", "category"]


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command("mt-bench")(unfolded(mt_bench_command))


def mt_bench_command(
    judgments: Annotated[Path | None, typer.Option(help="Stored: judgments in FastChat's form, JSONL.")] = None,
    models: Annotated[
        list[str], typer.Option("--model", metavar="WHO", help="Live: who answers, as in `alpaca`; may be repeated.")
    ] = [],  # noqa: B006
    questions: Annotated[Path | None, typer.Option(help="FastChat's question.jsonl: categories, and all rows.")] = None,
    turns: Annotated[int, typer.Option(min=1, max=2, help="Live: 1 (the paper), or 2 for both turns.")] = 1,
    temperatures: Annotated[
        str, typer.Option(help="Live: of the answers, `paper` (0.5, §4.1) or `category` (FastChat's).")
    ] = "paper",
    against: Annotated[
        str | None,
        typer.Option(help="Compare every other model with this one on turn 1, by its name (live: or as it was given)."),
    ] = None,
    *,
    live: Annotated[Live, Without("temperature")],
    judged: Judged,
    how: Handover,
) -> None:
    """MT-Bench: grades of every model in a file of stored judgments, or of models that answer and are graded live."""
    apart((how.out, live.write), (judgments, *models, questions, judged.judge_prompt))
    if (judgments is None) == (not models):
        raise RecipeError("give --judgments to score a stored file, or --model and --questions to judge live")
    with warnings_as_lines():
        asked = mt_bench.read_questions(questions)[: live.limit] if questions else []
        if judgments is not None:
            found = _stored(judgments, questions, asked, judged, against)
        else:
            options = Asked(models, live, judged)
            found = _live(options, questions, asked, _turns(turns), _temperatures(temperatures), against)
    deliver(found, how)


def _turns(number: int) -> Turns:
    return 2 if number == 2 else 1


def _temperatures(name: str) -> Temperatures:
    if name not in ("paper", "category"):
        raise RecipeError(f"--temperatures {name}: choose paper or category")
    return "paper" if name == "paper" else "category"


def _stored(
    judgments: Path, path: Path | None, questions: Sequence[mt_bench.Question], judged: Judged, against: str | None
) -> Finding:
    rows = mt_bench.read_judgments(judgments)
    found = mt_bench.score_judgments(rows, questions, judge=judged.judge)
    inputs = {"judgments": judgments, "questions": path}
    source = stamp(
        "mt-bench", found.n, found.missing, (r.question_id for r in rows), inputs, judge=found.judge,
        prompt=judged.judge_prompt,
    )  # fmt: skip
    return grades_finding(found, [rows], against, source)


def _live(
    asked: Asked, path: Path | None, questions: Sequence[mt_bench.Question], turns: Turns, temperatures: Temperatures,
    against: str | None,
) -> Finding:  # fmt: skip
    """Every model answers all questions; then the judge grades them all."""
    from tapir.cli.evaluate.live import STAGE, open_bench
    from tapir.evaluation import mt_bench_live

    if not questions:
        raise RecipeError("say which questions with --questions (FastChat's question.jsonl)")
    with open_bench(asked) as bench:
        rival = bench.contender(against)
        answers: list[ModelAnswer] = []
        for who in bench.contenders:
            if who.stored is not None:
                answers += mt_bench_live.read_model_answers(who.stored, questions, who.name)
                bench.note_file(who)
                continue
            caller, longest = bench.open(who), bench.sampling(who).max_tokens
            bench.samplings[who.name]["temperature"] = temperatures
            answers += mt_bench_live.answer(
                questions, caller, name=who.name, temperatures=temperatures, turns=turns, max_tokens=longest,
                stage=STAGE,
            )  # fmt: skip
        drawn, judged = bench.judging(mt_bench_live.GRADE_TOKENS), asked.judged
        how = mt_bench_live.Grading(drawn, judged.repeats, template=judged.judge_prompt)
        return graded(bench, "mt-bench", questions, answers, how, turns, rival, asked.live.write, {"questions": path})


def graded(
    bench: Bench, benchmark: str, questions: Sequence[mt_bench.Question], answers: Sequence[ModelAnswer], how: Grading,
    turns: Turns, against: str | None, write: Path | None, inputs: dict[str, Path | None],
) -> Finding:  # fmt: skip
    """Answers that are there, graded as often as asked by the bench's judge."""
    from tapir.cli.evaluate.live import STAGE, shipped
    from tapir.evaluation import mt_bench_live as live

    judge = bench.judge()
    times = [
        live.grade(
            questions, answers, judge, judge_name=judge.identity, turns=turns, how=how, repeat=repeat, stage=STAGE
        )
        for repeat in range(how.repeats)
    ]
    merged = live.mean_judgments(times)
    if write is not None:
        # The means over repeats: scored again, the file gives the same numbers.
        write_jsonl(write, (j.to_json() for j in merged))
    found = mt_bench.score_judgments(merged, questions)
    source = bench.stamp(
        benchmark, found.n, found.missing, (q.id for q in questions), inputs, how.template or shipped("grade.txt")
    )
    return grades_finding(found, times, against, source, how.note)


def grades_finding(
    found: mt_bench.MtBenchScore, times: Sequence[Sequence[mt_bench.Judgment]], against: str | None,
    source: Provenance, note: str | None = None,
) -> Finding:  # fmt: skip
    """Every model's grades, what repeats of the judge show, and differences from the model named."""
    turn = " on turn 1" if source.benchmark == "mt-bench" else ""
    by_repeat = {m.model: _by_repeat(m.model, times) for m in found.models}
    numbers: Row = found.to_json() | {"repeats": {name: repeats_json(v) for name, v in by_repeat.items()}, "note": note}
    sentences = [
        f"{m.model} is graded {m.turn_1.value:.2f} of 10{turn} ({m.turn_1.n} questions, {interval(m.turn_1, 2)})"
        for m in found.models
        if m.turn_1
    ]
    if against is not None:
        compared = _beside(times, found, against)
        numbers["against"] = {"model": against, "differences": {name: d.to_json() for name, d in compared.items()}}
        sentences += [sentence(d, name, against, "points of 10", "questions") for name, d in compared.items()]
    noise = [(name, repeats_sentence(values, "points", 2)) for name, values in by_repeat.items()]
    sentences += [f"{name}, {said}" for name, said in noise if said]
    return Finding(numbers, _tables(found), [*sentences, *([note] if note else [])], source)


def _by_repeat(name: str, times: Sequence[Sequence[mt_bench.Judgment]]) -> list[float]:
    """The mean grade on turn 1 by each repeat of the judge alone."""
    grades = [[j.score for j in rows if j.model == name and j.turn == 1 and j.score is not None] for rows in times]
    return [fmean(read) for read in grades if read]


def _tables(found: mt_bench.MtBenchScore) -> list[list[list[str]]]:
    overall = [["model", "turn 1", "turn 2", "both", "n", "missing"]]
    for m in found.models:
        all_turns = m.both
        counts = [str(all_turns.n), str(all_turns.missing)] if all_turns else ["0", "-"]
        overall.append([m.model, *(spelled(e, 2) for e in (m.turn_1, m.turn_2, m.both)), *counts])
    names = list(found.models[0].categories)
    categories = [["turn 1", *names]]
    for m in found.models:
        categories.append([m.model, *(f"{e.value:.2f}" if (e := m.categories[c]) else "-" for c in names)])
    return [overall, categories]


def _beside(
    times: Sequence[Sequence[mt_bench.Judgment]], found: mt_bench.MtBenchScore, against: str
) -> dict[str, Difference]:
    """Paired differences on turn 1 between every other model and this one, corrected for their number (Holm)."""
    names = [m.model for m in found.models]
    if against not in names:
        raise DataError(f"--against {against}: the judgments are of {', '.join(names)}")
    grades = {name: _mean_grades(name, found.judge, times) for name in names}
    pairs = {
        name: paired_difference(grades[name], grades[against], random.Random(INTERVAL_SEED))
        for name in names
        if name != against
    }
    return corrected({name: d for name, d in pairs.items() if d is not None})


def _mean_grades(name: str, judge: str, times: Sequence[Sequence[mt_bench.Judgment]]) -> dict[str, float]:
    """By question: the mean over repeats; of a judgment stored twice the last one counts."""
    read = [
        {j.question_id: j.score for j in rows
         if (j.model, j.turn, j.judge) == (name, 1, judge) and j.score is not None}
        for rows in times
    ]  # fmt: skip
    questions = {q for grades in read for q in grades}
    return {q: fmean(grades[q] for grades in read if q in grades) for q in sorted(questions)}
