"""`tapir evaluate pairwise|graded`: any model on prompts of one's own, against another one or by a grade."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from tapir.cli.evaluate.live import open_bench
from tapir.cli.evaluate.mt_bench import graded as graded_by
from tapir.cli.evaluate.options import Asked, Judged, Live, Models, Prompts
from tapir.cli.outputs import apart
from tapir.cli.results import Finding, Handover, deliver, spelled, warnings_as_lines, write_jsonl
from tapir.cli.unfolded import unfolded
from tapir.curriculum.comparison import corrected, win_sentence
from tapir.evaluation.mt_bench import Question
from tapir.evaluation.mt_bench_live import GRADE_TOKENS, Grading, ModelAnswer
from tapir.evaluation.pairwise import PairScore, repeats_sentence, score_pairs
from tapir.evaluation.prompt_sets import Prompt
from tapir.evaluation.provenance import Provenance
from tapir.prompts.tasks import shown
from tapir.store.tables import to_plain


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    for command in (pairwise, graded):
        app.command()(unfolded(command))


def pairwise(
    models: Models,
    against: Annotated[
        str | None,
        typer.Option(metavar="WHO", help="Compare with WHO; by default with the prompts' reference answers."),
    ] = None,
    prompts: Prompts = None,
    *,
    live: Live,
    judged: Judged,
    how: Handover,
) -> None:
    """Win rate against another model, round or reference answers, judged in both orders."""
    apart((how.out, live.write), (*models, against, prompts, judged.judge_prompt))
    with warnings_as_lines():
        found, source = _compared(Asked(models, live, judged), prompts, against)
    deliver(pairs_finding(found, source), how)


def _compared(asked: Asked, path: Path | None, against: str | None) -> tuple[list[PairScore], Provenance]:
    """All answers first, then all verdicts: a local judge and a local student do not share the memory."""
    with open_bench(asked) as bench:
        prompts = bench.prompts(path)
        instructions = [p.instruction for p in prompts]
        name, theirs = bench.others(against, prompts)
        mine = {who.name: bench.answers(who, instructions) for who in bench.contenders}
        verdicts = {who: bench.verdicts(who, prompts, answers, theirs) for who, answers in mine.items()}
        if asked.live.write is not None:
            write_jsonl(asked.live.write, (to_plain(v) for rows in verdicts.values() for v in rows))
        found = [score_pairs(rows, model=who, against=name, expected=len(prompts)) for who, rows in verdicts.items()]
        # One model's missing rows are not another's: the result is short of their sum.
        n, missing = (sum(getattr(s.win_rate, part) for s in found) for part in ("n", "missing"))
        source = bench.stamp(
            "pairwise", n, missing, (i.id for i in instructions), {"prompts": path}, bench.pairwise_prompt()
        )
    edges = corrected({s.model: s.edge for s in found}) if len(found) > 1 else {}
    return [replace(s, edge=edges.get(s.model, s.edge)) for s in found], source


def pairs_finding(found: list[PairScore], source: Provenance) -> Finding:
    """One model's numbers as they are; several models' by name."""
    table = [["model", "against", "win rate, %", "wins, losses, draws", "n", "missing", "order decided"]]
    said: list[str] = []
    for s in found:
        counts = f"{s.wins}, {s.losses}, {s.draws}"
        rate = s.win_rate
        table.append([s.model, s.against, spelled(rate), counts, str(rate.n), str(rate.missing), str(s.turned)])
        said.append(win_sentence(s.edge, s.model, s.against))
        noise = repeats_sentence(s.by_repeat, "points")
        said += [f"{s.model}, {noise}"] if noise else []
    numbers = found[0].to_json() if len(found) == 1 else {"models": {s.model: s.to_json() for s in found}}
    return Finding(numbers, [table], said, source)


def graded(
    models: Models,
    prompts: Prompts = None,
    against: Annotated[
        str | None,
        typer.Option(help="Compare every other model with this one of them, by its name or as it was given."),
    ] = None,
    *,
    live: Live,
    judged: Judged,
    how: Handover,
) -> None:
    """Answers graded from 1 to 10, beside a reference answer where there is one."""
    apart((how.out, live.write), (*models, prompts, judged.judge_prompt))
    with warnings_as_lines(), open_bench(Asked(models, live, judged)) as bench:
        rival, given = bench.contender(against), bench.prompts(prompts)
        instructions = [p.instruction for p in given]
        answers: list[ModelAnswer] = []
        for who in bench.contenders:
            texts = bench.answers(who, instructions)
            answers += [ModelAnswer(i.id, who.name, (texts[i.id],) if i.id in texts else ()) for i in instructions]
        grading = Grading(bench.judging(GRADE_TOKENS), judged.repeats, references="given", template=judged.judge_prompt)
        questions = [question(p) for p in given]
        found = graded_by(bench, "graded", questions, answers, grading, 1, rival, live.write, {"prompts": prompts})
    deliver(found, how)


def question(prompt: Prompt) -> Question:
    """A prompt as the grading judge is shown it, with its context."""
    references = (prompt.reference,) if prompt.reference is not None else ()
    return Question(prompt.instruction.id, prompt.category, (shown(prompt.instruction),), references)
