"""Marks from the studio: what a form may say, and the blind pairs.

A request names an instruction and a judgement; everything else (which step, which answers) is read from the run, so
that no mark can speak of something that is not there.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from tapir.curriculum.difficulty import difficulties
from tapir.errors import DataError
from tapir.report.marked import BY_JUDGE, judged_pairs
from tapir.report.markup import Element, el
from tapir.stages.gold import pair_mark
from tapir.store.marks import Mark, append_mark, now, read_marks, standing
from tapir.studio.frame import run_url, text_block
from tapir.studio.life import Story, read_stories, read_story
from tapir.studio.runs import View
from tapir.types import Verdict

DEFAULT_PAIRS = 50
SEED = "blind pairs"
PICKS = {"a": "The first is better", "b": "The second is better", "tie": "Neither is better"}


@dataclass(frozen=True, slots=True)
class BlindPair:
    """A judged pair to be decided without knowing whose answers these are."""

    place: str
    instruction_id: str
    student: str
    against: str
    student_first: bool


def blind_pairs(view: View, count: int) -> list[BlindPair]:
    """Random pairs that the judge has decided; the same ones in the same order each time, sides shuffled."""
    found: list[BlindPair] = []
    for pairs in judged_pairs(view.run):
        for instruction_id, student in view.tables.sample(pairs.verdicts, BY_JUDGE, SEED, count):
            first = random.Random(f"{SEED}:{instruction_id}:{student}").random() < 0.5
            found.append(BlindPair(pairs.place, instruction_id, student, pairs.against, first))
    random.Random(SEED).shuffle(found)
    return found[:count]


def _texts(pair: BlindPair, story: Story) -> tuple[str, str] | None:
    answers = story.answers()
    if pair.student not in answers or pair.against not in answers:
        return None
    return answers[pair.student], answers[pair.against]


def annotate_page(view: View, count: int) -> list[Element]:
    """The next pair that this person has not decided."""
    if not judged_pairs(view.run):
        return [el("p", "Nothing has been judged yet, so there are no pairs to decide.", class_="absent")]
    pairs = blind_pairs(view, count)
    decided = _decided(view, pairs)
    left = [(n, p) for n, p in enumerate(pairs) if p not in decided]
    said = el(
        "p", f"{len(pairs) - len(left)} of {len(pairs)} pairs decided by {view.author}", class_="note", role="status"
    )
    bar = el("progress", value=len(pairs) - len(left), max=max(1, len(pairs)), aria_label="decided")
    for number, pair in left:
        story = read_story(view, pair.instruction_id)
        texts = _texts(pair, story) if story else None
        if story and texts and story.instruction:
            return [bar, said, *_pair(view, number, pair, story, texts)]
    closing = el(
        "p", "All pairs are decided. ", el("code", "tapir report RUN --judge"), " compares them with the judge."
    )
    return [bar, said, closing]


def _decided(view: View, pairs: list[BlindPair]) -> set[BlindPair]:
    """Those that this person has decided as their answers are now: of earlier ones a mark says nothing."""
    mine = {(m.place, m.instruction_id, m.student, m.pair) for m in standing(read_marks(view.run.root))
            if m.kind == "preference" and m.author == view.author}  # fmt: skip
    marked = {i for _, i, _, _ in mine}
    stories = read_stories(view, [p.instruction_id for p in pairs if p.instruction_id in marked])
    found: set[BlindPair] = set()
    for pair in pairs:
        story = stories.get(pair.instruction_id)
        texts = _texts(pair, story) if story else None
        if texts and (pair.place, pair.instruction_id, pair.student, pair_mark(*texts)) in mine:
            found.add(pair)
    return found


def _pair(view: View, number: int, pair: BlindPair, story: Story, texts: tuple[str, str]) -> list[Element]:
    first, second = texts if pair.student_first else texts[::-1]
    hidden = {"form_token": view.access.form_token, "pair": str(number), "about": pair_mark(first, second)}
    buttons = [el("button", said, type="submit", name="pick", value=v, data_key=k)
               for (v, said), k in zip(PICKS.items(), ("1", "2", "0"), strict=True)]  # fmt: skip
    row = story.instruction
    assert row is not None
    return [
        *([el("div", el("h4", "system"), text_block(row["system"]), class_="asked")] if row["system"] else []),
        el("div", text_block(row["text"]), class_="asked main"),
        el("div", el("div", el("h4", "first answer"), text_block(first)),
           el("div", el("h4", "second answer"), text_block(second)), class_="sides two"),
        el("form", [el("input", type="hidden", name=k, value=v) for k, v in hidden.items()], buttons,
           el("span", "Keys 1, 2 and 0 do the same.", class_="note"),
           method="post", action=run_url(view.key, "annotate"), class_="mark"),
    ]  # fmt: skip


def decide(view: View, asked: Mapping[str, str], count: int) -> None:
    """Keep the person's choice between two anonymised answers."""
    number, pick = asked.get("pair", ""), asked.get("pick", "")
    pairs = blind_pairs(view, count)
    if not (number.isascii() and number.isdigit() and int(number) < len(pairs)) or pick not in PICKS:
        raise DataError("no such pair or choice; reload the page")
    pair = pairs[int(number)]
    story = read_story(view, pair.instruction_id)
    texts = _texts(pair, story) if story else None
    shown = texts if texts is None or pair.student_first else texts[::-1]
    if texts is None or shown is None or asked.get("about") != pair_mark(*shown):
        raise DataError("the answers have changed since the page was made; reload it")
    winner = "tie" if pick == "tie" else "1" if (pick == "a") == pair.student_first else "2"
    append_mark(
        view.run.root,
        Mark("preference", pair.instruction_id, winner, pair.place, view.author, now(), pair.student, winner,
             pair_mark(*texts)),
    )  # fmt: skip


def mark(view: View, asked: Mapping[str, str]) -> str:
    """Keep a mark on one instruction; returns the page to go on with, the overview where it has none of its own."""
    instruction_id, kind, value = asked.get("instruction_id", ""), asked.get("kind", ""), asked.get("value", "")
    story = read_story(view, instruction_id) if instruction_id else None
    drops = {m.instruction_id: m.place for m in standing(read_marks(view.run.root)) if m.kind == "drop"}
    if story is None and instruction_id not in drops:
        raise DataError("the run holds no such instruction; reload the page")
    page = f"instruction/{instruction_id}" if story else ""
    if kind == "verdict" and story:
        append_mark(view.run.root, _verdict_mark(view, story, asked))
        return page
    place = story.home if story else None
    if place is None and kind == "drop":
        # The run has used the mark, so no table says where this stood.
        place = drops.get(instruction_id)
    if kind not in ("drop", "label") or place is None or place != asked.get("place"):
        raise DataError("this instruction cannot be marked so; reload the page")
    if kind == "label" and value not in ("", *view.task_names):
        raise DataError(f"{value!r} is no task type of this run")
    append_mark(view.run.root, Mark(kind, instruction_id, value, place, view.author, now()))
    return page


def _verdict_mark(view: View, story: Story, asked: Mapping[str, str]) -> Mark:
    place, student = asked.get("place", ""), asked.get("student", "")
    against = {p.place: p.against for p in judged_pairs(view.run)}.get(place, "")
    answers = story.answers()
    if (place, student) not in story.verdicts() or against not in answers or student not in answers:
        raise DataError("there is no such verdict; reload the page")
    if asked.get("pair") != pair_mark(answers[student], answers[against]):
        raise DataError("the answers have changed since the page was made; reload it")
    value, _, winner = asked.get("value", "").partition(" ")
    if winner not in (("1", "2", "tie") if value == "wrong" else ("",)):
        raise DataError("a wrong verdict needs the better answer: 1, 2 or tie")
    if value == "right":
        winner = _judged(story, place, student)
    return Mark("verdict", story.id, value, place, view.author, now(), student, winner, asked["pair"])


def _judged(story: Story, place: str, student: str) -> str:
    """Whom the verdict names, for a mark that says that it is right; empty where it could not be read."""

    found = difficulties(Verdict(**row) for row in story.verdicts()[place, student])
    if not found:
        return ""
    return "tie" if found[0].is_zero else "2" if found[0].value > 0 else "1"
