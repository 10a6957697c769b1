"""Charts as files: SVG that stands alone, and PNG."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tapir.errors import DataError
from tapir.report import figures
from tapir.report.facts import Facts
from tapir.report.figures import png, standalone, write_figures
from tapir.report.html import page
from tapir.report.making import difficulty, mix
from tapir.report.markup import el
from tapir.store.rundir import RunDir

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.skipif(not figures.has_font(), reason="no font is installed here (Debian: fonts-dejavu-core)")
def test_every_chart_becomes_an_svg_and_a_png_of_one_name(invent: Callable[..., RunDir], tmp_path: Path):
    facts = Facts(invent(seeds=24, held_out=12, rounds=1, until="hard"))
    tree = el(
        "main", (el("section", make(facts), id=mark) for mark, make in (("mix", mix), ("difficulty", difficulty)))
    )
    written = write_figures(tree, tmp_path / "figures")
    drawn = len(list(tree.iter("svg")))
    assert len(written) == 2 * drawn == 2 * len({p.stem for p in written})
    assert {p.name for p in written} >= {"difficulty-mfd-teacher-s-score-student-0-s-score.svg", "mix-task-mix.png"}


def test_an_svg_needs_no_style_sheet_but_its_own():
    chart = el("svg", el("title", "T"), el("desc", "d"), el("rect", x=1, y=1, width=3, height=3, class_="f0"))
    chart.set("viewBox", "0 0 40 20")
    chart.set("style", "width:100%")
    root = ET.fromstring(standalone(chart))
    assert (root.tag, root.get("width"), root.get("height"), root.get("style")) == (f"{SVG}svg", "40", "20", None)
    style = root.findtext(f"{SVG}style") or ""
    assert "var(" not in style
    assert ".f0 { fill: #0072b2; }" in style


def test_a_png_is_three_times_as_large_and_shows_its_letters():
    chart = el("svg", el("title", "T"), el("desc", "d"), el("text", "Hello", x=2, y=14))
    chart.set("viewBox", "0 0 40 20")
    data = png(standalone(chart))
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", data[16:24]) == (120, 60)


def test_without_a_font_the_svg_files_are_there_and_the_error_says_what_to_install(
    finished_run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(figures, "png", lambda svg: b"the same picture with and without a letter")
    with pytest.raises(DataError, match="fonts-dejavu-core"):
        write_figures(page(Facts(finished_run)), tmp_path)
    assert {p.suffix for p in tmp_path.iterdir()} == {".svg"}


def test_hostile_words_stay_words_in_a_figure(invent: Callable[..., RunDir]):
    attack = "</style><script>1</script><svg onload=alert(1)> &xxe; ]]>"
    run = invent(seeds=24, held_out=12, rounds=1, tasks=[f"{attack} {n}" for n in range(3)])
    charts = list(page(Facts(run)).iter("svg"))
    assert len(charts) > 10
    for chart in charts:
        root = ET.fromstring(standalone(chart))
        tags = {node.tag.removeprefix(SVG) for node in root.iter()}
        assert tags <= {"svg", "title", "desc", "style", "rect", "line", "text", "polyline", "polygon", "circle"}
        assert not [k for node in root.iter() for k in node.attrib if k.startswith("on") or "href" in k]
