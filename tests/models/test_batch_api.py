from __future__ import annotations

import asyncio
import signal
import threading

import aiohttp
import pytest
from aiohttp import web
from fake_endpoint import answering, ask, asks, caller, fake, model, serving
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from tapir import config
from tapir.errors import BudgetReached, EndpointError
from tapir.models import records
from tapir.models.batch_api import BatchApiBackend
from tapir.models.calls import Reply
from tapir.models.engine import Caller
from tapir.models.ledger import Ledger


@pytest.fixture
def ledger(tmp_path):
    with Ledger(tmp_path / "ledger.sqlite") as opened:
        yield opened


def backend(url: str, ledger: Ledger, **settings: object) -> BatchApiBackend:
    return BatchApiBackend(model(url), ledger, environ={}, poll_s=0.01, **settings)


def test_the_same_rows_come_back_as_from_single_calls(ledger, tmp_path):
    server = fake()
    with serving(server) as url, Ledger(tmp_path / "single.sqlite") as other:
        batched = list(Caller(backend(url, ledger), ledger).run(asks(300), stage="answer"))
        single = list(caller(url, other).run(asks(300), stage="answer"))
    assert batched == single
    assert server.counts["requests"] == 300  # by the single calls


def test_replies_are_shared_with_single_calls(ledger):
    server = fake()
    with serving(server) as url:
        list(Caller(backend(url, ledger), ledger).run(asks(20), stage="answer"))
        list(caller(url, ledger).run(asks(20), stage="answer"))
    assert server.counts["requests"] == 0


def test_a_killed_run_finds_its_job_again(ledger):
    """Killed while waiting: the job is known, nothing of it is in the ledger."""
    server = fake()
    with serving(server) as url:
        waiting = backend(url, ledger)
        real_finish = waiting._finish

        async def killed(job: str) -> dict[str, object]:
            raise KeyboardInterrupt

        waiting._finish = killed
        with pytest.raises(KeyboardInterrupt):
            list(Caller(waiting, ledger).run(asks(10), stage="answer"))
        assert real_finish is not None
        (job,) = ledger.open_jobs(waiting.identity)
        again = backend(url, ledger)
        again._start = None  # a second job would be paid for twice
        assert len(list(Caller(again, ledger).run(asks(10), stage="answer"))) == 10
        list(Caller(backend(url, ledger), ledger).run(asks(11), stage="answer"))
    assert job not in ledger.open_jobs(waiting.identity)


def test_a_wrong_endpoint_is_a_clear_error(ledger):
    with serving(fake()) as url, pytest.raises(EndpointError, match=r"404.*check base_url"):
        list(Caller(backend(f"{url}/v2", ledger), ledger).run(asks(3), stage="answer"))


def test_many_rows_go_as_several_jobs_under_way_at_once(ledger):
    with serving(fake()) as url:
        small_jobs = backend(url, ledger, job_rows=8)
        sizes: list[int] = []
        finish = small_jobs._finish

        async def counted(job: str) -> dict[str, Reply]:
            sizes.extend(sorted(len(a) for a in ledger.open_jobs(small_jobs.identity).values()) if not sizes else [])
            return await finish(job)

        small_jobs._finish = counted
        rows = list(Caller(small_jobs, ledger).run(asks(30), stage="answer"))
    assert sizes == [6, 8, 8, 8]
    assert [reply.problem for _, reply in rows] == [None] * 30


def test_a_batch_that_outlived_its_run_is_not_reserved_twice(ledger):
    """Ten rows fit the cap once; a killed run's job already holds their reservation."""
    cap = config.Budget(calls=10)
    with serving(fake()) as url:
        waiting = backend(url, ledger, run_id="r")

        async def killed(job: str) -> dict[str, object]:
            raise KeyboardInterrupt

        waiting._finish = killed
        with pytest.raises(KeyboardInterrupt):
            list(Caller(waiting, ledger, budget=cap, run_id="r").run(asks(10), stage="answer"))
        again = Caller(backend(url, ledger, run_id="r"), ledger, budget=cap, run_id="r")
        assert len(list(again.run(asks(10), stage="answer"))) == 10
        with ledger.reading() as db:
            assert again.ration.spent(db).calls == 10
        other = Caller(backend(url, ledger, run_id="s"), ledger, budget=config.Budget(calls=9), run_id="s")
        with pytest.raises(BudgetReached):
            list(other.run(asks(10, temperature=0.5), stage="answer"))


CAP = config.Budget(calls=100)


def losing(
    url: str, ledger: Ledger, lost: tuple[str, ...], line: dict[str, object]
) -> tuple[BatchApiBackend, list[int]]:
    """A backend in whose next result files the rows of these questions have this outcome; the sizes of its jobs."""
    waiting = backend(url, ledger, run_id="r")
    addresses = {ask(text).address(waiting.identity) for text in lost}
    fetch, start = waiting._fetch, waiting._start
    sizes: list[int] = []

    async def fetched(file: str) -> bytes:
        results = [records.loads(row) for row in (await fetch(file)).splitlines()]
        return b"\n".join(records.dumps(r | line if r["custom_id"] in addresses else r) for r in results)

    async def started(lines: dict[str, bytes]) -> str:
        sizes.append(len(lines))
        return await start(lines)

    waiting._fetch, waiting._start = fetched, started
    return waiting, sizes


@pytest.mark.parametrize(
    ("outcome", "problem"),
    [
        ({"response": None, "error": {"code": "batch_expired"}}, "expired"),
        ({"response": {"status_code": 503, "body": {"error": {"message": "busy"}}}}, "server_error"),
    ],
)
def test_a_row_that_the_job_did_not_answer_is_sent_again_and_billed_once(ledger, outcome, problem):
    rows, lost = asks(3), ("question 0", "question 2")
    jobs: list[list[int]] = []
    spent: list[tuple[int, int]] = []
    found: list[list[str | None]] = []
    with serving(fake()) as url:
        for losses in (lost, lost, (), ()):
            waiting, sizes = losing(url, ledger, losses, outcome)
            one = Caller(waiting, ledger, budget=CAP, run_id="r")
            found.append([reply.problem for _, reply in one.run(rows, stage="answer")])
            jobs.append(sizes)
            with ledger.reading() as db:
                said = one.ration.spent(db)
            spent.append((said.calls, said.completion_tokens))
    assert found == [[problem, None, problem], [problem, None, problem], [None] * 3, [None] * 3]
    assert jobs == [[3], [2], [2], []]
    # "you said question 0" has four tokens; a row without an answer is a call and none.
    assert spent == [(3, 4), (5, 4), (7, 12), (7, 12)]


def test_a_job_is_closed_with_its_replies_or_not_at_all(ledger):
    with serving(fake()) as url:
        waiting = backend(url, ledger, run_id="r")
        first = Caller(waiting, ledger, budget=CAP, run_id="r")

        def killed(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        first.ration.settle = killed
        with pytest.raises(KeyboardInterrupt):
            list(first.run(asks(10), stage="answer"))
        assert [len(owed) for owed in ledger.open_jobs(waiting.identity).values()] == [10]
        again = backend(url, ledger, run_id="r")
        again._start = None  # a second job would be paid for twice
        second = Caller(again, ledger, budget=CAP, run_id="r")
        assert [reply.problem for _, reply in second.run(asks(10), stage="answer")] == [None] * 10
    assert ledger.open_jobs(waiting.identity) == {}
    with ledger.reading() as db:
        assert second.ration.spent(db).calls == 10


def test_rows_of_a_job_that_nobody_asked_for_yet_stay_on_it(ledger):
    with serving(fake()) as url:
        waiting = backend(url, ledger)

        async def killed(job: str) -> dict[str, object]:
            raise KeyboardInterrupt

        waiting._finish = killed
        with pytest.raises(KeyboardInterrupt):
            list(Caller(waiting, ledger).run(asks(10), stage="answer"))
        again = backend(url, ledger)
        again._start = None
        list(Caller(again, ledger).run(asks(4), stage="answer"))
        assert [len(owed) for owed in ledger.open_jobs(again.identity).values()] == [6]
        assert len(list(Caller(again, ledger).run(asks(10), stage="answer"))) == 10
    assert ledger.open_jobs(again.identity) == {}


# --- batches that fail ---


def test_a_proxys_login_is_in_no_message(ledger, monkeypatch):
    request = aiohttp.RequestInfo(URL("http://anna:secret@proxy.example"), "CONNECT", CIMultiDictProxy(CIMultiDict()))

    def refuse(*_: object, **__: object) -> object:
        raise aiohttp.ClientHttpProxyError(request, (), status=407, message="login", headers=None)

    monkeypatch.setattr(aiohttp.ClientSession, "post", refuse)
    waiting = backend("http://llm.example.com/v1", ledger, run_id="r")
    with pytest.raises(EndpointError, match=r"the proxy refused the connection \(407\); check HTTPS_PROXY") as caught:
        list(Caller(waiting, ledger, budget=CAP, run_id="r").run(asks(10), stage="answer"))
    assert "secret" not in str(caught.value)


def spent_after(waiting: BatchApiBackend, ledger: Ledger, *, match: str) -> int:
    """Calls that count as spent once a stage of ten rows has ended in this error."""
    one = Caller(waiting, ledger, budget=CAP, run_id="r")
    with pytest.raises(EndpointError, match=match):
        list(one.run(asks(10), stage="answer"))
    with ledger.reading() as db:
        return one.ration.spent(db).calls


def test_a_batch_that_never_began_costs_nothing(ledger):
    with serving(fake()) as url:
        wrong = backend(f"{url}/v2", ledger, run_id="r")
        assert [spent_after(wrong, ledger, match="404") for _ in range(2)] == [0, 0]


def test_a_batch_that_the_endpoint_refused_costs_nothing(ledger):
    with serving(fake()) as url:
        waiting = backend(url, ledger, run_id="r")

        async def refused(job: str) -> dict[str, object]:
            return {"status": "failed", "errors": {"data": [{"message": "too many tokens"}]}}

        waiting._look = refused
        assert [spent_after(waiting, ledger, match="too many tokens") for _ in range(2)] == [0, 0]


def starting_one_job(url: str, ledger: Ledger, then: BaseException) -> BatchApiBackend:
    """A backend whose second job of four rows ends in this error."""
    waiting = backend(url, ledger, run_id="r", job_rows=4)
    start = waiting._start

    async def once(lines: dict[str, bytes]) -> str:
        waiting._start = broke
        return await start(lines)

    async def broke(lines: dict[str, bytes]) -> str:
        raise then

    waiting._start = once
    return waiting


def test_rows_of_jobs_under_way_stay_reserved_when_a_later_job_fails(ledger):
    with serving(fake()) as url:
        waiting = starting_one_job(url, ledger, EndpointError("no credit left"))
        assert spent_after(waiting, ledger, match="no credit") == 4
        again = Caller(backend(url, ledger, run_id="r"), ledger, budget=CAP, run_id="r")
        assert len(list(again.run(asks(10), stage="answer"))) == 10
    with ledger.reading() as db:
        assert again.ration.spent(db).calls == 10


@pytest.mark.parametrize(("status", "spent"), [(None, 10), (504, 10), (200, 10), (429, 0)])
def test_a_job_whose_start_was_not_answered_may_be_paid_for(ledger, status, spent):
    async def endpoint(request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/files"):
            return web.json_response({"id": "file-1"})
        if status is None:
            request.transport.close()
        return web.json_response({"error": {"message": "slow down"}}, status=status or 200)

    with answering(endpoint) as url:
        assert (
            spent_after(backend(url, ledger, run_id="r"), ledger, match="no batch could be started|where it should")
            == spent
        )


# --- interrupts ---


def interrupted(waiting: BatchApiBackend, ledger: Ledger) -> int:
    """Calls that count as spent once a stage of ten rows was interrupted."""
    one = Caller(waiting, ledger, budget=CAP, run_id="r")
    # A process that a shell has started in the background ignores it, and so would these tests.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            list(one.run(asks(10), stage="answer"))
    finally:
        signal.signal(signal.SIGINT, before)
    with ledger.reading() as db:
        return one.ration.spent(db).calls


def ctrl_c() -> None:
    """What the terminal sends, to the thread that waits for the batch."""
    ident = threading.main_thread().ident
    assert ident is not None
    signal.pthread_kill(ident, signal.SIGINT)


MANY = 1000


def test_an_interrupt_ends_the_wait_and_not_the_job(ledger):
    looks: list[str] = []
    with serving(fake()) as url:
        waiting = backend(url, ledger, run_id="r")

        async def under_way(job: str) -> dict[str, object]:
            looks.append(job)
            if len(looks) == 1:
                ctrl_c()
            return {"status": "in_progress" if len(looks) < MANY else "expired"}

        waiting._look = under_way
        assert interrupted(waiting, ledger) == 10
        assert len(looks) < MANY
        again = backend(url, ledger, run_id="r")
        again._start = None  # a second job would be paid for twice
        rows = list(Caller(again, ledger, budget=CAP, run_id="r").run(asks(10), stage="answer"))
    assert [reply.problem for _, reply in rows] == [None] * 10


def test_an_interrupt_gives_back_the_rows_that_were_never_sent(ledger):
    with serving(fake()) as url:
        waiting = starting_one_job(url, ledger, KeyboardInterrupt())
        assert interrupted(waiting, ledger) == 4


def test_a_job_that_was_being_started_at_the_interrupt_may_be_paid_for(ledger):
    with serving(fake()) as url:
        waiting = backend(url, ledger, run_id="r")
        post = waiting._post

        async def unanswered(path: str, **sent: object) -> dict[str, object]:
            if path != "batches":
                return await post(path, **sent)
            ctrl_c()
            for _ in range(MANY):
                await asyncio.sleep(0.01)
            raise EndpointError("the interrupt did not come through")

        waiting._post = unanswered
        assert interrupted(waiting, ledger) == 10
    assert ledger.open_jobs(waiting.identity) == {}


def test_a_job_that_the_ledger_could_not_take_may_be_paid_for(ledger, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise EndpointError("disk full")

    monkeypatch.setattr(ledger, "open_job", full)
    with serving(fake()) as url:
        assert spent_after(backend(url, ledger, run_id="r"), ledger, match="disk full") == 10
