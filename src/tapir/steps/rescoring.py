"""Difficulty measured again with each round's student (`difficulty.rescore`; ours, Algorithm 1 does not do it).

Part of the evaluation step: reads round 0's tables and the mixes, writes nothing itself. What counts as mastered is
`stages.rescore`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tapir.curriculum.difficulty import difficulties
from tapir.stages import annotate as annotating
from tapir.stages import judge as judging
from tapir.stages.rescore import Rescored, fixed_sample, rescored
from tapir.steps.common import answers_of, earlier, instructions_of
from tapir.types import Answer, Difficulty, DifficultyKind, Example, Instruction, Receipt
from tapir.wiring import Session


def answer_seeds_again(session: Session, number: int, weights: Path) -> dict[str, Answer]:
    """The student's answers to the seeds that are looked at again; none from student_0, whose MFD is known."""
    if number == 0:
        return {}
    wanted = _wanted(session)
    rows = annotating.answer_as_student(
        [i for i in instructions_of(earlier(session, "round_0/02_classified")) if i.id in wanted],
        session.student(weights),
        session.sampling("student", "student"),
        author=f"student_{number}",
        round=number,
        receipt=Receipt("evaluation"),
    )
    return {a.instruction_id: a for a in rows}


def rescore(
    session: Session,
    number: int,
    attempts: dict[str, Answer],
    held_out: Sequence[Instruction],
    own: dict[str, Answer],
    teacher: Mapping[str, Answer],
    receipt: Receipt,
) -> list[Rescored]:
    """Seeds and held-out instructions with this student's difficulty, against the teacher's direct answers (y)."""
    recipe, sampled = session.recipe, _sampled(session)
    if number == 0:
        seeds = [d for d in _before(session) if d.instruction_id in sampled]
    else:
        pool = instructions_of(earlier(session, "round_0/02_classified"))
        direct = answers_of(earlier(session, "round_0/03_teacher_answers"))
        seeds = _judged(session, number, pool, attempts, direct, receipt)
    chosen = fixed_sample({i.id for i in held_out}, recipe.difficulty.rescore_sample, recipe.seed)
    others = _judged(session, number, [i for i in held_out if i.id in chosen], own, teacher, receipt)
    deltas, trained = _deltas(session), _trained(session, number)
    return [
        *rescored(seeds, deltas, round=number, trained=trained, sampled=sampled),
        *rescored(others, deltas, round=number, trained=(), sampled=chosen, held_out=True),
    ]


def _before(session: Session) -> list[Difficulty]:
    return list(earlier(session, "round_0/07_hard").read(Difficulty, "all"))


def _sampled(session: Session) -> set[str]:
    settings = session.recipe.difficulty
    return fixed_sample({d.instruction_id for d in _before(session)}, settings.rescore_sample, session.recipe.seed)


def _wanted(session: Session) -> set[str]:
    """The fixed sample; to move rows, as many hard seeds again, which the distributions leave out."""
    settings = session.recipe.difficulty
    if settings.rescore != "move":
        return _sampled(session)
    hard = {d.instruction_id for d in earlier(session, "round_0/07_hard").read(Difficulty)}
    return _sampled(session) | fixed_sample(hard, settings.rescore_sample, session.recipe.seed)


def _deltas(session: Session) -> dict[DifficultyKind, float]:
    """δ of each kind as round 0 found it."""
    notes = (earlier(session, "round_0/07_hard").receipt() or {}).get("notes", {})
    kinds: tuple[DifficultyKind, ...] = ("mfd", "verified")
    return {kind: float(notes[f"delta_{kind}"]) for kind in kinds if f"delta_{kind}" in notes}


def _trained(session: Session, number: int) -> set[str]:
    """Seeds that this student has been trained on in any round so far."""
    trained = {
        e.instruction_id for r in range(1, number + 1) for e in earlier(session, f"round_{r}/04_mix").read(Example)
    }
    if session.recipe.student_0 == "train":
        trained |= {d.instruction_id for d in _before(session)}
    return trained


def _judged(
    session: Session,
    number: int,
    instructions: Sequence[Instruction],
    own: dict[str, Answer],
    teacher: Mapping[str, Answer],
    receipt: Receipt,
) -> list[Difficulty]:
    pairs = [
        judging.Pair(i, f"student_{number}", own[i.id].text, teacher[i.id].text)
        for i in instructions
        if i.id in own and i.id in teacher
    ]
    # The sample bounds the calls already, and all of it must be judged each time to compare the rounds.
    plan = replace(session.judge_plan("judge"), max_pairs=None, adaptive_delta=None)
    account = Receipt(receipt.stage)
    return difficulties(judging.judge(pairs, session.caller("judge"), plan, receipt=account))
