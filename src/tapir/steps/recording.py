"""What `make record` runs: every call of a recipe that does not depend on the student."""

from __future__ import annotations

from tapir.steps.common import answers_of, instructions_of
from tapir.steps.round_0 import annotate, classify_seeds, gather_held_out, gather_seeds
from tapir.steps.rounds import enhanced, refined
from tapir.store.rundir import Step
from tapir.types import Answer, Receipt, Refinement
from tapir.wiring import Session


def record(session: Session) -> None:
    """Labels, direct answers, refinements and enhanced answers of the whole pool; the teacher's held-out answers."""
    seeds = gather_seeds(session)
    pool = classify_seeds(session, seeds)
    answers = annotate(session, seeds, pool)
    gather_held_out(session)

    def refine(step: Step, receipt: Receipt) -> None:
        known = answers_of(answers)
        rows = [i for i in instructions_of(pool) if i.id in known]
        step.write(Refinement, refined(session, rows, receipt))

    def enhance(step: Step, receipt: Receipt) -> None:
        refinements = {r.instruction_id: r for r in refining.read(Refinement)}
        rows = [i for i in instructions_of(pool) if i.id in refinements]
        step.write(Answer, enhanced(session, rows, refinements, answers_of(answers), 0, [], receipt))

    refining = session.step("round_0/10_refined", refine, version=1, after=[pool, answers])
    session.step("round_0/11_enhanced", enhance, version=1, after=[refining])
