"""What the strategies that are a choice of rows choose."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tapir.config import parse_recipe
from tapir.errors import DataError
from tapir.pipeline import Ground
from tapir.store.rundir import RunDir
from tapir.strategies import STRATEGIES, OneSet
from tapir.types import Answer, Difficulty, Example, Instruction

MODELS = {"teacher": {"kind": "scripted"}, "student": {"kind": "local", "model": "somewhere"}}
POOL = [Instruction(f"question {n}", task="Math") for n in range(10)]
HARD = POOL[:4]


def session(**parts: Any) -> Any:
    """Choosing looks at the recipe alone."""
    return SimpleNamespace(recipe=parse_recipe({"models": MODELS, **parts}))


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    """Ten seeds, four of them hard; one of each kind without a teacher's answer; two with an answer of their own."""
    run = RunDir(tmp_path)
    seeds, pool, answers, hard = (run.step(f"round_0/{name}", "") for name in ("01_a", "02_b", "03_c", "07_d"))
    seeds.write(Answer, [Answer(i.id, "pool", "its own") for i in POOL[2:4]], "answers")
    pool.write(Instruction, POOL)
    answers.write(Answer, [Answer(i.id, "teacher", "direct") for i in POOL if i not in (POOL[0], POOL[9])])
    hard.write(Difficulty, [Difficulty(i.id, 3.0) for i in HARD])
    return Ground(seeds, pool, answers, pool, hard, pool, pool)


def choose(name: str, ground: Ground, gathered: tuple[Any, ...] = (), seed: int = 1, **parts: Any) -> list[Example]:
    strategy = STRATEGIES[name]
    assert isinstance(strategy, OneSet)
    return strategy.choose(session(**parts), ground, gathered, random.Random(seed))


def ids(rows: list[Example]) -> set[str]:
    return {row.instruction_id for row in rows}


def test_the_hard_seeds_are_those_with_an_answer(ground: Ground):
    rows = choose("seed", ground)
    assert ids(rows) == {i.id for i in HARD[1:]}
    assert all(row.hard and row.answer == "direct" for row in rows)


def test_enhanced_answers_go_to_the_same_rows(ground: Ground, tmp_path: Path):
    enhanced = RunDir(tmp_path).step("round_1/03_e", "")
    enhanced.write(Answer, [Answer(i.id, "teacher", "better", "refined") for i in HARD[1:]])
    plain = choose("seed", ground, mix={"size": 2})
    refined = choose("seed_refined", ground, (enhanced,), mix={"size": 2})
    assert len(plain) == 2
    assert ids(refined) == ids(plain)
    assert {row.answer for row in refined} == {"better"}


def test_the_pool_takes_the_teachers_answers_or_its_own(ground: Ground):
    assert len(choose("pool", ground)) == 8
    own = choose("pool", ground, ablate={"pool_answers": "original"})
    assert (ids(own), {row.answer for row in own}) == ({i.id for i in POOL[2:4]}, {"its own"})


def test_a_pool_without_answers_of_its_own_cannot_give_them(ground: Ground):
    ground.seeds.write(Answer, [], "answers")
    with pytest.raises(DataError, match=r"carries no answers of its own; set ablate\.pool_answers: teacher"):
        choose("pool", ground, ablate={"pool_answers": "original"})


def test_a_random_part_is_drawn_anew_with_the_seed_and_only_with_it(ground: Ground):
    draws = [ids(choose("random", ground, seed=n, mix={"size": 3})) for n in (1, 1, 2, 3, 4)]
    assert all(len(drawn) == 3 for drawn in draws)
    assert draws[0] == draws[1]
    assert len({frozenset(drawn) for drawn in draws}) > 1


def test_ifd_takes_the_highest_below_1(ground: Ground, tmp_path: Path):
    scores = RunDir(tmp_path).step("round_1/01_i", "")
    values = {POOL[1]: 1.2, POOL[2]: 0.9, POOL[3]: 0.5, POOL[4]: 0.95, POOL[5]: 1.0}
    scores.write(Difficulty, [Difficulty(i.id, value, "ifd") for i, value in values.items()])
    assert ids(choose("ifd", ground, (scores,), mix={"size": 2})) == {POOL[4].id, POOL[2].id}
    assert len(choose("ifd", ground, (scores,), mix={"size": 9})) == 3


def test_direct_expansion_draws_from_hard_and_grown_rows_alike(ground: Ground, tmp_path: Path):
    run = RunDir(tmp_path)
    grown, answered = run.step("round_1/01_g", ""), run.step("round_1/03_g", "")
    child = Instruction("a new question", task="Math", origin="expanded", parent_id=HARD[1].id)
    grown.write(Instruction, [child, Instruction("unanswered", task="Math")])
    answered.write(Answer, [Answer(child.id, "teacher", "direct too")])
    rows = choose("direct_expansion", ground, (grown, answered))
    assert ids(rows) == {child.id, *(i.id for i in HARD[1:])}
    assert all(row.hard for row in rows)
