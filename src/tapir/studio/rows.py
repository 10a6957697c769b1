"""The table of instructions of any stage: search, filters, sorting, pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from tapir.report.funnel import REASONS
from tapir.report.markup import Child, Element, el, foreign
from tapir.studio.frame import first_line, labelled, options, place_name, repeated, run_url, signed, tag
from tapir.studio.runs import View
from tapir.studio.tables import OUTCOMES, PAGE, SORTS, Filter, Found

ORIGINS = {"": "any", "seed": "seed", "expanded": "expanded"}
MOST_PAGE = 1_000_000


def read_filter(view: View, asked: Mapping[str, str]) -> Filter:
    """The request's filter; what makes no sense is left out."""
    stages = view.tables.stages()
    stage = asked.get("stage", "")
    if stage not in stages:
        stage = next((p for p in ("round_0/02_classified", "round_0/01_seeds") if p in stages), next(iter(stages), ""))
    verdict, sort = asked.get("verdict", ""), asked.get("sort", "")
    dropped = asked.get("dropped", "")
    return Filter(
        stage,
        text=asked.get("q", "").strip()[:200],
        task=asked.get("task", "")[:200],
        origin=asked.get("origin", "") if asked.get("origin") in ORIGINS else "",
        round=_whole(asked.get("round", "")),
        low=number(asked.get("low", "")),
        high=number(asked.get("high", "")),
        verdict=verdict if verdict in OUTCOMES else "",
        dropped=dropped if dropped in _reasons(view, stage) else "",
        sort=sort if sort in SORTS else "",
    )


def number(said: str) -> float | None:
    """A number as a person types it; None for anything else."""
    try:
        value = float(said.replace("−", "-").replace(",", "."))
    except ValueError:
        return None
    return value if abs(value) < 1e6 else None


def _whole(said: str) -> int | None:
    return int(said) if said.isascii() and said.isdigit() and len(said) < 6 else None


def page_number(said: str) -> int:
    return min(MOST_PAGE, max(1, int(said))) if said.isascii() and said.isdigit() and len(said) < 9 else 1


def _reasons(view: View, stage: str) -> dict[str, int]:
    receipt = view.run.receipts().get(stage)
    if receipt is None or not view.tables.lists_dropped(stage):
        return {}
    return {reason: n for reason, n in receipt["dropped"].items() if n}


def rows_page(view: View, asked: Mapping[str, str]) -> list[Element]:
    """Filters, and the rows that fit."""
    if not view.tables.stages():
        return [el("p", "No stage has written instructions yet.", class_="absent")]
    wanted, page = read_filter(view, asked), page_number(asked.get("page", "1"))
    found = view.tables.find(wanted, page)
    result = el(
        "div", _said(view, wanted, found), _table(view, wanted, found), _pager(view, wanted, found, page), id="result"
    )
    return [_form(view, wanted), result]


def _form(view: View, w: Filter) -> Element:
    rounds = {"": "any", **{str(r): str(r) for r in [0, *view.facts.rounds]}}
    reasons = {"": "handed on", **{r: f"dropped: {_reason(r)} ({n:,})" for r, n in _reasons(view, w.stage).items()}}
    stages = {place: place_name(place) for place in view.tables.stages()}
    tasks = {"": "any", **{t: t for t in view.tables.tasks()}}
    verdicts = {"": "any", **{name: said for name, (said, _) in OUTCOMES.items()}}
    sorts = {"": "as in the table", "-mfd": "largest MFD first", "mfd": "smallest MFD first", "task": "task",
             "round": "round", "-length": "longest first", "length": "shortest first"}  # fmt: skip

    def select(name: str, given: dict[str, str], chosen: str) -> Element:
        return el("select", options(given, chosen), name=name)

    def bound(name: str, value: float | None) -> Element:
        return el("input", type="number", step="0.5", name=name, value="" if value is None else f"{value:g}")

    return el(
        "form",
        labelled("Stage", select("stage", stages, w.stage)),
        labelled("Search", el("input", type="search", name="q", value=foreign(w.text), placeholder="text or id")),
        labelled("Task", select("task", tasks, w.task)),
        labelled("Rows", select("dropped", reasons, w.dropped)),
        labelled("Verdict", select("verdict", verdicts, w.verdict)),
        labelled("Origin", select("origin", ORIGINS, w.origin)),
        labelled("Round", select("round", rounds, "" if w.round is None else str(w.round))),
        labelled("MFD from", bound("low", w.low)),
        labelled("to", bound("high", w.high)),
        labelled("Sort", select("sort", sorts, w.sort)),
        el("button", "Show", type="submit"),
        class_="filters", method="get", data_replace="result",
    )  # fmt: skip


def _reason(reason: str) -> str:
    return foreign(REASONS.get(reason, reason.replace("_", " ")), 70)


def _said(view: View, wanted: Filter, found: Found) -> Element:
    rows = "row" if found.count == 1 else "rows"
    said = f"{found.count:,} {rows} {'dropped' if wanted.dropped else 'handed on'} by {place_name(wanted.stage)}"
    receipt = view.run.receipts().get(wanted.stage) or {"dropped": {}}
    listed = _reasons(view, wanted.stage)
    unlisted = {r: n for r, n in receipt["dropped"].items() if n and r not in listed}
    more = "".join(f"; {n:,} more dropped before they were written ({_reason(r)})" for r, n in unlisted.items())
    return el("p", f"{said}{more}", class_="note", role="status")


def _table(view: View, wanted: Filter, found: Found) -> Element | None:
    if not found.rows:
        return el("p", "No row fits.", class_="absent")
    told = bool(wanted.dropped) and view.tables.tells_texts(wanted.stage)
    names = ("Task", "Where it stood", "Repeats") if told else ("Task", "Origin", "Round", "MFD", "Verdict")
    head = [el("th", name, scope="col") for name in ("Instruction", *names)]
    rows = [_dropped_row(view, r) if told else _row(view, r) for r in found.rows]
    return el(
        "div",
        el("table", el("thead", el("tr", head)), el("tbody", rows)),
        class_="scroll rows instructions",
        tabindex=0,
        role="region",
        aria_label=place_name(wanted.stage),
    )


def _dropped_row(view: View, row: dict[str, Any]) -> Element:
    """A row that became no instruction: a bad one has no page of its own."""
    said = el("bdi", first_line(row["text"]) or "(unreadable)")
    text = el("a", said, href=run_url(view.key, f"instruction/{row['id']}")) if row["id"] else said
    repeats = repeated(view.key, row["repeats"]) if row["repeats"] else "–"
    cells: list[Child] = [tag(row["task"]) if row["task"] else "–", foreign(row["where"], 120) or "–", repeats]
    return el("tr", el("th", text, scope="row"), [el("td", c) for c in cells])


def _row(view: View, row: dict[str, Any]) -> Element:
    link = el("a", el("bdi", first_line(row["text"]) or "(empty)"), href=run_url(view.key, f"instruction/{row['id']}"))
    cells: list[Child] = [
        tag(row["task"]) if row["task"] else "–", row["origin"], str(row["round"]), signed(row["mfd"]), _winner(row)
    ]  # fmt: skip
    return el("tr", el("th", link, scope="row"), [el("td", c) for c in cells])


def _winner(row: dict[str, Any]) -> str:
    if row["mfd"] is None or row["kind"] not in ("mfd", "verified"):
        return "–"
    who = "tie" if row["mfd"] == 0 else "teacher" if row["mfd"] > 0 else "student_0"
    return f"{who}, by check" if row["kind"] == "verified" else who


def _pager(view: View, wanted: Filter, found: Found, page: int) -> Element | None:
    last = max(1, -(-found.count // PAGE))
    if last == 1:
        return None
    given = {("q" if k == "text" else k): v for k, v in asdict(wanted).items()}

    def link(said: str, number: int) -> Element:
        if not 1 <= number <= last or number == page:
            return el("span", said)
        return el("a", said, href=run_url(view.key, "rows", **given, page=number))

    return el(
        "p",
        link("« first", 1), link("‹ earlier", page - 1),
        el("span", f"page {page:,} of {last:,}"),
        link("later ›", page + 1), link("last »", last),
        class_="pager",
    )  # fmt: skip
