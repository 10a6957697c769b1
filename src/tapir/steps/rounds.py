"""Rounds 1, 2, …: grow, refine, answer, mix, train."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from tapir.curriculum.hygiene import Hygiene
from tapir.curriculum.mixture import plan_round, targets_for
from tapir.stages import expand as expanding
from tapir.stages import mix as mixing
from tapir.stages import refine as refining
from tapir.stages import train as training
from tapir.stages.rescore import Rescored, mastered
from tapir.steps.common import answers_of, instructions_of, model_mark, passes_in, plain
from tapir.steps.judgement import DROPPED, corrections
from tapir.store.rundir import Step
from tapir.types import Answer, Difficulty, Example, Instruction, Receipt, Refinement, Rejection, RoundPlan
from tapir.wiring import Session

MAX_REFINED_TOKENS = 256


@dataclass
class Curriculum:
    """What the rounds build on, and each round's steps so far."""

    pool: Step
    answers: Step
    hard: Step
    expanded: list[Step] = field(default_factory=lambda: list[Step]())
    refined: list[Step] = field(default_factory=lambda: list[Step]())
    enhanced: list[Step] = field(default_factory=lambda: list[Step]())
    rescored: list[Step] = field(default_factory=lambda: list[Step]())
    """Evaluations whose mastered seeds count as easy from then on (`difficulty.rescore: move`)."""

    def difficulty(self) -> dict[str, float]:
        return {d.instruction_id: d.value for d in self.hard.read(Difficulty)}

    def seeds(self) -> tuple[list[Instruction], list[Instruction]]:
        """Annotated seeds: the hard ones, and the easy ones (D without D_S), mastered ones among them."""
        hard, answered = self.difficulty().keys() - self.mastered(), answers_of(self.answers)
        rows = [i for i in instructions_of(self.pool) if i.id in answered]
        return [i for i in rows if i.id in hard], [i for i in rows if i.id not in hard]

    def mastered(self) -> set[str]:
        """Seeds that the latest student to be asked no longer finds hard."""
        return mastered([row for step in self.rescored for row in step.read(Rescored, "rescored")])

    def grown(self) -> list[Instruction]:
        """All rounds' grown instructions so far."""
        return [i for step in self.expanded for i in step.read(Instruction)]


def plan(session: Session, number: int, hard: list[Instruction], easy: list[Instruction], *, grow: bool) -> RoundPlan:
    """The round's plan; with `grow`, what expansion may add counts as supply."""
    recipe = session.recipe
    supply = Counter(str(i.task) for i in hard)
    room = {t: n * recipe.expand.per_seed for t, n in Counter(str(i.task) for i in hard if i.origin == "seed").items()}
    return plan_round(
        supply,
        Counter(str(i.task) for i in easy),
        targets_for(session.taxonomy.names, recipe.mix.targets),
        recipe.curriculum.alpha(number),
        recipe.mix.size,
        round=number,
        growable=room if grow else None,
        grow_limit=recipe.expand.per_round if grow else None,
    )


def grown_from(
    session: Session,
    number: int,
    wanted: Mapping[str, int],
    parents: list[Instruction],
    known: list[Instruction],
    difficulty: Mapping[str, float],
    rejections: list[Rejection],
    receipt: Receipt,
) -> list[Instruction]:
    """New instructions by the recipe's settings; `known` is what they must differ from."""
    recipe = session.recipe
    hygiene = Hygiene(known, session.contamination())
    marked = corrections(session, f"round_{number}/01_expanded")

    def refuses(child: Instruction, parent: Instruction) -> str | None:
        # Refused rather than taken out afterwards, so that another one is written in its place.
        return DROPPED if child.id in marked.dropped else hygiene.refuses(child, parent)

    taken = expanding.expand(
        wanted,
        parents,
        difficulty,
        session.caller("teacher"),
        session.taxonomy,
        replace(session.sampling("teacher", "writing"), temperature=session.writing_temperature()),
        refuses=refuses,
        per_seed=recipe.expand.per_seed,
        max_tries=recipe.expand.max_tries,
        round=number,
        seed=recipe.seed,
        rejections=rejections,
        receipt=receipt,
    )
    return list(marked.label(taken, receipt))


def expand(session: Session, number: int, curriculum: Curriculum) -> None:
    """D_P^(r): new instructions for the task types in deficit."""
    recipe = session.recipe

    def work(step: Step, receipt: Receipt) -> None:
        hard, easy = curriculum.seeds()
        grown = curriculum.grown()
        wanted = plan(session, number, hard + grown, easy, grow=True).grow
        parents = hard if recipe.expand.parents == "seeds" else hard + grown
        rejections: list[Rejection] = []
        known = [*hard, *easy, *grown]
        taken = grown_from(session, number, wanted, parents, known, curriculum.difficulty(), rejections, receipt)
        step.write(Rejection, rejections, "rejected")
        step.write(Instruction, taken)

    place = f"round_{number}/01_expanded"
    settings = [plain(recipe.expand), plain(recipe.mix), plain(recipe.curriculum), recipe.seed, number,
                model_mark(session, "teacher"), *corrections(session, place).settings]  # fmt: skip
    after = [curriculum.pool, curriculum.answers, curriculum.hard, *curriculum.expanded, *curriculum.rescored]
    curriculum.expanded.append(session.step(place, work, version=1, settings=settings, after=after))


def _new_hard(number: int, curriculum: Curriculum) -> list[Instruction]:
    """Hard rows that this round is the first to refine: the hard seeds in round 1, then what each round has grown."""
    grown = instructions_of(curriculum.expanded[-1])
    return [*curriculum.seeds()[0], *grown] if number == 1 else grown


def refined(session: Session, rows: list[Instruction], receipt: Receipt) -> Iterator[Refinement]:
    """Refinements of these rows, as the recipe wants them."""
    return refining.refine(
        rows,
        session.caller("refiner"),
        session.taxonomy,
        replace(session.sampling("refiner", "judging"), max_tokens=MAX_REFINED_TOKENS),
        max_growth=session.recipe.refine.max_growth,
        receipt=receipt,
    )


def refine(session: Session, number: int, curriculum: Curriculum) -> None:
    """Refined forms of the new hard rows, and of easy ones if the recipe wants them."""
    recipe = session.recipe

    def work(step: Step, receipt: Receipt) -> None:
        rows = _new_hard(number, curriculum)
        if recipe.refine.easy and number == 1:
            rows += curriculum.seeds()[1]
        step.write(Refinement, refined(session, rows, receipt))

    settings = [plain(recipe.refine), model_mark(session, "refiner")]
    after = [curriculum.expanded[-1], *([curriculum.hard, curriculum.pool] if number == 1 else [])]
    place = f"round_{number}/02_refined"
    curriculum.refined.append(session.step(place, work, version=1, settings=settings, after=after))


def enhanced(
    session: Session,
    rows: list[Instruction],
    refinements: dict[str, Refinement],
    direct: dict[str, Answer],
    number: int,
    receipt: Receipt,
) -> Iterator[Answer]:
    """The teacher's answers to the refined texts of these rows."""
    return refining.enhanced_answers(
        rows,
        refinements,
        direct,
        session.caller("teacher"),
        session.sampling("teacher", "writing"),
        passes=passes_in(session),
        round=number,
        receipt=receipt,
    )


def enhance(session: Session, number: int, curriculum: Curriculum) -> None:
    """ŷ: the teacher's answers to the refined texts."""

    def work(step: Step, receipt: Receipt) -> None:
        refinements = {r.instruction_id: r for r in curriculum.refined[-1].read(Refinement)}
        hard, easy = curriculum.seeds()
        rows = [i for i in [*hard, *easy, *instructions_of(curriculum.expanded[-1])] if i.id in refinements]
        direct = answers_of(curriculum.answers)
        step.write(Answer, enhanced(session, rows, refinements, direct, number, receipt))

    after = [curriculum.refined[-1], curriculum.answers]
    settings = [model_mark(session, "teacher")]
    place = f"round_{number}/03_enhanced_answers"
    curriculum.enhanced.append(session.step(place, work, version=1, settings=settings, after=after))


def mix(session: Session, number: int, curriculum: Curriculum) -> Step:
    """The round's training set by α and Pr(T)."""
    recipe = session.recipe

    def work(step: Step, receipt: Receipt) -> None:
        hard, easy = curriculum.seeds()
        answers = {i: a.text for i, a in answers_of(curriculum.answers).items()}
        for step_enhanced in curriculum.enhanced:
            answers |= {i: a.text for i, a in answers_of(step_enhanced).items()}
        grown = (
            curriculum.grown() if recipe.curriculum.data == "cumulative" else instructions_of(curriculum.expanded[-1])
        )
        hard = [i for i in [*hard, *grown] if i.id in answers]
        easy = [i for i in easy if i.id in answers]
        examples = mixing.mix(
            plan(session, number, hard, easy, grow=False),
            hard,
            easy,
            answers,
            curriculum.difficulty(),
            loss_weights=recipe.curriculum.mixing == "loss",
            seed=recipe.seed,
            receipt=receipt,
        )
        step.write(Example, examples)

    settings = [plain(recipe.mix), plain(recipe.curriculum), recipe.seed, number]
    after = [curriculum.pool, curriculum.answers, *curriculum.expanded, *curriculum.enhanced, *curriculum.rescored]
    return session.step(f"round_{number}/04_mix", work, version=1, settings=settings, after=after)


def train(session: Session, number: int, student: Step, examples: Step) -> Step:
    """student_r, from student_{r−1} on this round's examples."""
    recipe = session.recipe

    def work(step: Step, receipt: Receipt) -> None:
        session.close_models()
        training.train(
            training.weights_of(student.folder),
            list(examples.read(Example)),
            step.folder,
            recipe.train,
            student=session.model("student"),
            seed=recipe.seed + number,
            trained=session.progress.trained,
            show=session.progress.show,
            receipt=receipt,
            resident=session.resident,
        )

    settings = [plain(recipe.train), model_mark(session, "student"), recipe.seed]
    place = f"round_{number}/05_student_{number}"
    return session.step(place, work, version=1, settings=settings, after=[student, examples])
