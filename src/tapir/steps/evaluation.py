"""Held-out evaluation of student_0 and of every round's student."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tapir.curriculum.canary import canary_answers, canary_prompts
from tapir.evaluation import heldout
from tapir.stages import annotate as annotating
from tapir.stages import judge as judging
from tapir.stages import train as training
from tapir.stages.rescore import Rescored
from tapir.steps.common import answers_of, earlier, held_out_mark, instructions_of, judge_mark, model_mark
from tapir.steps.rescoring import answer_seeds_again, rescore
from tapir.steps.rounds import Curriculum
from tapir.store.rundir import Step
from tapir.types import Answer, Instruction, Receipt, Result, Verdict
from tapir.wiring import Session


def evaluate(
    session: Session,
    number: int,
    student: Step,
    held_out: Step,
    *,
    baseline: Step | None,
    curriculum: Curriculum | None = None,
) -> Step:
    """This student on the held-out instructions; `baseline` is student_0's evaluation, which it is compared with.

    With `difficulty.rescore: move` the later rounds of `curriculum` take what this student has mastered for easy.
    """
    recipe, name = session.recipe, f"student_{number}"
    kinds = {e.kind for e in recipe.evaluate}
    rivals = {e.against for e in recipe.evaluate if e.kind == "pairwise"}
    rescores = recipe.difficulty.rescore != "off"

    def work(step: Step, receipt: Receipt) -> None:
        instructions, teacher = instructions_of(held_out), answers_of(held_out, "answers")
        weights = training.weights_of(student.folder)
        own = _answer(session, weights, instructions, name, number, receipt)
        step.write(Answer, own.values(), "answers")
        again = answer_seeds_again(session, number, weights) if rescores else {}
        verdicts: list[Verdict] = []
        canaries: list[Verdict] = []
        if baseline is not None and "student_0" in rivals:
            other = answers_of(baseline, "answers")
            verdicts = _judge(session, instructions, own, other, name, receipt)
            canaries = _judge_canaries(session, instructions, other, receipt)
        step.write(Verdict, verdicts, "verdicts")
        beside_teacher: list[Verdict] = []
        if "teacher" in rivals:
            beside_teacher = _judge(session, instructions, own, teacher, name, receipt, note="judge_beside_teacher")
            step.write(Verdict, beside_teacher, "teacher_verdicts")
        step.write(Verdict, canaries, "canaries")
        if rescores:
            rows = rescore(session, number, again, instructions, own, teacher, receipt)
            step.write(Rescored, rows, "rescored")
        fits = _fits(session, weights, instructions, teacher, name) if "held_out_fit" in kinds else []
        step.write(heldout.Fit, fits, "fit")
        before = list(baseline.read(heldout.Fit, "fit")) if baseline else []
        results = heldout.results(
            name, instructions, own, verdicts, fits, before, seed=recipe.seed, run_program=session.run_program
        )
        results += heldout.against_teacher(name, beside_teacher, seed=recipe.seed)
        step.write(Result, results)

    place = f"round_{number}/{'09' if number == 0 else '06'}_evaluation"
    after = [held_out, student, *([baseline] if baseline else [])]
    done = session.step(place, work, version=3, settings=_settings(session), after=after)
    if curriculum is not None and recipe.difficulty.rescore == "move":
        curriculum.rescored.append(done)
    return done


def _settings(session: Session) -> list[Any]:
    """What decides the rows, beside the steps that are read."""
    recipe = session.recipe
    measured = held_out_mark(e for e in recipe.evaluate if e.kind != "graded")
    found: list[Any] = [measured, *judge_mark(session, "evaluator"), recipe.judge.canary, recipe.seed,
                        model_mark(session, "student")]  # fmt: skip
    if recipe.difficulty.rescore != "off":
        selected = earlier(session, "round_0/07_hard").receipt() or {}
        found += [selected.get("fingerprint"), recipe.difficulty.rescore, recipe.difficulty.rescore_sample]
        found += judge_mark(session, "judge")
    return found


def _fits(
    session: Session, weights: Path, instructions: Sequence[Instruction], teacher: Mapping[str, Answer], name: str
) -> list[heldout.Fit]:
    """How well the student predicts the teacher's answers."""
    pairs = [(i, teacher[i.id].text) for i in instructions if i.id in teacher]
    return heldout.fits(name, pairs, session.answer_nll(weights, pairs))


def _answer(
    session: Session, weights: Path, instructions: Sequence[Instruction], name: str, number: int, receipt: Receipt
) -> dict[str, Answer]:
    rows = annotating.answer_as_student(
        instructions,
        session.student(weights),
        session.sampling("student", "student"),
        author=name,
        round=number,
        receipt=receipt,
    )
    return {a.instruction_id: a for a in rows}


def _judge(
    session: Session,
    instructions: Sequence[Instruction],
    own: dict[str, Answer],
    other: Mapping[str, Answer],
    name: str,
    receipt: Receipt,
    note: str = "judge",
) -> list[Verdict]:
    """Verdicts with the other's answers in the teacher's place: student_0's, or the teacher's own."""
    pairs = [
        judging.Pair(i, name, own[i.id].text, other[i.id].text) for i in instructions if i.id in own and i.id in other
    ]
    account = Receipt(receipt.stage)
    verdicts = list(judging.judge(pairs, session.caller("evaluator"), session.judge_plan("evaluator"), receipt=account))
    receipt.notes[note] = account.notes
    return verdicts


def _judge_canaries(
    session: Session, instructions: Sequence[Instruction], other: Mapping[str, Answer], receipt: Receipt
) -> list[Verdict]:
    """Answers that say nothing, against student_0's; every round makes the same calls, so the later ones are free."""
    recipe = session.recipe
    prompts = canary_prompts([i for i in instructions if i.id in other], recipe.judge.canary, recipe.seed)
    pairs = [judging.Pair(i, name, text, other[i.id].text) for i in prompts for name, text in canary_answers(i).items()]
    # A judge that cannot read them is no reason to stop: it is what the canary is there to show.
    plan = replace(session.judge_plan("evaluator"), max_pairs=None, max_unscored=1.0)
    account = Receipt(receipt.stage)
    verdicts = list(judging.judge(pairs, session.caller("evaluator"), plan, receipt=account))
    receipt.notes["canaries"] = account.notes
    return verdicts
