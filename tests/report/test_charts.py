from __future__ import annotations

import pytest

from tapir.report.charts import Point, histogram, intervals, lines, mix_columns, stacked_bars, thin, ticks
from tapir.report.markup import Element
from tapir.report.multiples import curves, distributions


def marks(chart: Element, tag: str, kind: str) -> list[Element]:
    return [node for node in chart.iter(tag) if node.get("class") == kind]


@pytest.mark.parametrize(
    ("low", "high", "wanted", "found"),
    [
        (0, 10, 5, [0, 2, 4, 6, 8, 10]),
        (0.13, 0.62, 5, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]),
        (-3, 4, 4, [-4, -2, 0, 2, 4]),
        (5, 5, 4, [4, 6]),
        (0, 0, 4, [0, 0.25]),
    ],
)
def test_ticks_are_round_and_enclose_the_values(low: float, high: float, wanted: int, found: list[float]):
    assert ticks(low, high, wanted) == found


def test_a_long_curve_is_thinned_to_means_of_stretches():
    assert thin([(0, 2), (1, 4), (2, 6), (3, 8)], most=2) == [(0.5, 3), (2.5, 7)]
    assert thin([(0, 2), (1, 4)], most=2) == [(0, 2), (1, 4)]


def test_only_columns_above_the_threshold_have_the_colour_of_hard():
    chart = histogram("MFD", "…", {1.5: 4, 2.0: 3, 2.5: 2}, width=0.5, threshold=2.0, axis="MFD")
    assert [m.findtext("title") for m in marks(chart, "rect", "f0")] == ["1.5: 4", "2: 3"]
    assert [m.findtext("title") for m in marks(chart, "rect", "f1")] == ["2.5: 2"]


def test_a_histogram_of_one_value_can_be_drawn():
    assert len(marks(histogram("MFD", "…", {0.0: 5}, width=0.5, threshold=None, axis="MFD"), "rect", "f0")) == 1


def test_every_chart_has_a_title_and_a_description_that_it_is_labelled_by():
    charts = [
        histogram("A", "a", {1.0: 2}, width=1, threshold=None, axis="x"),
        stacked_bars("B", "b", [("row", (3, 1), "note")], ("in", "out")),
        intervals("C", "c", [Point("student_0", 5.0, 4.0, 6.0)], form="{:.1f}"),
        lines("D", "d", {"hard": [(1, 2), (2, 1)]}, x_axis="step", y_axis="NLL"),
        mix_columns("E", "e", {"Math": "Math"}, {"pool": {"Math": 1.0}}, {"Math": 0.5}),
    ]
    for chart, title in zip(charts, "ABCDE", strict=True):
        names = [chart.find("title"), chart.find("desc")]
        assert [n.text for n in names if n is not None] == [title, title.lower()]
        assert chart.get("aria-labelledby") == " ".join(str(n.get("id")) for n in names if n is not None)
        assert chart.get("role") == "img"


def test_a_point_without_interval_has_no_whisker():
    bare = intervals("C", "c", [Point("student_0", 5.0)], form="{:.1f}")
    assert marks(bare, "line", "l0") == []
    whole = intervals("C", "c", [Point("student_0", 5.0, 4.0, 6.0)], form="{:.1f}")
    assert len(marks(whole, "line", "l0")) == 3


def test_bars_are_in_proportion_to_their_values():
    chart = stacked_bars("B", "b", [("one", (3, 1), ""), ("two", (2, 0), "")], ("in", "out"))
    wide = {m.findtext("title"): float(str(m.get("width"))) for m in chart.iter("rect") if m.find("title") is not None}
    assert wide["one: in 3"] == 3 * wide["one: out 1"] == pytest.approx(1.5 * wide["two: in 2"], abs=0.02)


def test_a_bar_far_above_every_target_is_cut_with_a_mark_and_keeps_its_number():
    chart = mix_columns("E", "e", {"Math": "Math"}, {"pool": {"Math": 1.0}, "hard": {"Math": 0.1}}, {"Math": 0.2})
    long, short = (float(str(m.get("width"))) for m in marks(chart, "rect", "f0"))
    # The scale ends at twice the target, 0.4: a tenth is a quarter of it.
    assert long == pytest.approx(4 * short, abs=0.05)
    assert "» 100.0" in [t.text for t in chart.iter("text")]


def test_distributions_share_their_scales():
    cells = {"student_0": {"held out": {0.0: 2, 3.0: 2}}, "student_1": {"held out": {0.0: 4}, "trained": {}}}
    chart = distributions("F", "f", cells, width=0.5, threshold=2.0)
    tall = [float(str(m.get("height"))) for m in chart.iter("rect")]
    assert tall == [26, 26, 52]
    assert [m.get("class") for m in chart.iter("rect")] == ["f0", "f1", "f0"]


def test_a_panel_has_a_stretch_for_each_student_and_a_point_for_a_single_step():
    panels = {"Math": {"student_0": [(1.0, 2.0), (2.0, 1.0)], "student_1": [(1.0, 1.0)]}, "Law": {}}
    chart = curves("G", "g", panels, unit="NLL")
    assert len(marks(chart, "polyline", "l0 fine")) == 2
    assert len(list(chart.iter("circle"))) == 1
