"""The report: one HTML file that needs no network and runs no script, from a run's files only.

Owns the page's frame and the order of its sections. What a section says is in `findings`, `quality`, `making`,
`funnel`, `learning`, `verdicts` and `closeup`; what the files say in `facts`; escaping in `markup`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from tapir.report import balance, closeup, findings, funnel, learning, making, quality, verdicts
from tapir.report.facts import Facts
from tapir.report.markup import Element, el, foreign, render, stylesheet
from tapir.store.rundir import RunDir, write_text

CSP = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"

SECTIONS: tuple[tuple[str, str, Callable[[Facts], list[Element]]], ...] = (
    ("summary", "Summary", findings.summary),
    ("results", "Before and after", findings.results),
    ("by-task", "Results by task", findings.by_task),
    ("quality", "Relative quality", quality.quality),
    ("difficulty", "Difficulty", making.difficulty),
    ("mix", "Task mix", making.mix),
    ("grown", "Grown and enhanced", balance.grown_and_enhanced),
    ("funnel", "Rows", funnel.funnel),
    ("training", "Training", learning.training),
    ("judge", "Trust in the judge", verdicts.judge),
    ("cost", "Cost", making.cost),
    ("cases", "Best and worst cases", closeup.cases),
    ("recipe", "Recipe and versions", closeup.reproduction),
)


def write_report(run: RunDir, out: Path | None = None) -> Path:
    """Write the run's page to `out`, by default `report.html` in the run; the same files give the same bytes.

    Works on a run of any state: a section whose tables are not there yet says so.
    """
    path = out or run.root / "report.html"
    write_text(path, render(page(Facts(run))))
    return path


def page(facts: Facts) -> Element:
    """The whole document."""
    name = foreign(facts.recipe.name if facts.recipe else facts.run.root.name, 100)
    version = facts.manifest.get("tapir", "")
    sections = ((mark, title, make(facts)) for mark, title, make in SECTIONS)
    return document(name, f"Report of a distillation by tapir {version}", sections)


def document(name: str, said: str, sections: Iterable[tuple[str, str, Iterable[Element]]]) -> Element:
    """A page of these sections: a mark, a title and the parts of each."""
    style = "\n".join(stylesheet(sheet) for sheet in ("page.css", "charts.css"))
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=CSP),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("meta", name="referrer", content="no-referrer"),
        el("title", f"{name} · tapir report"),
        el("style", style),
    )
    made = list(sections)
    links = el("nav", (el("a", title, href=f"#{mark}") for mark, title, _ in made), aria_label="Sections")
    header = el("header", el("h1", name), el("p", said))
    body = (el("section", el("h2", title), parts, id=mark) for mark, title, parts in made)
    return el("html", head, el("body", header, links, el("main", body)), lang="en")
