"""The list of runs, and one run's overview with the stage under way."""

from __future__ import annotations

from collections.abc import Iterator

from tapir.report.markup import Child, Element, el, foreign, table
from tapir.report.text import table as results_table
from tapir.steps.judgement import DROPPED
from tapir.store.marks import Mark, read_marks, standing
from tapir.store.progress import StageProgress
from tapir.studio.frame import ago, duration, first_line, place_name, run_url, tag
from tapir.studio.life import drop_form
from tapir.studio.runs import View

STATES = {"done": "done", "stale": "stale", "missing": "to do", "working": "working", "stopped": "stopped"}
MOST_DROPS = 100


def runs_table(views: dict[str, View]) -> list[Element]:
    """All runs with how far they have come."""
    if not views:
        return [el("p", "No run lies here. ", el("code", "tapir run quickstart"), " makes one.", class_="absent")]
    rows: list[list[Child]] = []
    for key, view in views.items():
        receipts, now = view.run.receipts(), view.progress
        cost = sum(r["cost_usd"] for r in receipts.values())
        seconds = sum(r["seconds"] for r in receipts.values())
        recipe = view.facts.recipe
        rows.append(
            [
                el("a", foreign(key, 80), href=run_url(key)),
                foreign(recipe.name, 60) if recipe else "–",
                _run_state(view, now),
                f"{len(receipts)} of {len(view.places)}",
                f"${cost:,.2f}",
                duration(seconds),
                el("a", "compare", href=f"/compare?a={run_url(key).rpartition('/')[2]}"),
            ]
        )
    head = ("run", "recipe", "state", "steps", "cost", "time", "")
    return [
        el("div", table(head, rows, caption=f"{len(rows)} {'run' if len(rows) == 1 else 'runs'}"), class_="list runs")
    ]


def _run_state(view: View, now: StageProgress | None) -> Element:
    if now is not None:
        return tag(f"working on {place_name(now.place)}", "working") if now.working else tag("stopped", "stopped")
    return tag("finished", "done") if set(view.places) <= set(view.run.receipts()) else tag("waiting", "missing")


def overview(view: View) -> list[Element]:
    """Where the run stands, its result so far, its steps."""
    facts = view.facts
    parts = [_live(view)]
    found = results_table(facts.results) if facts.results else []
    if found:
        results = table(found[0], found[1:], caption="Held-out results with 95 % intervals")
        # What is finished is looked at for its result; what works, for its stage.
        parts.insert(len(parts) if view.progress else 0, el("div", results, class_="list"))
    marks = standing(read_marks(view.run.root))
    if marks:
        parts += [el("h2", "Marks"), el("p", _marks_said(len(marks), {m.author for m in marks}))]
        stale = [p for p, state in view.states().items() if state == "stale"]
        if stale:
            said = f"{len(stale)} steps have not taken them in yet, from {place_name(stale[0])} on; "
            parts.append(el("p", said, el("code", "tapir run"), " with the same recipe and --out does.", class_="note"))
        parts += _drops(view, [m for m in marks if m.kind == "drop"])
    return parts


def _drops(view: View, drops: list[Mark]) -> Iterator[Element]:
    """What people have dropped, to be taken back: once the run has used the marks, some have no page of their own."""
    if not drops:
        return
    shown = drops[: -MOST_DROPS - 1 : -1]
    texts = view.tables.texts([m.instruction_id for m in shown])
    grown = view.tables.refused_for(DROPPED)
    rows: list[list[Child]] = []
    for m in shown:
        said = el("bdi", first_line(texts.get(m.instruction_id) or grown.get(m.instruction_id) or m.instruction_id))
        text = el("a", said, href=run_url(view.key, f"instruction/{m.instruction_id}"))
        back = drop_form(view, m.instruction_id, m.place, dropped=True) if view.access.annotate else "–"
        rows.append([text if m.instruction_id in texts else said, place_name(m.place), foreign(m.author, 40), back])
    latest = f"the latest {len(shown)} of {len(drops):,}" if len(shown) < len(drops) else f"{len(drops)}"
    head = ("instruction", "step", "by", "")
    yield el("div", table(head, rows, caption=f"Dropped by people: {latest}"), class_="rows")


def _marks_said(count: int, authors: set[str]) -> str:
    by = foreign(", ".join(sorted(authors)), 200)
    return f"{count} {'mark' if count == 1 else 'marks'} by {by} in marks.jsonl."


def _live(view: View) -> Element:
    """The part that the page asks for again and again while the run works."""
    now = view.progress
    block = el("div", list(_now(view, now)), _steps(view, now), id="live")
    if now is not None and now.working:
        block.set("data-every-ms", "2000")
    return block


def _now(view: View, now: StageProgress | None) -> Iterator[Element]:
    receipts = view.run.receipts()
    cost = sum(r["cost_usd"] for r in receipts.values()) + (now.cost_usd if now else 0)
    calls = sum(r["calls"] for r in receipts.values()) + (now.calls if now else 0)
    cached = sum(r["cached_calls"] for r in receipts.values()) + (now.cached if now else 0)
    seconds = sum(r["seconds"] for r in receipts.values())
    tiles = [
        ("Steps done", f"{len(receipts)}", f"of {len(view.places)}"),
        ("Live calls", f"{calls:,}", f"{cached:,} from the ledger"),
        ("Cost", f"${cost:,.2f}", "by the recipe's prices"),
        ("Time in finished steps", duration(seconds), ""),
    ]
    yield el("dl", [el("div", el("dt", t), el("dd", v, el("small", s))) for t, v, s in tiles], class_="tiles")
    if now is None:
        return
    name = place_name(now.place)
    if not now.working:
        yield el("p", f"Stopped during {name}, {ago(now.updated_at)}: the process is gone. ",
                 el("code", "tapir run"), " goes on from there.", class_="worries")  # fmt: skip
        return
    bar = el("progress", value=min(now.done, now.total or 0), max=max(1, now.total or 1), aria_label=name)
    if now.total is None:
        del bar.attrib["value"]
    yield el("section", el("h2", f"Now: {name}"), bar, el("p", _pace(now)), class_="now")


def _pace(now: StageProgress) -> str:
    done = f"{now.done:,}" + (f" of about {now.total:,}" if now.total is not None else "")
    said = [done]
    if now.per_s is not None:
        said.append(f"{now.per_s:,.2g} a second")
    if now.left_s is not None:
        said.append(f"about {duration(now.left_s)} left in this stage")
    if now.calls or now.cached:
        said.append(f"{now.calls:,} live calls, {now.cached:,} from the ledger, {now.failed:,} failed")
    if now.completion_tokens:
        said.append(f"{now.prompt_tokens:,} prompt and {now.completion_tokens:,} reply tokens")
    said += [f"${now.cost_usd:,.4f}"] if now.cost_usd else []
    said += [foreign(now.note, 200)] if now.note else []
    return "; ".join([*said, f"written {ago(now.updated_at)}"])


def _steps(view: View, now: StageProgress | None) -> Element:
    receipts = view.run.receipts()
    # While it works, what is done counts; to tell stale from done takes reading the seeds, too slow to do every time.
    states = dict.fromkeys(receipts, "done") if now is not None and now.working else view.states()
    rows: list[list[Child]] = []
    known = view.tables.stages()
    for place in view.places:
        receipt = receipts.get(place)
        state = states.get(place, "missing")
        if now is not None and now.place == place:
            state = "working" if now.working else "stopped"
        name = place_name(place)
        link = el("a", name, href=run_url(view.key, "rows", stage=place)) if place in known else name
        if receipt is None:
            rows.append([link, tag(STATES[state], state), *["–"] * 6])
            continue
        numbers = [receipt[n] for n in ("rows_out", "calls", "cached_calls")]
        dropped = sum(receipt["dropped"].values())
        rows.append(
            [link, tag(STATES[state], state), f"{numbers[0]:,}", f"{dropped:,}", f"{numbers[1]:,}", f"{numbers[2]:,}",
             f"${receipt['cost_usd']:,.2f}", duration(receipt["seconds"])]
        )  # fmt: skip
    head = ("step", "state", "rows", "dropped", "live calls", "ledger", "cost", "time")
    return el("div", table(head, rows, caption="Steps"), class_="list steps")
