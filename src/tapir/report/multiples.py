"""Small multiples: the same little chart again and again over common scales, so that the eye can run along them.

Owns distributions by student (Figure 6) and curves by task. What is drawn is chosen elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tapir.report.charts import WIDTH, line, short, signed, svg, thin, ticks, words
from tapir.report.markup import Child, Element, el

Curve = Sequence[tuple[float, float]]
Bins = Mapping[float, int]
ACROSS = 4
MOST_POINTS = 60


@dataclass(frozen=True, slots=True)
class _Cell:
    """Where one little histogram stands, and its scales."""

    x: float
    base: float
    across: float
    """Pixels a unit of the value."""
    up: float
    """Pixels for a share of 1."""
    low: float
    high: float
    width: float
    threshold: float | None

    def place(self, value: float) -> float:
        return self.x + (value - self.low) * self.across

    def columns(self, said: str, bins: Bins) -> list[Element]:
        total = sum(bins.values())
        marks = [line(self.x, self.base, self.place(self.high), self.base, "grid")]
        for value, count in sorted(bins.items()):
            tall = count / total * self.up
            hard = self.threshold is not None and value > self.threshold
            title = el("title", f"{said}: {value:g}: {count:,} of {total:,} ({100 * count / total:.0f} %)")
            box = {"x": self.place(value - self.width / 2) + 0.5, "y": self.base - tall, "height": tall}
            wide = max(0.5, self.width * self.across - 1)
            marks.append(el("rect", title, class_="f1" if hard else "f0", width=wide, **box))
        if self.threshold is not None and self.low <= self.threshold <= self.high:
            x = self.place(self.threshold)
            marks.append(line(x, self.base - 52, x, self.base, "mark"))
        return marks

    def axis(self) -> list[Element]:
        middle, end = self.low + self.width / 2, self.high - self.width / 2
        shown = (v for v in ticks(middle, end, 4) if self.low <= v <= self.high)
        return [words(self.place(v), self.base + 15, signed(v), anchor="middle") for v in shown]


def distributions(
    title: str,
    description: str,
    cells: Mapping[str, Mapping[str, Bins]],
    *,
    width: float,
    threshold: float | None,
) -> Element:
    """A row for each name, a column for each group: shares of the rows by bin, all over the same two scales."""
    groups = list(dict.fromkeys(g for row in cells.values() for g in row))
    every = [bins for row in cells.values() for bins in row.values() if bins]
    low = min(v for bins in every for v in bins) - width / 2
    high = max(v for bins in every for v in bins) + width / 2
    most = max(n / sum(bins.values()) for bins in every for n in bins.values())
    left, top, pitch, tall = 92.0, 30.0, 74.0, 52.0
    column = (WIDTH - left) / len(groups)
    marks: list[Child] = [
        words(left + n * column, 14, short(g, int(column / 7.5)), kind="strong") for n, g in enumerate(groups)
    ]
    for row, (name, found) in enumerate(cells.items()):
        base = top + row * pitch + tall
        marks.append(words(left - 12, base - 4, short(name, 12), anchor="end"))
        for n, group in enumerate(groups):
            across = (column - 26) / (high - low)
            cell = _Cell(left + n * column, base, across, tall / most, low, high, width, threshold)
            bins = found.get(group)
            marks += cell.columns(f"{name}, {group}", bins) if bins else [words(cell.x, base - 4, "–", kind="soft")]
            if row == len(cells) - 1:
                marks += cell.axis()
    return svg(WIDTH, top + len(cells) * pitch + 4, title, description, *marks)


def curves(title: str, description: str, panels: Mapping[str, Mapping[str, Curve]], *, unit: str) -> Element:
    """A little panel for each name; in it one stretch for each of its series (students), over one common scale."""
    values = sorted(y for series in panels.values() for points in series.values() for _, y in points)
    # One step of one rare task may lie far above all else; what passes the scale is drawn on its edge.
    levels = ticks(values[0], values[math.ceil(0.97 * len(values)) - 1], 3)
    low, high = levels[0], levels[-1]
    stretches = list(dict.fromkeys(name for series in panels.values() for name in series))
    wide, pitch, tall = WIDTH / ACROSS, 92.0, 52.0
    marks: list[Child] = [
        words(0, 14, f"{unit}, {low:g} to {high:g} in every panel; from left to right: {', '.join(stretches)}",
              kind="soft")
    ]  # fmt: skip
    for n, (name, series) in enumerate(panels.items()):
        x, top = (n % ACROSS) * wide, 30 + (n // ACROSS) * pitch
        marks += _panel(name, series, stretches, (x, top, wide - 18, tall), (low, high))
    rows = -(-len(panels) // ACROSS)
    return svg(WIDTH, 30 + rows * pitch + 4, title, description, *marks)


def _panel(
    name: str,
    series: Mapping[str, Curve],
    stretches: Sequence[str],
    box: tuple[float, float, float, float],
    scale: tuple[float, float],
) -> list[Element]:
    (x, top, wide, tall), (low, high) = box, scale
    base, each = top + 16 + tall, wide / len(stretches)
    ends = [y for s in stretches for _, y in series.get(s, ())]
    told = f"{ends[0]:.2f} → {ends[-1]:.2f}" if ends else "–"
    marks = [
        words(x, top + 10, short(name, 17), kind="strong"),
        words(x + wide, top + 10, told, anchor="end", kind="soft"),
        line(x, base, x + wide, base, "grid"),
    ]
    for n, stretch in enumerate(stretches):
        points = thin(series.get(stretch, ()), MOST_POINTS)
        if n:
            marks.append(line(x + n * each, base - tall, x + n * each, base, "grid"))
        if not points:
            continue
        first, last = points[0][0], max(points[-1][0], points[0][0] + 1)
        step, up = 0.92 * each / (last - first), tall / (high - low)
        left = x + (n + 0.04) * each
        at = [(left + (a - first) * step, base - (min(b, high) - low) * up) for a, b in points]
        title = el("title", f"{name}, {stretch}: {points[0][1]:.3f} to {points[-1][1]:.3f}")
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in at)
        marks.append(el("polyline", title, points=path, class_="l0 fine"))
        if len(at) == 1:
            marks.append(el("circle", cx=at[0][0], cy=at[0][1], r=2, class_="f0"))
    return marks
