"""What each round plans to grow and to draw, over several rounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from tapir.config import parse_recipe
from tapir.steps.rounds import Curriculum, growth_plan, plan_for, plan_of_mix
from tapir.store.lookup import Joined
from tapir.store.rundir import RunDir
from tapir.tasks import load_taxonomy
from tapir.types import Answer, Difficulty, Instruction

TASKS = ("Math", "Reasoning", "Art", "Law")


class Seeded:
    """A curriculum of seeds in memory, and what each round grew."""

    def __init__(self) -> None:
        self.hard = [Instruction(f"hard {t} {n}", task=t) for t in TASKS for n in range(40 if t != "Math" else 10)]
        self.easy = [Instruction(f"easy {t} {n}", task=t) for t in TASKS for n in range(200)]
        self.rounds: list[list[Instruction]] = []

    def seeds(self) -> tuple[list[Instruction], list[Instruction]]:
        return self.hard, self.easy

    def grown(self, rounds: slice = slice(None)) -> tuple[list[Instruction], list[Instruction]]:
        return [i for made in self.rounds[rounds] for i in made], []


@pytest.mark.parametrize("data", ["cumulative", "newest"])
def test_no_round_shrinks_for_want_of_rows_that_an_earlier_one_grew(data: str):
    recipe = parse_recipe(
        {
            "name": "rounds",
            "models": {"teacher": {"kind": "scripted"}, "student": {"kind": "scripted"}},
            "curriculum": {"rounds": 3, "alpha_start": 0.5, "alpha_step": 0, "data": data},
            "mix": {"size": 320, "targets": dict.fromkeys(TASKS, 0.25)},
            "expand": {"per_seed": 20, "per_round": 100},
        }
    )
    taxonomy, seeded = load_taxonomy(None), Seeded()
    curriculum = cast("Curriculum", cast("Any", seeded))
    grown: list[int] = []
    for number in (1, 2, 3):
        plan = growth_plan(recipe, taxonomy, number, curriculum)
        seeded.rounds.append(_made(plan.grow, seeded.hard, number))
        newest = seeded.grown(slice(-1, None) if data == "newest" else slice(None))[0]
        mixed = plan_for(recipe, taxonomy, number, Joined(seeded.hard, newest), seeded.easy)
        assert (mixed.size, mixed.hard_rows) == (320, 160)
        grown.append(len(seeded.rounds[-1]))
    # 160 hard rows by the targets are 40 of each type, and Math has 10 seeds.
    assert grown == ([30, 0, 0] if data == "cumulative" else [30, 30, 30])


@pytest.mark.parametrize("data", ["cumulative", "newest"])
@pytest.mark.parametrize(("parents", "grow"), [("seeds", {}), ("grown", {"Math": 10})])
def test_grown_rows_are_parents_of_the_next_round_where_the_recipe_grows_from_them(
    data: str, parents: str, grow: dict[str, int]
):
    recipe = parse_recipe(
        {
            "name": "rounds",
            "models": {"teacher": {"kind": "scripted"}, "student": {"kind": "scripted"}},
            "curriculum": {"rounds": 2, "alphas": [1.0, 1.0], "data": data},
            "mix": {"size": 120, "targets": dict.fromkeys(TASKS, 0.25)},
            "expand": {"per_seed": 1, "from": parents},
        }
    )
    taxonomy, seeded = load_taxonomy(None), Seeded()
    curriculum = cast("Curriculum", cast("Any", seeded))
    # 30 hard rows of each type are wanted; Math has 10 seeds, and each has had its child.
    seeded.rounds.append(_made(growth_plan(recipe, taxonomy, 1, curriculum).grow, seeded.hard, 1))
    assert len(seeded.rounds[0]) == 10
    assert growth_plan(recipe, taxonomy, 2, curriculum).grow == grow


@pytest.mark.parametrize("data", ["cumulative", "newest"])
def test_a_round_without_a_size_draws_the_rows_it_was_planned_with(tmp_path: Path, data: str):
    recipe = parse_recipe(
        {
            "name": "rounds",
            "models": {"teacher": {"kind": "scripted"}, "student": {"kind": "scripted"}},
            "curriculum": {"rounds": 1, "alphas": [1.0], "data": data},
            "mix": {"targets": {"Math": 0.45, "Reasoning": 0.45, "Art": 0.1}},
            "expand": {"per_seed": 4, "per_round": 10},
        }
    )
    taxonomy, run = load_taxonomy(None), RunDir(tmp_path)
    supply = {"Math": 60, "Reasoning": 5, "Art": 1}
    seeds = [Instruction(f"{t} {n}", task=t) for t, count in supply.items() for n in range(count)]
    pool, answers, hard, expanded = (run.step(f"round_{place}", "x") for place in ("0/2", "0/3", "0/7", "1/1"))
    pool.write(Instruction, seeds)
    answers.write(Answer, [Answer(i.id, "teacher", "y") for i in seeds])
    hard.write(Difficulty, [Difficulty(i.id, 3.0) for i in seeds])
    curriculum = Curriculum(pool, answers, hard)
    planned = growth_plan(recipe, taxonomy, 1, curriculum)
    grown = _made(planned.grow, seeds, 1)
    expanded.write(Instruction, grown)
    curriculum.expanded.append(expanded)
    assert (planned.size, planned.grow) == (66, {"Reasoning": 8, "Art": 2})
    # Reasoning's 13 and Art's 3 of 76 are no longer scarce; planned afresh, they would leave 48 rows undrawn.
    assert plan_for(recipe, taxonomy, 1, [*seeds, *grown], []).size == 28
    drawn = plan_of_mix(recipe, taxonomy, 1, curriculum, [*seeds, *grown], [])
    assert (drawn.size, drawn.hard) == (66, planned.hard)
    for came in (grown[:4], []):
        assert plan_of_mix(recipe, taxonomy, 1, curriculum, [*seeds, *came], []).size == 66
    # A size of its own is drawn as before.
    sized = recipe.model_copy(update={"mix": recipe.mix.model_copy(update={"size": 40})})
    rows = [*seeds, *grown]
    assert plan_of_mix(sized, taxonomy, 1, curriculum, rows, []) == plan_for(sized, taxonomy, 1, rows, [])


def test_seeds_that_a_check_found_hard_weigh_no_more_than_judged_ones(tmp_path: Path):
    step = RunDir(tmp_path).step("round_0/07_hard", "x")
    judged = [Difficulty(f"judged {n}", gap) for n, gap in enumerate((2.0, 4.0))]
    step.write(Difficulty, [*judged, Difficulty("checked", 9.0, kind="verified")])
    assert Curriculum(step, step, step).difficulty() == {"judged 0": 2.0, "judged 1": 4.0, "checked": 3.0}


def _made(wanted: dict[str, int], hard: list[Instruction], number: int) -> list[Instruction]:
    made: list[Instruction] = []
    for task, count in wanted.items():
        parents = [i for i in hard if i.task == task]
        for n in range(count):
            parent = parents[n % len(parents)]
            text = f"grown {task} {number} {n}"
            made.append(Instruction(text, task=task, origin="expanded", parent_id=parent.id, round=number))
    return made
