"""The page's charts as files for a paper: SVG that stands alone, and PNG made from it.

PNG by resvg (`resvg-py`: one wheel for all of Python 3.10 and later, no system library, which CairoSVG needs). In both,
colours are those of the light page on white ground.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

from tapir.errors import DataError
from tapir.report.markup import Element, el, stylesheet

FONTS = 'font-family: "DejaVu Sans", "Liberation Sans", Arial, Helvetica, sans-serif;'
ZOOM = 3.0
"""880 pixels across become 2640: 300 dots an inch over a page's width."""
PROBE = '<svg xmlns="http://www.w3.org/2000/svg" width="20" height="20"><text x="2" y="16">{}</text></svg>'


def write_figures(page: Element, folder: Path) -> list[Path]:
    """Write every chart of the page as `SECTION-TITLE.svg` and `.png`; older files of these names are replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    charts = [(name, standalone(chart)) for name, chart in _charts(page)]
    for name, text in charts:
        path = folder / f"{name}.svg"
        path.write_text(text, encoding="utf-8")
        written.append(path)
    if charts:
        _need_a_font(folder)
    for name, text in charts:
        path = folder / f"{name}.png"
        path.write_bytes(png(text))
        written.append(path)
    return written


def _charts(page: Element) -> Iterator[tuple[str, Element]]:
    """Each chart with a file name of its own."""
    used: set[str] = set()
    for section in page.iter("section"):
        for chart in section.iter("svg"):
            base = f"{section.get('id')}-{_slug(chart.findtext('title') or 'chart')}"
            name = next(n for n in (base, *(f"{base}-{k}" for k in range(2, 10_000))) if n not in used)
            used.add(name)
            yield name, chart


def _slug(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:60] or "chart"


def standalone(chart: Element) -> str:
    """A chart of the page as an SVG document of its own."""
    node = copy.deepcopy(chart)
    node.attrib.pop("style", None)
    *_, width, height = str(node.get("viewBox")).split()
    node.set("xmlns", "http://www.w3.org/2000/svg")
    node.set("width", width)
    node.set("height", height)
    node.insert(2, el("style", _style()))
    node.insert(3, el("rect", x=0, y=0, width=float(width), height=float(height), fill="#fff"))
    return ET.tostring(node, encoding="unicode") + "\n"


def _style() -> str:
    """The charts' style sheet with the light page's values in the place of its variables."""
    light = stylesheet("page.css").split("}", 1)[0]
    values: dict[str, str] = dict(re.findall(r"--([a-z0-9]+):\s*([^;]+);", light))
    rules = re.sub(r"/\*.*?\*/", "", stylesheet("charts.css"), flags=re.DOTALL)
    return f"text {{ {FONTS} }}" + re.sub(r"var\(--([a-z0-9]+)\)", lambda m: values[m[1]], rules)


def png(svg: str) -> bytes:
    """The picture of an SVG document, three times its size."""
    import resvg_py

    return bytes(resvg_py.svg_to_bytes(svg_string=svg, zoom=ZOOM, background="white"))


def has_font() -> bool:
    """Whether letters are drawn here: without a font resvg leaves them out and says nothing about it."""
    return png(PROBE.format("M")) != png(PROBE.format(""))


def _need_a_font(folder: Path) -> None:
    if not has_font():
        raise DataError(
            f"{folder}: the SVG files are written, but no font is installed here to draw PNG files with; install one "
            "(Debian: fonts-dejavu-core) and ask again"
        )
