"""The numbers of an ablation, by hand."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from tapir.errors import DataError
from tapir.evaluation.measured import Measured
from tapir.report.ablation import Comparison, compare, difference, gaps_by_seed, measure
from tapir.report.ablation_page import figure, markdown, sentences
from tapir.store.rundir import RunDir, write_json

NLL = "nll_per_token"


def receipt(run: RunDir, place: str, found: dict[str, Any]) -> None:
    write_json(run.step(place, "").receipt_path, {"fingerprint": "", **found})


def arm(root: Path, variant: str, seed: int, values: dict[str, float], rows: int = 10, rounds: int = 1) -> Path:
    run = RunDir(root / f"rows/recipe/{variant}-{seed}")
    for n in range(1, rounds + 1):
        receipt(run, f"round_{n}/04_mix", {"rows_out": rows})
        receipt(run, f"round_{n}/05_student_{n}", {"notes": {"trained_tokens": 100 * seed}})
    step = run.step(f"round_{rounds}/08_measured", "")
    step.write(Measured, [Measured(i, NLL, value) for i, value in values.items()])
    note = {
        "form": "rows", "cell": "recipe", "variant": variant, "seed": seed, "says": "", "starts_from": "base",
        "answers_by": "teacher", "wanted": 20, "rounds": rounds, "win_rate_by": "checks", "student_0_by": "teacher",
    }  # fmt: skip
    write_json(run.root / "arm.json", note)
    write_json(run.manifest_path, {})
    return run.root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two variants, two seeds, two instructions."""
    base = RunDir(tmp_path / "base/recipe")
    base.step("round_0/12_measured", "").write(Measured, [Measured("a", NLL, 3.0), Measured("b", NLL, 5.0)])
    receipt(base, "round_0/04_student_0", {"rows_out": 30, "notes": {"trained_tokens": 300}})
    arm(tmp_path, "full", 1, {"a": 1.0, "b": 2.0}, rows=5, rounds=2)
    arm(tmp_path, "full", 2, {"a": 1.0, "b": 4.0}, rows=5, rounds=2)
    arm(tmp_path, "seed", 1, {"a": 2.0, "b": 4.0}, rows=8)
    arm(tmp_path, "seed", 2, {"a": 3.0, "b": 5.0}, rows=9)
    return tmp_path


def table(root: Path) -> Comparison:
    return compare(root, sorted(path.parent for path in root.glob("rows/*/*/manifest.json")))


def test_means_spread_rows_and_tokens_are_over_the_seeds(root: Path):
    _, full, seed = table(root).lines
    assert (full.measures[NLL].value, seed.measures[NLL].value) == (2.0, 3.5)
    # Seed means 1.5 and 2.5: a deviation of √0.5.
    assert full.measures[NLL].spread == pytest.approx(0.5**0.5)
    assert [(x.rows, x.trained_tokens, x.wanted, x.seeds) for x in (full, seed)] == [
        (10, 300, 20, (1, 2)), (8.5, 150, 20, (1, 2)),
    ]  # fmt: skip


def test_differences_are_paired_by_seed_and_instruction_and_full_is_held_against_student_0(root: Path):
    student_0, full, seed = (line.measures[NLL] for line in table(root).lines)
    assert student_0.value == 4.0
    assert student_0.difference is None
    # full − student_0: a −2 and −2, b −3 and −1.
    assert (full.against, full.difference and full.difference.value) == ("student_0", -2.0)
    # seed − full: a 1 and 2, b 2 and 1: 1.5 for each instruction.
    assert (seed.against, seed.difference and seed.difference.value) == ("full", 1.5)
    # Instructions that differ alike leave nothing to resolve.
    assert seed.resolvable == 0


def test_a_win_rate_is_held_against_a_half_on_whichever_instructions_it_was_judged(root: Path):
    step = RunDir(root / "rows/recipe/full-1").step("round_2/08_measured", "")
    step.write(Measured, [Measured("a", "win_rate", 100.0), Measured("z", "win_rate", 0.0)])
    (root / "rows/recipe/full-2/arm.json").unlink()
    found = table(root).lines[1].measures["win_rate"]
    assert (found.value, found.difference and found.difference.value, found.instructions) == (50.0, 0.0, 2)


def test_p_values_are_corrected_over_all_comparisons_of_a_metric(root: Path):
    found = [line.measures[NLL].difference for line in table(root).lines[1:]]
    # Of the four pairs of signs, two are as far from 0: p is about 0.5, twice that with two comparisons.
    assert [(d.p, d.p_holm) for d in found if d is not None] == [pytest.approx((0.5, 1.0), abs=0.05)] * 2
    assert sentences(table(root)) == ["No difference between variants is more than noise at this size."]


def test_only_seeds_and_instructions_that_both_have_are_compared():
    gaps = gaps_by_seed({1: {"a": 5.0, "b": 1.0}, 2: {"a": 9.0}}, {1: {"a": 2.0, "c": 7.0}, 3: {"a": 0.0}})
    assert gaps == {1: {"a": 3.0}}
    found = difference(gaps, random.Random(1))
    assert (found.value, found.n, found.p) == (3.0, 1, None)


def test_twelve_failures_of_twelve_are_not_certain():
    failed = {1: dict.fromkeys("abcdefghijkl", 0.0)}
    found = measure(failed, random.Random(1), None, None, (0, 100))
    # Wilson of 0 of 12: to 1.96² / (12 + 1.96²).
    assert (found.low, found.high) == (0, pytest.approx(100 * 1.959964**2 / (12 + 1.959964**2)))
    nll = measure(failed, random.Random(1), None, None)
    assert (nll.low, nll.high) == (None, None)


def test_equal_gaps_of_few_instructions_are_noise_or_have_no_interval():
    gaps = {1: {"a": 100.0, "b": 100.0}}
    assert difference(gaps, random.Random(1), (0, 100)).noise is True
    assert difference({1: {"a": 100.0}}, random.Random(1), (0, 100)).noise is True
    assert difference({1: {"a": 0.5}}, random.Random(1)).noise is None
    # No gap at all: half of the way between -100 and 100, by Wilson of 1 of 2.
    same = difference({1: dict.fromkeys("ab", 0.0)}, random.Random(1), (0, 100))
    assert (same.low, same.high) == (pytest.approx(-81.1, abs=0.1), pytest.approx(81.1, abs=0.1))


def test_a_value_without_an_interval_is_shown_without(root: Path):
    for place in ("full-1/round_2", "full-2/round_2", "seed-1/round_1", "seed-2/round_1"):
        arm, part = place.split("/")
        step = RunDir(root / f"rows/recipe/{arm}").step(f"{part}/08_measured", "")
        step.write(Measured, [Measured("a", NLL, 2.0), Measured("b", NLL, 2.0)])
    assert "| 2.000 ±0.000 |" in markdown(table(root))
    assert "full, NLL a token: 2<" in figure(table(root).lines, "rows")


def test_no_common_instruction_is_an_error_not_a_number():
    with pytest.raises(DataError, match="every training seed"):
        measure({1: {"a": 1.0}, 2: {"b": 1.0}}, random.Random(1), None, None)


def test_an_unfinished_arm_is_counted_not_guessed(root: Path):
    (root / "rows/recipe/seed-2/arm.json").unlink()
    found = table(root)
    assert (found.missing, found.lines[2].seeds) == (1, (1,))
    assert "1 arms are not done" in markdown(found)


def test_a_directory_without_arms_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="no arm of an ablation is done here"):
        compare(tmp_path, [])


def test_the_table_says_how_many_of_the_wanted_rows_there_were_and_is_the_same_twice(root: Path):
    text = markdown(table(root))
    assert text == markdown(table(root))
    assert "| seed | base | teacher | 8 of 20 | 150 | full | - | - | 3.500 ±0.707 (" in text
    assert json.dumps(table(root).to_json())


def test_a_name_from_a_recipe_cannot_break_the_table_or_the_figure(root: Path):
    note_path = root / "rows/recipe/seed-1/arm.json"
    note = json.loads(note_path.read_text())
    for seed in (1, 2):
        path = root / f"rows/recipe/seed-{seed}/arm.json"
        path.write_text(json.dumps({**note, "seed": seed, "variant": "<script>|x"}))
    found = table(root)
    assert "&lt;script>\\|x" in markdown(found)
    assert "<script>" not in figure(found.lines, "rows")


def test_the_figure_has_a_point_with_its_interval_for_each_variant(root: Path):
    svg = figure(table(root).lines, "rows")
    assert svg.count("<circle") == 3
    assert "seed, NLL a token: 3.5 (" in svg
    assert 'xmlns="http://www.w3.org/2000/svg"' in svg
