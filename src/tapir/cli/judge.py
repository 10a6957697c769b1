"""`tapir judge`, and what `tapir report --judge` prints: asking a second judge, and judging pairs with human labels.

Verdicts go through the ledger of the run's recipe, so asking the same again costs nothing.
"""

from __future__ import annotations

import json
import random
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from tapir.cli.terminal import TerminalProgress, printable
from tapir.config import Role
from tapir.curriculum.trust import GoldReport, gold_report
from tapir.errors import DataError, RecipeError
from tapir.report.judge import SEED, keep_agreement, keep_second, run_trust, trust_json, trust_lines, verdicts_mark
from tapir.report.marked import marked_report
from tapir.stages import judge as judging
from tapir.stages.gold import gold_rows, read_gold
from tapir.store.rundir import RunDir, open_run
from tapir.store.tables import read_rows
from tapir.trust import require_trust
from tapir.types import Answer, Instruction, Receipt, Verdict
from tapir.wiring import Session, load_recipe, open_tools


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(judge)


def judge(
    path: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")],
    by: Annotated[str, typer.Option(help="Which role judges: evaluator, or judge.")] = "evaluator",
    sample: Annotated[int, typer.Option(min=1, help="How many of round 0's judged pairs.")] = 50,
    trust: Annotated[bool, typer.Option(help="Confirm that the recipe's hosts may get the keys it names.")] = False,
) -> None:
    """Show a sample of round 0's pairs to a second judge; `tapir report RUN --judge` then says what differs."""
    if by not in ("evaluator", "judge"):
        raise RecipeError(f"--by {by}: choose evaluator or judge")
    run = open_run(path)
    recipe = load_recipe(run.recipe_path)
    require_trust(recipe, confirmed=trust)
    mark = verdicts_mark(run)
    if mark is None:
        raise DataError(f"{run.root}: its own judge has not finished; `tapir run` goes on with it")
    pairs = _judged_pairs(run, sample)
    with open_tools(recipe, run.root) as session:
        verdicts = _verdicts(session, "evaluator" if by == "evaluator" else "judge", pairs, "second_judge")
    count = keep_second(run, verdicts, mark)
    print(f"{count} verdicts by {by} on {len(pairs)} pairs; `tapir report {path} --judge` compares them")


def _judged_pairs(run: RunDir, sample: int) -> list[judging.Pair]:
    """A sample of the pairs that the run's judge has scored."""
    verdicts = read_rows(run.root / "round_0/06_verdicts.parquet", Verdict)
    judged = sorted({v.instruction_id for v in verdicts if v.scored and v.method not in ("verified", "identical")})
    if not judged:
        raise DataError(f"{run.root}: its judge has scored no pair, so there is nothing for a second one to look at")
    chosen = set(random.Random(SEED).sample(judged, min(sample, len(judged))))
    student, teacher = (
        {a.instruction_id: a for a in read_rows(run.root / f"round_0/{name}.parquet", Answer)}
        for name in ("05_student_answers", "03_teacher_answers")
    )
    pool = read_rows(run.root / "round_0/02_classified.parquet", Instruction)
    return [judging.Pair(i, "student_0", student[i.id].text, teacher[i.id].text) for i in pool if i.id in chosen]


def _verdicts(session: Session, role: Role, pairs: list[judging.Pair], stage: str) -> list[Verdict]:
    """All of these judged: what cannot be read is part of the report and stops nothing."""
    session.progress = TerminalProgress()
    receipt = Receipt(stage)
    plan = replace(
        session.judge_plan("evaluator" if role == "evaluator" else "judge"),
        max_pairs=None,
        max_unscored=1.0,
        verified="also",
        adaptive_delta=None,
    )
    found = list(judging.judge(pairs, session.caller(role), plan, receipt=receipt))
    print(f"{session.usage.calls} calls, {session.usage.cached} from the ledger", file=sys.stderr)
    return found


def print_trust(path: Path, gold: Path | None, *, as_json: bool, trust: bool) -> None:
    """The trust report of a run, people's marks included; with `gold` its judge is asked about those pairs first."""
    run = open_run(path)
    if gold is not None:
        keep_agreement(run, _gold_report(run, gold, trust=trust))
    found, marked = run_trust(run), marked_report(run)
    if as_json:
        print(json.dumps(trust_json(found, marked), ensure_ascii=False, indent=2))
        return
    for line in trust_lines(found, marked):
        print(printable(line))


def _gold_report(run: RunDir, path: Path, *, trust: bool) -> GoldReport:
    gold = read_gold(path)
    recipe = load_recipe(run.recipe_path)
    require_trust(recipe, confirmed=trust)
    pairs = [judging.Pair(g.instruction, g.name, g.answer_1, g.answer_2) for g in gold]
    with open_tools(recipe, run.root) as session:
        verdicts = _verdicts(session, "judge", pairs, "gold")
    return gold_report(gold_rows(gold, verdicts), random.Random(SEED))
