"""`tapir stage …`: each stage alone, files in and files out (JSONL or Parquet by their endings).

The models come from a recipe, and calls go through its ledger, so a stage run by hand and the same stage inside a run
pay once between them.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from tapir.cli.outputs import apart, table_for
from tapir.cli.terminal import TerminalProgress
from tapir.curriculum.mixture import plan_round, targets_for
from tapir.errors import DataError
from tapir.stages import annotate as annotating
from tapir.stages import judge as judging
from tapir.stages import mix as mixing
from tapir.stages import select as selecting
from tapir.stages import train as training
from tapir.stages.reading import read_instructions, read_pool
from tapir.steps import rounds
from tapir.steps.common import passes_in
from tapir.steps.labelling import labelled
from tapir.store.rundir import as_plain
from tapir.store.tables import read_rows, write_rows
from tapir.trust import require_trust
from tapir.types import Answer, Difficulty, Example, Instruction, Receipt, Refinement, Rejection, Seed, Verdict
from tapir.wiring import Session, load_recipe, open_tools

app = typer.Typer(help="Single stages on files.", no_args_is_help=True)
Recipe = Annotated[str, typer.Option("--recipe", help="Recipe whose models and settings are used.")]
Sets = Annotated[list[str], typer.Option("--set", help="Override a value: part.key=value.")]
Trust = Annotated[bool, typer.Option(help="Confirm that the recipe's hosts may get the keys it names.")]
Out = Annotated[Path, typer.Option("-o", "--out", help="Where to write, .jsonl or .parquet.")]
Row = TypeVar("Row")


@contextmanager
def open_stage(recipe: str, sets: list[str], stage: str, *, trust: bool | None) -> Generator[tuple[Session, Receipt]]:
    """The recipe's models and ledger for one stage; its receipt is checked and printed at the end.

    `trust` confirms the recipe's hosts; it is None for a stage that asks no model, so that there is nothing to confirm.
    """
    loaded, receipt = load_recipe(recipe, sets), Receipt(stage)
    if trust is not None:
        require_trust(loaded, confirmed=trust)
    with tempfile.TemporaryDirectory() as folder, open_tools(loaded, Path(folder)) as session:
        session.progress = TerminalProgress()
        yield session, receipt
    receipt.check()
    print(json.dumps(as_plain(receipt), ensure_ascii=False), file=sys.stderr)


def _rows(path: Path, row_type: type[Row]) -> list[Row]:
    found = list(read_rows(path, row_type))
    if not found:
        raise DataError(f"{path}: it holds no rows")
    return found


def _instructions(path: Path, session: Session, receipt: Receipt) -> list[Instruction]:
    return read_instructions(str(path), receipt, like=session.recipe.seeds)


def _by_id(path: Path) -> dict[str, Answer]:
    return {a.instruction_id: a for a in _rows(path, Answer)}


@app.command()
def annotate(
    instructions: Path,
    out: Out,
    recipe: Recipe,
    sets: Sets = [],  # noqa: B006
    trust: Trust = False,
) -> None:
    """The teacher's direct answers."""
    table_for(out, instructions)
    with open_stage(recipe, sets, "annotate", trust=trust) as (session, receipt):
        rows = annotating.answer_as_teacher(
            _instructions(instructions, session, receipt),
            session.caller("teacher"),
            session.sampling("teacher", "writing"),
            passes=passes_in(session),
            receipt=receipt,
        )
        write_rows(out, Answer, rows)


@app.command()
def classify(
    instructions: Path,
    out: Out,
    recipe: Recipe,
    sets: Sets = [],  # noqa: B006
    trust: Trust = False,
) -> None:
    """Task types, by whom the recipe says."""
    table_for(out, instructions)
    with open_stage(recipe, sets, "classify", trust=trust) as (session, receipt):
        pool = read_pool(str(instructions), receipt, like=session.recipe.seeds)
        write_rows(out, Seed, pool.seeds(labelled(session, pool.instructions, receipt)))


@app.command()
def answer(
    instructions: Path,
    out: Out,
    recipe: Recipe,
    student: Annotated[Path | None, typer.Option(help="Folder of a student; by default the recipe's.")] = None,
    sets: Sets = [],  # noqa: B006
    trust: Trust = False,
) -> None:
    """A student's answers."""
    table_for(out, instructions)
    with open_stage(recipe, sets, "answer", trust=trust) as (session, receipt):
        folder = student or session.student_weights()
        rows = annotating.answer_as_student(
            _instructions(instructions, session, receipt),
            session.student(folder),
            session.sampling("student", "student"),
            author=folder.name,
            round=0,
            receipt=receipt,
        )
        write_rows(out, Answer, rows)


@app.command()
def judge(
    instructions: Path,
    student_answers: Path,
    teacher_answers: Path,
    out: Out,
    recipe: Recipe,
    sets: Sets = [],  # noqa: B006
    trust: Trust = False,
) -> None:
    """Verdicts on pairs of answers, in both orders."""
    table_for(out, instructions, student_answers, teacher_answers)
    with open_stage(recipe, sets, "judge", trust=trust) as (session, receipt):
        student, teacher = _by_id(student_answers), _by_id(teacher_answers)
        pairs = [
            judging.Pair(i, student[i.id].author, student[i.id].text, teacher[i.id].text)
            for i in _instructions(instructions, session, receipt)
            if i.id in student and i.id in teacher
        ]
        write_rows(
            out, Verdict, judging.judge(pairs, session.caller("judge"), session.judge_plan("judge"), receipt=receipt)
        )


@app.command()
def select(verdicts: Path, out: Out, delta: float = 2.0) -> None:
    """Difficulties above δ."""
    table_for(out, verdicts)
    receipt = Receipt("select")
    _, hard = selecting.select(read_rows(verdicts, Verdict), delta, receipt=receipt)
    write_rows(out, Difficulty, hard)
    print(json.dumps(as_plain(receipt)), file=sys.stderr)


@app.command()
def expand(
    instructions: Path,
    difficulties: Path,
    out: Out,
    recipe: Recipe,
    count: Annotated[int, typer.Option(min=1, help="How many new instructions.")] = 10,
    sets: Sets = [],  # noqa: B006
    trust: Trust = False,
) -> None:
    """New instructions from hard ones."""
    table_for(out, instructions, difficulties)
    refused = out.with_name(f"{out.stem}.rejected{out.suffix}")
    table_for(refused, instructions, difficulties)
    with open_stage(recipe, sets, "expand", trust=trust) as (session, receipt):
        value = {d.instruction_id: d.value for d in _rows(difficulties, Difficulty)}
        hard = [i for i in _instructions(instructions, session, receipt) if i.id in value]
        plan = plan_round(
            Counter(str(i.task) for i in hard),
            {},
            targets_for(session.taxonomy.names, session.recipe.mix.targets),
            1.0,
            len(hard) + count,
            growable={t: n * session.recipe.expand.per_seed for t, n in Counter(str(i.task) for i in hard).items()},
            grow_limit=count,
        )
        rejections: list[Rejection] = []
        taken = rounds.grown_from(session, 1, plan.grow, hard, hard, value, {}, rejections, receipt)
        write_rows(out, Instruction, taken)
        write_rows(refused, Rejection, rejections)


@app.command()
def refine(
    instructions: Path,
    out: Out,
    recipe: Recipe,
    sets: Sets = [],  # noqa: B006
    trust: Trust = False,
) -> None:
    """Refined forms of instructions."""
    table_for(out, instructions)
    with open_stage(recipe, sets, "refine", trust=trust) as (session, receipt):
        write_rows(out, Refinement, rounds.refined(session, _instructions(instructions, session, receipt), receipt))


@app.command()
def mix(
    instructions: Path,
    difficulties: Path,
    answers: Path,
    out: Out,
    recipe: Recipe,
    round_number: Annotated[int, typer.Option("--round", min=1)] = 1,
    plan_only: Annotated[bool, typer.Option("--plan", help="Show the plan as a table and write nothing.")] = False,
    sets: Sets = [],  # noqa: B006
) -> None:
    """A round's training set by α and Pr(T)."""
    if not plan_only:
        table_for(out, instructions, difficulties, answers)
    with open_stage(recipe, sets, "mix", trust=None) as (session, receipt):
        value = {d.instruction_id: d.value for d in _rows(difficulties, Difficulty)}
        known = _by_id(answers)
        rows = [i for i in _instructions(instructions, session, receipt) if i.id in known]
        hard, easy = [i for i in rows if i.id in value], [i for i in rows if i.id not in value]
        plan = rounds.plan_for(session.recipe, session.taxonomy, round_number, hard, easy)
        if plan_only:
            print(f"{'task':<20}{'hard':>7}{'easy':>7}{'unmet':>7}")
            for task in session.taxonomy.names:
                print(f"{task:<20}{plan.hard.get(task, 0):>7}{plan.easy.get(task, 0):>7}{plan.unmet.get(task, 0):>7}")
            return
        weighted = session.recipe.curriculum.mixing == "loss"
        seed = session.recipe.seed
        examples = mixing.mix(plan, hard, easy, known, value, loss_weights=weighted, seed=seed, receipt=receipt)
        write_rows(out, Example, examples)


@app.command()
def train(examples: Path, student: Path, out: Out, recipe: Recipe, sets: Sets = []) -> None:  # noqa: B006
    """Fine-tune a student on examples."""
    apart((out,), (examples, student))
    with open_stage(recipe, sets, "train", trust=None) as (session, receipt):
        training.train(
            student,
            _rows(examples, Example),
            out,
            session.recipe.train,
            student=session.model("student"),
            seed=session.recipe.seed,
            trained=session.progress.trained,
            show=session.progress.show,
            receipt=receipt,
            ray=session.recipe.ray,
        )


@app.command()
def enhance(
    instructions: Path,
    refinements: Path,
    answers: Path,
    out: Out,
    recipe: Recipe,
    sets: Sets = [],  # noqa: B006
    trust: Trust = False,
) -> None:
    """The teacher's answers to refined texts."""
    table_for(out, instructions, refinements, answers)
    with open_stage(recipe, sets, "enhance", trust=trust) as (session, receipt):
        refined = {r.instruction_id: r for r in _rows(refinements, Refinement)}
        rows = [i for i in _instructions(instructions, session, receipt) if i.id in refined]
        found = rounds.enhanced(session, rows, refined, _by_id(answers), 1, [], receipt)
        write_rows(out, Answer, found)
