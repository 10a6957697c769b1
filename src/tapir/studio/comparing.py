"""Two runs beside each other; what counts as a difference is `report.differences`'."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tapir.report.differences import Differences, ResultChange, differences
from tapir.report.markup import Child, Element, el, foreign, table
from tapir.studio.frame import first_line, labelled, options, place_name, run_url
from tapir.studio.runs import View

SHOWN = 5


def compare_page(views: Mapping[str, View], asked: Mapping[str, str]) -> list[Element]:
    """Choose two runs, and see in what they differ."""
    a, b = asked.get("a", ""), asked.get("b", "")
    names = {"": "choose", **{key: key for key in views}}
    form = el(
        "form",
        labelled("First", el("select", options(names, a), name="a")),
        labelled("Second", el("select", options(names, b), name="b")),
        el("button", "Compare", type="submit"),
        class_="filters", method="get",
    )  # fmt: skip
    if a not in views or b not in views:
        return [form]
    return [form, *_sections(differences(views[a].run, views[b].run), views[a], views[b])]


def _sections(found: Differences, a: View, b: View) -> Iterator[Element]:
    yield from _section("Results", ("", "first", "second", "second − first"), [_result(r) for r in found.results])
    yield el("p", "Differences take the two runs for independent, which overstates their intervals on equal prompts.",
             class_="note")  # fmt: skip
    recipe = [[name, _said(x), _said(y)] for name, (x, y) in found.recipe.items()]
    yield from _section("Recipe", ("value", "first", "second"), recipe, wide=True)
    prompts = [[name, _said(x), _said(y)] for name, (x, y) in found.prompts.items()]
    yield from _section("Prompts", ("file", "first", "second"), prompts, wide=True)
    made = [[name, _said(x), _said(y)] for name, (x, y) in found.manifest.items()]
    yield from _section("Made by", ("", "first", "second"), made, wide=True)
    calls = [[place_name(p), f"{c.shared:,}", f"{c.only_a:,}", f"{c.only_b:,}"] for p, c in found.calls.items()]
    yield from _section("Model calls", ("step", "shared", "only first", "only second"), calls)
    settings = [[place_name(place), state] for place, state in found.settings.items()]
    yield from _section("Settings and inputs", ("step", ""), settings)
    yield from _data(found, a, b)


def _data(found: Differences, a: View, b: View) -> Iterator[Element]:
    rows: list[list[Child]] = []
    cells: list[list[Child]] = []
    for name, t in found.data.items():
        counts = [f"{n:,}" for n in (t.rows_a, t.rows_b, t.added.count, t.removed.count, t.changed.count)]
        some = [(b, i) for i in (*t.changed.first, *t.added.first)] + [(a, i) for i in t.removed.first]
        links = (part for view, i in some[:SHOWN] for part in (_link(view, i), " "))
        rows.append([place_name(name), *counts, el("span", list(links))])
        for c in t.cells[:SHOWN]:
            cells.append([place_name(name), _link(b, c.id), c.column, _cell(c.a), _cell(c.b)])
    head = ("table", "rows first", "rows second", "added", "removed", "changed", "for instance")
    yield from _section("Data", head, rows)
    if cells:
        said = ("table", "instruction", "column", "first", "second")
        yield from _section("First differing rows", said, cells, wide=True)


def _link(view: View, instruction_id: str) -> Element:
    return el("a", foreign(instruction_id[:8], 8), href=run_url(view.key, f"instruction/{instruction_id}"))


def _cell(said: str) -> Element:
    return el("bdi", first_line(said))


def _section(title: str, head: tuple[str, ...], rows: list[list[Any]], *, wide: bool = False) -> Iterator[Element]:
    yield el("h2", title)
    yield table(head, rows, wide=wide) if rows else el("p", "The same in both.", class_="note")


def _said(value: Any) -> str:
    return "(default)" if value is None else foreign(str(value), 200)


def _result(change: ResultChange) -> list[Child]:
    name, *numbers = change.in_words()
    return [foreign(name, 120), *("–" if said == "-" else said.replace("-", "−") for said in numbers)]
