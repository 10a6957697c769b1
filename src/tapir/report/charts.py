"""Charts as inline SVG: bars, a histogram with a threshold, points with intervals, lines, columns of a mix.

Made here (ours) rather than by a library: the page runs no script (which rules out Vega-Lite and Plotly) and follows
the reader's light or dark setting through CSS variables (which a Matplotlib SVG with its fixed colours cannot). Each
chart has a title and a description; the table of its numbers is added by `figure`. What is drawn is chosen elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise

from tapir.report.markup import Child, Element, el, table

WIDTH = 880
CUT_ABOVE = 2.0
"""Bars of a mix are cut at this many times the largest target."""
MOST_POINTS = 240
"""A longer line is thinned to so many means: no screen shows more, and the page stays small at any size."""


LINE_FILLS = (0, 1, 3, 4)
"""Colours of the lines l0 to l3, for their legends and points."""


@dataclass(frozen=True, slots=True)
class Point:
    """A value, and its 95 % interval where it has one."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None


def figure(chart: Element, caption: str, head: Sequence[str], rows: Sequence[Sequence[Child]]) -> Element:
    """A chart, its caption and, folded away, the table of its numbers."""
    data = el("details", el("summary", "Numbers behind this chart"), table(head, rows, caption=caption), class_="data")
    return el("figure", el("div", chart, class_="scroll"), el("figcaption", caption), data)


def svg(width: float, height: float, title: str, description: str, *children: Child) -> Element:
    """An SVG element that is named and described for those who do not see it."""
    mark = "c" + sha256(f"{title}\0{description}".encode("utf-8", "replace")).hexdigest()[:10]
    named = el("title", title, id=f"{mark}-t"), el("desc", description, id=f"{mark}-d")
    node = el("svg", *named, *children, role="img", aria_labelledby=f"{mark}-t {mark}-d")
    node.set("viewBox", f"0 0 {width:g} {height:g}")
    # Its natural size on a wide window, smaller with a narrow one, but never so small that the words cannot be read.
    node.set(
        "style", f"width:100%;max-width:{width:g}px;min-width:{min(width, 560) if width > 560 else width * 0.8:g}px"
    )
    return node


def words(x: float, y: float, said: str, *, anchor: str = "start", kind: str | None = None) -> Element:
    """A label at this place."""
    return el("text", said, x=x, y=y, class_=kind, text_anchor=None if anchor == "start" else anchor)


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Element:
    """A straight line of this kind (`charts.css`)."""
    return el("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=kind)


def short(text: str, chars: int = 26) -> str:
    return text if len(text) <= chars else text[: chars - 1] + "…"


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers from at or below `low` to at or above `high`."""
    span = (high - low) or abs(high) or 1.0
    raw = span / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(n * step, 10) for n in range(first, max(last, first + 1) + 1)]


def stacked_bars(
    title: str,
    description: str,
    rows: Sequence[tuple[str, Sequence[float], str]],
    parts: Sequence[str],
    colours: Sequence[int] = (0, 2, 1),
) -> Element:
    """A horizontal bar a row: its label, one stretch for each part, and a note at its end."""
    left, right, pitch = 190.0, 190.0, 24.0
    top = 30.0 if len(parts) > 1 else 6.0
    longest = max((sum(values) for _, values, _ in rows), default=0) or 1
    marks: list[Child] = list(legend(left, parts, colours)) if len(parts) > 1 else []
    for n, (label, values, note) in enumerate(rows):
        y, x = top + n * pitch, left
        marks.append(words(left - 10, y + 15, short(label), anchor="end"))
        for part, value in enumerate(values):
            width = value / longest * (WIDTH - left - right)
            if width > 0:
                said = f"{label}: {parts[part]} {value:,.6g}"
                marks.append(
                    el("rect", el("title", said), x=x, y=y + 4, width=width, height=14, class_=f"f{colours[part]}")
                )
            x += width
        marks.append(words(x + 8, y + 15, note, kind="soft"))
    return svg(WIDTH, top + len(rows) * pitch + 6, title, description, *marks)


def legend(x: float, parts: Sequence[str], colours: Sequence[int], y: float = 0.0) -> list[Element]:
    """What each colour stands for, in a row."""
    marks: list[Element] = []
    for n, part in enumerate(parts):
        marks += [el("rect", x=x, y=y + 4, width=12, height=12, class_=f"f{colours[n]}"), words(x + 18, y + 14, part)]
        x += 40 + 7.2 * len(part)
    return marks


def histogram(
    title: str, description: str, bins: Mapping[float, int], *, width: float, threshold: float | None, axis: str
) -> Element:
    """Columns around each key, those above the threshold in the second colour."""
    left, right, top, base, height = 56.0, 14.0, 26.0, 220.0, 262.0
    low, high = min(bins) - width / 2, max(bins) + width / 2
    if threshold is not None:
        low, high = min(low, threshold - width / 2), max(high, threshold + width / 2)
    scale = (WIDTH - left - right) / (high - low)
    levels = [t for t in ticks(0, max(bins.values()), 4) if t == int(t)]
    tall = (base - top) / levels[-1]
    marks: list[Child] = []
    for level in levels:
        y = base - level * tall
        marks += [line(left, y, WIDTH - right, y, "grid"), words(left - 8, y + 4, f"{level:,.0f}", anchor="end")]
    for value, count in sorted(bins.items()):
        x, tall_bar = left + (value - width / 2 - low) * scale, count * tall
        hard = threshold is not None and value > threshold
        said, wide, kind = f"{value:g}: {count:,}", max(0.5, width * scale - 2), "f1" if hard else "f0"
        box = {"x": x + 1, "y": base - tall_bar, "width": wide, "height": tall_bar}
        marks.append(el("rect", el("title", said), class_=kind, **box))
    for value in ticks(low + width / 2, high - width / 2, 10):
        if low <= value <= high:
            marks.append(words(left + (value - low) * scale, base + 18, signed(value), anchor="middle"))
    marks.append(words((left + WIDTH - right) / 2, height - 6, axis, anchor="middle", kind="soft"))
    if threshold is not None:
        x = left + (threshold - low) * scale
        end = x > WIDTH - 220
        marks += [
            line(x, top - 12, x, base, "mark"),
            words(
                x - 7 if end else x + 7, top - 4, f"δ = {threshold:g}; hard above it", anchor="end" if end else "start"
            ),
        ]
    return svg(WIDTH, height, title, description, *marks)


def signed(value: float) -> str:
    """A number with a real minus sign."""
    return f"{value:g}".replace("-", "−")


def intervals(
    title: str,
    description: str,
    points: Sequence[Point],
    *,
    form: str,
    reference: float | None = None,
    joined: bool = True,
) -> Element:
    """A small panel: a point each with its interval, joined by a line in time; perhaps a level to compare with."""
    width, height, left, right, top, base = 420.0, 232.0, 52.0, 16.0, 14.0, 196.0
    values = [v for p in points for v in (p.value, p.low, p.high) if v is not None]
    values += [] if reference is None else [reference]
    levels = ticks(min(values), max(values), 4)
    low, high = levels[0], levels[-1]
    decimals = max(len(f"{level:g}".partition(".")[2]) for level in levels)

    def at(value: float) -> float:
        return base - (value - low) / (high - low) * (base - top)

    marks: list[Child] = []
    for level in levels:
        marks += [line(left, at(level), width - right, at(level), "grid")]
        marks += [words(left - 8, at(level) + 4, f"{level:.{decimals}f}", anchor="end")]
    if reference is not None:
        marks.append(line(left, at(reference), width - right, at(reference), "mark"))
    step = (width - left - right) / max(1, len(points))
    places = [left + step * (n + 0.5) for n in range(len(points))]
    if joined:
        path = " ".join(f"{x:.2f},{at(p.value):.2f}" for x, p in zip(places, points, strict=True))
        marks.append(el("polyline", points=path, class_="l0 thin"))
    every = math.ceil(len(points) / 6)
    for n, (x, point) in enumerate(zip(places, points, strict=True)):
        marks += _whisker(x, point, at, form)
        if n % every == 0 or n == len(points) - 1:
            marks.append(words(x, base + 20, short(point.label, max(9, int(step / 6.5))), anchor="middle"))
    return svg(width, height, title, description, *marks)


def _whisker(x: float, point: Point, at: Callable[[float], float], form: str) -> list[Element]:
    said, marks = f"{point.label}: {form.format(point.value)}", list[Element]()
    if point.low is not None and point.high is not None:
        said += f" ({form.format(point.low)} to {form.format(point.high)})"
        low, high = at(point.low), at(point.high)
        marks += [
            line(x, low, x, high, "l0"),
            line(x - 5, low, x + 5, low, "l0"),
            line(x - 5, high, x + 5, high, "l0"),
        ]
    return [*marks, el("circle", el("title", said), cx=x, cy=at(point.value), r=4.5, class_="f0")]


def lines(
    title: str, description: str, series: Mapping[str, Sequence[tuple[float, float]]], *, x_axis: str, y_axis: str
) -> Element:
    """Curves over a common axis, told apart by colour and by dashes."""
    width, height, left, right, top, base = 420.0, 262.0, 52.0, 14.0, 34.0, 212.0
    thinned = {name: thin(points) for name, points in series.items() if points}
    xs = [x for points in thinned.values() for x, _ in points]
    ys = [y for points in thinned.values() for _, y in points]
    levels, last = ticks(min(ys), max(ys), 4), max(max(xs), min(xs) + 1)
    across = (width - left - right) / (last - min(xs))
    up = (base - top) / (levels[-1] - levels[0])
    decimals = max(len(f"{level:g}".partition(".")[2]) for level in levels)
    marks: list[Child] = [*legend(left, list(thinned), LINE_FILLS)]
    for level in levels:
        y = base - (level - levels[0]) * up
        marks += [
            line(left, y, width - right, y, "grid"),
            words(left - 8, y + 4, f"{level:.{decimals}f}", anchor="end"),
        ]
    for n, points in enumerate(thinned.values()):
        path = " ".join(f"{left + (x - min(xs)) * across:.1f},{base - (y - levels[0]) * up:.1f}" for x, y in points)
        marks.append(el("polyline", points=path, class_=f"l{n}"))
    marks += [
        words(left, base + 18, f"{min(xs):,.0f}"),
        words(width - right, base + 18, f"{max(xs):,.0f}", anchor="end"),
        words((left + width - right) / 2, height - 12, f"{y_axis} by {x_axis}", anchor="middle", kind="soft"),
    ]
    return svg(width, height, title, description, *marks)


def thin(points: Sequence[tuple[float, float]], most: int = MOST_POINTS) -> list[tuple[float, float]]:
    """At most so many points, each the mean of a stretch."""
    if len(points) <= most:
        return list(points)
    cuts = [len(points) * n // most for n in range(most + 1)]
    stretches = [points[a:b] for a, b in pairwise(cuts)]
    return [(math.fsum(x for x, _ in s) / len(s), math.fsum(y for _, y in s) / len(s)) for s in stretches]


def mix_columns(
    title: str,
    description: str,
    tasks: Mapping[str, str],
    sets: Mapping[str, Mapping[str, float]],
    target: Mapping[str, float],
) -> Element:
    """A row a task (under its label), a column a set: the share as a bar with its number, the target as a tick."""
    left, top, pitch = 190.0, 44.0, 21.0
    column = (WIDTH - left) / max(1, len(sets))
    most = max([s.get(t, 0) for s in sets.values() for t in tasks] + [target.get(t, 0) for t in tasks] + [0.01])
    if target:
        # One set of few rows may be all of one task; it is cut, with a mark, rather than squeezing the others.
        most = min(most, CUT_ABOVE * max(target.values()))
    room = column - 58
    marks: list[Child] = []
    for n, name in enumerate(sets):
        marks.append(words(left + n * column, 16, short(name, 16), kind="strong"))
    if target:
        marks += [line(left, 26, left, 38, "mark"), words(left + 8, 36, "target share", kind="soft")]
    for row, (task, label) in enumerate(tasks.items()):
        y = top + row * pitch
        marks.append(words(left - 12, y + 14, short(label), anchor="end"))
        for n, (name, shares) in enumerate(sets.items()):
            x, share = left + n * column, shares.get(task, 0.0)
            long, cut = min(share / most, 1) * room, "» " if share > most else ""
            said = f"{label}, {name}: {100 * share:.1f} %, target {100 * target.get(task, 0):.1f} %"
            marks.append(el("rect", el("title", said), x=x, y=y + 4, width=max(long, 0.01), height=12, class_="f0"))
            if target.get(task):
                tick = x + target[task] / most * room
                marks.append(line(tick, y + 2, tick, y + 18, "mark"))
            edge = x + max(long, target.get(task, 0) / most * room)
            marks.append(words(edge + 6, y + 14, f"{cut}{100 * share:.1f}" if share else "·", kind="soft"))
    return svg(WIDTH, top + len(tasks) * pitch + 6, title, description, *marks)
