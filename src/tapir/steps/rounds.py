"""Rounds 1, 2, …: grow, refine, answer, mix, train."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tapir.config import Recipe
from tapir.curriculum.difficulty import on_one_scale
from tapir.curriculum.hygiene import Hygiene
from tapir.curriculum.mixture import plan_as_grown, plan_round, targets_for
from tapir.curriculum.refinement_guard import mentions_rewriting
from tapir.prompts.tasks import plain_refine_messages, refine_messages
from tapir.stages import expand as expanding
from tapir.stages import mix as mixing
from tapir.stages import refine as refining
from tapir.stages import train as training
from tapir.stages.decontaminate import Contaminated, matches, matches_of
from tapir.stages.distil_refiner import trained_refiner
from tapir.stages.rescore import Rescored, mastered
from tapir.steps import growth
from tapir.steps.common import (
    answers_of,
    contamination_mark,
    instructions_of,
    judge_mark,
    model_mark,
    passes_in,
    plain,
    student_mark,
    tell_of_idle_processes,
    train_mark,
)
from tapir.steps.judgement import DROPPED, corrections
from tapir.steps.keeping import keep_better
from tapir.steps.labelling import classifier_mark
from tapir.store.lookup import Joined, Keyed, Rows, layered
from tapir.store.rundir import Step
from tapir.tasks import Taxonomy
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
        """Of the hard seeds, and of the grown rows that were judged; to weigh and sort them by."""
        measured = [d for step in self.expanded for d in growth.read(step, Difficulty, growth.MEASURED)]
        return on_one_scale([*self.hard.read(Difficulty), *measured])

    def seeds(self) -> tuple[Rows[Instruction], Rows[Instruction]]:
        """Annotated seeds: the hard ones, and the easy ones (D without D_S), mastered ones among them."""
        hard = {d.instruction_id for d in self.hard.read(Difficulty)} - self.mastered()
        rows = instructions_of(self.pool).where("id", answers_of(self.answers).__contains__)
        return rows.where("id", hard.__contains__), rows.where("id", lambda id: id not in hard)

    def mastered(self) -> set[str]:
        """Seeds that the latest student to be asked no longer finds hard."""
        return mastered([row for step in self.rescored for row in step.read(Rescored, "rescored")])

    def grown(self, rounds: slice = slice(None)) -> tuple[list[Instruction], list[Instruction]]:
        """Grown instructions of these rounds: the hard ones, and those that were judged and found easy."""
        parts = [growth.parts(step) for step in self.expanded[rounds]]
        return [i for hard, _ in parts for i in hard], [i for _, easy in parts for i in easy]

    def direct(self) -> Mapping[str, Answer]:
        """The teacher's direct answers known so far: to the seeds, and to grown rows that were judged."""
        grown = {a.instruction_id: a for step in self.expanded for a in growth.read(step, Answer, growth.DIRECT)}
        return layered(grown, answers_of(self.answers))


LATEST = slice(-1, None)


def _round_mark(session: Session, number: int) -> Any:
    """What of the curriculum decides which rows this round has; draws and training have marks of their own.

    Not how many rounds follow: one more leaves those before it as they are.
    """
    recipe = session.recipe
    curriculum = recipe.curriculum
    mark: dict[str, Any] = {"alpha": curriculum.alpha(number), "mixing": curriculum.mixing, "data": curriculum.data}
    # Their plans were wrong once; runs with none of these have nothing to repeat.
    if recipe.expand.parents == "grown":
        return mark | {"plan": 3}
    return mark | {"plan": 2} if curriculum.mixing == "loss" or curriculum.data == "newest" else mark


def plan_for(
    recipe: Recipe,
    taxonomy: Taxonomy,
    number: int,
    hard: Sequence[Instruction],
    easy: Sequence[Instruction],
    *,
    room: Mapping[str, int] | None = None,
) -> RoundPlan:
    """The round's plan. With `room`, what expansion may add to each type counts as supply."""
    return plan_round(
        _by_task(hard),
        _by_task(easy),
        targets_for(taxonomy.names, recipe.mix.targets),
        recipe.curriculum.alpha(number),
        recipe.mix.size,
        round=number,
        growable=room,
        grow_limit=None if room is None else recipe.expand.per_round,
        by_weight=recipe.curriculum.mixing == "loss",
    )


def _by_task(rows: Iterable[Instruction]) -> Counter[str]:
    return Counter(str(i.task) for i in rows)


def before_growth(recipe: Recipe, curriculum: Curriculum) -> tuple[Sequence[Instruction], Sequence[Instruction]]:
    """Hard and easy rows that the next round trains on whatever it grows: with the newest data alone, the seeds."""
    hard, easy = curriculum.seeds()
    if recipe.curriculum.data == "newest":
        return hard, easy
    hard_grown, easy_grown = curriculum.grown()
    return Joined(hard, hard_grown), Joined(easy, easy_grown)


def growth_plan(recipe: Recipe, taxonomy: Taxonomy, number: int, curriculum: Curriculum) -> RoundPlan:
    """What a round would draw if expansion added all it may."""
    children = children_of(Joined(*curriculum.grown()))
    room = Counter[str]()
    for parent in parents_of(recipe, curriculum):
        room[str(parent.task)] += max(0, recipe.expand.per_seed - children[parent.id])
    return plan_for(recipe, taxonomy, number, *before_growth(recipe, curriculum), room=room)


def plan_of_mix(
    recipe: Recipe,
    taxonomy: Taxonomy,
    number: int,
    curriculum: Curriculum,
    hard: Sequence[Instruction],
    easy: Sequence[Instruction],
) -> RoundPlan:
    """What a round draws of these rows; where it has no size of its own and has grown, what was planned before that."""
    grown = {i.id for part in curriculum.grown(LATEST) for i in part}
    if recipe.mix.size is not None or not grown:
        return plan_for(recipe, taxonomy, number, hard, easy)
    before = replace(curriculum, expanded=curriculum.expanded[:-1])
    rows = before_growth(recipe, before)
    return plan_as_grown(
        growth_plan(recipe, taxonomy, number, before),
        plan_for(recipe, taxonomy, number, *rows) if rows[0] else None,
        sum(i.id in grown for i in hard),
        _by_task(hard),
        _by_task(easy),
        targets_for(taxonomy.names, recipe.mix.targets),
        by_weight=recipe.curriculum.mixing == "loss",
    )


def parents_of(recipe: Recipe, curriculum: Curriculum) -> Sequence[Instruction]:
    """What the next round grows from; grown rows too if wanted, also those that it does not train on."""
    hard, _ = curriculum.seeds()
    return hard if recipe.expand.parents == "seeds" else Joined(hard, curriculum.grown()[0])


def children_of(rows: Iterable[Instruction]) -> Counter[str]:
    """How many of these rows were grown from each instruction."""
    return Counter(i.parent_id for i in rows if i.parent_id is not None)


def grown_from(
    session: Session,
    number: int,
    wanted: Mapping[str, int],
    parents: Sequence[Instruction],
    known: Sequence[Instruction],
    difficulty: Mapping[str, float],
    answers: Mapping[str, Answer],
    rejections: list[Rejection],
    receipt: Receipt,
) -> list[Instruction]:
    """New instructions by the recipe's settings; `known` is what they must differ from, `answers` are the parents'."""
    recipe = session.recipe
    hygiene = Hygiene(known, session.contamination(), session.off_type, session.likeness(), answers)
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
        children=children_of(known),
        max_tries=recipe.expand.max_tries,
        round=number,
        seed=recipe.seed,
        rejections=rejections,
        receipt=receipt,
    )
    return list(marked.label(taken, receipt))


def expand(session: Session, number: int, curriculum: Curriculum, student: Step) -> None:
    """D_P^(r): new instructions for the task types in deficit, judged with the current student if wanted."""
    recipe = session.recipe

    def work(step: Step, receipt: Receipt) -> None:
        wanted = growth_plan(recipe, session.taxonomy, number, curriculum).grow
        parents = parents_of(recipe, curriculum)
        rejections: list[Rejection] = []
        # Also seeds that lost their answer: a copy of one is no new instruction.
        known = Joined(instructions_of(curriculum.pool), *curriculum.grown())
        difficulty, answers = curriculum.difficulty(), curriculum.direct()
        taken = grown_from(session, number, wanted, parents, known, difficulty, answers, rejections, receipt)
        step.write(Rejection, rejections, "rejected")
        leaked = [Instruction(r.text) for r in rejections if r.reason == "contaminated"]
        step.write(Contaminated, (m for i in leaked for m in matches_of(i, session.contamination())), "contaminated")
        if recipe.expand.check_difficulty:
            growth.judge(session, number, taken, student, step, receipt)
        step.write(Instruction, taken)
        for line in expanding.exhausted_lines(receipt, rejections):
            session.progress.say(f"round {number}: {line}")

    place = f"round_{number}/01_expanded"
    settings = [plain(recipe.expand), plain(recipe.mix), _round_mark(session, number), recipe.seed, number,
                model_mark(session, "teacher"), contamination_mark(session),
                *classifier_mark(session), *corrections(session, place).settings]  # fmt: skip
    after = [curriculum.pool, curriculum.answers, curriculum.hard, *curriculum.expanded, *curriculum.rescored]
    if recipe.expand.check_difficulty:
        settings += [*judge_mark(session, "judge"), model_mark(session, "student")]
        after.append(student)
    curriculum.expanded.append(session.step(place, work, version=3, settings=settings, after=after))


def _to_refine(session: Session, number: int, curriculum: Curriculum) -> Sequence[Instruction]:
    """Rows that this round is the first to refine: hard seeds in round 1, what it has grown; easy ones if wanted."""
    hard, easy = curriculum.seeds() if number == 1 else ((), ())
    hard_grown, easy_grown = curriculum.grown(LATEST)
    return Joined(hard, hard_grown, *((easy, easy_grown) if session.recipe.refine.easy else ()))


def refined(session: Session, rows: Sequence[Instruction], receipt: Receipt) -> Iterator[Refinement]:
    """Refinements of these rows, as the recipe wants them."""
    trained = trained_refiner(session.model("refiner"))
    return refining.refine(
        rows,
        session.caller("refiner"),
        session.taxonomy,
        replace(session.sampling("refiner", "judging"), max_tokens=MAX_REFINED_TOKENS),
        max_growth=session.recipe.refine.max_growth,
        receipt=receipt,
        prompt=refine_messages if trained is None else plain_refine_messages,
    )


def refine(session: Session, number: int, curriculum: Curriculum) -> None:
    """Refined forms of the new hard rows, and of easy ones if the recipe wants them."""
    recipe = session.recipe

    def work(step: Step, receipt: Receipt) -> None:
        step.write(Refinement, refined(session, _to_refine(session, number, curriculum), receipt))

    settings = [plain(recipe.refine), model_mark(session, "refiner")]
    if (trained := trained_refiner(session.model("refiner"))) is not None:
        settings.append(session.weights_hash(trained))
    after = [curriculum.expanded[-1], *([curriculum.hard, curriculum.pool] if number == 1 else [])]
    place = f"round_{number}/02_refined"
    curriculum.refined.append(session.step(place, work, version=2, settings=settings, after=after))


def enhanced(
    session: Session,
    rows: Sequence[Instruction],
    refinements: Mapping[str, Refinement],
    direct: Mapping[str, Answer],
    number: int,
    found: list[Contaminated],
    receipt: Receipt,
) -> Iterator[Answer]:
    """The teacher's answers to the refined texts of these rows; evaluation texts in them are added to `found`."""
    passes = passes_in(session)

    def refuses(instruction: Instruction, text: str) -> str | None:
        hits = matches(instruction.id, "answer", text, session.contamination())
        found.extend(hits)
        if hits:
            return "contaminated"
        if mentions_rewriting(instruction.text, text):
            return "mentions_rewriting"
        return "teacher_wrong" if passes(instruction, text) is False else None

    return refining.enhanced_answers(
        rows,
        refinements,
        direct,
        session.caller("teacher"),
        session.sampling("teacher", "writing"),
        refuses=refuses,
        round=number,
        receipt=receipt,
    )


def enhance(session: Session, number: int, curriculum: Curriculum) -> None:
    """ŷ: the teacher's answers to the refined texts, or y where the judge does not prefer them (`keep_better`)."""
    recipe = session.recipe

    def work(step: Step, receipt: Receipt) -> None:
        refinements = Keyed(Rows.of(curriculum.refined[-1].table(), Refinement), "instruction_id")
        rows = Joined(
            *(seeds.where("id", refinements.__contains__) for seeds in curriculum.seeds()),
            *([i for i in grown if i.id in refinements] for grown in curriculum.grown(LATEST)),
        )
        direct, found = curriculum.direct(), list[Contaminated]()
        answers = enhanced(session, rows, refinements, direct, number, found, receipt)
        if recipe.refine.keep_better:
            answers = keep_better(session, rows, list(answers), direct, step, receipt)
        step.write(Answer, answers)
        step.write(Contaminated, found, "contaminated")

    after = [curriculum.refined[-1], curriculum.answers]
    settings = [model_mark(session, "teacher"), contamination_mark(session)]
    if recipe.refine.keep_better:
        settings += judge_mark(session, "judge")
    place = f"round_{number}/03_enhanced_answers"
    curriculum.enhanced.append(session.step(place, work, version=2, settings=settings, after=after))


def mix(session: Session, number: int, curriculum: Curriculum) -> Step:
    """The round's training set by α and Pr(T)."""
    recipe = session.recipe

    def work(step: Step, receipt: Receipt) -> None:
        hard, easy = curriculum.seeds()
        answers = layered(*(answers_of(e) for e in reversed(curriculum.enhanced)), curriculum.direct())
        rounds = slice(None) if recipe.curriculum.data == "cumulative" else LATEST
        # Every seed here has an answer; of what was grown, some have none.
        hard, easy = (
            Joined(seeds, [i for i in grown if i.id in answers])
            for seeds, grown in zip((hard, easy), curriculum.grown(rounds), strict=True)
        )
        examples = mixing.mix(
            plan_of_mix(recipe, session.taxonomy, number, curriculum, hard, easy),
            hard,
            easy,
            answers,
            curriculum.difficulty(),
            loss_weights=recipe.curriculum.mixing == "loss",
            seed=recipe.rounds_seed,
            receipt=receipt,
        )
        step.write(Example, examples)

    settings = [plain(recipe.mix), _round_mark(session, number), recipe.rounds_seed, number]
    if recipe.mix.size is None and recipe.expand.per_round:
        # Such rounds could come out smaller than planned once; others have nothing to repeat.
        settings.append("as_grown")
    after = [curriculum.pool, curriculum.answers, *curriculum.expanded, *curriculum.enhanced, *curriculum.rescored]
    return session.step(f"round_{number}/04_mix", work, version=1, settings=settings, after=after)


def train(session: Session, number: int, student: Step, examples: Step) -> Step:
    """student_r, from student_{r−1} on this round's examples."""
    recipe = session.recipe
    tokens = recipe.curriculum.tokens and recipe.curriculum.tokens // recipe.curriculum.rounds

    def work(step: Step, receipt: Receipt) -> None:
        session.close_models()
        tell_of_idle_processes(session)
        training.train(
            training.weights_of(student.folder),
            list(examples.read(Example)),
            step.folder,
            recipe.train,
            student=session.model("student"),
            tokens=tokens,
            seed=recipe.rounds_seed + number,
            trained=session.progress.trained,
            show=session.progress.show,
            receipt=receipt,
            resident=session.resident,
            ray=recipe.ray,
        )

    settings = [train_mark(session), student_mark(session), recipe.rounds_seed, *([tokens] if tokens else [])]
    place = f"round_{number}/05_student_{number}"
    return session.step(place, work, version=1, settings=settings, after=[student, examples])
