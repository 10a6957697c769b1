"""A backend that answers many batches at once, in any order, leaves the ledger and the rows of one that answers one."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest
from spread_worker import BOUND, CAP, ROWS, USED, Short, requests, spread

from tapir import config
from tapir.errors import BudgetReached
from tapir.models.budget import Ration, put_back
from tapir.models.calls import Reply, Request, Sampling
from tapir.models.engine import Caller
from tapir.models.ledger import Ledger
from tapir.models.spread import SpreadCaller
from tapir.types import Message


class OneByOne:
    """Its replies depend on the whole batch, as an int8 engine's do."""

    identity, batch_size = "fake", 8

    def __init__(self) -> None:
        self.batches: list[tuple[str, ...]] = []

    def generate(self, batch: Sequence[Request]) -> list[Reply]:
        said = tuple(request.messages[-1].content for request in batch)
        self.batches.append(said)
        return [Reply(text=f"{text} of {'|'.join(said)}", completion_tokens=1) for text in said]

    def close(self) -> None: ...


class Spread(OneByOne):
    """All at once, the last batch first."""

    def generate_all(self, batches: Iterable[Sequence[Request]]) -> Iterator[tuple[int, list[Reply]]]:
        for number, batch in reversed(list(enumerate(batches))):
            yield number, self.generate(batch)


def _requests(count: int) -> list[Request]:
    """Every seventh repeats an earlier one, sometimes of another window."""
    return [
        Request((Message("user", f"row {n % 7 if n % 7 == 3 else n} " * (1 + n % 5)),), Sampling(), row=str(n))
        for n in range(count)
    ]


def _answered(caller: Caller, count: int = 700) -> list[tuple[str, str]]:
    return [(request.row, reply.text) for request, reply in caller.run(_requests(count), stage="answer")]


def test_rows_batches_and_counts_are_those_of_one_process(tmp_path: Path):
    with Ledger(tmp_path / "one") as first, Ledger(tmp_path / "many") as second:
        one, many = Caller(OneByOne(), first), SpreadCaller(Spread(), second)
        assert _answered(one) == _answered(many)
        assert one.usage["answer"] == many.usage["answer"]
        assert isinstance(one.batch_backend, OneByOne)
        assert isinstance(many.batch_backend, Spread)
        assert sorted(one.batch_backend.batches) == sorted(many.batch_backend.batches)


def test_a_stage_that_was_stopped_goes_on_with_the_batches_it_lacks(tmp_path: Path):
    class Dies(Spread):
        def generate_all(self, batches: Iterable[Sequence[Request]]) -> Iterator[tuple[int, list[Reply]]]:
            for done, item in enumerate(super().generate_all(batches)):
                if done == 20:
                    raise KeyboardInterrupt
                yield item

    with Ledger(tmp_path / "l") as ledger, Ledger(tmp_path / "undisturbed") as other:
        with pytest.raises(KeyboardInterrupt):
            _answered(SpreadCaller(Dies(), ledger))
        again = SpreadCaller(Spread(), ledger)
        rows = _answered(again)
        assert rows == _answered(Caller(OneByOne(), other))
        assert again.usage["answer"].cached >= 20 * 8


def test_what_passes_the_budget_is_not_handed_out_and_the_rest_is_kept(tmp_path: Path):
    with Ledger(tmp_path / "l") as ledger:
        capped = SpreadCaller(Spread(), ledger, budget=config.Budget(calls=50), run_id="r")
        with pytest.raises(BudgetReached, match="cap of 50"):
            _answered(capped)
        # Six batches of eight fit under the cap, a seventh does not.
        assert capped.usage["answer"].calls == 48


def _spent(ledger: Ledger) -> int:
    """Completion tokens that count against the run's caps."""
    with ledger.reading() as db:
        return Ration("r").spent(db).completion_tokens


def test_a_cap_that_the_bounds_pass_and_the_answers_do_not_is_no_refusal(tmp_path: Path):
    budget = config.Budget(completion_tokens=100_000)
    with Ledger(tmp_path / "one") as here, Ledger(tmp_path / "many") as there:
        local = Caller(Short(), here, budget=budget, run_id="r")
        one = [(q.row, r.text) for q, r in local.run(requests(), stage="answer")]
        backend = Short()
        many = [(q.row, r.text) for q, r in spread(there, backend, budget).run(requests(), stage="answer")]
        assert many == one
        assert _spent(there) == _spent(here) == ROWS * USED
        # 12 batches of 8 rows at 1,024 tokens fit under 100,000 at first, and a batch fewer once 960 are really spent.
        assert backend.parts[:2] == [12, 12]
        assert sum(backend.parts) == ROWS / 8


def test_a_cap_that_is_really_reached_is_refused_with_nothing_left_reserved(tmp_path: Path):
    with Ledger(tmp_path / "l") as ledger:
        # Three batches come to 240 tokens; the bound of a fourth is 8,192.
        with pytest.raises(BudgetReached, match=r"stage answer: .* above its cap of 8400"):
            list(spread(ledger, Short(), config.Budget(completion_tokens=8400)).run(requests(), stage="answer"))
        assert _spent(ledger) == 3 * 8 * USED
        capped = config.Budget(per_stage={"answer": config.Caps(completion_tokens=8400)})
        with pytest.raises(BudgetReached, match=r"budget\.per_stage\.answer"):
            list(spread(ledger, Short(), capped).run(requests(), stage="answer"))


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_stage_that_is_broken_off_counts_what_came_back_and_goes_on(tmp_path: Path, error: type[BaseException]):
    with Ledger(tmp_path / "l") as ledger:
        with pytest.raises(error):
            list(spread(ledger, Short(dies_after=3, by=error)).run(requests(), stage="answer"))
        assert _spent(ledger) == 24 * USED
        assert len(list(spread(ledger, Short()).run(requests(), stage="answer"))) == ROWS
        assert _spent(ledger) == ROWS * USED


def test_what_a_killed_stage_had_reserved_is_put_back_by_the_runs_next_writer(tmp_path: Path):
    worker = Path(__file__).with_name("spread_worker.py")
    killed = subprocess.run([sys.executable, str(worker), str(tmp_path / "l")], check=False)
    assert killed.returncode == -signal.SIGKILL
    with Ledger(tmp_path / "l") as ledger:
        assert _spent(ledger) == 24 * USED + (ROWS - 24) * BOUND
        for writer, left in [("/runs/r2", (ROWS - 24) * BOUND), ("/runs", (ROWS - 24) * BOUND), ("/runs/r", 0)]:
            with ledger.transaction() as db:
                put_back(db, writer)
            assert _spent(ledger) == 24 * USED + left
        assert len(list(spread(ledger, Short(), CAP).run(requests(), stage="answer"))) == ROWS
        assert _spent(ledger) == ROWS * USED
