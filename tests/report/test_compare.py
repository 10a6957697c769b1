"""Several runs on one page: paired differences, what is noise, and what makes runs incomparable."""

from __future__ import annotations

from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from tapir.curriculum.comparison import Difference
from tapir.report.compare import Gap, as_json, cautions, entries, gaps, recipe_changes
from tapir.report.compare_page import write_comparison
from tapir.store.rundir import RunDir
from tapir.types import Receipt, Result

MakeRun = Callable[..., RunDir]


@pytest.fixture
def runs(invent: MakeRun) -> list[RunDir]:
    return [invent("full", rounds=2, seeds=60), invent("short", rounds=1, seeds=60)]


def test_a_difference_is_named_by_its_direction_and_the_measure():
    def verdict(metric: str, value: float, low: float, high: float) -> str:
        return Gap("b", metric, Difference(value, 9, low, high), paired=True).verdict

    assert verdict("win_rate", 4, 1, 7) == "better"
    assert verdict("nll_per_token", 4, 1, 7) == "worse"
    assert verdict("nll_per_token", -4, -7, -1) == "better"
    assert verdict("win_rate", 4, -1, 9) == "inside the noise"
    assert Gap("b", "win_rate", Difference(4, 1), paired=False).verdict == "unknown: no interval"


def test_equal_prompts_are_compared_in_pairs_and_corrected_for_their_number(runs: list[RunDir]):
    found = {g.metric: g for g in gaps(entries(runs))}
    assert found["nll_per_token"].paired
    assert found["win_rate"].paired
    assert not found["checks_passed"].paired
    nll = found["nll_per_token"].difference
    # student_1 of the short run has a NLL of 38 to 39 over 20 tokens, student_2 of the full one 36 to 37.
    assert nll.value == pytest.approx(2 / 20, abs=0.02)
    assert nll.p_holm is not None
    assert nll.p is not None
    assert nll.p_holm >= nll.p
    assert found["nll_per_token"].verdict == "worse"


def test_a_run_beside_itself_differs_in_nothing(runs: list[RunDir]):
    found = entries([runs[0], runs[0]])
    assert [e.name for e in found] == ["full", "full (2)"]
    assert {g.verdict for g in gaps(found)} == {"inside the noise"}
    assert recipe_changes(found) == {}


def test_runs_are_told_apart_by_their_directories_where_recipes_share_a_name(runs: list[RunDir]):
    assert [e.name for e in entries(runs)] == ["full", "short"]
    assert recipe_changes(entries(runs)) == {"curriculum.rounds": [2, 1]}


def test_other_held_out_instructions_are_cautioned_of(invent: MakeRun, runs: list[RunDir]):
    other = invent("other", rounds=1, seeds=60, held_out=30)
    assert not list(cautions(entries(runs)))
    assert any("different held-out instructions" in c for c in cautions(entries([runs[0], other])))


def with_exact(run: RunDir, value: float, sources: dict[str, str], **settings: Any) -> RunDir:
    """This run with an exact-answer benchmark, of which its last student got `value` percent right."""
    recipe = yaml.safe_load(run.recipe_path.read_text(encoding="utf-8"))
    recipe["evaluate"] = [{"kind": "exact", **settings}]
    run.recipe_path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    step = run.step("round_1/07_benchmarks", "0" * 16)
    step.write(Result, [Result("student_1", "exact_accuracy", value, 100, value - 8, value + 8)])
    step.finish(Receipt(step.stage, notes={"sources": sources}))
    return run


@pytest.mark.parametrize(
    ("mine", "theirs", "sources", "alike"),
    [
        ({"prompts": "easy.jsonl"}, {"prompts": "hard.jsonl"}, ({}, {}), False),
        ({"prompts": "e.jsonl"}, {"prompts": "e.jsonl", "sample": 5}, ({}, {}), False),
        ({"prompts": "e.jsonl"}, {"prompts": "e.jsonl"}, ({"e.jsonl": "1"}, {"e.jsonl": "2"}), False),
        ({"prompts": "a/e.jsonl"}, {"prompts": "b/e.jsonl"}, ({"a/e.jsonl": "1"}, {"b/e.jsonl": "1"}), True),
        ({"prompts": "e.jsonl"}, {"prompts": "e.jsonl"}, ({}, {"e.jsonl": "1"}), True),
    ],
)
def test_benchmarks_on_other_files_or_settings_are_not_compared(
    invent: MakeRun, mine: dict[str, Any], theirs: dict[str, Any], sources: tuple[dict[str, str], ...], alike: bool
):
    first, second = (invent(name, rounds=1, seeds=24) for name in ("a", "b"))
    runs = [with_exact(first, 80, sources[0], **mine), with_exact(second, 20, sources[1], **theirs)]
    found = entries(runs)
    gap = next(g for g in gaps(found) if g.metric == "exact_accuracy")
    assert gap.verdict == ("worse" if alike else "not comparable")
    assert (gap.difference.low is not None) == alike
    said = "exact answers right, %: a and b measured it on different files or with different settings; not comparable."
    assert (said in list(cautions(found))) != alike


def test_a_metric_by_its_file_is_compared_as_well(invent: MakeRun, tmp_path: Path):
    runs = [invent(name, rounds=1, seeds=24) for name in ("a", "b")]
    for n, run in enumerate(runs):
        step = run.step("round_1/07_benchmarks", "0" * 16)
        step.write(Result, [Result("student_1", "exact_accuracy (math)", 40 + 20 * n, 100, 30 + 20 * n, 50 + 20 * n)])
        step.finish(Receipt(step.stage))
    assert {g.metric: g.verdict for g in gaps(entries(runs))}["exact_accuracy (math)"] == "better"
    page = write_comparison(runs, tmp_path / "page.html").read_text(encoding="utf-8")
    assert "exact answers right, % (math)" in page


def test_an_unfinished_run_is_named_and_spoils_nothing(invent: MakeRun, runs: list[RunDir], tmp_path: Path):
    begun = invent("begun", rounds=1, seeds=24, until="classified")
    assert "begun has evaluated no student yet." in list(cautions(entries([runs[0], begun])))
    assert write_comparison([runs[0], begun], tmp_path / "page.html").exists()
    assert write_comparison([begun, runs[0]], tmp_path / "page.html").exists()


def test_the_page_has_a_table_a_figure_and_every_number_with_its_interval(runs: list[RunDir], tmp_path: Path):
    page = write_comparison(runs, tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Held-out results of each run's last student" in page
    assert page.count("<svg") >= 9
    assert "95 % CI" in page
    assert ">worse<" in page
    # A ratio of sums: a long answer weighs more than a short one.
    assert "the NLL is then per token over all their answers together" in page


def test_hostile_names_are_never_markup(invent: MakeRun, tmp_path: Path):
    attack = '<img src=x onerror=1>"><script>1</script>'
    made = [
        invent(f"r{n}", rounds=1, seeds=24, held_out=12, words=attack, tasks=[attack, "Math", "Law"]) for n in (1, 2)
    ]
    for n, run in enumerate(made):
        text = run.recipe_path.read_text(encoding="utf-8").replace("name: invented", f"name: {attack!r}")
        run.recipe_path.write_text(text.replace("small-model", f"'{attack}{n}'"), encoding="utf-8")
    page = write_comparison(made, tmp_path / "page.html").read_text(encoding="utf-8")
    tags: list[str] = []

    class Outline(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            tags.append(tag)
            assert not [k for k, _ in attrs if k.startswith("on")]

    Outline().feed(page)
    assert not {"script", "img", "iframe"} & set(tags)


def test_a_run_more_makes_the_page_little_larger(runs: list[RunDir], tmp_path: Path):
    two = write_comparison(runs, tmp_path / "page.html").stat().st_size
    six = write_comparison(runs * 3, tmp_path / "page.html").stat().st_size
    # At 25 kB a run a page of a hundred runs stays under five megabytes.
    assert (six - two) / 4 < 25_000


def test_the_data_hold_the_same(runs: list[RunDir]):
    told = as_json(entries(runs))
    assert (told["against"], [r["name"] for r in told["runs"]]) == ("full", ["full", "short"])
    assert {d["metric"] for d in told["differences"]} >= {"win_rate", "nll_per_token", "checks_passed"}
