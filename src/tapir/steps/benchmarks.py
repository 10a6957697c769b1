"""Benchmarks beside the held-out evaluation, on student_0 and on every round's student.

Which results a benchmark gives is decided here; scoring is `tapir.evaluation`'s. A row that is missing is counted in
its result and stops nothing: a run of a night must not end over one unreadable grade.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from tapir.config import Evaluation, Recipe, file_names
from tapir.evaluation import alpaca, answers, harness, instruction_following, mt_bench, mt_bench_live
from tapir.evaluation.prompt_sets import read_prompts
from tapir.evaluation.rows import Estimate
from tapir.models.calls import Sampling
from tapir.prompts.tasks import read_template, shown
from tapir.stages import annotate as annotating
from tapir.stages import train as training
from tapir.steps.common import answers_of, instructions_of, model_mark, plain, source_mark
from tapir.store.rundir import Step
from tapir.types import Instruction, Receipt, Result
from tapir.wiring import Session


@dataclass(frozen=True, slots=True)
class ChoiceScore:
    """One lm-eval task of one student, kept so that later students are compared with it."""

    task: str
    metric: str
    shots: int
    value: float
    n: int
    standard_error: float | None

    def score(self) -> harness.TaskScore:
        return harness.TaskScore(self.task, self.metric, self.shots, Estimate(self.value, self.n), self.standard_error)


@dataclass(frozen=True, slots=True)
class Bench:
    """A student under test; `before` is student_0's step, None for itself."""

    session: Session
    name: str
    weights: Path
    held_out: Step
    evaluated: Step
    step: Step
    before: Step | None
    receipt: Receipt
    file: str | None = None
    """What tells the results from those on other files, where the recipe has several of this kind."""

    def named(self, metric: str) -> str:
        return f"{metric} ({self.file})" if self.file else metric


def asks_for_benchmarks(recipe: Recipe) -> bool:
    """Whether a run of this recipe has this step at all."""
    return any(e.kind in _BENCHMARKS for e in recipe.evaluate)


def read_judge_prompt(asked: Evaluation) -> None:
    """A judge's prompt file of the user's own, found out to be one before anything is paid."""
    if asked.judge_prompt is not None and asked.kind == "alpaca":
        alpaca.read_prompt(Path(asked.judge_prompt))
    if asked.judge_prompt is not None and asked.kind == "graded":
        read_template("grade", Path(asked.judge_prompt))


def benchmark(
    session: Session, number: int, student: Step, held_out: Step, evaluated: Step, *, baseline: Step | None = None
) -> Step | None:
    """The recipe's further benchmarks on this student; None where it asks for none."""
    recipe, name = session.recipe, f"student_{number}"
    if not asks_for_benchmarks(recipe):
        return None
    wanted = [e for e in recipe.evaluate if e.kind in _BENCHMARKS]
    files = file_names(wanted)
    sources = [source for e in wanted for source in (e.prompts, e.judge_prompt, e.task_files) if source]
    marks = [source_mark(s) for s in sources]

    def work(step: Step, receipt: Receipt) -> None:
        bench = Bench(session, name, training.weights_of(student.folder), held_out, evaluated, step, baseline, receipt)
        receipt.notes["sources"] = dict(zip(sources, marks, strict=True))
        each = zip(wanted, files, strict=True)
        found = [result for e, file in each for result in _BENCHMARKS[e.kind](replace(bench, file=file), e)]
        receipt.made = receipt.rows_out = len(found)
        step.write(Result, found)

    place = f"round_{number}/{'10' if number == 0 else '07'}_benchmarks"
    settings = [[plain(e) for e in wanted], marks, recipe.seed, model_mark(session, "evaluator", "student"),
                *([files] if any(files) else [])]  # fmt: skip
    after = [student, held_out, evaluated, *([baseline] if baseline else [])]
    return session.step(place, work, version=1, settings=settings, after=after)


def _answers(bench: Bench, instructions: list[Instruction], kind: str) -> dict[str, str]:
    """The student's replies by id; what failed is counted in the receipt and is not there."""
    account = Receipt(bench.receipt.stage)
    rows = annotating.answer_as_student(
        instructions, bench.session.student(bench.weights), bench.session.sampling("student", "student"),
        author=bench.name, round=0, receipt=account,
    )  # fmt: skip
    found = {a.instruction_id: a.text for a in rows}
    bench.receipt.notes[bench.named(kind)] = {"asked": len(instructions), "failed": dict(account.dropped)}
    return found


def _result(bench: Bench, metric: str, estimate: Estimate, sentence: str, against: str | None = None) -> Result:
    said = f"{bench.file}: {sentence}" if bench.file and sentence else sentence
    return Result(
        bench.name, bench.named(metric), estimate.value, estimate.n, estimate.low, estimate.high, estimate.missing,
        against, said,
    )  # fmt: skip


def _interval(estimate: Estimate, digits: int = 1) -> str:
    if estimate.low is None or estimate.high is None:
        return "too few for an interval"
    return f"95 % CI {estimate.low:.{digits}f} to {estimate.high:.{digits}f}"


def _alpaca(bench: Bench, asked: Evaluation) -> list[Result]:
    """Against the outputs beside the prompts, by the public rule."""
    prompts = read_prompts(Path(asked.prompts))[: asked.sample]
    mine = _answers(bench, [p.instruction for p in prompts], "alpaca")
    pairs = [
        alpaca.Pair(p.instruction.text, p.reference, mine[p.instruction.id])
        for p in prompts
        if p.reference is not None and p.instruction.id in mine
    ]
    reference = next((p.author for p in prompts if p.author), "the reference")
    template = Path(asked.judge_prompt) if asked.judge_prompt else None
    judge = bench.session.caller("evaluator")
    times = [
        alpaca.live(
            pairs, judge, model=bench.name, reference=reference, prompt=template, repeat=repeat,
            stage=bench.receipt.stage,
        )
        for repeat in range(asked.repeats)
    ]  # fmt: skip
    score = alpaca.score(alpaca.mean_annotations([rows for rows, _ in times]), expected=len(prompts))
    rate = score.win_rate
    said = f"{bench.name} has an AlpacaEval win rate of {rate.value:.1f} % against {reference} ({_interval(rate)})"
    return [_result(bench, "alpaca_win_rate", rate, f"{said}; {times[0][1].note}", reference)]


def _graded(bench: Bench, asked: Evaluation) -> list[Result]:
    """The held-out answers graded beside the teacher's."""
    own, teacher = answers_of(bench.evaluated, "answers"), answers_of(bench.held_out, "answers")
    instructions = instructions_of(bench.held_out)[: asked.sample]
    questions = [
        mt_bench.Question(i.id, i.task or "all", (shown(i),), (teacher[i.id].text,) if i.id in teacher else ())
        for i in instructions
    ]
    given = [
        mt_bench_live.ModelAnswer(i.id, bench.name, (own[i.id].text,) if i.id in own else ()) for i in instructions
    ]
    template = Path(asked.judge_prompt) if asked.judge_prompt else None
    how = mt_bench_live.Grading(_grading(bench.session, asked.repeats), asked.repeats, references="given",
                                template=template)  # fmt: skip
    judge = bench.session.caller("evaluator")
    times = [
        mt_bench_live.grade(questions, given, judge, how=how, repeat=repeat, stage=bench.receipt.stage)
        for repeat in range(asked.repeats)
    ]
    grade = mt_bench.score_judgments(mt_bench_live.mean_judgments(times), questions).models[0].turn_1
    if grade is None:
        return []
    said = f"{bench.name}'s held-out answers are graded {grade.value:.2f} of 10 on average ({_interval(grade, 2)})"
    return [_result(bench, "grade", grade, said)]


def _grading(session: Session, repeats: int) -> Sampling:
    temperature = session.judging_temperature("evaluator", repeats)
    return Sampling(temperature, session.model("evaluator").top_p, mt_bench_live.GRADE_TOKENS)


def _following(bench: Bench, asked: Evaluation) -> list[Result]:
    prompts = instruction_following.read_prompts(Path(asked.prompts))[: asked.sample]
    instructions = [Instruction(p.text) for p in prompts]
    found = _answers(bench, instructions, "following")
    score = instruction_following.score_responses(prompts, {i.text: found[i.id] for i in instructions if i.id in found})
    strict = score.prompt_strict
    said = f"{bench.name} follows {strict.value:.1f} % of {strict.n} verifiable prompts strictly ({_interval(strict)})"
    return [_result(bench, "following_strict", strict, said), _result(bench, "following_loose", score.prompt_loose, "")]


def _exact(bench: Bench, asked: Evaluation) -> list[Result]:
    problems = answers.read_problems(Path(asked.prompts))[: asked.sample]
    instructions = [Instruction(p.question) for p in problems]
    found = _answers(bench, instructions, "exact")
    score = answers.score_answers(problems, {i.text: found[i.id] for i in instructions if i.id in found})
    right = score.accuracy
    said = f"{bench.name} answers {right.value:.1f} % of {right.n} exact problems right ({_interval(right)})"
    return [_result(bench, "exact_accuracy", right, said)]


def _choice(bench: Bench, asked: Evaluation) -> list[Result]:
    """Multiple choice, and beside student_0's whether training did harm (appendix E)."""
    bench.session.close_models()
    found = harness.evaluate(
        bench.weights, asked.tasks or harness.LEADERBOARD_SHOTS, limit=asked.sample, device=harness.device(),
        task_files=Path(asked.task_files) if asked.task_files else None,
    )  # fmt: skip
    rows = [ChoiceScore(s.task, s.metric, s.shots, s.accuracy.value, s.accuracy.n, s.standard_error) for s in found]
    bench.step.write(ChoiceScore, rows, "choice")
    earlier = [row.score() for row in bench.before.read(ChoiceScore, "choice")] if bench.before else []
    said = [c.sentence for c in harness.compare(earlier, found)] if earlier else ["" for _ in found]
    against = "student_0" if earlier else None
    return [
        _result(bench, f"{s.task}, {s.shots} shots, %", s.accuracy, f"{bench.name}: {text}" if text else "", against)
        for s, text in zip(found, said, strict=True)
    ]


_BENCHMARKS: dict[str, Callable[[Bench, Evaluation], list[Result]]] = {
    "alpaca": _alpaca,
    "graded": _graded,
    "following": _following,
    "exact": _exact,
    "choice": _choice,
}
