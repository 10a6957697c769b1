"""HTML as a tree, so that no text can ever become markup.

Elements are the standard library's, and its serialiser escapes every text and attribute; nobody in this package joins
strings of HTML. Text from models and data goes through `foreign`, which also makes invisible characters visible.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib import resources
from typing import TypeAlias
from xml.etree import ElementTree as ET

Element: TypeAlias = "ET.Element[str]"
Child: TypeAlias = "Element | str | None"

_INVISIBLE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
"""Controls, zero-width and direction marks, lone surrogates: they could hide text or turn it round."""


def el(tag: str, *children: Child | Iterable[Child], **attributes: str | int | float | None) -> Element:
    """An element. `class_` becomes `class`, `aria_label` `aria-label`; attributes and children of None are left out."""
    node = ET.Element(tag, {_name(k): _value(v) for k, v in attributes.items() if v is not None})
    for child in children:
        if child is None:
            continue
        if isinstance(child, str | ET.Element):
            _append(node, child)
            continue
        for inner in child:
            if inner is not None:
                _append(node, inner)
    return node


def _name(name: str) -> str:
    return name.rstrip("_").replace("_", "-")


def _value(value: str | int | float) -> str:
    # Two decimals of a pixel are enough, and keep the page small and the same on every machine.
    return value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".") if value % 1 else f"{int(value)}"


def _append(node: Element, child: Element | str) -> None:
    if isinstance(child, ET.Element):
        node.append(child)
    elif len(node):
        node[-1].tail = (node[-1].tail or "") + child
    else:
        node.text = (node.text or "") + child


def foreign(text: str, max_chars: int = 1_500) -> str:
    """Text that nobody vouches for: invisible characters shown by their number, and cut with a mark."""
    rest = len(text) - max_chars
    shown = text.replace("\r\n", "\n")
    if rest > 0:
        shown = f"{shown[:max_chars]} … [{rest:,} more characters]"
    return _INVISIBLE.sub(lambda m: f"⟨U+{ord(m[0]):04X}⟩", shown)


def render(root: Element) -> str:
    """The document's text."""
    return "<!doctype html>\n" + ET.tostring(root, encoding="unicode", method="html") + "\n"


def table(
    head: Iterable[Child], rows: Iterable[Iterable[Child]], *, caption: str | None = None, wide: bool = False
) -> Element:
    """A table whose first column names the row; the others hold numbers and stand to the right, unless `wide`."""
    body = [el("tr", _cells(row)) for row in rows]
    return el(
        "div",
        el(
            "table",
            el("caption", caption) if caption else None,
            el("thead", el("tr", (el("th", cell, scope="col") for cell in head))),
            el("tbody", body),
            class_="words" if wide else None,
        ),
        # Focusable, so that a table wider than the window can be scrolled by keyboard.
        class_="scroll",
        tabindex=0,
        role="region",
        aria_label=caption or "table",
    )


def _cells(row: Iterable[Child]) -> Iterable[Element]:
    return [el("td", cell) if n else el("th", cell, scope="row") for n, cell in enumerate(row)]


def stylesheet(name: str) -> str:
    """A style sheet of this package."""
    return resources.files("tapir.report").joinpath(name).read_text(encoding="utf-8")
