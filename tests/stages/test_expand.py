"""Growing meets its quota exactly, asks as often as acceptance so far demands, and says when a type is exhausted."""

from __future__ import annotations

import re
from collections import Counter

from tapir.models.calls import Request, Sampling
from tapir.stages.expand import exhausted_lines, expand
from tapir.tasks import load_taxonomy
from tapir.types import Instruction, Receipt, Rejection

PARENTS = [Instruction(f"Seed number {n} of this pool.", task="Math") for n in range(6)]
EVEN = {p.id: 1.0 for p in PARENTS}


class Writer:
    """Answers every ask with a text of its own."""

    def __init__(self) -> None:
        self.waves: list[list[Request]] = []

    def run(self, requests, *, stage, accept_truncated=False, accept_empty=False):
        from tapir.models.calls import Reply

        self.waves.append(list(requests))
        return [(q, Reply(f"Written for {q.row} as number {q.sample}.")) for q in self.waves[-1]]

    @property
    def asked(self) -> int:
        return sum(map(len, self.waves))


def grow(wanted: int, writer: Writer, *, refuses=lambda child, parent: None, **changed):
    receipt, rejections = Receipt("expand"), list[Rejection]()
    settings = {"per_seed": 4, "children": {}, "max_tries": 4, "round": 1, "seed": 3, **changed}
    weights = settings.pop("weights", EVEN)
    parents = settings.pop("parents", PARENTS)
    taken = expand(
        {"Math": wanted}, parents, weights, writer, load_taxonomy(), Sampling(), refuses=refuses,
        rejections=rejections, receipt=receipt, **settings,
    )  # fmt: skip
    receipt.check()
    return taken, rejections, receipt


def test_what_is_all_accepted_is_asked_once_each():
    writer = Writer()
    taken, rejections, _ = grow(10, writer)
    assert (len(taken), writer.asked, rejections) == (10, 10, [])
    assert {(t.task, t.origin, t.round) for t in taken} == {("Math", "expanded", 1)}


def test_every_other_one_refused_the_quota_is_met_exactly_and_later_waves_ask_for_more_than_is_missing():
    writer, seen = Writer(), Counter[str]()

    def every_other(child: Instruction, parent: Instruction) -> str | None:
        seen["asked"] += 1
        return "near_duplicate" if seen["asked"] % 2 else None

    taken, rejections, _ = grow(10, writer, refuses=every_other)
    # The first wave takes 5 of 10; acceptance is then (5 + 1) / (10 + 1), so 10 are asked for the missing 5.
    assert [len(wave) for wave in writer.waves] == [10, 10]
    assert len(taken) == 10
    assert Counter(r.reason for r in rejections) == {"near_duplicate": 10}


def test_what_comes_beyond_the_quota_is_counted_as_surplus():
    writer, seen = Writer(), Counter[str]()

    def first_ones(child: Instruction, parent: Instruction) -> str | None:
        seen["asked"] += 1
        return "too_short" if seen["asked"] <= 5 else None

    taken, rejections, receipt = grow(6, writer, refuses=first_ones)
    assert len(taken) == 6
    assert receipt.dropped["surplus"] == writer.asked - 6 - 5
    assert Counter(r.reason for r in rejections)["surplus"] == receipt.dropped["surplus"]


def test_no_seed_has_more_children_than_it_may():
    taken, _, receipt = grow(9, Writer(), parents=PARENTS[:2], per_seed=3)
    assert Counter(t.parent_id for t in taken) == {p.id: 3 for p in PARENTS[:2]}
    assert receipt.notes["exhausted"] == {"Math": 3}


def test_children_of_earlier_rounds_count():
    taken, _, _ = grow(9, Writer(), parents=PARENTS[:2], per_seed=3, children={PARENTS[0].id: 2})
    assert Counter(t.parent_id for t in taken) == {PARENTS[0].id: 1, PARENTS[1].id: 3}


def test_a_type_that_is_refused_again_and_again_stops_at_its_tries_with_a_clear_message():
    writer = Writer()
    taken, rejections, receipt = grow(5, writer, refuses=lambda child, parent: "near_duplicate", max_tries=3)
    assert (taken, writer.asked) == ([], 15)
    (line,) = exhausted_lines(receipt, rejections)
    assert re.match(r"Math is exhausted, 5 wanted instructions are missing \(near_duplicate 15\)", line)


def test_harder_seeds_have_more_children():
    weights = {p.id: 9.0 if n < 2 else 1.0 for n, p in enumerate(PARENTS)}
    hard = {p.id for p in PARENTS[:2]}
    taken, _, _ = grow(200, Writer(), weights=weights, per_seed=1000)
    # Two seeds of weight 9 among 22: 81.8 % of 200 is 164, with a standard deviation of 5.5.
    assert 147 <= sum(t.parent_id in hard for t in taken) <= 181


def test_the_same_seed_grows_the_same_whatever_order_the_parents_come_in():
    first, _, _ = grow(8, Writer())
    assert grow(8, Writer(), parents=PARENTS[::-1])[0] == first
    assert grow(8, Writer(), seed=4)[0] != first
