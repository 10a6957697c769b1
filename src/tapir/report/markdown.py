"""The report as Markdown: the page's own tree written in another form, so that both say the same.

Charts become their tables. Foreign text stays text: what could be markup is escaped, and whole answers are fenced.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from tapir.report.markup import Element

_SPECIAL = re.compile(r"([\\`*\[\]<>|&~$])|(?<!\w)(_)|(_)(?!\w)")
_OPENING = re.compile(r"^(\s*)([#+=-]|\d+[.)])(?=\s|$|[-=])")
_SKIPPED = {"svg", "nav", "head", "figcaption"}
_HEADINGS = {"h1": "#", "h2": "##", "h3": "###", "h4": "####"}


def as_markdown(page: Element) -> str:
    """The whole report."""
    return "\n\n".join(block for block in _blocks(page) if block.strip()) + "\n"


def _blocks(node: Element) -> Iterator[str]:
    tag, kind = node.tag, node.get("class")
    if tag in _SKIPPED:
        return
    if tag in _HEADINGS:
        yield f"{_HEADINGS[tag]} {_inline(node)}"
    elif tag == "p":
        yield _OPENING.sub(r"\1\\\2", _inline(node))
    elif tag == "ul":
        yield "\n".join(f"- {_inline(item)}" for item in node)
    elif tag == "dl":
        yield "\n".join(f"- {': '.join(_inline(part) for part in item)}" for item in node)
    elif tag == "table":
        yield from _table(node)
    elif tag == "pre" or kind == "text":
        yield _fenced("".join(node.itertext()))
    elif tag == "summary":
        yield f"**{_inline(node)}**"
    else:
        for child in node:
            # The table that a summary opens has a caption of its own.
            if not (kind == "data" and child.tag == "summary"):
                yield from _blocks(child)


def _table(node: Element) -> Iterator[str]:
    caption = node.find("caption")
    if caption is not None:
        yield f"**{_inline(caption)}**"
    head, *rows = [[_inline(cell) for cell in row] for row in node.iter("tr")]
    lines = [_row(head), "|" + " --- |" * len(head), *map(_row, rows)]
    yield "\n".join(lines)


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _inline(node: Element) -> str:
    """The text of a node on one line; what is small stands in brackets."""
    return _escaped(" ".join(_plain(node).split()))


def _plain(node: Element) -> str:
    parts = [node.text or ""]
    for child in node:
        inner = _plain(child)
        parts += [f" ({inner})" if child.tag == "small" else inner, child.tail or ""]
    return "".join(parts)


def _escaped(text: str) -> str:
    return _SPECIAL.sub(r"\\\g<0>", text)


def _fenced(text: str) -> str:
    """A block that no run of backticks in the text can end."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text.rstrip()}\n{fence}"
