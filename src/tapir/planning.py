"""What a run would do, and how far one has come: `run --dry-run` and `status`. Nothing is sent or loaded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tapir.config import Recipe, Role, Seeds
from tapir.config.stages import ROUND, ROUND_0, VERBS
from tapir.curriculum.canary import CANARIES
from tapir.curriculum.mixture import targets_for
from tapir.errors import DataError, RecipeError
from tapir.pipeline import distil
from tapir.prompts.judge import judge_messages
from tapir.prompts.tasks import classify_messages, expand_messages, refine_messages
from tapir.stages.seeds import load_pool
from tapir.steps.rounds import MAX_REFINED_TOKENS
from tapir.store.rundir import RunDir, Step, fingerprint
from tapir.tasks import OTHERS, Taxonomy, load_taxonomy
from tapir.types import Instruction, Receipt
from tapir.wiring import Session, load_recipe

CHARS_PER_TOKEN = 3


def places(rounds: int) -> list[str]:
    """Every step of a run, in order."""
    found = [f"round_0/{n:02}_{stage}" for n, stage in enumerate(ROUND_0, 1)]
    for r in range(1, rounds + 1):
        found += [f"round_{r}/{n:02}_{stage.format(r=r)}" for n, stage in enumerate(ROUND, 1)]
    return found


def stage_name(said: str, rounds: int) -> str:
    """The step's stage that `--until` means; stages may be named as verbs or as their table."""
    known = {place.split("_", 2)[2]: None for place in places(rounds)}
    name = VERBS.get(said, said)
    if name not in known:
        raise RecipeError(f"--until {said}: no such stage; choose among {', '.join([*VERBS, *known])}")
    return name


def describe(recipe: Recipe) -> list[str]:
    """The resolved recipe, the rounds with α, and an upper bound of calls and tokens a stage."""
    lines = [yaml.safe_dump(recipe.model_dump(mode="json", exclude_defaults=True), sort_keys=False).rstrip(), ""]
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
    """How many seeds the recipe has; None for a hub data set of unknown size."""
    return recipe.seeds.sample if recipe.seeds.source.startswith("hub:") else len(_pool(recipe))


def _pool(recipe: Recipe) -> list[Instruction]:
    """The seeds, where they are on this machine."""
    if recipe.seeds.source.startswith("hub:"):
        return []
    return load_pool(recipe.seeds, seed=recipe.seed, receipt=Receipt("seeds")).instructions


@dataclass(frozen=True, slots=True)
class _Bound:
    """At most so many calls of a role, of so many tokens each."""

    what: str
    role: Role
    calls: int
    prompt: float
    reply: int


def cost_lines(recipe: Recipe, pool: int | None) -> list[str]:
    """At most so many calls and tokens a stage; money where prices are given."""
    if pool is None:
        return ["calls and cost cannot be bounded before the pool's size is known; set seeds.sample"]
    lines = [f"{'at most':<24}{'calls':>9}{'prompt tokens':>15}{'reply tokens':>14}{'USD':>11}"]
    for bound in _bounds(recipe, pool):
        price = recipe.models.resolved(bound.role).price_per_million
        prompt, reply = round(bound.calls * bound.prompt), bound.calls * bound.reply
        usd = f"{(prompt * price.prompt + reply * price.completion) / 1e6:.2f}" if price else "-"
        lines.append(f"{bound.what:<24}{bound.calls:>9}{prompt:>15}{reply:>14}{usd:>11}")
    lines.append("prompt tokens are reckoned at three characters each; `tapir run --limit 200` measures a small part")
    return lines


def _bounds(recipe: Recipe, pool: int) -> list[_Bound]:
    judge, rounds = recipe.judge, recipe.curriculum.rounds
    grown = min(recipe.expand.per_round, pool * recipe.expand.per_seed)
    held_out = held_out_size(recipe)
    votes = 2 * judge.samples * (1 + judge.retries)
    judged = min(pool, judge.max_pairs or pool) * votes
    canaries = judge.canary
    compared = min(held_out, judge.max_pairs or held_out) * votes
    rivals = {e.against for e in recipe.evaluate if e.kind == "pairwise"}
    # student_0 has no verdicts beside itself, and has some beside the teacher.
    comparisons = rounds * ("student_0" in rivals) + (rounds + 1) * ("teacher" in rivals)
    if "student_0" not in rivals:
        canaries = 0
    looked_at_again = 0 if recipe.difficulty.rescore == "off" else (rounds + 1) * 2 * recipe.difficulty.rescore_sample
    labelled = 0 if recipe.classify.by == "keep" else pool * (1 + recipe.classify.retries)
    answered = 0 if recipe.seeds.annotate == "keep" else 2 * pool
    answer, verdict = (recipe.models.resolved(r).max_answer_tokens for r in ("teacher", "judge"))
    checked = grown * rounds if recipe.expand.check_difficulty else 0
    chosen = pool + grown * rounds if recipe.refine.keep_better else 0
    size = _prompt_sizes(recipe)
    return [
        _Bound("classify", "teacher", labelled, size["classify"], 80),
        _Bound("annotate", "teacher", answered, size["answer"], answer),
        *_served(recipe, pool, held_out, grown, size["answer"]),
        _Bound("judge", "judge", judged if recipe.difficulty.kind == "mfd" else 0, size["judge"], verdict),
        _Bound("held-out answers", "teacher", held_out, size["answer"], answer),
        _Bound("expand", "teacher", grown * rounds * recipe.expand.max_tries, size["expand"], answer),
        _Bound("answers to grown rows", "teacher", 2 * checked, size["answer"], answer),
        _Bound("grown rows judged", "judge", checked * votes, size["judge"], verdict),
        _Bound("refine", "refiner", pool + grown * rounds, size["refine"], MAX_REFINED_TOKENS),
        _Bound("enhanced answers", "teacher", 2 * (pool + grown * rounds), 2 * size["answer"], answer),
        _Bound("direct or enhanced", "judge", chosen * votes, size["judge"], verdict),
        _Bound("evaluate", "evaluator", compared * comparisons, size["judge"], verdict),
        _Bound("null canaries", "evaluator", canaries * CANARIES * votes, size["judge"], verdict),
        _Bound("re-scoring", "judge", looked_at_again * votes, size["judge"], verdict),
    ]


def _served(recipe: Recipe, pool: int, held_out: int, grown: int, prompt: float) -> Iterator[_Bound]:
    """What endpoints are asked for student_0, if they serve it: round 1's grown rows too, where these are judged."""
    student, difficulty = recipe.models.resolved("student"), recipe.difficulty
    if student.weights is not None:
        tries = difficulty.answers if difficulty.kind == "verifier" else 1
        calls = pool * tries + held_out + grown * recipe.expand.check_difficulty
        yield _Bound("student_0's answers", "student", calls, prompt, student.max_answer_tokens)


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
    """Instructions of the largest of the recipe's evaluations."""
    sizes = []
    for evaluation in (e for e in recipe.evaluate if e.on_held_out):
        source = Seeds(source=evaluation.prompts, sample=evaluation.sample, near_duplicates=False)
        sizes.append(
            len(load_pool(source, seed=recipe.seed, receipt=Receipt("held_out"), split="held_out").instructions)
        )
    return max(sizes, default=0)


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


def unfinished(run: RunDir) -> bool:
    """Whether a step is still missing or stale."""
    return any(row["state"] != "done" for row in status(run))
