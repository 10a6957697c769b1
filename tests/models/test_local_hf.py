"""Transformers in this process: rows are independent of each other; likelihoods are those of the answer alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import build_tiny_model

from tapir.config import Model
from tapir.errors import ModelError
from tapir.models.calls import Reply, Request, Sampling
from tapir.models.chat_template import ChatFormat, load_tokenizer
from tapir.models.local_hf import TransformersModel, answer_nll
from tapir.types import Message

SETTINGS = Model(kind="local", model="tiny", engine="transformers", dtype="float32")
GREEDY, WARM = Sampling(max_tokens=10), Sampling(temperature=0.9, top_p=0.9, max_tokens=10)
QUESTIONS = ("What is two?", "sea", "Score the answers of both assistants from 1 to 10.")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def model(folder: Path) -> TransformersModel:
    return TransformersModel(folder, SETTINGS, identity="tiny")


def ask(sampling: Sampling, *questions: str) -> list[Request]:
    return [Request((Message("user", q),), sampling) for q in questions]


def texts(replies: list[Reply]) -> list[tuple[str, int]]:
    return [(r.text, r.completion_tokens) for r in replies]


@pytest.mark.parametrize("sampling", [GREEDY, WARM])
def test_a_row_says_the_same_alone_and_in_a_batch(model: TransformersModel, sampling: Sampling):
    batch = ask(sampling, *QUESTIONS)
    assert texts(model.generate(batch)) == [texts(model.generate([request]))[0] for request in batch]


def test_greedy_replies_are_those_of_the_library(model: TransformersModel, folder: Path):
    import torch
    from transformers import AutoModelForCausalLM

    tokenizer = load_tokenizer(folder)
    prompt = ChatFormat(tokenizer).prompt_ids((Message("user", "sea"),))
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    out = plain.generate(torch.tensor([prompt]), max_new_tokens=10, do_sample=False)[0][len(prompt) :]
    assert model.generate(ask(GREEDY, "sea"))[0].text == tokenizer.decode(out, skip_special_tokens=True).strip()


def test_alternatives_are_ranked_and_begin_with_the_greedy_token(model: TransformersModel):
    reply = model.generate(ask(Sampling(max_tokens=4, top_logprobs=3), "sea"))[0]
    for token in reply.logprobs:
        assert token.top[0] == (token.token, token.logprob)
        assert [p for _, p in token.top] == sorted((p for _, p in token.top), reverse=True)


def test_an_empty_batch_and_a_batch_of_refused_rows_are_no_error(model: TransformersModel):
    assert model.generate([]) == []
    assert [r.problem for r in model.generate(ask(GREEDY, "sea " * 2000))] == ["prompt_too_long"]


def test_likelihood_is_the_mean_loss_of_the_answers_tokens_alone(folder: Path):
    import torch
    from transformers import AutoModelForCausalLM

    chat = ChatFormat(load_tokenizer(folder))
    messages = (Message("user", "What is two?"),)
    prompt, answer = chat.prompt_ids(messages), chat.answer_ids("five")
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    labels = torch.tensor([[-100] * len(prompt) + answer])
    with torch.inference_mode():
        mean = float(plain(input_ids=torch.tensor([prompt + answer]), labels=labels).loss)
    ((total, tokens),) = answer_nll(folder, [(messages, "five")], SETTINGS)
    assert tokens == len(answer)
    assert total / tokens == pytest.approx(mean, rel=1e-5)


def test_likelihoods_keep_their_order_and_do_not_depend_on_the_rows_beside_them(folder: Path):
    pairs = [
        ((Message("user", q),), a) for q, a in zip(QUESTIONS, ("a long answer about it", "five", "8"), strict=True)
    ]
    together = answer_nll(folder, pairs, SETTINGS)
    alone = [answer_nll(folder, [pair], SETTINGS)[0] for pair in pairs]
    assert [n for _, n in together] == [n for _, n in alone]
    assert [v for v, _ in together] == pytest.approx([v for v, _ in alone], rel=1e-5)


def test_a_device_without_room_says_what_takes_less(folder: Path):
    import torch

    class Full:
        device = "cpu"

        def __call__(self, **_: object) -> None:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has")

    full = TransformersModel(folder, SETTINGS, identity="tiny")
    full._model = Full()
    with pytest.raises(
        ModelError, match=rf"is full \(CUDA.*2.00 GiB\); lower this model's `batch` \(now {SETTINGS.batch}\)"
    ):
        full.generate(ask(GREEDY, "sea"))
