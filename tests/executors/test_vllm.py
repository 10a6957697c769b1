"""What goes to vLLM on the cluster and what comes back, without an engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny import build_tiny_tokenizer

from tapir.executors.vllm import Desk
from tapir.models.calls import Request, Sampling
from tapir.models.local_rows import Speech
from tapir.types import Message


@pytest.fixture
def speech(tmp_path: Path) -> Speech:
    build_tiny_tokenizer(tmp_path)
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 64}')
    return Speech.of(tmp_path, None)


def _ask(text: str) -> Request:
    return Request((Message("user", text),), Sampling(0.5, 1.0, 8))


def _answered(row: dict[str, Any], speech: Speech, said: str) -> dict[str, Any]:
    ids = [*speech.tokenizer.encode(said, add_special_tokens=False), sorted(speech.stops)[0]]
    return row | {"generated_tokens": ids, "num_input_tokens": len(row["tokenized_prompt"])}


def test_batches_are_whole_again_whatever_order_their_rows_come_in(speech: Speech):
    desk = Desk(speech)
    rows = [row for n, batch in enumerate([["a", "b"], ["c"]]) for row in desk.rows(n, [_ask(t) for t in batch])]
    done = [whole for row in reversed(rows) for whole in desk.take(_answered(row, speech, f"re {row['at']}"))]
    assert [(number, [r.text for r in replies]) for number, replies in done] == [(1, ["re 0"]), (0, ["re 0", "re 1"])]
    assert {r.finish_reason for _, replies in done for r in replies} == {"stop"}


def test_a_prompt_that_does_not_fit_is_refused_here_and_costs_only_itself(speech: Speech):
    desk = Desk(speech)
    rows = list(desk.rows(0, [_ask("word " * 100), _ask("a")]))
    assert [row["at"] for row in rows] == [1]
    ((number, replies),) = desk.take(_answered(rows[0], speech, "yes"))
    assert (number, [r.problem for r in replies]) == (0, ["prompt_too_long", None])


def test_a_batch_of_which_no_row_can_be_asked_is_not_lost(speech: Speech):
    desk = Desk(speech)
    assert list(desk.rows(0, [_ask("word " * 100)])) == []
    assert [(number, replies[0].problem) for number, replies in desk.refused()] == [(0, "prompt_too_long")]


def test_every_request_has_a_seed_of_its_own_content(speech: Speech):
    rows = [next(Desk(speech).rows(0, [_ask(text)])) for text in ("a", "a", "b")]
    seeds = [row["sampling_params"]["seed"] for row in rows]
    assert seeds[0] == seeds[1] != seeds[2]
