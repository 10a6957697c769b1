from __future__ import annotations

from dataclasses import replace

import pytest
from fake_endpoint import ask, asks, caller, fake, serving
from hypothesis import given
from hypothesis import strategies as st

from tapir import config
from tapir.errors import BudgetReached, RecipeError
from tapir.models.budget import Ration, Spend, Tariff, prompt_tokens_bound
from tapir.models.calls import Reply
from tapir.models.fake_server import Faults
from tapir.models.ledger import Ledger

PRICE = config.Price(prompt=0.15, completion=0.60)


@pytest.fixture
def ledger(tmp_path):
    with Ledger(tmp_path / "ledger.sqlite") as opened:
        yield opened


def test_money_is_counted_exactly():
    # 1,000 prompt tokens at 0.15 and 100 completion tokens at 0.60 dollars a million: 0.00015 + 0.00006 dollars.
    assert Tariff(PRICE).spend(1000, 100) == Spend(1, 1000, 100, 210 * 10**6)
    assert Tariff(PRICE).spend(1000, 100).usd == 0.00021


def test_a_price_too_fine_to_count_is_rounded_up():
    assert Tariff(config.Price(prompt=0.0000001, completion=0)).spend(1, 0).pico_usd == 1


def test_a_prompt_has_at_most_a_token_a_byte_and_some_for_each_message():
    assert prompt_tokens_bound(ask("Grüße")) == 7 + 2 * 16


@given(st.text())
def test_the_bound_is_never_below_the_bytes_of_the_prompt(text):
    assert prompt_tokens_bound(ask(text)) >= len(text.encode("utf-8", "surrogatepass"))


def test_usage_that_is_not_told_counts_as_the_bound():
    bound = Spend(1, 50, 64, 0)
    assert Tariff(None).actual(Reply(usage_known=False), bound) == bound
    assert Tariff(None).actual(Reply(prompt_tokens=2, completion_tokens=3), bound) == Spend(1, 2, 3, 0)


def test_the_longest_prefix_that_fits_is_granted(ledger):
    ration = Ration("r", config.Budget(completion_tokens=100))
    with ledger.transaction() as db:
        assert ration.reserve(db, "answer", [Spend(1, 0, 40), Spend(1, 0, 60), Spend(1, 0, 1)]) == 2
        assert ration.reserve(db, "answer", [Spend(1, 0, 1)]) == 0
        ration.settle(db, "answer", [(Spend(1, 0, 60), Spend(1, 0, 59))])
        assert ration.reserve(db, "answer", [Spend(1, 0, 1)]) == 1
        assert ration.spent(db) == Spend(3, 0, 100)


def test_the_cap_of_a_stage_holds_over_all_rounds_and_leaves_other_stages_alone(ledger):
    ration = Ration("r", config.Budget(per_stage={"judge": config.Caps(calls=3)}))
    with ledger.transaction() as db:
        assert ration.reserve(db, "round_0/judge", [Spend(1)] * 2) == 2
        assert ration.reserve(db, "round_1/judge", [Spend(1)] * 2) == 1
        assert ration.reserve(db, "round_1/refine", [Spend(1)] * 2) == 2
        assert "budget.per_stage.judge.calls to 4, above its cap of 3" in ration.refusal(db, "round_2/judge", Spend(1))


@pytest.mark.parametrize("name", ["judge", "verdicts"])
@pytest.mark.parametrize("stage", ["judge", "verdicts", "round_0/verdicts"])
def test_a_stage_is_capped_by_either_name_in_a_run_and_alone(ledger, name, stage):
    """A run counts `verdicts`, `tapir stage judge` counts `judge`; what was spent under the other name counts too."""
    with ledger.transaction() as db:
        assert Ration("r").reserve(db, "verdicts", [Spend(1)]) == 1
        assert Ration("r").reserve(db, "judge", [Spend(1)]) == 1
        ration = Ration("r", config.Budget(per_stage={name: config.Caps(calls=3)}))
        assert ration.reserve(db, stage, [Spend(1)] * 2) == 1
        assert ration.reserve(db, "evaluation", [Spend(1)] * 5) == 5
        assert f"budget.per_stage.{name}.calls to 4" in ration.refusal(db, stage, Spend(1))


def test_runs_have_their_own_counters(ledger):
    with ledger.transaction() as db:
        for run in ("a", "b"):
            assert Ration(run, config.Budget(calls=2)).reserve(db, "answer", [Spend(1)] * 3) == 2


def test_a_reservation_left_behind_stays_spent(ledger):
    with ledger.transaction() as db:
        Ration("r", config.Budget(calls=2)).reserve(db, "answer", [Spend(1)])
    with Ledger(ledger.path) as after_the_kill, after_the_kill.transaction() as db:
        assert Ration("r", config.Budget(calls=2)).reserve(db, "answer", [Spend(1)] * 2) == 1


def test_a_money_cap_without_a_price_refuses_to_start(ledger):
    for budget in (config.Budget(usd=1), config.Budget(per_stage={"judge": config.Caps(usd=1)})):
        with pytest.raises(RecipeError, match="give its price_per_million"):
            caller("http://127.0.0.1:1/v1", ledger, budget=budget)


@pytest.mark.parametrize(
    ("cap", "value"), [("usd", 0.02), ("calls", 1500), ("prompt_tokens", 30_000), ("completion_tokens", 30_000)]
)
def test_no_cap_is_passed_by_the_servers_own_count_with_256_in_flight(ledger, cap, value):
    """Some replies break off, some tries fail: each of them counts."""
    server = fake(Faults(error_500=0.05, broken=0.02, error_429=0.02, retry_after_s=0.05), latency_s=0.01)
    requests = (ask(f"question {n} " + "word " * 10) for n in range(6000))
    with serving(server) as url:
        budget = config.Budget(**{cap: value})
        one = caller(url, ledger, limits={"in_flight": 256}, budget=budget, price=PRICE, run_id="r")
        with pytest.raises(BudgetReached, match=f"budget.{cap} to .*, above its cap of"):
            list(one.run(requests, stage="answer"))
    counts = server.counts
    billed = Tariff(PRICE).spend(counts["prompt_tokens"], counts["completion_tokens"])
    by_server = {"usd": billed.usd, "calls": counts["requests"], **{
        name: counts[name] for name in ("prompt_tokens", "completion_tokens")}}  # fmt: skip
    assert by_server[cap] <= value
    assert counts["most_in_flight"] > 100
    with ledger.reading() as db:
        spent = one.ration.spent(db)
    assert spent.calls >= counts["requests"]
    assert spent.prompt_tokens >= counts["prompt_tokens"]
    # It stopped because the next call could have passed the cap, not long before.
    next_call = one.tariff.bound(ask("question 9999 " + "word " * 10))
    assert getattr(spent, cap) > value - getattr(next_call, cap)


def test_a_raised_cap_goes_on_where_the_run_stopped(ledger):
    server = fake()
    with serving(server) as url:
        with pytest.raises(BudgetReached):
            list(caller(url, ledger, budget=config.Budget(calls=30), run_id="r").run(asks(50), stage="answer"))
        again = caller(url, ledger, budget=config.Budget(calls=50), run_id="r")
        assert len(list(again.run(asks(50), stage="answer"))) == 50
    assert server.counts["requests"] == 50
    assert again.usage["answer"].cached == 30


def test_a_stage_left_early_gives_back_what_was_not_sent(ledger):
    server = fake(latency_s=0.01)
    with serving(server) as url:
        one = caller(url, ledger, budget=config.Budget(calls=500), run_id="r")
        rows = one.run(asks(400), stage="answer")
        next(rows)
        rows.close()
    with ledger.reading() as db:
        assert one.ration.spent(db).calls <= server.counts["requests"] + 16


def test_cost_is_told_by_row_and_by_stage(ledger):
    with serving(fake()) as url:
        one = caller(url, ledger, price=config.Price(prompt=1.0, completion=2.0))
        reply = one.one(ask("one two three"), stage="answer")
    # Three words asked, five said: 3 x 1 + 5 x 2 millionths of a dollar.
    assert (reply.prompt_tokens, reply.completion_tokens, reply.cost_usd) == (3, 5, 0.000013)
    assert one.usage["answer"].cost_usd == 0.000013
    assert replace(reply, cached=True).cost_usd == 0.000013
