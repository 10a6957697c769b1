"""Round 0: the seed pool, its labels and answers, student_0 and what is hard for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from tapir.config import Recipe, Seeds
from tapir.curriculum.mixture import targets_for
from tapir.stages import annotate as annotating
from tapir.stages import decontaminate as decontaminating
from tapir.stages import judge as judging
from tapir.stages import score as scoring
from tapir.stages import seeds as seeding
from tapir.stages import select as selecting
from tapir.stages import train as training
from tapir.stages.decontaminate import Contaminated
from tapir.steps.benchmarks import read_judge_prompt
from tapir.steps.common import (
    answers_of,
    contamination_mark,
    earlier,
    held_out_mark,
    instructions_of,
    judge_mark,
    model_mark,
    note_start,
    passes_in,
    plain,
    source_mark,
    start_mark,
    student_mark,
    student_place,
    tell_of_idle_processes,
    train_mark,
)
from tapir.steps.judgement import HELD_OUT, POOL, corrections, without_wrong, wrong_verdicts
from tapir.steps.labelling import label_mark, labelled
from tapir.store.rundir import Step
from tapir.types import Answer, Difficulty, Dropped, Instruction, KeepDropped, Receipt, Verdict
from tapir.wiring import Session

DROPPED = "dropped"
"""Rows that a step did not hand on, in a table beside its own."""


def gather_seeds(session: Session) -> Step:
    """The seed pool: read, duplicates and evaluation texts removed."""
    recipe = session.recipe

    def work(step: Step, receipt: Receipt) -> None:
        if session.until is None:
            # Everything lies ahead, the teacher's bill too. Whoever stops in between may go on on another machine.
            training.check_needs(recipe.train, session.model("student"), session.student_weights)
        _look_ahead(session)
        with step.appending(Dropped, DROPPED) as dropped:
            pool = seeding.load_pool(recipe.seeds, seed=recipe.seed, receipt=receipt, dropped=dropped)
            kept = pool.instructions
            if recipe.seeds.near_duplicates:
                kept = seeding.without_near_duplicates(pool, receipt, dropped, session.near_duplicates)
            if recipe.decontaminate.enabled:
                kept, hits = decontaminating.without_contamination(kept, pool.answers, session.contamination(), receipt)
                step.write(Contaminated, hits, "contaminated")
                for row in seeding.contaminated(pool, {h.instruction_id: h.item for h in hits}):
                    dropped(row)
        receipt.rows_out = len(kept)
        receipt.notes["bad_rows"] = [f"{where}: {reason}" for where, reason in pool.problems[:20]]
        given = [Answer(i.id, "pool", pool.answers[i.id]) for i in kept if i.id in pool.answers]
        step.write(Answer, given, "answers")
        step.write(Instruction, kept)

    settings = [recipe.seed, plain(recipe.seeds), source_mark(recipe.seeds.source), contamination_mark(session)]
    return session.step("round_0/01_seeds", work, version=4, settings=settings)


def _look_ahead(session: Session) -> None:
    """Read what the user wrote for later steps, which would otherwise be found wanting when all before is paid for."""
    session.judge_plan("judge")
    targets_for(session.taxonomy.names, session.recipe.mix.targets)
    for asked in session.recipe.evaluate:
        read_judge_prompt(asked)


def classify_seeds(session: Session, seeds: Step) -> Step:
    """Every instruction of D with its task type, before anything is judged."""
    marked = corrections(session, POOL)

    def work(step: Step, receipt: Receipt) -> None:
        rows = labelled(session, marked.keep(instructions_of(seeds), receipt), receipt)
        step.write(Instruction, marked.label(rows, receipt))

    settings = [*label_mark(session), *marked.settings]
    return session.step(POOL, work, version=1, settings=settings, after=[seeds])


def annotate(session: Session, seeds: Step, pool: Step) -> Step:
    """y: the teacher's direct answers, or those that came with the pool."""
    recipe = session.recipe

    def work(step: Step, receipt: Receipt) -> None:
        with step.appending(Dropped, DROPPED) as dropped:
            rows = _direct_answers(session, instructions_of(pool), receipt, dropped)
            found, index = list[Contaminated](), session.contamination()
            step.write(Answer, decontaminating.without_contaminated_answers(rows, index, found, receipt, dropped))
        step.write(Contaminated, found, "contaminated")

    settings = [recipe.seeds.annotate, model_mark(session, "teacher"), contamination_mark(session)]
    return session.step("round_0/03_teacher_answers", work, version=3, settings=settings, after=[pool])


def _direct_answers(
    session: Session, instructions: Iterable[Instruction], receipt: Receipt, dropped: KeepDropped
) -> Iterator[Answer]:
    passes = passes_in(session)
    if session.recipe.seeds.annotate == "keep":
        given = answers_of(earlier(session, "round_0/01_seeds"), "answers")
        return annotating.keep_answers(instructions, given, passes=passes, receipt=receipt, dropped=dropped)
    return annotating.answer_as_teacher(
        instructions,
        session.caller("teacher"),
        session.sampling("teacher", "writing"),
        passes=passes,
        receipt=receipt,
        dropped=dropped,
    )


def train_student_0(session: Session, pool: Step, answers: Step) -> Step:
    """S_0: the student fine-tuned on D (§3.2), or the chat model as it is."""
    recipe, place = session.recipe, student_place(0)
    base = start_mark(session, place)

    def work(step: Step, receipt: Receipt) -> None:
        start = session.student_weights()
        note_start(session, receipt, base)
        if recipe.student_0 == "as_is":
            training.link_student(step.folder, start, session.weights_hash(start))
            return
        session.close_models()
        tell_of_idle_processes(session)
        training.train(
            start,
            training.easy_examples(instructions_of(pool), answers_of(answers)),
            step.folder,
            recipe.train,
            student=session.model("student"),
            seed=recipe.seed,
            trained=session.progress.trained,
            show=session.progress.show,
            receipt=receipt,
            resident=session.resident,
            ray=recipe.ray,
        )

    settings = [recipe.student_0, student_mark(session), *base]
    if recipe.student_0 == "as_is":
        return session.step(place, work, version=1, settings=settings)
    settings += [train_mark(session), recipe.seed]
    return session.step(place, work, version=1, settings=settings, after=[pool, answers])


def answer(session: Session, pool: Step, answers: Step, student: Step) -> Step:
    """ỹ: student_0's answers to every annotated instruction."""

    def work(step: Step, receipt: Receipt) -> None:
        known = answers_of(answers)
        rows = annotating.answer_as_student(
            instructions_of(pool).where("id", known.__contains__),
            session.student(training.weights_of(student.folder)),
            session.sampling("student", "student"),
            author="student_0",
            round=0,
            receipt=receipt,
        )
        step.write(Answer, rows)

    settings = [model_mark(session, "student")]
    return session.step(
        "round_0/05_student_answers", work, version=1, settings=settings, after=[pool, answers, student]
    )


def judge_attempts(session: Session, pool: Step, answers: Step, attempts: Step) -> Step:
    """Verdicts on student_0's answers against the teacher's; none where difficulty needs no judge."""
    recipe = session.recipe

    def work(step: Step, receipt: Receipt) -> None:
        if recipe.difficulty.kind != "mfd":
            receipt.notes["not_judged"] = f"difficulty.kind is {recipe.difficulty.kind}"
            step.write(Verdict, [])
            return
        teacher, student = answers_of(answers), answers_of(attempts)
        pairs = (
            judging.Pair(i, "student_0", student[i.id].text, teacher[i.id].text)
            for i in instructions_of(pool)
            if i.id in student
        )
        rows = judging.judge(pairs, session.caller("judge"), session.judge_plan("judge"), receipt=receipt)
        step.write(Verdict, rows)

    settings = [*judge_mark(session, "judge"), recipe.seed]
    if recipe.difficulty.kind != "mfd":
        settings = [recipe.difficulty.kind]
    return session.step("round_0/06_verdicts", work, version=1, settings=settings, after=[attempts, answers])


def select_hard_seeds(session: Session, pool: Step, verdicts: Step) -> Step:
    """D_S: the seeds above δ; all difficulties are kept beside them."""
    wrong = wrong_verdicts(session)

    def work(step: Step, receipt: Receipt) -> None:
        delta = session.recipe.difficulty.delta
        if session.recipe.difficulty.kind == "mfd":
            judged = without_wrong(session, verdicts.read(Verdict), wrong, receipt)
            found, hard = selecting.select(judged, delta, receipt=receipt)
        else:
            found, hard = selecting.select_rows(_unjudged(session, pool, receipt), delta, receipt=receipt)
        found_hard = {d.instruction_id for d in hard}
        tasks = instructions_of(pool).where("id", found_hard.__contains__).column("task")
        receipt.notes["hard_by_task"] = dict(sorted(Counter(map(str, tasks)).items()))
        step.write(Difficulty, found, "all")
        step.write(Difficulty, hard)

    # Measuring again is the evaluations' business, and in their marks.
    settings = session.recipe.difficulty.model_dump(mode="json", exclude={"rescore", "rescore_sample"})
    if settings["kind"] != "verifier":
        del settings["answers"]
    marked = [["marked wrong", sorted(wrong.items())]] if wrong else []
    return session.step("round_0/07_hard", work, version=1, settings=[settings, *marked], after=[verdicts])


def _unjudged(session: Session, pool: Step, receipt: Receipt) -> list[Difficulty]:
    """Difficulties of the annotated seeds that need no judge (ours)."""
    teacher = answers_of(earlier(session, "round_0/03_teacher_answers"))
    rows = [i for i in instructions_of(pool) if i.id in teacher]
    weights = training.weights_of(earlier(session, "round_0/04_student_0").folder)
    settings = session.recipe.difficulty
    if settings.kind == "verifier":
        attempts = answers_of(earlier(session, "round_0/05_student_answers"))
        checkable = [i for i in rows if i.check is not None]
        answers = scoring.more_answers(
            checkable,
            session.student(weights),
            session.sampling("student", "student"),
            range(1, settings.answers),
            author="student_0",
            receipt=receipt,
        )
        every = {i.id: [*([attempts[i.id]] if i.id in attempts else []), *answers[i.id]] for i in checkable}
        return scoring.by_verifier(rows, every, student="student_0", run_program=session.run_program, receipt=receipt)
    given = session.answer_nll(weights, [(i, teacher[i.id].text) for i in rows])
    if settings.kind == "loss":
        return scoring.by_loss(rows, given, student="student_0", receipt=receipt)
    alone = session.answer_nll(weights, [(scoring.NOTHING, teacher[i.id].text) for i in rows])
    return scoring.by_ifd(rows, given, alone, student="student_0", receipt=receipt)


def held_out_instructions(recipe: Recipe) -> list[Instruction]:
    """Those of all evaluations on held-out instructions, each once."""
    kept: dict[str, Instruction] = {}
    for evaluation in (e for e in recipe.evaluate if e.on_held_out):
        source = Seeds(source=evaluation.prompts, sample=evaluation.sample, near_duplicates=False)
        for i in seeding.load_evaluation(source, seed=recipe.seed).instructions:
            kept.setdefault(i.id, i)
    return list(kept.values())


def gather_held_out(session: Session) -> Step:
    """Held-out instructions of the recipe's own evaluations, with the teacher's direct answers."""
    recipe = session.recipe
    marked = corrections(session, HELD_OUT)

    def work(step: Step, receipt: Receipt) -> None:
        kept = held_out_instructions(recipe)
        rows = [i for i in kept if i.id not in marked.dropped]
        marked.account(len(kept) - len(rows), receipt)
        answers = annotating.answer_as_teacher(
            rows,
            session.caller("teacher"),
            session.sampling("teacher", "writing"),
            passes=passes_in(session),
            receipt=receipt,
            keep_wrong=True,
        )
        step.write(Answer, answers, "answers")
        step.write(Instruction, marked.label(rows, receipt))

    settings = [held_out_mark(recipe.evaluate), [source_mark(e.prompts) for e in recipe.evaluate if e.on_held_out],
                model_mark(session, "teacher"), recipe.seed, *marked.settings]  # fmt: skip
    return session.step(HELD_OUT, work, version=1, settings=settings)
