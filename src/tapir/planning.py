"""What a run would do, and how far one has come: `run --dry-run` and `status`. Nothing is sent or loaded."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from tapir.config import ROLES, Caps, Model, Recipe, Role, table_of
from tapir.config.stages import ROUND, ROUND_0, VERBS
from tapir.curriculum.canary import CANARIES
from tapir.curriculum.mixture import targets_for
from tapir.errors import DataError, RecipeError
from tapir.evaluation import instruction_following, prompt_sets
from tapir.evaluation.answers import read_problems
from tapir.evaluation.mt_bench_live import GRADE_TOKENS
from tapir.models.budget import NOTHING, Spend, Tariff, passed
from tapir.pipeline import distil
from tapir.prompts.judge import judge_messages
from tapir.prompts.tasks import classify_messages, expand_messages, refine_messages
from tapir.stages.seeds import load_pool
from tapir.steps.benchmarks import asks_for_benchmarks
from tapir.steps.labelling import MAX_LABEL_TOKENS
from tapir.steps.round_0 import held_out_instructions
from tapir.steps.rounds import MAX_REFINED_TOKENS
from tapir.store.rundir import RunDir, Step, fingerprint
from tapir.tasks import OTHERS, Taxonomy, load_taxonomy
from tapir.types import Instruction, Receipt
from tapir.wiring import Session, load_recipe

CHARS_PER_TOKEN = 3


def places(rounds: int) -> list[str]:
    """Every step that a run of so many rounds can have, in order."""
    found = [f"round_0/{n:02}_{stage}" for n, stage in enumerate(ROUND_0, 1)]
    for r in range(1, rounds + 1):
        found += [f"round_{r}/{n:02}_{stage.format(r=r)}" for n, stage in enumerate(ROUND, 1)]
    return found


def places_of(recipe: Recipe) -> list[str]:
    """Those that a run of this recipe has."""
    found = places(recipe.curriculum.rounds)
    return found if asks_for_benchmarks(recipe) else [p for p in found if not p.endswith("_benchmarks")]


def stage_name(said: str, recipe: Recipe) -> str:
    """The step's stage that `--until` means; stages may be named as verbs or as their table."""
    known = list(dict.fromkeys(place.split("_", 2)[2] for place in places_of(recipe)))
    name = VERBS.get(said, said)
    if name not in known:
        verbs = [verb for verb, table in VERBS.items() if table in known]
        raise RecipeError(f"--until {said}: this recipe has no such stage; choose among {', '.join([*verbs, *known])}")
    return name


def describe(recipe: Recipe) -> list[str]:
    """The resolved recipe, the rounds with α, and an upper bound of calls and tokens a stage."""
    lines = [yaml.safe_dump(recipe.model_dump(mode="json", exclude_unset=True), sort_keys=False).rstrip(), ""]
    pool = pool_size(recipe)
    lines.append(f"seed pool: {pool if pool is not None else 'not on this machine yet; sizes are unknown'}")
    shares = targets_for(_taxonomy(recipe).names, recipe.mix.targets)
    top = sorted(shares.items(), key=lambda item: -item[1])[:4]
    lines.append("target mix: " + ", ".join(f"{t} {s:.3f}" for t, s in top) + ", the others share the rest evenly")
    for r in range(1, recipe.curriculum.rounds + 1):
        lines.append(
            f"round {r}: alpha {recipe.curriculum.alpha(r):g}, at most {recipe.expand.per_round} grown, "
            f"{recipe.mix.size or 'as many rows as supply allows'} trained"
        )
    lines += ["", *cost_lines(recipe, pool)]
    return lines


def _taxonomy(recipe: Recipe) -> Taxonomy:
    return load_taxonomy(Path(recipe.taxonomy) if recipe.taxonomy else None)


def pool_size(recipe: Recipe) -> int | None:
    """How many seeds the recipe has; None for a hub data set of unknown size (`size_remedy` makes it known)."""
    seeds = recipe.seeds
    if not seeds.source.startswith("hub:"):
        return len(_pool(recipe))
    # A sample is one of rows, each of which is several instructions then.
    return None if seeds.turns == "each" else seeds.sample


def size_remedy(recipe: Recipe) -> str:
    """What makes the size of a hub data set known."""
    if recipe.seeds.turns == "each":
        return "save the data set as a file: with seeds.turns each its rows give several instructions"
    return "set seeds.sample"


def _pool(recipe: Recipe) -> list[Instruction]:
    """The seeds, where they are on this machine."""
    if recipe.seeds.source.startswith("hub:"):
        return []
    return load_pool(recipe.seeds, seed=recipe.seed, receipt=Receipt("seeds")).instructions


@dataclass(frozen=True, slots=True)
class _Bound:
    """At most so many calls of a role for one purpose, of so many tokens each."""

    what: str
    stage: str
    role: Role
    calls: int
    prompt: float
    reply: int


@dataclass(frozen=True, slots=True)
class _Asked:
    """What one step asks for one purpose, at most."""

    place: str
    bound: _Bound
    spend: Spend


@dataclass(frozen=True, slots=True)
class _Sizes:
    """How much there is to ask about, and how long prompts are."""

    pool: int
    held_out: int
    benchmarks: dict[str, int]
    """Calls of one student's benchmarks: its answers, and the evaluator's verdicts by kind."""
    unknown: tuple[str, ...]
    """Benchmarks whose file is not here."""
    prompt: dict[str, float]


def cost_lines(recipe: Recipe, pool: int | None) -> list[str]:
    """At most so many calls and tokens a stage and in all, money where prices are given; and the caps they pass."""
    # With no pool to look at it is still known who will be asked.
    sizes = _sizes(recipe, 1 if pool is None else pool)
    asked = list(_asked(recipe, sizes))
    _refuse_unreachable(recipe, {a.bound.role for a in asked})
    if pool is None:
        return [f"calls and cost cannot be bounded before the pool's size is known; {size_remedy(recipe)}"]
    lines = [f"{'at most':<26}{'calls':>9}{'prompt tokens':>15}{'reply tokens':>14}{'USD':>18}"]
    purposes: dict[str, Role] = {a.bound.what: a.bound.role for a in asked}
    for what, role in purposes.items():
        spend = sum((a.spend for a in asked if a.bound.what == what), NOTHING)
        price = recipe.models.resolved(role).price_per_million
        lines.append(_line(what, spend, f"{spend.usd:.2f}" if price else "-"))
    lines += [*_total(recipe, sizes, asked), *_caps_passed(recipe, asked)]
    lines.append("prompt tokens are reckoned at three characters each; `tapir run --limit 200` measures a small part")
    return lines


def _line(what: str, spend: Spend, usd: str) -> str:
    return f"{what:<26}{spend.calls:>9}{spend.prompt_tokens:>15}{spend.completion_tokens:>14}{usd:>18}"


def _total(recipe: Recipe, sizes: _Sizes, asked: Sequence[_Asked]) -> Iterator[str]:
    """The sum; what is missing from it is said."""
    models = {a.bound.role: recipe.models.resolved(a.bound.role) for a in asked}
    unpriced = [role for role, m in models.items() if m.kind == "openai" and m.price_per_million is None]
    spend = sum((a.spend for a in asked), NOTHING)
    usd = ("at least " if unpriced else "") + f"{spend.usd:.2f}"
    if not any(m.price_per_million for m in models.values()):
        usd = "-"
    yield _line("total, at least" if sizes.unknown else "total", spend, usd)
    if unpriced:
        yield f"no price is known for {', '.join(f'models.{role}' for role in unpriced)}; give price_per_million"
    if sizes.unknown:
        yield f"not in it: {', '.join(sizes.unknown)}, whose prompts are not on this machine"


def _caps_passed(recipe: Recipe, asked: Sequence[_Asked]) -> Iterator[str]:
    """A line for each cap that these bounds pass, the run's own and those of its stages."""
    budget = recipe.budget
    yield from _passed("budget", budget, asked)
    for name, caps in budget.per_stage.items():
        own = [a for a in asked if table_of(a.bound.stage) == table_of(name)]
        yield from _passed(f"budget.per_stage.{name}", caps, own)


def _passed(where: str, caps: Caps, asked: Sequence[_Asked]) -> Iterator[str]:
    total, seen = NOTHING, set[str]()
    for step in asked:
        total += step.spend
        for name, cap, _ in passed(caps, total):
            if name not in seen:
                seen.add(name)
                yield f"above {where}.{name} {cap:.12g}: at these bounds the run would stop in {step.place}"


def _asked(recipe: Recipe, sizes: _Sizes) -> Iterator[_Asked]:
    """The calls of every step, in the order of the run."""
    known = places_of(recipe)
    before: Sequence[_Bound] = [replace(b, calls=0) for b in _bounds(recipe, sizes, 0)]
    for number in range(recipe.curriculum.rounds + 1):
        now = _bounds(recipe, sizes, number)
        for bound, earlier in zip(now, before, strict=True):
            calls = bound.calls - earlier.calls
            if calls:
                place = next(p for p in known if p.startswith(f"round_{number}/") and p.endswith(f"_{bound.stage}"))
                tariff = Tariff(_answering(recipe, bound, number).price_per_million)
                yield _Asked(
                    place, bound, replace(tariff.spend(round(calls * bound.prompt), calls * bound.reply), calls=calls)
                )
        before = now


def _answering(recipe: Recipe, bound: _Bound, number: int) -> Model:
    """The model that is asked in this round: of a served student the endpoints, as long as it is student_0."""
    model = recipe.models.resolved(bound.role)
    # Round 1 judges its grown rows by student_0, and trains only then.
    first = number == 0 or (number == 1 and bound.stage == "expanded")
    return model if first or bound.role != "student" else model.on_this_machine()


def _bounds(recipe: Recipe, sizes: _Sizes, rounds: int) -> list[_Bound]:
    """What round 0 and so many rounds ask; within a round in its order, and always the same lines."""
    judge, pool, size = recipe.judge, sizes.pool, sizes.prompt
    students = rounds + 1
    grown = rounds * min(recipe.expand.per_round, pool * recipe.expand.per_seed)
    votes = 2 * judge.samples * (1 + judge.retries)
    judged = min(pool, judge.max_pairs or pool) * votes
    compared = min(sizes.held_out, judge.max_pairs or sizes.held_out) * votes
    rivals = {e.against for e in recipe.evaluate if e.kind == "pairwise"}
    # student_0 has no verdicts beside itself, and has some beside the teacher.
    comparisons = rounds * ("student_0" in rivals) + students * ("teacher" in rivals)
    canaries = judge.canary if rounds and "student_0" in rivals else 0
    sampled = 0 if recipe.difficulty.rescore == "off" else recipe.difficulty.rescore_sample
    # To move rows, as many hard seeds again. student_0's difficulty is known but for the held-out instructions.
    seeds_again = rounds * min(pool, sampled * (2 if recipe.difficulty.rescore == "move" else 1))
    judged_again = seeds_again + students * min(sizes.held_out, sampled)
    labelled = 0 if recipe.classify.by == "keep" else pool * (1 + recipe.classify.retries)
    answered = 0 if recipe.seeds.annotate == "keep" else 2 * pool
    more = pool * (recipe.difficulty.answers - 1) if recipe.difficulty.kind == "verifier" else 0
    checked = grown if recipe.expand.check_difficulty else 0
    refined = pool + grown if rounds else 0
    chosen = refined if recipe.refine.keep_better else 0
    most: dict[Role, int] = {role: recipe.models.resolved(role).max_answer_tokens for role in ROLES}

    def answers(what: str, stage: str, role: Role, calls: int, prompts: float = 1) -> _Bound:
        return _Bound(what, stage, role, calls, prompts * size["answer"], most[role])

    def verdicts(what: str, stage: str, role: Role, calls: int, reply: int | None = None) -> _Bound:
        return _Bound(what, stage, role, calls, size["judge"], most[role] if reply is None else reply)

    return [
        _Bound("classify", "classified", "teacher", labelled, size["classify"], MAX_LABEL_TOKENS),
        answers("annotate", "teacher_answers", "teacher", answered),
        answers("student's answers", "student_answers", "student", pool),
        verdicts("judge", "verdicts", "judge", judged if recipe.difficulty.kind == "mfd" else 0),
        answers("answers to be checked", "hard", "student", more),
        answers("held-out answers", "held_out", "teacher", sizes.held_out),
        _Bound("expand", "expanded", "teacher", grown * recipe.expand.max_tries, size["expand"], most["teacher"]),
        answers("student's to grown rows", "expanded", "student", checked),
        answers("answers to grown rows", "expanded", "teacher", 2 * checked),
        verdicts("grown rows judged", "expanded", "judge", checked * votes),
        _Bound("refine", "refined", "refiner", refined, size["refine"], MAX_REFINED_TOKENS),
        answers("enhanced answers", "enhanced_answers", "teacher", 2 * refined, prompts=2),
        verdicts("direct or enhanced", "enhanced_answers", "judge", chosen * votes),
        answers("student's held-out", "evaluation", "student", students * sizes.held_out),
        answers("student's, re-scoring", "evaluation", "student", seeds_again),
        verdicts("evaluate", "evaluation", "evaluator", compared * comparisons),
        verdicts("null canaries", "evaluation", "evaluator", canaries * CANARIES * votes),
        verdicts("re-scoring", "evaluation", "judge", judged_again * votes),
        answers("student's, benchmarks", "benchmarks", "student", students * sizes.benchmarks["answers"]),
        verdicts("benchmarks, preferred", "benchmarks", "evaluator", students * sizes.benchmarks["alpaca"], 1),
        verdicts("benchmarks, graded", "benchmarks", "evaluator", students * sizes.benchmarks["graded"], GRADE_TOKENS),
    ]


def _sizes(recipe: Recipe, pool: int) -> _Sizes:
    held_out, unknown = held_out_size(recipe), list[str]()
    calls = {"answers": 0, "alpaca": 0, "graded": 0}
    for asked in recipe.evaluate:
        if asked.kind == "graded":
            calls["graded"] += asked.repeats * min(held_out, asked.sample or held_out)
        if asked.kind not in _READERS:
            continue
        path = Path(asked.prompts)
        if not path.is_file():
            unknown.append(asked.kind)
            continue
        rows = len(_READERS[asked.kind](path)[: asked.sample])
        calls["answers"] += rows
        calls["alpaca"] += asked.repeats * rows if asked.kind == "alpaca" else 0
    return _Sizes(pool, held_out, calls, tuple(unknown), _prompt_sizes(recipe))


_READERS: dict[str, Callable[[Path], Sequence[object]]] = {
    "alpaca": prompt_sets.read_prompts,
    "following": instruction_following.read_prompts,
    "exact": read_problems,
}
"""Benchmarks on files of their own."""


def _refuse_unreachable(recipe: Recipe, roles: set[Role]) -> None:
    """As the run would once it came to it, hours later perhaps."""
    from tapir.models.connection import identity_of, urls_of

    for role in ROLES:
        model = recipe.models.resolved(role)
        if role not in roles or model.kind != "openai" or (role == "student" and recipe.ledger.replay):
            continue
        try:
            # A replay has to know the endpoint by name alone, and a student by its weights.
            (identity_of if recipe.ledger.replay else urls_of)(model)
        except RecipeError as error:
            raise RecipeError(f"models.{role}: {error}") from None


def _prompt_sizes(recipe: Recipe) -> dict[str, float]:
    """Mean tokens of each kind of prompt, reckoned on the first seeds; answers to be judged count at their longest."""
    taxonomy = _taxonomy(recipe)
    rows = _pool(recipe)[:50] or [Instruction("x" * 300)]
    # A pool may carry labels of another taxonomy; a run replaces them.
    labelled = [(i, taxonomy.read_label(i.task or "") or OTHERS) for i in rows]
    longest = "x" * (CHARS_PER_TOKEN * recipe.models.resolved("teacher").max_answer_tokens)
    longest = longest[: recipe.judge.max_answer_chars]
    kinds = {
        "answer": [i.messages() for i in rows],
        "classify": [classify_messages(i, taxonomy) for i in rows],
        "judge": [judge_messages(i, longest, longest)[0] for i in rows],
        "expand": [expand_messages(i, taxonomy[label]) for i, label in labelled],
        "refine": [refine_messages(i, taxonomy[label]) for i, label in labelled],
    }
    return {
        kind: sum(len(m.content) for prompt in prompts for m in prompt) / len(prompts) / CHARS_PER_TOKEN
        for kind, prompts in kinds.items()
    }


def held_out_size(recipe: Recipe) -> int:
    """Instructions of all the recipe's evaluations on held-out ones, each once."""
    return len(held_out_instructions(recipe))


class _LookOnly(Session):
    """A session that works out every step's fingerprint and does none."""

    found: list[dict[str, Any]]

    def step(
        self, place: str, work: Any, *, version: int, settings: Any = None, after: Any = (), total: Any = None
    ) -> Step:
        step = self.run.step(place, fingerprint(place, version, settings, [s.fingerprint for s in after]))
        receipt = step.receipt() or {}
        self.found.append(
            {
                "place": place,
                "state": step.state,
                "rows": receipt.get("rows_out", 0),
                "seconds": receipt.get("seconds", 0.0),
            }
        )
        return step


def status(run: RunDir) -> list[dict[str, Any]]:
    """Every step with its state: done, stale (its recipe, input or code changed since) or missing."""
    if not run.recipe_path.exists():
        raise DataError(f"{run.root}: it has no recipe.yaml; `tapir run` writes it")
    session = _LookOnly.__new__(_LookOnly)
    session.recipe, session.run, session.until, session.found = load_recipe(run.recipe_path), run, None, []
    distil(session)
    return session.found


def status_where_called(run: RunDir) -> list[dict[str, Any]]:
    """The same from anywhere: seen from here, files that the recipe names might be others, or none.

    The working directory is the whole process's: not for a thread beside others.
    """
    whole = RunDir(run.root.absolute())
    with contextlib.chdir(run.called_from()):
        return status(whole)


def unfinished(run: RunDir) -> bool:
    """Whether a step is still missing or stale."""
    return any(row["state"] != "done" for row in status(run))
