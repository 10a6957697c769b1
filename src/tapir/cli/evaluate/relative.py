"""`tapir evaluate relative`: the sum of a model's scores over the reference's, from stored reviews or judged live."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from tapir.cli.evaluate.options import Asked, Judged, Live, Model, Prompts
from tapir.cli.outputs import apart
from tapir.cli.results import Finding, Handover, deliver, interval, spelled, warnings_as_lines, write_jsonl
from tapir.cli.unfolded import unfolded
from tapir.errors import DataError, RecipeError
from tapir.evaluation import relative as relative_quality
from tapir.evaluation.pairwise import repeats_json, repeats_sentence
from tapir.evaluation.provenance import Provenance, stamp
from tapir.evaluation.rows import field, read_rows

LIVE_NOTE = "judged in both orders with this program's judge: comparable only with results of the same judge and prompt"


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(unfolded(relative))


def relative(
    reviews: Annotated[
        Path | None, typer.Option(help="Stored: reviews with `score: [reference, model]`, or the scores in `text`.")
    ] = None,
    questions: Annotated[Path | None, typer.Option(help="Stored: questions with their categories, JSONL.")] = None,
    model: Model = None,
    prompts: Prompts = None,
    reference: Annotated[
        str | None, typer.Option(help="Live: WHO is the reference; by default the answers in the prompts' file.")
    ] = None,
    *,
    live: Live,
    judged: Judged,
    how: Handover,
) -> None:
    """Relative quality (Figure 4): of stored reviews, or by our own judging in both orders."""
    apart((how.out, live.write), (reviews, questions, model, prompts, reference, judged.judge_prompt))
    with warnings_as_lines():
        if reviews is not None:
            found = _stored(reviews, questions, model, judged)
        elif model is not None:
            found = _live(Asked([model], live, judged), prompts, reference)
        else:
            raise RecipeError("give --reviews to score a stored file, or --model (and --prompts) to judge live")
    deliver(found, how)


def _stored(reviews: Path, questions: Path | None, model: str | None, judged: Judged) -> Finding:
    categories = _categories(questions) if questions else {}
    rows = relative_quality.read_reviews(reviews, categories)
    names = sorted({r.model for r in rows})
    chosen = [r for r in rows if model is None or r.model == model]
    if not chosen or (model is None and len(names) > 1):
        raise DataError(f"{reviews}: the reviews are of {', '.join(names)}; say which with --model")
    found = relative_quality.score_reviews(chosen, expected=len(categories) or None)
    inputs = {"reviews": reviews, "questions": questions}
    source = stamp(
        "relative", found.overall.n, found.missing, (r.question_id for r in chosen), inputs, judge=judged.judge,
        prompt=judged.judge_prompt,
    )  # fmt: skip
    return _finding(found, [], source)


def _categories(path: Path) -> Mapping[str, str]:
    return {str(field(row, "question_id", path)): str(row.get("category", "all")) for row in read_rows(path)}


def _live(asked: Asked, path: Path | None, reference: str | None) -> Finding:
    """Both sides' scores on every prompt, each the mean over both orders and all repeats."""
    from tapir.cli.evaluate.live import open_bench

    with open_bench(asked) as bench:
        who, prompts = bench.contenders[0], bench.prompts(path)
        _, theirs = bench.others(reference, prompts)
        mine = bench.answers(who, [p.instruction for p in prompts])
        verdicts = bench.verdicts(who.name, prompts, mine, theirs)
        categories = {p.instruction.id: p.category for p in prompts}
        reviews = relative_quality.reviews_from_verdicts(verdicts, categories)
        found = relative_quality.score_reviews(reviews, expected=len(prompts))
        if asked.live.write is not None:
            write_jsonl(asked.live.write, (r.to_json() for r in reviews))
        source = bench.stamp(
            "relative", found.overall.n, found.missing, categories, {"prompts": path}, bench.pairwise_prompt()
        )
    return _finding(found, relative_quality.by_vote(verdicts), source, LIVE_NOTE)


def _finding(
    found: relative_quality.RelativeScore, by_repeat: list[float], source: Provenance, note: str | None = None
) -> Finding:
    table = [["category", "% of the reference", "n", "missing"]]
    for name, e in [*found.categories.items(), ("overall", found.overall)]:
        table.append([name, spelled(e), str(e.n) if e else "0", str(e.missing) if e else "-"])
    said = (
        f"{found.model} has {found.overall.value:.1f} % of the reference's quality on {found.overall.n} questions "
        f"({interval(found.overall)})"
    )
    noise = repeats_sentence(by_repeat, "points")
    numbers = found.to_json() | {"repeats": repeats_json(by_repeat), "note": note}
    return Finding(numbers, [table], [said, *([noise] if noise else []), *([note] if note else [])], source)
