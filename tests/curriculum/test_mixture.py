"""The mix of tasks: shares, quotas, rounds and draws."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapir.curriculum.mixture import (
    alpha_for_round,
    apportion,
    default_targets,
    draw,
    plan_as_grown,
    plan_round,
    quotas,
)
from tapir.errors import DataError, RecipeError

NAMES = st.sampled_from(["Math", "Law", "Art", "Music", "Sport", "Code Debug"])
SUPPLY = st.dictionaries(NAMES, st.integers(0, 60), min_size=1)
TARGETS = st.dictionaries(NAMES, st.floats(0.01, 1), min_size=1)


@dataclass(frozen=True)
class Row:
    id: str
    task: str


def rows_of(supply: dict[str, int]) -> list[Row]:
    return [Row(f"{task}-{i:03}", task) for task, n in supply.items() for i in range(n)]


def test_the_paper_gives_math_and_reasoning_a_sixth_each_and_half_to_the_others():
    others = [f"type {i}" for i in range(28)]
    targets = default_targets(["Math", "Reasoning", "Code Generation", "Code Debug", *others])
    assert targets["Math"] == targets["Reasoning"] == pytest.approx(0.167)
    assert targets["Code Debug"] == pytest.approx(0.083)
    assert targets["type 3"] == pytest.approx(0.5 / 28)
    assert sum(targets.values()) == pytest.approx(1)


def test_a_taxonomy_without_the_named_types_is_divided_evenly():
    assert default_targets(["Haiku", "Limerick"]) == {"Haiku": 0.5, "Limerick": 0.5}


def test_a_taxonomy_of_named_types_alone_keeps_their_proportion():
    assert default_targets(["Math", "Code Debug"]) == pytest.approx({"Math": 0.668, "Code Debug": 0.332})


def test_a_recipe_may_set_some_targets_and_the_rest_share_what_is_left():
    assert default_targets(["Math", "Law", "Art"], {"Math": 0.5}) == {"Math": 0.5, "Law": 0.25, "Art": 0.25}
    with pytest.raises(RecipeError, match=r"sum to 1\.3"):
        default_targets(["Math", "Law"], {"Math": 0.9, "Law": 0.4})


def test_alpha_rises_by_its_step_and_stays_a_share():
    assert [alpha_for_round(r, 0.3, 0.2) for r in (1, 2, 3, 4, 5)] == [0.3, 0.5, 0.7, 0.9, 1.0]
    assert alpha_for_round(2, 0.3, -0.4) == 0.0


def test_alpha_may_be_a_list_with_a_value_for_every_round():
    assert alpha_for_round(2, [0.5, 0.7, 0.9]) == 0.7
    with pytest.raises(RecipeError, match="round 4"):
        alpha_for_round(4, [0.5, 0.7, 0.9])


def test_largest_remainders_get_the_rows_that_rounding_leaves_and_ties_go_by_name():
    assert apportion({"Math": 0.5, "Law": 0.3, "Art": 0.2}, 9) == {"Math": 4, "Law": 3, "Art": 2}
    assert apportion({"b": 1, "a": 1, "c": 1}, 4) == {"b": 1, "a": 2, "c": 1}
    assert apportion({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}, 3) == {"a": 1, "b": 1, "c": 1}


def test_rows_cannot_be_divided_by_nothing():
    with pytest.raises(RecipeError, match="every weight is 0"):
        apportion({"a": 0.0}, 3)
    with pytest.raises(RecipeError, match="below 0"):
        apportion({"a": -1.0, "b": 2}, 3)


@given(TARGETS, st.integers(0, 500))
def test_apportioned_rows_add_up_and_are_within_one_of_their_share(weights: dict[str, float], size: int):
    rows = apportion(weights, size)
    total = sum(weights.values())
    assert sum(rows.values()) == size
    assert all(abs(rows[t] - size * w / total) < 1 + 1e-6 for t, w in weights.items())


def test_missing_supply_goes_to_the_others_by_their_targets_again_and_again():
    # 100 rows at 40/30/20/10. Law has none: its 30 go 4:2:1. Math gives all its 50; the other 50 go 2:1,
    # 33.3 and 16.7, but Art has 30, so Music gives 20.
    quota = quotas({"Math": 50, "Art": 30, "Music": 40}, {"Math": 0.4, "Law": 0.3, "Art": 0.2, "Music": 0.1}, 100)
    assert quota.draw == {"Math": 50, "Law": 0, "Art": 30, "Music": 20}
    assert quota.undrawn == {"Music": 20}
    assert quota.grow == quota.unmet == {"Law": 30}


def test_types_without_a_target_stay_undrawn():
    quota = quotas({"Math": 5, "Toxicity": 7}, {"Math": 1.0, "Toxicity": 0.0}, 10)
    assert quota.draw == {"Math": 5, "Toxicity": 0}
    assert (quota.undrawn, quota.grow) == ({"Toxicity": 7}, {"Math": 5})


@given(SUPPLY, TARGETS, st.integers(0, 300))
def test_quotas_never_ask_for_a_row_that_is_not_there(supply: dict[str, int], targets: dict[str, float], size: int):
    quota = quotas(supply, targets, size)
    assert all(0 <= n <= supply.get(t, 0) for t, n in quota.draw.items())
    assert quota.size == min(size, sum(supply.get(t, 0) for t in targets))
    assert all(quota.draw.get(t, 0) + quota.undrawn.get(t, 0) == n for t, n in supply.items())


@given(SUPPLY, TARGETS, st.integers(0, 300))
def test_quotas_reach_the_target_within_one_row_where_supply_allows(
    supply: dict[str, int], targets: dict[str, float], size: int
):
    total = sum(targets.values())
    if all(supply.get(t, 0) >= size * w / total for t, w in targets.items()):
        quota = quotas(supply, targets, size)
        assert all(abs(quota.draw[t] - size * w / total) < 1 + 1e-6 for t, w in targets.items())
        assert all(n <= 1 for n in quota.unmet.values())


@given(SUPPLY, TARGETS, st.integers(0, 300))
def test_growing_what_is_asked_for_meets_the_target(supply: dict[str, int], targets: dict[str, float], size: int):
    first = quotas(supply, targets, size)
    grown = {t: supply.get(t, 0) + first.grow.get(t, 0) for t in targets}
    second = quotas(grown, targets, size)
    assert not second.unmet
    assert second.size == size


@given(SUPPLY, TARGETS, st.integers(0, 300), st.randoms(use_true_random=False))
def test_quotas_do_not_depend_on_the_order_of_the_tables(
    supply: dict[str, int], targets: dict[str, float], size: int, rng: random.Random
):
    names = rng.sample(sorted(supply), len(supply))
    order = rng.sample(sorted(targets), len(targets))
    assert quotas({t: supply[t] for t in names}, {t: targets[t] for t in order}, size) == quotas(supply, targets, size)


def test_a_round_is_as_large_as_alpha_and_the_targets_allow():
    # Hard rows can be 50/50 up to 100, easy ones up to 200. Half hard: 100 and 100.
    plan = plan_round({"A": 100, "B": 50}, {"A": 100, "B": 100}, {"A": 0.5, "B": 0.5}, alpha=0.5)
    assert (plan.size, plan.hard, plan.easy) == (200, {"A": 50, "B": 50}, {"A": 50, "B": 50})
    assert (plan.grow, plan.unmet) == ({}, {})


def test_a_type_without_any_supply_does_not_hold_the_round_back():
    plan = plan_round({"A": 30}, {"A": 100, "B": 100}, {"A": 0.5, "B": 0.5}, alpha=0.3)
    assert (plan.size, plan.hard, plan.easy) == (100, {"A": 30, "B": 0}, {"A": 35, "B": 35})
    assert plan.unmet == {"B": 15}


def test_a_scarce_type_gives_all_it_has_and_does_not_hold_the_round_back():
    # B's share of 100 rows would be 50; 4 is less than a quarter of that.
    plan = plan_round({}, {"A": 96, "B": 4}, {"A": 0.5, "B": 0.5}, alpha=0.0)
    assert (plan.size, plan.easy, plan.unmet) == (100, {"A": 96, "B": 4}, {"B": 46})
    strict = plan_round({}, {"A": 96, "B": 4}, {"A": 0.5, "B": 0.5}, alpha=0.0, scarce=0)
    assert (strict.size, strict.easy, strict.unmet) == (8, {"A": 4, "B": 4}, {})


def test_what_expansion_may_add_counts_as_supply_and_is_planned():
    plan = plan_round(
        {"A": 60, "B": 20}, {"A": 500, "B": 500}, {"A": 0.5, "B": 0.5}, alpha=0.3, growable={"A": 80, "B": 80}
    )
    # B can reach 100 and A 140, so 200 hard rows; 200 / 0.3 is 666.7.
    assert plan.hard == {"A": 100, "B": 100}
    assert plan.grow == {"A": 40, "B": 80}
    assert (plan.size, plan.hard_rows, plan.easy_rows) == (666, 200, 466)


def test_growth_stops_at_its_limit():
    plan = plan_round({"A": 60, "B": 20}, {}, {"A": 0.5, "B": 0.5}, alpha=1, growable={"A": 80, "B": 80}, grow_limit=30)
    # B reaches 50; the 101st row is within one row of the target.
    assert (plan.size, plan.hard, plan.grow) == (101, {"A": 51, "B": 50}, {"B": 30})


def test_a_given_size_bends_the_targets_but_neither_alpha_nor_the_ban_on_repeats():
    plan = plan_round({"A": 90, "B": 10}, {"A": 100, "B": 100}, {"A": 0.5, "B": 0.5}, alpha=0.4, size=100)
    assert (plan.hard, plan.easy, plan.unmet) == ({"A": 30, "B": 10}, {"A": 30, "B": 30}, {"B": 10})
    too_much = plan_round({"A": 90, "B": 10}, {"A": 100, "B": 100}, {"A": 0.5, "B": 0.5}, alpha=0.5, size=900)
    assert (too_much.size, too_much.hard_rows, too_much.easy_rows) == (200, 100, 100)


def test_an_alpha_that_weighs_the_loss_does_not_shape_the_draw_as_well():
    hard, easy, even = {"A": 40, "B": 20}, {"A": 100, "B": 100}, {"A": 0.5, "B": 0.5}
    for alpha in (0.3, 0.7):
        plan = plan_round(hard, easy, even, alpha, by_weight=True)
        assert (plan.hard, plan.easy) == ({"A": 20, "B": 20}, {"A": 100, "B": 100})
        assert (plan.alpha, plan.size) == (alpha, 240)
    assert plan_round(hard, easy, even, 1.0, by_weight=True).easy_rows == 0
    assert plan_round(hard, easy, even, 0.0, by_weight=True).hard_rows == 0
    halves = plan_round(hard, easy, even, 0.3, size=101, by_weight=True)
    assert (halves.hard, halves.easy) == ({"A": 31, "B": 20}, {"A": 25, "B": 25})
    # Of 60 hard rows all, and of the easy ones what is left of the size, as far as they go.
    assert plan_round(hard, easy, even, 0.3, size=200, by_weight=True).easy_rows == 140
    assert plan_round(hard, easy, even, 0.3, size=400, by_weight=True).easy_rows == 200
    grown = plan_round(hard, easy, even, 0.3, growable={"A": 9, "B": 9}, by_weight=True)
    assert (grown.hard, grown.grow, grown.easy_rows) == ({"A": 29, "B": 29}, {"B": 9}, 200)


def test_a_round_that_cannot_have_its_alpha_says_what_to_change():
    with pytest.raises(DataError, match="no hard row"):
        plan_round({}, {"A": 5}, {"A": 1.0}, alpha=0.3)
    with pytest.raises(DataError, match="no easy row"):
        plan_round({"A": 5}, {}, {"A": 1.0}, alpha=0.3)
    with pytest.raises(RecipeError, match="between 0 and 1"):
        plan_round({"A": 5}, {"A": 5}, {"A": 1.0}, alpha=1.3)


@given(SUPPLY, SUPPLY, TARGETS, st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0]), st.none() | st.integers(0, 200))
def test_a_round_repeats_no_row_and_keeps_alpha_to_half_a_row(
    hard: dict[str, int], easy: dict[str, int], targets: dict[str, float], alpha: float, size: int | None
):
    try:
        plan = plan_round(hard, easy, targets, alpha, size)
    except DataError:
        return
    assert all(n <= hard.get(t, 0) for t, n in plan.hard.items())
    assert all(n <= easy.get(t, 0) for t, n in plan.easy.items())
    assert plan.hard_rows + plan.easy_rows == plan.size
    assert abs(plan.hard_rows - alpha * plan.size) <= 0.5 + 1e-6
    assert size is None or plan.size <= size


@given(SUPPLY, SUPPLY, TARGETS, st.dictionaries(NAMES, st.integers(0, 40)), st.none() | st.integers(0, 50))
def test_a_plan_grows_no_more_than_it_may(
    hard: dict[str, int],
    easy: dict[str, int],
    targets: dict[str, float],
    growable: dict[str, int],
    limit: int | None,
):
    try:
        plan = plan_round(hard, easy, targets, 0.5, growable=growable, grow_limit=limit)
    except DataError:
        return
    assert all(0 < n <= growable.get(t, 0) for t, n in plan.grow.items())
    assert limit is None or sum(plan.grow.values()) <= limit
    assert all(n <= hard.get(t, 0) + plan.grow.get(t, 0) for t, n in plan.hard.items())


def test_what_was_grown_is_drawn_though_a_type_is_no_longer_too_scarce_to_hold_the_round_back():
    hard, targets = {"A": 40, "B": 10, "C": 3}, {"A": 0.45, "B": 0.45, "C": 0.1}
    bare = plan_round(hard, {}, targets, 1)
    # Among the 253 rows that could be, C's share is 25.3 and 3 are scarce: A and B as far as B's 50 go.
    planned = plan_round(hard, {}, targets, 1, growable={"A": 160, "B": 40})
    assert (bare.size, planned.hard, planned.grow) == (22, {"A": 50, "B": 50, "C": 3}, {"A": 10, "B": 40})
    # Among 103 they are not, and would hold the round at 30.
    assert plan_round(planned.hard, {}, targets, 1).size == 30
    assert plan_as_grown(planned, bare, 50, planned.hard, {}, targets) == replace(planned, grow={})
    # Half of the growth: half way from 22 to 103. B has 20, the others what they have and the rest.
    half = plan_as_grown(planned, bare, 25, {"A": 55, "B": 20, "C": 3}, {}, targets)
    assert (half.size, half.hard) == (62, {"A": 39, "B": 20, "C": 3})


def test_rows_that_a_plan_counted_on_and_that_are_gone_make_the_round_smaller_and_leave_alpha():
    planned = plan_round({"A": 10}, {"A": 100}, {"A": 1.0}, 0.5, growable={"A": 10})
    bare = plan_round({"A": 10}, {"A": 100}, {"A": 1.0}, 0.5)
    plan = plan_as_grown(planned, bare, 10, {"A": 15}, {"A": 100}, {"A": 1.0})
    assert (planned.size, plan.hard, plan.easy) == (40, {"A": 15}, {"A": 15})
    with pytest.raises(DataError, match="no hard row"):
        plan_as_grown(planned, None, 0, {}, {"A": 100}, {"A": 1.0})


def test_a_round_that_grows_nothing_is_planned_as_if_nothing_could_be():
    # With A's room, B would be scarce and all 115 rows would be drawn.
    hard, even = {"A": 100, "B": 15}, {"A": 0.5, "B": 0.5}
    assert plan_round(hard, {}, even, 1, growable={"A": 400}, grow_limit=0) == plan_round(hard, {}, even, 1)


@given(
    SUPPLY,
    SUPPLY,
    TARGETS,
    st.dictionaries(NAMES, st.integers(0, 200)),
    st.none() | st.integers(0, 200),
    st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0]),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_a_round_that_grew_all_is_the_planned_one_and_growth_that_fell_short_takes_nothing_away(
    hard: dict[str, int],
    easy: dict[str, int],
    targets: dict[str, float],
    growable: dict[str, int],
    limit: int | None,
    alpha: float,
    by_weight: bool,
    rng: random.Random,
):
    try:
        bare = plan_round(hard, easy, targets, alpha, by_weight=by_weight)
    except DataError:
        return
    planned = plan_round(hard, easy, targets, alpha, growable=growable, grow_limit=limit, by_weight=by_weight)
    part = {t: rng.randint(0, n) for t, n in planned.grow.items()}
    kept: list[int] = []
    for grown in ({}, part, planned.grow):
        there = {t: hard.get(t, 0) + grown.get(t, 0) for t in {*hard, *grown}}
        plan = plan_as_grown(planned, bare, sum(grown.values()), there, easy, targets, by_weight=by_weight)
        assert all(n <= there.get(t, 0) for t, n in plan.hard.items())
        assert all(n <= easy.get(t, 0) for t, n in plan.easy.items())
        assert by_weight or abs(plan.hard_rows - alpha * plan.size) <= 1.5 + 1e-6
        kept.append(plan.size)
    assert bare.size == kept[0] <= kept[1] <= kept[2] == planned.size
    assert (plan.hard_rows, plan.easy_rows) == (planned.hard_rows, planned.easy_rows)


@given(SUPPLY, st.integers(0, 2**32), st.randoms(use_true_random=False))
def test_a_draw_depends_on_the_seed_and_not_on_the_order_of_the_rows(
    supply: dict[str, int], seed: int, rng: random.Random
):
    rows = rows_of(supply)
    quota = {t: n // 2 for t, n in supply.items()}
    first = draw(rows, quota, random.Random(seed))
    rng.shuffle(rows)
    assert draw(rows, quota, random.Random(seed)) == first
    assert len(set(first)) == len(first) == sum(quota.values())


def test_another_seed_draws_other_rows():
    rows = rows_of({"Math": 40})
    assert draw(rows, {"Math": 20}, random.Random(1)) != draw(rows, {"Math": 20}, random.Random(2))


def test_a_larger_quota_keeps_the_rows_of_a_smaller_one_and_other_tasks_do_not_matter():
    rows = rows_of({"Math": 40, "Law": 9})
    few = draw(rows, {"Math": 10}, random.Random(5))
    many = draw(rows, {"Math": 25, "Law": 3}, random.Random(5))
    assert set(few) < set(many)


def test_a_quota_above_supply_is_an_error_unless_repeats_are_asked_for():
    rows = rows_of({"Math": 2})
    with pytest.raises(DataError, match="Math: 5 rows to draw and 2 there"):
        draw(rows, {"Math": 5}, random.Random(0))
    drawn = draw(rows, {"Math": 5}, random.Random(0), replace=True)
    assert sorted(drawn.count(row) for row in rows) == [2, 3]


@given(st.integers(1, 30), st.integers(0, 90), st.integers(0, 2**32), st.randoms(use_true_random=False))
def test_with_repeats_no_row_comes_twice_before_every_row_came_once(
    supply: int, count: int, seed: int, rng: random.Random
):
    rows = rows_of({"Math": supply})
    drawn = draw(rows, {"Math": count}, random.Random(seed), replace=True)
    times = [drawn.count(row) for row in rows]
    assert (len(drawn), max(times) - min(times) <= 1) == (count, True)
    rng.shuffle(rows)
    assert draw(rows, {"Math": count}, random.Random(seed), replace=True) == drawn


def test_a_row_that_is_there_twice_is_refused():
    with pytest.raises(DataError, match="there twice"):
        draw([Row("a", "Math"), Row("a", "Math")], {"Math": 1}, random.Random(0))
