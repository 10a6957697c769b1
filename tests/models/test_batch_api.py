from __future__ import annotations

import pytest
from fake_endpoint import asks, caller, fake, model, serving

from tapir import config
from tapir.errors import BudgetReached, EndpointError
from tapir.models.batch_api import BatchApiBackend
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
        rows = list(Caller(small_jobs, ledger).run(asks(30), stage="answer"))
        assert sorted(len(a) for a in ledger.open_jobs(small_jobs.identity).values()) == [6, 8, 8, 8]
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
