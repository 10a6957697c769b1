from __future__ import annotations

import itertools
import threading
from dataclasses import replace

import pytest
from fake_endpoint import ask, asks, caller, fake, serving

from tapir import config
from tapir.errors import BudgetReached, DataError, ReplayMiss
from tapir.models.calls import Reply, Request
from tapir.models.engine import BATCH_WINDOW_ROWS, Caller
from tapir.models.fake_server import Faults
from tapir.models.ledger import Ledger
from tapir.models.scripted import Rule, ScriptedModel


@pytest.fixture
def ledger(tmp_path):
    with Ledger(tmp_path / "ledger.sqlite") as opened:
        yield opened


@pytest.fixture
def endpoint():
    server = fake()
    with serving(server) as url:
        yield url, server


def texts(rows):
    return [reply.text for _, reply in rows]


def test_replies_come_in_the_order_of_the_requests(ledger, endpoint):
    url, _ = endpoint
    requests = asks(600)
    rows = list(caller(url, ledger).run(requests, stage="answer"))
    assert [request for request, _ in rows] == requests
    assert texts(rows) == [f"you said question {number}" for number in range(600)]


def test_a_second_run_calls_nobody(ledger, endpoint):
    url, server = endpoint
    first = list(caller(url, ledger).run(asks(50), stage="answer"))
    again = caller(url, ledger)
    second = list(again.run(asks(50), stage="answer"))
    assert texts(first) == texts(second)
    assert server.counts["requests"] == 50
    assert (again.usage["answer"].calls, again.usage["answer"].cached) == (0, 50)


def test_one_row_more_costs_one_call(ledger, endpoint):
    url, server = endpoint
    list(caller(url, ledger).run(asks(100), stage="answer"))
    list(caller(url, ledger).run(asks(101), stage="answer"))
    assert server.counts["requests"] == 101


def test_another_prompt_temperature_or_url_is_another_call(ledger, endpoint):
    url, server = endpoint
    for request in (ask("a"), ask("b"), ask("a", temperature=0.5)):
        list(caller(url, ledger).run([request], stage="answer"))
    list(caller(url.replace("127.0.0.1", "localhost"), ledger).run([ask("a")], stage="answer"))
    assert server.counts["requests"] == 4


def test_equal_requests_are_called_once(ledger, endpoint):
    url, server = endpoint
    one = caller(url, ledger)
    rows = list(one.run([ask("same")] * 20 + [replace(ask("same"), sample=1)], stage="answer"))
    assert texts(rows) == ["you said same"] * 21
    assert server.counts["requests"] == 2
    assert (one.usage["answer"].calls, one.usage["answer"].cached) == (2, 19)


def test_input_is_taken_as_it_is_needed(ledger, endpoint):
    url, _ = endpoint
    taken = 0

    def endless():
        nonlocal taken
        for number in itertools.count():
            taken += 1
            yield ask(f"question {number}")

    rows = caller(url, ledger).run(endless(), stage="answer")
    assert len(list(itertools.islice(rows, 3000))) == 3000
    rows.close()
    assert taken <= 3000 + 1024 + 256


def test_a_stage_left_early_leaves_no_thread_and_keeps_what_is_finished(ledger, endpoint):
    url, server = endpoint
    before = threading.active_count()
    rows = caller(url, ledger).run(asks(500), stage="answer")
    for _ in range(100):
        next(rows)
    rows.close()
    assert threading.active_count() == before
    seen = server.counts["requests"]
    list(caller(url, ledger).run(asks(500), stage="answer"))
    assert server.counts["requests"] - 500 <= 16
    assert seen >= 100


def test_an_error_in_the_input_passes_through(ledger, endpoint):
    url, _ = endpoint

    def broken():
        yield ask("a")
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        list(caller(url, ledger).run(broken(), stage="answer"))


def test_two_stages_can_run_at_once(ledger, endpoint):
    url, _ = endpoint
    one = caller(url, ledger)
    chained = (ask(reply.text) for _, reply in one.run(asks(300), stage="answer"))
    rows = list(one.run(chained, stage="judge"))
    assert texts(rows)[7] == "you said you said question 7"


def test_replay_calls_nobody_and_names_the_row_it_lacks(ledger, endpoint):
    url, server = endpoint
    list(caller(url, ledger).run(asks(10), stage="answer"))
    with Ledger(ledger.path, replay=True) as replay:
        assert len(list(caller(url, replay).run(asks(10), stage="answer"))) == 10
        with pytest.raises(ReplayMiss, match="stage judge, row question 10"):
            list(caller(url, replay).run(asks(11), stage="judge"))
    assert server.counts["requests"] == 10


def test_replay_serves_bad_rows_as_bad_rows(ledger):
    with serving(fake(Faults(bad_rows=0.3))) as url:
        first = list(caller(url, ledger).run(asks(60), stage="answer"))
    with Ledger(ledger.path, replay=True) as replay:
        second = list(caller(url, replay).run(asks(60), stage="answer"))
    assert [r.problem for _, r in first] == [r.problem for _, r in second]
    assert 0 < sum(r.problem == "bad_request" for _, r in first) < 60


def test_observers_and_keys_hear_of_every_row(ledger, endpoint):
    url, _ = endpoint
    keys, seen = [], []
    one = caller(url, ledger, observers=[lambda reply, tries, usage: seen.append(usage.calls)])
    one._keys_used = lambda stage, address: keys.append((stage, address))
    list(one.run(asks(5), stage="answer"))
    assert keys == [("answer", request.address(one.identity)) for request in asks(5)]
    assert seen == [1, 2, 3, 4, 5]


# --- engines in this process ---


class Counting:
    """A local engine that records its batches and answers with the batch's size, as a batch-sensitive engine would."""

    identity = "counting"
    batch_size = 4

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def generate(self, batch):
        self.batches.append([request.row for request in batch])
        return [Reply(text=f"{request.row} of {len(batch)}", completion_tokens=1) for request in batch]

    def close(self) -> None: ...


def test_a_local_engine_gets_fixed_batches_sorted_by_length(ledger):
    engine = Counting()
    rows = list(Caller(engine, ledger).run([ask("x" * n) for n in (9, 1, 8, 2, 7, 3)], stage="answer"))
    assert [[len(row) for row in batch] for batch in engine.batches] == [[1, 2, 3, 7], [8, 9]]
    assert [len(request.row) for request, _ in rows] == [9, 1, 8, 2, 7, 3]


def test_an_interrupted_local_stage_resumes_with_the_same_batches(tmp_path):
    whole = Counting()
    with Ledger(tmp_path / "whole.sqlite") as ledger:
        undisturbed = texts(Caller(whole, ledger).run(asks(300), stage="answer"))
    parts = Counting()
    with Ledger(tmp_path / "parts.sqlite") as ledger:
        interrupted = Caller(parts, ledger).run(asks(300), stage="answer")
        next(interrupted)
        interrupted.close()
        assert len(parts.batches) == BATCH_WINDOW_ROWS / 4
        assert texts(Caller(parts, ledger).run(asks(300), stage="answer")) == undisturbed
    assert parts.batches == whole.batches


def test_a_batch_that_fails_keeps_the_batches_before_it(ledger):
    class Failing(Counting):
        def generate(self, batch):
            if self.batches:
                raise MemoryError
            return super().generate(batch)

    with pytest.raises(MemoryError):
        list(Caller(Failing(), ledger).run(asks(8), stage="answer"))
    assert sum(row.calls for row in ledger.stats()) == 4


def test_twins_in_a_window_are_generated_once(ledger):
    engine = Counting()
    one = Caller(engine, ledger)
    rows = list(one.run([ask("a"), ask("a"), ask("b")], stage="answer"))
    assert texts(rows) == ["a of 2", "a of 2", "b of 2"]
    assert (one.usage["answer"].calls, one.usage["answer"].cached) == (2, 1)


def test_a_replayed_local_engine_is_never_asked(ledger):
    list(Caller(Counting(), ledger).run(asks(3), stage="answer"))
    with Ledger(ledger.path, replay=True) as replay:
        engine = Counting()
        assert len(list(Caller(engine, replay).run(asks(3), stage="answer"))) == 3
        with pytest.raises(ReplayMiss):
            list(Caller(engine, replay).run(asks(4), stage="answer"))
    assert engine.batches == []


def test_a_cap_on_calls_stops_a_local_engine_between_batches(ledger):
    engine = Counting()
    capped = Caller(engine, ledger, budget=config.Budget(calls=10), run_id="r")
    with pytest.raises(BudgetReached, match=r"budget\.calls to 12, above its cap of 10"):
        list(capped.run(asks(40), stage="answer"))
    assert len(engine.batches) == 2


# --- which replies are bad rows ---


@pytest.mark.parametrize(
    ("reply", "flags", "problem"),
    [
        (Reply(text="cut", finish_reason="length"), {}, "truncated"),
        (Reply(text="cut", finish_reason="length"), {"accept_truncated": True}, None),
        (Reply(text=" \n"), {}, "empty"),
        (Reply(text=""), {"accept_empty": True}, None),
        (Reply(text="", finish_reason="length"), {}, "truncated"),
        (Reply(text="I cannot help with that."), {}, None),
        (Reply(text="x", problem="content_filter"), {"accept_empty": True}, "content_filter"),
    ],
)
def test_a_stage_says_which_replies_it_takes(ledger, reply, flags, problem):
    def said(request: Request, _: object) -> Reply:
        return replace(reply, completion_tokens=1)

    one = Caller(ScriptedModel([Rule("", said)]), ledger)
    for _ in range(2):  # generated, then from the ledger
        assert [r.problem for _, r in one.run([ask("x")], stage="answer", **flags)] == [problem]


def test_a_prompt_the_script_does_not_know_is_an_error_with_the_prompt(ledger):
    one = Caller(ScriptedModel([Rule("^known$", "yes")]), ledger)
    with pytest.raises(DataError, match=r"no rule for this prompt .*'unknown'"):
        list(one.run([ask("known"), ask("unknown")], stage="answer"))
