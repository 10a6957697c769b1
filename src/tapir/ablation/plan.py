"""What an ablation does: the settings it tries, the arms it trains, each one's recipe and rows, and what they cost.

Nothing is sent, loaded or trained here.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from tapir.config import Evaluation, Form, Part, Recipe, rewritten
from tapir.errors import RecipeError
from tapir.planning import cost_lines, held_out_size, pool_size
from tapir.store.rundir import RunDir
from tapir.strategies import direct_answers_by, strategy

PAPER_POOL, PAPER_FULL = 52, 70
"""Thousands of rows in Table 5: the whole pool, and the full method."""

NOTE = "arm.json"
"""Written last into an arm's run: what it was, for the table."""

LOADING_S = 5.0
"""Loading and saving around a training of a small model, for the estimate."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One point of the sweep's grid, with the recipe that its round 0 runs by."""

    name: str
    recipe: Recipe

    def base(self, root: Path) -> Path:
        """Where its round 0 is done."""
        return root / "base" / self.name


@dataclass(frozen=True, slots=True)
class Arm:
    """One strategy trained once."""

    form: Form
    cell: Cell
    variant: str
    seed: int

    @property
    def name(self) -> str:
        parts = [self.form, *([] if self.cell.name == "recipe" else [self.cell.name]), self.variant]
        return f"{' · '.join(parts)}, seed {self.seed}"

    def folder(self, root: Path) -> Path:
        return root / self.form / self.cell.name / f"{self.variant}-{self.seed}"

    def wanted(self, pool: int) -> int:
        """Rows it is given, by Table 5's proportions, of a pool with so many annotated rows."""
        ablate, thousands = self.cell.recipe.ablate, strategy(self.variant).thousands
        unit = pool / PAPER_POOL if ablate.rows is None else ablate.rows / PAPER_FULL
        return max(ablate.at_least, round(unit * thousands))

    def recipe(self, pool: int, tokens: int | None) -> Recipe:
        """What its run goes by; `tokens` are those of student_0's training, if it was trained."""
        whole = self.cell.recipe
        arranged = strategy(self.variant).arrange(whole, self.wanted(pool))
        arranged = rewritten(arranged, f"curriculum.seed={self.seed}")
        if self.form == "rows":
            return arranged
        budget = whole.ablate.tokens or tokens
        if budget is None:
            raise RecipeError("student_0 was not trained, so its tokens cannot be the measure; set ablate.tokens")
        return rewritten(arranged, f"curriculum.tokens={budget}")


def cells_of(recipe: Recipe) -> list[Cell]:
    """The grid of the sweep; one cell named `recipe` where nothing is swept."""
    if recipe.difficulty.rescore != "off":
        raise RecipeError("difficulty.rescore looks at every round's student, an ablation at the last; set it to off")
    if not recipe.evaluate:
        raise RecipeError("the recipe evaluates nothing, so there is nothing to compare; give `evaluate` a kind")
    sweep = {full_key(key): values for key, values in recipe.ablate.sweep.items()}
    bare = rewritten(recipe, "ablate.sweep={}")
    cells: list[Cell] = []
    for values in itertools.product(*sweep.values()):
        chosen = dict(zip(sweep, values, strict=True))
        said = ",".join(f"{key.split('.')[-1]}={value}" for key, value in chosen.items()) or "recipe"
        name = re.sub(r"[^\w.,=+-]", "_", said)
        # JSON is YAML, and says what is a number and what a word.
        cells.append(Cell(name, rewritten(bare, *(f"{key}={json.dumps(value)}" for key, value in chosen.items()))))
    return cells


def full_key(said: str) -> str:
    """The recipe key that a short one means: `delta` is `difficulty.delta`."""
    known = list(_keys(Recipe))
    found = [said] if said in known else [key for key in known if key.endswith(f".{said}")]
    if said.split(".")[0] == "ablate" or not found:
        raise RecipeError(f"--sweep {said}: no such key of the recipe; write it in full, as difficulty.delta")
    if len(found) > 1:
        raise RecipeError(f"--sweep {said}: it could be {' or '.join(found)}; write it in full")
    return found[0]


def _keys(part: type[Part], before: str = "") -> Iterator[str]:
    for name, field in part.model_fields.items():
        yield before + name
        kinds = [k for k in (field.annotation, *get_args(field.annotation)) if isinstance(k, type)]
        for kind in kinds:
            if issubclass(kind, Part):
                yield from _keys(kind, f"{before}{name}.")


def arms_of(recipe: Recipe, cells: list[Cell]) -> list[Arm]:
    """Every arm, seed by seed: whoever stops an ablation early has the same seeds of all variants."""
    ablate = recipe.ablate
    for name in ablate.variants:
        strategy(name)
    return [
        Arm(form, cell, variant, seed)
        for form in ablate.forms
        for cell in cells
        for seed in ablate.seeds
        for variant in ablate.variants
    ]


def describe(recipe: Recipe, root: Path) -> Iterator[str]:
    """What will be done and what it costs, before anything is."""
    cells = cells_of(recipe)
    arms, pool = arms_of(recipe, cells), pool_size(recipe)
    ablate = recipe.ablate
    yield (
        f"ablation of {recipe.name}: {len(ablate.variants)} variants × {len(ablate.seeds)} training seeds × "
        f"{len(ablate.forms)} forms × {len(cells)} settings = {len(arms)} arms, in {root}"
    )
    yield f"{'variant':<18}{'starts from':<13}{'answers by':<30}{'rows':>7}  what it is"
    for variant in ablate.variants:
        one = strategy(variant)
        rows = "?" if pool is None else str(Arm("rows", cells[0], variant, 0).wanted(pool))
        yield f"{variant:<18}{one.starts_from:<13}{one.answers_by(recipe):<30}{rows:>7}  {one.says}"
    yield "rows are upper bounds: no row is trained twice in a round, and annotation may drop some of the pool"
    yield ""
    yield (
        "once for all arms, by `full` (single_round and direct_expansion may grow as many rows again, a sweep pays for "
        "what its settings change):"
    )
    yield from cost_lines(recipe, pool)
    yield f"each arm: {held_out_size(recipe)} answers of its student, measured by {_kinds(recipe)}"
    seconds = estimate_s(arms, root)
    if seconds is None:
        yield "time: known once round 0 is there; `--dry-run` tells it then"
    elif seconds:
        yield f"time left, by what student_0 took here: about {seconds / 60:.0f} minutes of training and evaluation"
    else:
        yield "time left: none, every arm is done"


def _kinds(recipe: Recipe) -> str:
    return ", ".join(dict.fromkeys(e.kind for e in recipe.evaluate))


def estimate_s(arms: list[Arm], root: Path) -> float | None:
    """Seconds that the arms still take one after another, by student_0's receipts; None where there are none yet.

    Rows are taken for equally long; what the teacher still has to write is not in it.
    """
    total = 0.0
    for arm in arms:
        base, recipe = RunDir(arm.cell.base(root)).receipts(), arm.cell.recipe
        trained, evaluated = base.get("round_0/04_student_0"), base.get("round_0/09_evaluation")
        answered = base.get("round_0/03_teacher_answers")
        if not trained or not evaluated or not answered or not trained["rows_out"]:
            return None
        if (arm.folder(root) / NOTE).exists():
            continue
        share = arm.wanted(answered["rows_out"]) / trained["rows_out"]
        if arm.form == "tokens":
            share = recipe.ablate.tokens / trained["notes"]["trained_tokens"] if recipe.ablate.tokens else 1.0
        rounds = recipe.curriculum.rounds if arm.variant == "full" else 1
        total += share * trained["seconds"] + evaluated["seconds"] + rounds * LOADING_S
    return total


def note_of(arm: Arm, recipe: Recipe, pool: int, rounds: int) -> Mapping[str, Any]:
    """What the table says of an arm beside its numbers."""
    one = strategy(arm.variant)
    return {
        "form": arm.form,
        "cell": arm.cell.name,
        "variant": arm.variant,
        "seed": arm.seed,
        "says": one.says,
        "starts_from": one.starts_from if recipe.student_0 == "train" else "base (student_0 is the base)",
        "answers_by": one.answers_by(recipe),
        "student_0_by": direct_answers_by(recipe) if recipe.student_0 == "train" else "-",
        "wanted": arm.wanted(pool),
        "rounds": rounds,
        "win_rate_by": "verdicts" if any(_beside_student_0(e) for e in recipe.evaluate) else "checks",
    }


def _beside_student_0(evaluation: Evaluation) -> bool:
    return evaluation.kind == "pairwise" and evaluation.against == "student_0"
