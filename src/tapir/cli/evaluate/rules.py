"""`tapir evaluate following|exact`: answers that rules can check, stored or fetched live; no judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from tapir.cli.evaluate.options import Asked, Live, Rated
from tapir.cli.outputs import apart
from tapir.cli.results import Finding, Handover, deliver, interval, spelled, warnings_as_lines, write_jsonl
from tapir.cli.unfolded import unfolded
from tapir.errors import RecipeError
from tapir.evaluation import answers, instruction_following
from tapir.evaluation.provenance import Provenance, stamp


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    for command in (following, exact):
        app.command()(unfolded(command))


def following(
    prompts: Annotated[Path, typer.Option(help="Prompts with `instruction_id_list` and `kwargs` (IFEval's form).")],
    responses: Annotated[Path | None, typer.Option(help="Stored: rows with `prompt` and `response`.")] = None,
    model: Rated = None,
    *,
    live: Live,
    how: Handover,
) -> None:
    """Verifiable instruction following: strict and loose accuracy, without a judge."""
    apart((how.out, live.write), (prompts, responses, model))
    with warnings_as_lines():
        asked = instruction_following.read_prompts(prompts)[: live.limit]
        texts, inputs = [p.text for p in asked], {"prompts": prompts, "responses": responses}
        if responses is not None:
            said, source = instruction_following.read_responses(responses), stamp("following", 0, 0, texts, inputs)
        else:
            said, source = _replies(model, live, "following", texts, inputs)
            _keep(live.write, "prompt", said)
        found = instruction_following.score_responses(asked, said)
    deliver(following_finding(found, replace(source, n=found.prompt_strict.n, missing=found.missing)), how)


def following_finding(found: instruction_following.FollowingScore, source: Provenance) -> Finding:
    overall = [
        ["%", "strict", "loose"],
        ["prompts", spelled(found.prompt_strict), spelled(found.prompt_loose)],
        ["instructions", spelled(found.instruction_strict), spelled(found.instruction_loose)],
    ]
    single = [["instruction", "strict, %", "n"]]
    single += [[name, spelled(e), str(e.n) if e else "0"] for name, e in found.by_instruction.items()]
    strict = found.prompt_strict
    said = [f"{strict.value:.1f} % of {strict.n} prompts are followed strictly ({interval(strict)})"]
    if found.untold:
        said.append(f"{found.untold} instructions cannot be checked by our rules; they and their prompts do not count")
    return Finding(found.to_json(), [overall, single], said, source)


def exact(
    problems: Annotated[Path, typer.Option(help="Rows with `question` and `answer` (GSM8K's form).")],
    replies: Annotated[Path | None, typer.Option(help="Stored: rows with `question` and `response`.")] = None,
    model: Rated = None,
    *,
    live: Live,
    how: Handover,
) -> None:
    """Exact-answer tasks: the share of replies that settle on the right answer."""
    apart((how.out, live.write), (problems, replies, model))
    with warnings_as_lines():
        asked = answers.read_problems(problems)[: live.limit]
        texts, inputs = [p.question for p in asked], {"problems": problems, "replies": replies}
        if replies is not None:
            said, source = answers.read_replies(replies), stamp("exact", 0, 0, texts, inputs)
        else:
            said, source = _replies(model, live, "exact", texts, inputs)
            _keep(live.write, "question", said)
        found = answers.score_answers(asked, said)
    deliver(exact_finding(found, replace(source, n=found.accuracy.n, missing=found.missing)), how)


def exact_finding(found: answers.ExactScore, source: Provenance) -> Finding:
    table = [
        ["replies", "number"],
        ["right", str(found.right)],
        ["wrong", str(found.wrong)],
        ["without a readable answer", str(found.unreadable)],
        ["missing", str(found.missing)],
    ]
    said = f"{found.accuracy.value:.1f} % of {found.accuracy.n} answers are right ({interval(found.accuracy)})"
    return Finding(found.to_json(), [table], [said], source)


def _replies(
    model: str | None, live: Live, benchmark: str, texts: Sequence[str], inputs: dict[str, Path | None]
) -> tuple[dict[str, str], Provenance]:
    """The model's replies by the prompt's text; one that failed is not there."""
    from tapir.cli.evaluate.live import open_bench
    from tapir.types import Instruction

    if model is None:
        raise RecipeError("give a file of stored replies, or --model to fetch them live")
    with open_bench(Asked([model], live), judged=False) as bench:
        instructions = [Instruction(text) for text in texts]
        found = bench.answers(bench.contenders[0], instructions)
        replies = {i.text: found[i.id] for i in instructions if i.id in found}
        return replies, bench.stamp(benchmark, len(replies), len(texts) - len(replies), texts, inputs)


def _keep(path: Path | None, key: str, replies: dict[str, str]) -> None:
    if path is not None:
        write_jsonl(path, ({key: text, "response": reply} for text, reply in replies.items()))
