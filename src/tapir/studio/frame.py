"""What every page shares: the frame with its links, forms, charts without inline style, numbers in words."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import quote, urlencode

from starlette.responses import HTMLResponse

from tapir import __version__
from tapir.report.markup import Child, Element, el, foreign, render

PAGES = (
    ("", "Overview"),
    ("rows", "Instructions"),
    ("difficulty", "Difficulty"),
    ("mix", "Task mix"),
    ("judge", "Judge"),
    ("answers", "Answers"),
)
MOST_CHARS = 40_000
"""Of one text on a page of its own."""
INSTRUCTION_ID = re.compile("[0-9a-f]{16}")


def run_url(key: str, part: str = "", /, **asked: str | int | float | None) -> str:
    """Address of a run's page."""
    path = f"/run/{quote(key, safe='')}" + (f"/{part}" if part else "")
    given = {k: v for k, v in asked.items() if v not in (None, "")}
    return path + (f"?{urlencode(given)}" if given else "")


def page(
    title: str, *body: Child | Iterable[Child], key: str | None = None, here: str | None = None, annotate: bool = False
) -> HTMLResponse:
    """A whole page; `key` is the run that it is about."""
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("title", f"{title} · tapir studio"),
        el("link", rel="icon", href="/static/icon.svg"),
        el("link", rel="stylesheet", href="/static/page.css"),
        el("link", rel="stylesheet", href="/static/charts.css"),
        el("link", rel="stylesheet", href="/static/studio.css"),
        el("script", src="/static/studio.js", defer=""),
    )
    top = el(
        "div",
        el("a", "tapir studio", href="/", class_="home"),
        el("a", foreign(key, 60), href=run_url(key), class_="run") if key else None,
        class_="top",
    )
    content = el("main", el("h1", title), *body)
    document = el("html", head, el("body", el("header", top, _links(key, here, annotate)), content), lang="en")
    return HTMLResponse(render(plain_charts(document)))


def _links(key: str | None, here: str | None, annotate: bool) -> Element | None:
    if key is None:
        return None
    pages = [*PAGES, *([("annotate", "Annotate")] if annotate else [])]
    links = [
        el("a", name, href=run_url(key, part), aria_current="page" if part == here else None) for part, name in pages
    ]
    compare = el(
        "a", "Compare", href=f"/compare?{urlencode({'a': key})}", aria_current="page" if here == "compare" else None
    )
    return el("nav", *links, compare, el("span", f"v{__version__}", class_="version"), aria_label="Pages")


def plain_charts(tree: Element) -> Element:
    """The same tree without inline styles, which the strict policy refuses; the style sheet sizes charts by class."""
    for node in tree.iter():
        if node.attrib.pop("style", None) is not None and node.tag == "svg":
            wide = float(node.get("viewBox", "0 0 880 0").split()[2]) > 560
            node.set("class", "wide" if wide else "narrow")
    return tree


def options(given: Mapping[str, str] | Sequence[str], chosen: str) -> list[Element]:
    pairs = given.items() if isinstance(given, Mapping) else ((g, g) for g in given)
    return [el("option", foreign(said, 80), value=v, selected="" if v == chosen else None) for v, said in pairs]


def labelled(label: str, control: Element) -> Element:
    return el("label", el("span", label), control)


def text_block(said: str, most: int = MOST_CHARS) -> Element:
    """Foreign text as it was written: never markup, in its own direction of writing."""
    return el("div", foreign(said, most), class_="text", dir="auto")


def tag(said: str, kind: str = "") -> Element:
    return el("span", foreign(said, 60), class_=f"tag {kind}".strip())


def first_line(said: str, chars: int = 140) -> str:
    line = " ".join(said[: 4 * chars].split())
    return foreign(line if len(line) <= chars else f"{line[: chars - 1]}…")


def signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.3g}".replace("-", "−") if value else "0"


def repeated(key: str, what: str) -> Child:
    """What a dropped row repeats: an instruction of the run, with its page, or an evaluation item, which has none."""
    said = foreign(what, 120)
    return el("a", said, href=run_url(key, f"instruction/{what}")) if INSTRUCTION_ID.fullmatch(what) else said


def duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6_000 else f"{seconds / 3600:.1f} h"


def ago(at: float) -> str:
    return f"{duration(max(0.0, time.time() - at))} ago"


def place_name(place: str) -> str:
    """`round_0/07_hard.all` as people say it."""
    folder, _, step = place.partition("/")
    name, _, table = step.partition("_")[2].partition(".")
    return f"round {folder.removeprefix('round_')} · {name.replace('_', ' ')}" + (f", {table}" if table else "")
