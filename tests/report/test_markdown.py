"""The page as Markdown: the same words and tables, and nothing foreign that acts."""

from __future__ import annotations

from collections.abc import Callable

from tapir.report.facts import Facts
from tapir.report.html import SECTIONS, page
from tapir.report.markdown import as_markdown
from tapir.report.markup import el, table
from tapir.store.rundir import RunDir


def test_a_table_has_its_caption_and_small_print_in_brackets():
    cell = el("span", "61.5", el("small", "52 to 70"))
    tree = el("section", el("h2", "Results"), table(("metric", "value"), [["wins | ties", cell]], caption="Before"))
    assert as_markdown(tree) == (
        "## Results\n\n**Before**\n\n| metric | value |\n| --- | --- |\n| wins \\| ties | 61.5 (52 to 70) |\n"
    )


def test_a_figure_becomes_the_table_behind_it():
    chart = el("svg", el("title", "not shown"))
    details = el("details", el("summary", "Numbers"), table(("a", "b"), [["1", "2"]], caption="C"), class_="data")
    text = as_markdown(el("figure", chart, el("figcaption", "C"), details))
    assert text == "**C**\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n"


def test_foreign_text_is_fenced_by_more_backticks_than_it_holds():
    text = as_markdown(el("div", "````\n<script>1</script>", class_="text"))
    assert text == "`````text\n````\n<script>1</script>\n`````\n"


def test_what_could_be_markup_is_escaped():
    text = as_markdown(el("p", "# [x](javascript:alert(1)) <img src=x onerror=1> *a* _b_ student_1 `c`"))
    assert text == ("\\# \\[x\\](javascript:alert(1)) \\<img src=x onerror=1\\> \\*a\\* \\_b\\_ student_1 \\`c\\`\n")


def test_it_has_every_section_of_the_page(finished_run: RunDir):
    text = as_markdown(page(Facts(finished_run)))
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == [title for _, title, _ in SECTIONS]


def test_no_line_of_a_hostile_run_opens_a_tag_outside_a_fence(invent: Callable[..., RunDir]):
    run = invent(seeds=24, held_out=12, rounds=1, words="<script>1</script>\n<svg onload=x>\n# [l](javascript:1)")
    fence = ""
    for line in as_markdown(page(Facts(run))).splitlines():
        if fence:
            fence = "" if line == fence else fence
        elif line.startswith("```"):
            fence = line.removesuffix("text")
        else:
            assert "<" not in line.replace("\\<", "")
