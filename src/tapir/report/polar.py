"""The radar of Figure 4: a closed line a model over axes that are task types. Charts over straight axes are `charts`'.

A radar shows the shape of strengths and weaknesses at a glance and is bad for reading values; so it never stands
without its table, which has the intervals that a radar cannot show.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from tapir.report.charts import LINE_FILLS, legend, line, short, svg, ticks, words
from tapir.report.markup import Child, Element, el

ACROSS, TALL, RADIUS = 560.0, 430.0, 150.0
CEILING = 2.0
"""Farther out than this many times the reference nothing is drawn: one wild ratio would squeeze all others."""
MOST_AXES = 16
"""More labels around a circle cannot be told apart."""
MOST_LINES = 4


def radar(
    title: str,
    description: str,
    axes: Sequence[str],
    series: Mapping[str, Sequence[float | None]],
    *,
    reference: float,
    reference_name: str,
) -> Element:
    """One closed line for each of the series over three axes or more; a value that is unknown is passed over."""
    known = [v for values in series.values() for v in values if v is not None]
    rings = ticks(0.0, min(CEILING * reference, max([*known, reference])), 4)
    x, y, turn = ACROSS / 2, 215.0, 2 * math.pi / len(axes)

    def at(axis: int, value: float) -> tuple[float, float]:
        far = min(value, rings[-1]) / rings[-1] * RADIUS
        return x + far * math.sin(axis * turn), y - far * math.cos(axis * turn)

    def closed(values: Sequence[tuple[int, float]], kind: str, said: str) -> Element:
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in (at(n, v) for n, v in values))
        return el("polygon", el("title", said), points=path, class_=kind)

    marks: list[Child] = [*legend(40, list(series), LINE_FILLS)]
    for ring in rings[1:]:
        marks += [closed([(n, ring) for n in range(len(axes))], "ring", f"{ring:g} %")]
        marks += [words(x + 4, at(0, ring)[1] + 4, f"{ring:g}", kind="soft")]
    for n, axis in enumerate(axes):
        out = 1.1 * RADIUS
        marks.append(line(x, y, *at(n, rings[-1]), "grid"))
        marks.append(_axis_label(axis, n * turn, x + out * math.sin(n * turn), y - out * math.cos(n * turn)))
    marks.append(closed([(n, reference) for n in range(len(axes))], "level", f"{reference_name}: {reference:g} %"))
    for n, (name, values) in enumerate(series.items()):
        seen = [(axis, v) for axis, v in enumerate(values) if v is not None]
        marks.append(closed(seen, f"l{n}", name))
        for axis, value in seen:
            a, b = at(axis, value)
            said = el("title", f"{name}, {axes[axis]}: {value:.0f} %")
            marks.append(el("circle", said, cx=a, cy=b, r=3, class_=f"f{LINE_FILLS[n]}"))
    marks.append(
        words(ACROSS / 2, TALL - 8, f"dotted: {reference_name}, {reference:g} %", anchor="middle", kind="soft")
    )
    return svg(ACROSS, TALL, title, description, *marks)


def _axis_label(name: str, angle: float, x: float, y: float) -> Element:
    aside = math.sin(angle)
    anchor = "middle" if abs(aside) < 0.15 else "start" if aside > 0 else "end"
    return words(x, y + 4, short(name, 18), anchor=anchor)
