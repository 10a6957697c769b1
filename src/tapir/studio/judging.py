"""Where a judge is at odds (with itself in the other order, a check, another judge, a person); answers in columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tapir.curriculum.difficulty import difficulties
from tapir.report.judge import SECOND, gold_lines, second_outdated
from tapir.report.judge import VERDICTS as SELECTION
from tapir.report.marked import BY_JUDGE, judged_pairs, marked_gold, marked_report
from tapir.report.markup import Child, Element, el, foreign, table
from tapir.store.tables import read_rows
from tapir.studio.frame import first_line, labelled, options, place_name, run_url, signed, tag
from tapir.studio.life import WINNERS, Story, read_stories, side_by_side
from tapir.studio.rows import page_number
from tapir.studio.runs import View
from tapir.types import Verdict

SHOWN = 30
ANSWERS_PAGE = 10


def judge_page(view: View) -> list[Element]:
    """Every kind of disagreement, the widest first."""
    parts = [*_flips(view), *_checks(view), *_second(view), *_people(view)]
    return parts or [el("p", "Nothing has been judged yet.", class_="absent")]


def _flips(view: View) -> Iterator[Element]:
    """Of pairs that a judge has decided: checks and identical answers say the same in both orders."""
    for pairs in judged_pairs(view.run):
        title = "Selection" if pairs.place == SELECTION else place_name(pairs.place)
        yield from _flip_table(view, title, *view.tables.flips(pairs.verdicts, BY_JUDGE, SHOWN))


def _flip_table(view: View, title: str, rows: list[dict[str, Any]], flipped: int, total: int) -> Iterator[Element]:
    if not total:
        return
    yield el("h2", f"{title}: the order changes the winner")
    yield el("p", f"In {flipped:,} of {total:,} judged pairs ({100 * flipped / total:.0f} %). Widest first:" if flipped
             else f"In none of {total:,} judged pairs.")  # fmt: skip
    if rows:
        data: list[list[Child]] = [
            [_link(view, r["id"], r["text"]), tag(r["task"] or "–"), signed(r["mfd"]), f"{r['spread']:.3g}"]
            for r in rows
        ]
        head = ("instruction", "task", "mean gap", "between the orders")
        yield el("div", table(head, data, caption=f"{len(rows)} of {flipped:,}"), class_="rows")


def _link(view: View, instruction_id: str, text: str) -> Element:
    return el(
        "a", el("bdi", first_line(text, 110) or "(empty)"), href=run_url(view.key, f"instruction/{instruction_id}")
    )


def _checks(view: View) -> Iterator[Element]:
    """Pairs that a check has decided and the judge too (`judge.verified: also`)."""
    for pairs in judged_pairs(view.run):
        rows, count, total = view.tables.against_check(pairs.verdicts, BY_JUDGE, SHOWN)
        if not total:
            continue
        yield el("h2", f"{place_name(pairs.place)}: judge against check")
        yield el("p", f"The judge prefers the answer that fails the check in {count:,} of {total:,} pairs of which one "
                 f"answer passes and one fails ({100 * count / total:.0f} %).")  # fmt: skip
        texts = {r["id"]: r["text"] for r in view.tables.details([r["id"] for r in rows])}
        data: list[list[Child]] = [
            [_link(view, r["id"], texts.get(r["id"], r["id"])), foreign(r["student"], 40),
             pairs.against if r["checked"] > 0 else foreign(r["student"], 40), signed(r["judged"])]
            for r in rows
        ]  # fmt: skip
        if data:
            head = ("instruction", "student", "passes the check", f"judge: points for {pairs.against}")
            yield el("div", table(head, data, caption=f"{len(data)} of {count:,}, widest first"), class_="rows")


def _second(view: View) -> Iterator[Element]:
    path, own = view.run.root / SECOND, view.run.root / "round_0/06_verdicts.parquet"
    if not path.exists() or not own.exists():
        return
    yield el("h2", "A second judge")
    if outdated := second_outdated(view.run):
        yield el("p", f"{outdated[0].upper()}{outdated[1:]}.", class_="absent")
        return
    other = {d.instruction_id: d for d in difficulties(read_rows(path, Verdict))}
    mine = {d.instruction_id: d for d in difficulties(
        v for v in read_rows(own, Verdict) if v.instruction_id in other and v.method != "verified")}  # fmt: skip
    gaps = sorted(mine.keys() & other.keys(), key=lambda i: (-abs(mine[i].value - other[i].value), i))
    texts = {r["id"]: r["text"] for r in view.tables.details(gaps[:SHOWN])}
    data: list[list[Child]] = [
        [_link(view, i, texts.get(i, i)), signed(mine[i].value), signed(other[i].value)] for i in gaps[:SHOWN]
    ]
    head = ("instruction", "the run's judge: MFD", "second judge: MFD")
    yield el("div", table(head, data, caption=f"Widest apart of {len(gaps):,} pairs"), class_="rows")


def _people(view: View) -> Iterator[Element]:
    report = marked_report(view.run)
    if report is None:
        return
    yield el("h2", "People")
    decided = report.agreement.pairs + report.agreement.unscored
    yield el("p", f"{decided:,} {'pair' if decided == 1 else 'pairs'} decided by {report.people} "
             f"{'person' if report.people == 1 else 'people'}, {report.blind:,} of them blind.")  # fmt: skip
    yield el("ul", (el("li", line.strip()) for line in gold_lines(report.agreement)))
    apart = [(m, row) for m, row in marked_gold(view.run) if row.verdict is not None and row.verdict != row.label]
    texts = {r["id"]: r["text"] for r in view.tables.details([m.instruction_id for m, _ in apart[:SHOWN]])}
    data: list[list[Child]] = [
        [_link(view, m.instruction_id, texts.get(m.instruction_id, "")), WINNERS[str(row.verdict)], WINNERS[row.label],
         "blind" if m.kind == "preference" else "saw the verdict", foreign(m.author, 40)]
        for m, row in apart[:SHOWN]
    ]  # fmt: skip
    if data:
        head = ("instruction", "judge: better", "person: better", "how", "by")
        yield el("div", table(head, data, caption="Where judge and person differ"), class_="rows")


def answers_page(view: View, asked: Mapping[str, str]) -> list[Element]:
    """Held-out instructions with the answers of every student and the teacher."""
    facts = view.facts
    held_out = facts.held_out
    if not held_out:
        return [el("p", "There are no held-out answers yet.", class_="absent")]
    gaps = facts.held_out_gaps
    order, task, page = asked.get("order", ""), asked.get("task", ""), page_number(asked.get("page", "1"))
    wanted = [i for i, row in held_out.items() if not task or row.task == task]
    if order in ("gained", "lost"):
        sign = -1 if order == "gained" else 1
        wanted = sorted((i for i in wanted if i in gaps), key=lambda i: (sign * gaps[i], i))
    tasks = {"": "any", **{t: t for t in sorted({row.task or "" for row in held_out.values()}) if t}}
    last = f"student_{facts.last_judged}" if facts.last_judged is not None else "the last student"
    orders = {"": "as in the table", "gained": f"where {last} gained most", "lost": f"where {last} lost most"}
    form = el(
        "form",
        labelled("Order", el("select", options(orders, order), name="order")),
        labelled("Task", el("select", options(tasks, task), name="task")),
        el("button", "Show", type="submit"),
        class_="filters", method="get", data_replace="result",
    )  # fmt: skip
    shown = wanted[(page - 1) * ANSWERS_PAGE : page * ANSWERS_PAGE]
    stories = read_stories(view, shown)
    cases = [_case(view, stories[i], gaps.get(i)) for i in shown if i in stories]
    pages = _pages(view, len(wanted), page, order, task)
    return [form, el("div", el("p", f"{len(wanted):,} instructions", class_="note"), cases, pages, id="result")]


def _pages(view: View, count: int, page: int, order: str, task: str) -> Element | None:
    last = max(1, -(-count // ANSWERS_PAGE))
    if last == 1:
        return None

    def link(said: str, number: int) -> Element:
        if not 1 <= number <= last:
            return el("span", said)
        return el("a", said, href=run_url(view.key, "answers", order=order, task=task, page=number))

    middle = el("span", f"page {page} of {last}")
    return el("p", link("‹ earlier", page - 1), middle, link("later ›", page + 1), class_="pager")


def _case(view: View, story: Story, gap: float | None) -> Element | None:
    row = story.instruction
    if row is None:
        return None
    gained = [" ", tag(f"score {signed(gap)} against student_0")] if gap is not None else []
    title = el("h3", _link(view, story.id, row["text"]), " ", tag(row["task"] or "–"), *gained)
    return el("section", title, side_by_side(story.answers()), class_="case")
