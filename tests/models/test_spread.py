"""A backend that answers many batches at once, in any order, leaves the ledger and the rows of one that answers one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest

from tapir import config
from tapir.errors import BudgetReached
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
