"""Arms, their rows and recipes, and the sweep's grid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tapir.ablation.plan import Arm, arms_of, cells_of, full_key
from tapir.cli.ablate import with_options
from tapir.config import Recipe, parse_recipe
from tapir.errors import RecipeError

MODELS = {"teacher": {"kind": "scripted"}, "student": {"kind": "local", "model": "somewhere"}}


def recipe(**parts: Any) -> Recipe:
    return parse_recipe({"models": MODELS, "evaluate": [{"kind": "verified"}], **parts})


def arm(given: Recipe, variant: str, form: str = "rows") -> Arm:
    return Arm(form, cells_of(given)[0], variant, 3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("variant", "rows"), [("full", 70_000), ("single_round", 70_000), ("direct_expansion", 70_000),
                          ("seed_refined", 11_000), ("seed", 11_000), ("pool", 52_000), ("random", 11_000)]
)  # fmt: skip
def test_a_pool_of_52k_gives_the_rows_of_table_5(variant: str, rows: int):
    assert arm(recipe(), variant).wanted(52_000) == rows


def test_rows_of_a_70k_variant_scale_all_and_a_floor_lifts_the_small_ones():
    given = recipe(ablate={"rows": 192, "at_least": 128})
    # 192 · 52/70 = 142.6, and 192 · 11/70 = 30.2, which the floor lifts.
    assert [arm(given, v).wanted(384) for v in ("full", "pool", "seed")] == [192, 143, 128]


def test_an_arm_changes_the_rounds_and_nothing_of_round_0():
    given = recipe(curriculum={"rounds": 3}, expand={"per_round": 20})
    made = {v: arm(given, v).recipe(52, None) for v in ("full", "single_round", "seed")}
    assert {v: (r.curriculum.rounds, r.curriculum.alpha(1), r.mix.size) for v, r in made.items()} == {
        "full": (3, 0.3, 23), "single_round": (1, 1.0, 70), "seed": (1, 1.0, 11),
    }  # fmt: skip
    assert (made["single_round"].expand.per_round, made["seed"].curriculum.seed) == (60, 3)
    apart = {"curriculum", "mix", "expand", "ablate"}
    assert all(r.model_dump(exclude=apart) == given.model_dump(exclude=apart) for r in made.values())


def test_equal_tokens_are_student_0s_unless_the_recipe_says():
    assert arm(recipe(), "pool", "tokens").recipe(52, 1234).curriculum.tokens == 1234
    given = recipe(ablate={"tokens": 500})
    assert arm(given, "pool", "tokens").recipe(52, 1234).curriculum.tokens == 500
    with pytest.raises(RecipeError, match=r"set ablate\.tokens"):
        arm(recipe(), "pool", "tokens").recipe(52, None)


def test_a_sweep_is_a_grid_of_recipes():
    given = with_options(recipe(), None, None, "1,2", ["delta=1,2", "alpha_start=0.3,0.5"])
    cells = cells_of(given)
    assert [cell.name for cell in cells] == [
        "delta=1,alpha_start=0.3", "delta=1,alpha_start=0.5", "delta=2,alpha_start=0.3", "delta=2,alpha_start=0.5",
    ]  # fmt: skip
    assert [(c.recipe.difficulty.delta, c.recipe.curriculum.alpha_start) for c in cells][2] == (2, 0.3)
    assert len(arms_of(given, cells)) == 6 * 2 * 4


def test_a_setting_cannot_name_a_folder_elsewhere():
    given = recipe(ablate={"sweep": {"models.student.model": ["../../x"]}})
    assert cells_of(given)[0].base(Path("root")) == Path("root/base/model=.._.._x")


@pytest.mark.parametrize(
    ("key", "words"),
    [("dleta", "no such key"), ("ablate.rows", "no such key"), ("seed", None), ("sample", "it could be seeds.sample")],
)
def test_a_swept_key_must_be_one_of_the_recipes(key: str, words: str | None):
    if words is None:
        assert full_key(key) == "seed"
        return
    with pytest.raises(RecipeError, match=words):
        full_key(key)


@pytest.mark.parametrize(
    ("variants", "words"),
    [("full,nothing", "nothing: no such strategy; choose among full"), ("seed,seed", "names one of them twice")],
)
def test_a_variant_must_be_known_and_named_once(variants: str, words: str):
    with pytest.raises(RecipeError, match=words):
        variants_of(variants)


def variants_of(said: str) -> list[Arm]:
    given = with_options(recipe(), said, None, None, [])
    return arms_of(given, cells_of(given))


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(RecipeError, match="nothing to compare"):
        cells_of(recipe(evaluate=[]))
    with pytest.raises(RecipeError, match="set it to off"):
        cells_of(recipe(difficulty={"rescore": "move"}))
