"""The studio and the report in a real browser: no console error, no request to anywhere else, whatever texts say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from invented import Invented

from tapir.report.html import write_report
from tapir.store.marks import read_marks
from tapir.store.progress import ProgressFile
from tapir.store.rundir import RunDir
from tapir.studio.serving import serving

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]
WORDS = "<script>alert(1)</script><img src=//evil.example/x onerror=alert(2)><a href='javascript:alert(3)'>x</a>"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, and one that is judging."""
    folder = tmp_path_factory.mktemp("browser")
    Invented(folder / "finished", seeds=120, held_out=20, rounds=1, words=WORDS).build()
    Invented(folder / "working", seeds=40, held_out=12, rounds=1, until="student_answers", words=WORDS).build()
    return folder


@pytest.fixture(scope="module")
def studio(runs: Path):
    with serving(runs, annotate=True, author="ada", pairs=5) as url:
        yield url


def test_every_page_of_a_finished_run_opens_without_complaint(watched, studio: str):
    page = watched(studio)
    page.get_by_role("link", name="finished", exact=True).click()
    for name in ("Instructions", "Difficulty", "Task mix", "Judge", "Answers", "Annotate", "Compare", "Overview"):
        page.get_by_role("navigation").get_by_role("link", name=name, exact=True).click()
        page.wait_for_load_state()
        assert page.locator("h1").count() == 1


def test_a_search_narrows_the_table_as_one_types_and_a_row_opens(watched, studio: str):
    page = watched(f"{studio}/run/finished/rows")
    page.get_by_label("Search").fill("question 117")
    page.get_by_text("1 row handed on").wait_for()
    assert "question+117" in page.url
    page.locator("#result tbody a").click()
    page.get_by_role("heading", name="Judgings").wait_for()
    assert "<script>alert(1)</script>" in page.locator(".asked.main").inner_text()


def test_a_slow_reply_to_an_earlier_search_does_not_undo_the_later_one(watched, studio: str):
    page, first, held = watched(f"{studio}/run/finished/rows"), re.compile(r"q=question\+1&"), []
    page.route(first, lambda route: held.append(route))
    with page.expect_request(first):
        page.get_by_label("Search").fill("question 1")
    page.get_by_label("Search").fill("question 117")
    page.get_by_text("1 row handed on").wait_for()
    with page.expect_response(first) as late:
        held[0].continue_()
    late.value.finished()
    page.evaluate("new Promise(requestAnimationFrame)")
    assert page.get_by_text("1 row handed on").is_visible()
    assert "question+117" in page.url


def test_moving_delta_changes_what_is_kept(watched, studio: str):
    page = watched(f"{studio}/run/finished/difficulty")
    before = page.locator("#result").inner_text()
    slider = page.get_by_role("slider")
    slider.focus()
    for _ in range(4):
        slider.press("ArrowRight")
    page.locator("p[role=status]", has_text="δ = 4 keeps").wait_for()
    assert page.locator("#result").inner_text() != before
    assert page.locator("#delta-said").inner_text() == "4"


def test_charts_have_their_colours(watched, studio: str):
    page = watched(f"{studio}/run/finished/difficulty?delta=3")
    fills = page.eval_on_selector_all("svg .f0, svg .f1, svg .f2", "marks => marks.map(m => getComputedStyle(m).fill)")
    assert len(set(fills)) > 1
    assert "rgb(0, 0, 0)" not in fills


def test_a_verdict_is_marked_and_a_blind_pair_decided_by_key(watched, studio: str, runs: Path):
    page = watched(f"{studio}/run/finished/rows?verdict=teacher&sort=-mfd")
    page.locator("#result tbody a").first.click()
    page.get_by_role("button", name="The verdict is right").click()
    page.get_by_role("heading", name="Marks").wait_for()
    page.get_by_role("link", name="Annotate").click()
    page.get_by_text("0 of 5 pairs decided").wait_for()
    page.wait_for_load_state()  # keys work once the script is there
    page.keyboard.press("1")
    page.get_by_text("1 of 5 pairs decided").wait_for()
    assert [m.kind for m in read_marks(runs / "finished")] == ["verdict", "preference"]


def test_a_run_at_work_moves_on_the_page_without_reloading_it(watched, studio: str, runs: Path):
    file = ProgressFile(runs / "working")
    file.start("round_0/06_verdicts", 80)
    page = watched(f"{studio}/run/working")
    page.get_by_text("0 of about 80").wait_for()
    page.evaluate("window.untouched = true")
    file.start("round_0/07_hard", 90)
    page.get_by_text("0 of about 90").wait_for()
    assert page.evaluate("window.untouched") is True
    file.end()


@pytest.mark.parametrize("name", ["finished", "working"])
def test_the_report_opens_without_complaint(watched, runs: Path, tmp_path: Path, name: str):
    path = write_report(RunDir(runs / name), tmp_path / "report.html")
    page = watched(path.as_uri())
    assert page.locator("h2").count() >= 10


PAPER = 688
"""Pixels of an A4 page between its margins."""


def test_a_printed_report_is_light_whole_and_as_wide_as_the_paper(watched, runs: Path, tmp_path: Path):
    path = write_report(RunDir(runs / "finished"), tmp_path / "report.html")
    page = watched(path.as_uri())
    page.set_viewport_size({"width": PAPER, "height": 1000})
    page.emulate_media(media="print", color_scheme="dark")

    def style(selector: str, name: str) -> str:
        return page.locator(selector).first.evaluate("(e, name) => getComputedStyle(e).getPropertyValue(name)", name)

    assert style("body", "background-color") == "rgb(255, 255, 255)"
    assert style("body", "color") == "rgb(0, 0, 0)"
    assert style(".scroll:has(> svg)", "break-inside") == "avoid"
    assert style("caption", "break-after") == "avoid"
    assert not page.locator("nav").is_visible()
    folded = page.locator("details:not([open]) table, details:not([open]) .answers")
    heights = folded.evaluate_all("all => all.map(e => e.checkVisibility() ? e.getBoundingClientRect().height : 0)")
    assert len(heights) > 10
    assert min(heights) > 20  # what is folded away on a screen is on the paper
    assert page.evaluate("document.documentElement.scrollWidth") <= PAPER
    assert page.pdf(prefer_css_page_size=True).startswith(b"%PDF")
