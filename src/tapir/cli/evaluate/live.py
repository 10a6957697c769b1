"""What the live evaluations share: the models and the judge opened, answers fetched, and where numbers come from.

Every call goes through the recipe's ledger, so that a repeated or interrupted evaluation pays for nothing twice and the
budget holds. Scoring is `tapir.evaluation`'s.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from importlib import resources
from pathlib import Path

from tapir.cli.evaluate.options import Asked
from tapir.cli.evaluate.who import Who, distinct, named, read_who
from tapir.cli.terminal import TerminalProgress
from tapir.config import Model, Recipe, override, parse_recipe
from tapir.errors import DataError, RecipeError
from tapir.evaluation.prompt_sets import Prompt, read_answers, read_prompts
from tapir.evaluation.provenance import Provenance, sha256_of, stamp
from tapir.evaluation.rows import Row
from tapir.models.calls import Sampling
from tapir.models.engine import Caller
from tapir.models.resolve import resolve
from tapir.prompts.judge import SHIPPED
from tapir.stages import annotate as annotating
from tapir.stages import judge as judging
from tapir.store.rundir import RunDir
from tapir.trust import pairs_of, require_trust_in
from tapir.types import Answer, Instruction, Receipt, Verdict
from tapir.wiring import STUDENT_TEMPERATURE, Session, load_recipe, open_tools

STAGE = "evaluation"
"""As in a run: `budget.per_stage.evaluation` caps both."""


@dataclass
class Bench:
    """A live evaluation under way."""

    session: Session
    asked: Asked
    contenders: list[Who]
    recipe: Recipe | None = None
    """The one given, or the run's; None where there is only the default around a judge."""
    models: dict[str, str] = field(default_factory=lambda: dict[str, str]())
    """For the result: what answered, by name."""
    hashes: dict[str, str] = field(default_factory=lambda: dict[str, str]())
    samplings: dict[str, Row] = field(default_factory=lambda: dict[str, Row]())
    judge_name: str | None = None

    def contender(self, text: str | None) -> str | None:
        """The name of the contender that `--against` means; to be asked for before anything is paid for."""
        return None if text is None else named(text, self.contenders, self.asked.models)

    def prompts(self, path: Path | None) -> list[Prompt]:
        """The prompts of a file, or the held-out ones of the first contender's run."""
        run = next((w.run for w in self.contenders if w.run is not None), None)
        if path is None and run is None:
            raise RecipeError("say which prompts with --prompts; only a run's students have held-out ones of their own")
        found = read_prompts(path) if path is not None else held_out(run) if run is not None else []
        return found[: self.asked.live.limit]

    def sampling(self, who: Who) -> Sampling:
        """How a contender's answers are drawn."""
        assert who.model is not None
        own = STUDENT_TEMPERATURE if who.model.temperature is None else who.model.temperature
        temperature = own if self.asked.live.temperature is None else self.asked.live.temperature
        return Sampling(temperature, who.model.top_p, self.asked.live.max_answer_tokens or who.model.max_answer_tokens)

    def open(self, who: Who) -> Caller:
        """A contender's live model, noted for the result."""
        assert who.model is not None
        if who.model.kind == "local":
            self.hashes[who.name] = self.session.weights_hash(resolve(who.model))
        caller = self.session.open(who.model)
        self.models[who.name] = caller.identity
        self.samplings[who.name] = _plain(self.sampling(who))
        return caller

    def note_file(self, who: Who) -> None:
        """A file of stored answers, noted for the result."""
        assert who.stored is not None
        self.models[who.name] = f"file {sha256_of(who.stored)}"

    def answers(self, who: Who, instructions: Sequence[Instruction]) -> dict[str, str]:
        """Answers by instruction id; one that failed, or is not in the file, is not there."""
        if who.stored is not None:
            self.note_file(who)
            given = read_answers(who.stored)
            found = {i.id: given[i.id] for i in instructions if i.id in given}
            if not found:
                raise DataError(
                    f"{who.stored}: no answer in it belongs to a prompt; they are matched by the prompt's text"
                )
            return found
        rows = annotating.answer_as_student(
            list(instructions), self.open(who), self.sampling(who), author=who.name, round=0, receipt=Receipt(STAGE)
        )
        return {a.instruction_id: a.text for a in rows}

    def others(self, text: str | None, prompts: Sequence[Prompt]) -> tuple[str, dict[str, str]]:
        """Name and answers of what the contenders are compared with: WHO, or by default the prompts' references.

        Asked for before the contenders' own answers: a mistyped WHO, or missing references, must cost nothing.
        """
        if text is None:
            found = {p.instruction.id: p.reference for p in prompts if p.reference is not None}
            if not found:
                raise DataError("the prompts have no reference answers; say whom to compare with")
            return next((p.author for p in prompts if p.author), "reference"), found
        who = read_who(text, self.recipe, self.asked.live.key_env)
        taken = {w.name for w in self.contenders}
        who = replace(who, name=text) if who.name in taken else who
        require_trust_in(pairs_of([who.model] if who.model else []), "this evaluation", confirmed=self.asked.live.trust)
        return who.name, self.answers(who, [p.instruction for p in prompts])

    def judge(self) -> Caller:
        """The live judge. Opened after the answers are there: a local judge takes the students' memory."""
        caller = self.session.open(self.session.model("evaluator"))
        self.judge_name = caller.identity
        return caller

    def judging(self, max_tokens: int | None = None) -> Sampling:
        """How the judge's replies are drawn."""
        model = self.session.model("evaluator")
        own = self.session.judging_temperature("evaluator", self.asked.judged.repeats)
        temperature = own if self.asked.judged.judge_temperature is None else self.asked.judged.judge_temperature
        return self.judged_with(Sampling(temperature, model.top_p, max_tokens or model.max_answer_tokens))

    def judged_with(self, sampling: Sampling) -> Sampling:
        """The same, noted for the result."""
        self.samplings["judge"] = _plain(sampling) | {"repeats": self.asked.judged.repeats}
        return sampling

    def verdicts(
        self, name: str, prompts: Sequence[Prompt], mine: dict[str, str], theirs: dict[str, str]
    ) -> list[Verdict]:
        """Verdicts in both orders on all pairs that have both answers; `theirs` stands in the teacher's place."""
        pairs = [
            judging.Pair(i, name, mine[i.id], theirs[i.id])
            for i in (p.instruction for p in prompts)
            if i.id in mine and i.id in theirs
        ]
        judge = self.judge()
        return list(judging.judge(pairs, judge, self._plan(), receipt=Receipt(STAGE)))

    def _plan(self) -> judging.JudgePlan:
        plan = self.session.judge_plan("evaluator")
        drawn = replace(plan.sampling, temperature=self.judging().temperature)
        template = self.asked.judged.judge_prompt
        return replace(
            plan,
            sampling=self.judged_with(drawn),
            samples=self.asked.judged.repeats,
            # What is missing is refused with the result, where the user may allow it.
            max_unscored=1.0,
            max_pairs=None,
            adaptive_delta=None,
            template=template.read_text(encoding="utf-8") if template else plan.template,
        )

    def pairwise_prompt(self) -> Path:
        """The file of the prompt by which pairs are judged."""
        given = self.asked.judged.judge_prompt or self.session.recipe.judge.template
        return Path(given) if given else shipped(SHIPPED[judging.form_of(self.session.judge_plan("evaluator"))])

    def stamp(
        self, benchmark: str, n: int, missing: int, questions: Iterable[str], inputs: dict[str, Path | None],
        prompt: Path | None = None,
    ) -> Provenance:  # fmt: skip
        """Where this evaluation's numbers come from."""
        only = self.hashes.get(self.contenders[0].name) if len(self.contenders) == 1 else None
        return stamp(
            benchmark, n, missing, questions, inputs, judge=self.judge_name, prompt=prompt, model_sha256=only,
            sampling=dict(self.samplings), models=self.models,
        )  # fmt: skip


def held_out(run: RunDir) -> list[Prompt]:
    """A run's held-out instructions with the teacher's answers as references."""
    step = run.step("round_0/08_held_out", "")
    references = {a.instruction_id: a.text for a in step.read(Answer, "answers")}
    return [Prompt(i, i.task or "all", references.get(i.id), "teacher") for i in step.read(Instruction)]


def shipped(prompt: str) -> Path:
    """A prompt file of ours."""
    return Path(str(resources.files("tapir.prompts") / prompt))


@contextmanager
def open_bench(asked: Asked, *, judged: bool = True) -> Generator[Bench]:
    """The models named, with the ledger and the judge of the recipe named, or of the first model's run."""
    recipe = load_recipe(asked.live.recipe, asked.live.sets) if asked.live.recipe else None
    contenders = distinct([read_who(text, recipe, asked.live.key_env) for text in asked.models], asked.models)
    run = next((w.run for w in contenders if w.run is not None), None)
    if recipe is None and run is not None:
        recipe = load_recipe(run.recipe_path, asked.live.sets)
    judge = read_who(asked.judged.judge, recipe, asked.judged.judge_key_env).model if asked.judged.judge else None
    if judged and recipe is None and judge is None:
        raise RecipeError("say who judges with --judge, or give a --recipe with an evaluator")
    used = _with_judge(recipe, judge, asked.live.sets)
    asking = [w.model for w in contenders if w.model] + ([used.models.resolved("evaluator")] if judged else [])
    require_trust_in(pairs_of(asking), "this evaluation", confirmed=asked.live.trust)
    root = run.root if run is not None and asked.live.recipe is None else Path(used.name)
    with open_tools(used, root) as session:
        session.progress = TerminalProgress()
        for model in asking:
            if model.kind == "local":
                # They are opened in turn, the judge last: by then a mistyped one would have cost the others' answers.
                resolve(model, progress=session.progress.fetching)
        yield Bench(session, asked, contenders, recipe)
        usage = session.usage
        cost = f", {usage.cost_usd:.4f} USD" if usage.cost_usd else ""
        print(f"{usage.calls} calls, {usage.cached} from the ledger{cost}", file=sys.stderr)


def _with_judge(recipe: Recipe | None, judge: Model | None, sets: Sequence[str]) -> Recipe:
    """The recipe with this evaluator; without a recipe, defaults around it, to which `--set` applies."""
    if recipe is None:
        teacher = (judge or Model(kind="scripted")).model_dump(mode="json", exclude_unset=True)
        bare = {"name": "evaluate", "models": {"teacher": teacher, "student": {"kind": "local"}}}
        return parse_recipe(override(bare, tuple(sets)), where="--set")
    if judge is None:
        return recipe
    return recipe.model_copy(update={"models": recipe.models.model_copy(update={"evaluator": judge})})


def _plain(sampling: Sampling) -> Row:
    return {name: asdict(sampling)[name] for name in ("temperature", "top_p", "max_tokens")}
