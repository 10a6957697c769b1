"""The page of one instruction: its texts, who answered what, how it was judged, its rounds, and people's marks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tapir.report.funnel import REASONS
from tapir.report.life import Event, lives
from tapir.report.marked import judged_pairs
from tapir.report.markup import Child, Element, el, foreign, table
from tapir.stages.gold import pair_mark
from tapir.store.marks import Mark, read_marks, standing
from tapir.studio.frame import first_line, labelled, options, place_name, repeated, run_url, signed, tag, text_block
from tapir.studio.runs import View
from tapir.studio.tables import DROPPED

WINNERS = {"1": "the student's answer", "2": "the other answer", "tie": "neither"}
VERDICTS = ("06_verdicts", ".verdicts", ".teacher_verdicts", ".canaries")
MOST_RAW_CHARS = 6_000


@dataclass(frozen=True)
class Story:
    """The rows about one instruction, sorted by what they are."""

    id: str
    events: list[Event]

    def at(self, *endings: str) -> list[Event]:
        return [e for e in self.events if e.own and e.place.endswith(endings)]

    @property
    def instruction(self) -> dict[str, Any] | None:
        own = [e.row for e in self.events if e.row.get("id") == self.id and "text" in e.row]
        return own[-1] if own else None

    @property
    def home(self) -> str | None:
        """The step that hands this instruction on: where marks on it take effect. None once one has dropped it."""
        places = [e.place for e in self.events if e.row.get("id") == self.id]
        wanted = [p for p in places if p.endswith(("02_classified", "08_held_out", "01_expanded"))]
        return wanted[0] if wanted else None

    @property
    def dropped(self) -> list[Event]:
        return self.at(DROPPED)

    def answers(self) -> dict[str, str]:
        """Every answer by who gave it, the teacher's direct one first."""
        found: dict[str, str] = {}
        for event in self.events:
            row = event.row
            if (
                "author" in row
                and "prompt" in row
                and event.own
                and event.place.partition("/")[2] != "01_seeds.answers"
            ):
                refined = row["prompt"] == "refined" or event.place.endswith("03_enhanced_answers")
                name = "teacher, to the refined text" if refined and row["author"] == "teacher" else str(row["author"])
                found.setdefault(name, str(row["text"]))
        return dict(sorted(found.items(), key=lambda item: (item[0] != "teacher", "refined" in item[0], item[0])))

    def verdicts(self) -> dict[tuple[str, str], list[dict[str, Any]]]:
        """Votes by table and student."""
        found: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for event in self.events:
            if event.place.endswith(VERDICTS) and "order" in event.row:
                found.setdefault((event.place, str(event.row["student"])), []).append(event.row)
        return found


def read_stories(view: View, ids: Sequence[str]) -> dict[str, Story]:
    """The stories of those that any row of the run is about."""
    return {i: Story(i, events) for i, events in lives(view.run, ids).items() if events}


def read_story(view: View, instruction_id: str) -> Story | None:
    """None where no row of the run is about it."""
    return read_stories(view, [instruction_id]).get(instruction_id)


def life_page(view: View, story: Story) -> list[Element]:
    """Everything that happened to it, in the order of the run."""
    marks = [m for m in standing(read_marks(view.run.root)) if m.instruction_id == story.id]
    parts = [*_asked(view, story), *_dropped(view, story), *_answers(story), *_judgings(view, story, marks)]
    parts += [*_refined(story), *_rounds(story), *_family(view, story)]
    parts += [*_said_marks(marks), *_forms(view, story, marks), _everything(story)]
    return parts


def _asked(view: View, story: Story) -> Iterator[Element]:
    row = story.instruction
    if row is None:
        if not story.dropped:
            yield el("p", "No table of the run holds its text any more.", class_="absent")
        return
    said = [tag(row["task"] or "no task"), " ", tag(str(row["origin"])), " ", tag(f"round {row['round']}"), " "]
    difficulty = next((e.row for e in story.at("07_hard.all")), None)
    if difficulty:
        hard = bool(story.at("07_hard"))
        said += [tag(f"{difficulty['kind']} {signed(difficulty['value'])}"), " ", tag("hard" if hard else "easy")]
    yield el("p", said, class_="tags")
    if row["system"]:
        yield el("div", el("h4", "system"), text_block(row["system"]), class_="asked")
    for message in row["history"] or ():
        yield el("div", el("h4", foreign(message["role"], 20)), text_block(message["content"]), class_="asked")
    yield el("div", text_block(row["text"]), class_="asked main")
    if row["check"]:
        yield el("details", el("summary", "Its machine check"), text_block(row["check"]), class_="data")


def _dropped(view: View, story: Story) -> Iterator[Element]:
    """Where and why a step let go of it, or of a row that said the same."""
    for event in story.dropped:
        row, stage = event.row, place_name(event.place.removesuffix(DROPPED))
        yield el("h2", f"Dropped by {stage}")
        reason = str(row["reason"])
        said: list[Child] = [foreign(REASONS.get(reason, reason.replace("_", " ")), 100)]
        if row["where"]:
            said.append(f"; it stood at {foreign(row['where'], 200)}")
        if row["repeats"] not in ("", story.id):
            said += ["; it repeats ", repeated(view.key, row["repeats"])]
        yield el("p", said, ".")
        if row["text"]:
            yield el("div", text_block(row["text"]), class_="asked")


def _answers(story: Story) -> Iterator[Element]:
    answers = story.answers()
    if answers:
        yield el("h2", "Answers")
        yield side_by_side(answers)


def side_by_side(answers: Mapping[str, str]) -> Element:
    """Answers in columns, as many as the window holds."""
    return el(
        "div",
        (el("div", el("h4", foreign(who, 60)), text_block(said) if said else el("p", "empty", class_="absent"))
         for who, said in answers.items()),
        class_="sides",
    )  # fmt: skip


def _judgings(view: View, story: Story, marks: list[Mark]) -> Iterator[Element]:
    verdicts = story.verdicts()
    if verdicts:
        yield el("h2", "Judgings")
    markable = {p.place for p in judged_pairs(view.run)} if view.access.annotate and verdicts else set[str]()
    for (place, student), votes in verdicts.items():
        against = opponent(place)
        rows: list[list[Child]] = [
            [str(v["order"]).replace("_", " "), str(v["method"]), foreign(str(v["judge"]), 40), str(v["vote"]),
             _score(v["student_score"]), _score(v["teacher_score"]), foreign(v["problem"] or "", 60)]
            for v in votes
        ]  # fmt: skip
        head = ("order", "method", "judge", "vote", foreign(student, 30), against, "problem")
        yield table(head, rows, caption=f"{place_name(place)}: {foreign(student, 30)} against {against}")
        raw = [(v["order"], v["raw"]) for v in votes if v["raw"]]
        if raw:
            texts = (
                part
                for order, said in raw
                for part in (el("h4", order.replace("_", " ")), text_block(said, MOST_RAW_CHARS))
            )
            yield el("details", el("summary", "What the judge wrote"), el("div", texts, class_="asked"), class_="data")
        marking = _verdict_form(view, story, place, student, against) if place in markable else None
        if marking is not None:
            yield marking


def opponent(place: str) -> str:
    """Whose answer a table of verdicts compares with: who stands in the teacher's place there."""
    if place.endswith("03_enhanced_answers.verdicts"):
        return "the teacher's direct answer"
    return "student_0" if place.endswith(("_evaluation.verdicts", ".canaries")) else "teacher"


def _score(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def form(view: View, *children: Child | list[Element], kind: str, about: str, place: str) -> Element:
    """A form that adds one mark on this instruction."""
    hidden = {"form_token": view.access.form_token, "kind": kind, "instruction_id": about, "place": place}
    return el(
        "form",
        [el("input", type="hidden", name=k, value=v) for k, v in hidden.items()],
        *children,
        method="post", action=run_url(view.key, "marks"), class_="mark",
    )  # fmt: skip


def _verdict_form(view: View, story: Story, place: str, student: str, against: str) -> Element | None:
    answers = story.answers()
    if student not in answers or against not in answers:
        return None
    pair = pair_mark(answers[student], answers[against])
    mine = [m for m in standing(read_marks(view.run.root)) if m.kind == "verdict" and m.author == view.author
            and (m.instruction_id, m.place, m.student, m.pair) == (story.id, place, student, pair)]  # fmt: skip
    hidden = [el("input", type="hidden", name=k, value=v) for k, v in (("student", student), ("pair", pair))]
    chosen = f"{mine[0].value} {mine[0].winner}".strip() if mine else ""
    buttons = [
        el(
            "button",
            said,
            type="submit",
            name="value",
            value=value,
            aria_pressed="true" if value == chosen else "false",
        )
        for value, said in (
            ("right", "The verdict is right"),
            ("wrong 1", f"Wrong: {student} is better"),
            ("wrong 2", f"Wrong: {against} is better"),
            ("wrong tie", "Wrong: neither is better"),
            *([("", "Take it back")] if mine else []),
        )
    ]
    return form(view, hidden, buttons, kind="verdict", about=story.id, place=place)


def _refined(story: Story) -> Iterator[Element]:
    for event in story.at("02_refined"):
        reason = event.row["fallback"]
        yield el("h2", f"Refined form, {event.place.partition('/')[0].replace('_', ' ')}")
        if reason:
            yield el("p", f"Kept as it was: {foreign(reason.replace('_', ' '), 80)}.", class_="note")
        else:
            yield el("div", text_block(event.row["text"]), class_="asked")


def _rounds(story: Story) -> Iterator[Element]:
    mixes = story.at("04_mix")
    if mixes:
        yield el("h2", "Rounds")
    for event in mixes:
        part = "hard" if event.row["hard"] else "easy"
        yield el("p", f"Trained on in {event.place.partition('/')[0].replace('_', ' ')}, as {part}, weight "
                 f"{event.row['weight']:g}.")  # fmt: skip


def _family(view: View, story: Story) -> Iterator[Element]:
    row = story.instruction
    if row and row.get("parent_id"):
        link = el("a", row["parent_id"], href=run_url(view.key, f"instruction/{row['parent_id']}"))
        yield el("p", "Grown from ", link, ".")
    children = [e for e in story.events if e.row.get("parent_id") == story.id]
    if children:
        yield el("h2", "Grown from it")
        items: list[Element] = []
        for event in children:
            said = first_line(str(event.row["text"]), 200) or "(empty)"
            refused = event.row.get("reason")
            target = event.row.get("id")
            text = el("a", said, href=run_url(view.key, f"instruction/{target}")) if target else el("bdi", said)
            items.append(el("li", text, f" (refused: {foreign(refused.replace('_', ' '), 60)})" if refused else None))
        yield el("ul", items)


def _said_marks(marks: list[Mark]) -> Iterator[Element]:
    if not marks:
        return
    yield el("h2", "Marks")
    rows = [[m.kind, foreign(m.value, 60), WINNERS.get(m.winner, ""), place_name(m.place), foreign(m.author, 60), m.at]
            for m in marks]  # fmt: skip
    yield table(("mark", "says", "better", "about", "by", "at (UTC)"), rows, caption="Standing marks")


def drop_form(view: View, instruction_id: str, place: str, *, dropped: bool) -> Element:
    """Drops an instruction from the step that hands it on, or takes it back in."""
    return form(
        view,
        el("button", "Take it back in" if dropped else "Drop this instruction", type="submit", name="value",
           value="" if dropped else "drop"),
        el("span", "Takes effect when the run is started again.", class_="note"),
        kind="drop", about=instruction_id, place=place,
    )  # fmt: skip


def _forms(view: View, story: Story, marks: list[Mark]) -> Iterator[Element]:
    dropped = next((m.place for m in marks if m.kind == "drop"), None)
    # Once the run has taken the mark in, no step hands the instruction on: only the mark tells where it was dropped.
    place = story.home or dropped
    if not view.access.annotate or place is None:
        return
    yield el("h2", "Mark it")
    yield drop_form(view, story.id, place, dropped=dropped is not None)
    if story.home is None:
        return
    label = next((m.value for m in marks if m.kind == "label"), "")
    task = label or str((story.instruction or {}).get("task"))
    yield form(
        view,
        labelled("Correct its task", el("select", options(view.task_names, task), name="value")),
        el("button", "Save label", type="submit"),
        kind="label", about=story.id, place=place,
    )  # fmt: skip
    if label:
        yield form(view, el("button", "Take the label back", type="submit", name="value", value=""),
                   kind="label", about=story.id, place=place)  # fmt: skip


def _everything(story: Story) -> Element:
    rows: list[list[Child]] = []
    for event in story.events:
        said = {k: v for k, v in event.row.items() if v not in (None, "", [], {}, False)}
        rows.append([place_name(event.place), foreign("; ".join(f"{k}: {v}" for k, v in said.items()), 400)])
    summary = el("summary", f"All {len(rows)} rows about {story.id}")
    return el("details", summary, table(("table", "row"), rows, wide=True), class_="data")
