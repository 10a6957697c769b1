"""A chart of several measures beside each other: a row a variant, a point with its lying interval in every panel.

The marks are `charts`'; what is compared is `ablation`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from tapir.report.charts import WIDTH, Point, line, short, svg, ticks, words
from tapir.report.markup import Child, Element, el


def forest(
    title: str, description: str, labels: Sequence[str], panels: Mapping[str, Sequence[Point | None]]
) -> Element:
    """A row a label, a panel a measure: points with their intervals lying, each panel on an axis of its own."""
    left, top, pitch, gap = 190.0, 34.0, 26.0, 44.0
    base = top + len(labels) * pitch
    room = (WIDTH - left) / max(1, len(panels)) - gap
    marks: list[Child] = [
        words(left - 14, top + (n + 0.5) * pitch + 4, short(label), anchor="end") for n, label in enumerate(labels)
    ]
    for number, (name, points) in enumerate(panels.items()):
        x0 = left + number * (room + gap)
        values = [v for p in points if p is not None for v in (p.value, p.low, p.high) if v is not None]
        levels = ticks(min(values), max(values), 3)

        def across(value: float, x0: float = x0, levels: Sequence[float] = levels) -> float:
            return x0 + (value - levels[0]) / (levels[-1] - levels[0]) * room

        marks.append(words(x0, 16, name, kind="strong"))
        for level in levels:
            marks += [line(across(level), top, across(level), base, "grid")]
            marks.append(words(across(level), base + 18, f"{level:g}", anchor="middle"))
        for row, point in enumerate(points):
            if point is not None:
                marks += _lying(point, across, top + (row + 0.5) * pitch, name)
    return svg(WIDTH, base + 28, title, description, *marks)


def _lying(point: Point, across: Callable[[float], float], y: float, name: str) -> list[Element]:
    said, marks = f"{point.label}, {name}: {point.value:.4g}", list[Element]()
    if point.low is not None and point.high is not None:
        said += f" ({point.low:.4g} to {point.high:.4g})"
        low, high = across(point.low), across(point.high)
        marks += [
            line(low, y, high, y, "l0"),
            line(low, y - 4, low, y + 4, "l0"),
            line(high, y - 4, high, y + 4, "l0"),
        ]
    return [*marks, el("circle", el("title", said), cx=across(point.value), cy=y, r=4.5, class_="f0")]
