"""CTranslate2 in this process: the same batch gives the same replies, and shortcuts change none."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny import build_tiny_model

from tapir.config import Model
from tapir.models.calls import BatchBackend, Reply, Request, Sampling
from tapir.models.local_ct2 import CTranslateModel, groups, shared_prefix
from tapir.models.resolve import resolve
from tapir.models.students import CONVERTED, converted, open_local
from tapir.types import Message

pytestmark = pytest.mark.xdist_group("ctranslate2")

GREEDY, WARM = Sampling(max_tokens=12), Sampling(temperature=0.9, top_p=0.95, max_tokens=12)
QUESTIONS = (
    "What is two?",
    "sea",
    "Score the answers of both assistants from 1 to 10.",
    "wind and sand, wind and sand",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def model(folder: Path) -> Iterator[CTranslateModel]:
    model = CTranslateModel(converted(folder), folder, identity="tiny", batch_size=8, threads=1)
    yield model
    model.close()


def ask(sampling: Sampling, *questions: str, system: str = "", prefill: str = "") -> list[Request]:
    opening = (Message("system", system),) if system else ()
    return [Request((*opening, Message("user", q)), sampling, prefill=prefill) for q in questions]


def told(replies: list[Reply]) -> list[tuple[str, str, int]]:
    return [(r.text, r.finish_reason, r.completion_tokens) for r in replies]


def test_the_same_batch_twice_gives_the_same_replies(model: CTranslateModel):
    batch = ask(WARM, *QUESTIONS)
    assert model.generate(batch) == model.generate(batch)


def test_another_sample_of_the_same_question_is_another_reply(model: CTranslateModel):
    first = Request((Message("user", "sea"),), WARM)
    second = Request((Message("user", "sea"),), WARM, sample=1)
    assert told(model.generate([first])) != told(model.generate([second]))


def test_a_batch_with_a_shared_beginning_says_what_its_rows_say_alone(model: CTranslateModel):
    system = "You are a helpful assistant. Score the answers of both assistants from 1 to 10."
    batch = ask(GREEDY, *QUESTIONS, system=system)
    alone = [model.generate([request])[0] for request in batch]
    assert told(model.generate(batch)) == told(alone)


def test_replies_come_in_the_batchs_order_whatever_its_sampling(model: CTranslateModel):
    batch = [*ask(GREEDY, "sea"), *ask(WARM, "sea"), *ask(GREEDY, "What is two?")]
    replies = model.generate(batch)
    assert told([replies[0]]) == told(model.generate([batch[0]]))
    assert told([replies[2]]) == told(model.generate([batch[2]]))


def test_alternatives_belong_to_the_token_they_stand_beside(model: CTranslateModel):
    # Prompts of different lengths: the engine then reports positions of the longer prompts too.
    batch = ask(Sampling(max_tokens=6, top_logprobs=5), *QUESTIONS)
    for reply in model.generate(batch):
        assert reply.logprobs
        for token in reply.logprobs:
            assert token.top[0] == (token.token, token.logprob)  # greedy takes the likeliest
            assert len(token.top) == 5
            assert sum(math.exp(p) for _, p in token.top) <= 1 + 1e-9


def test_a_prefill_is_continued_and_not_repeated(model: CTranslateModel):
    plain, prefilled = ask(GREEDY, "sea")[0], ask(GREEDY, "sea", prefill="Score")[0]
    without, with_it = model.generate([plain, prefilled])
    assert with_it.prompt_tokens > without.prompt_tokens
    assert told([with_it]) != told([without])


def test_a_reply_that_runs_out_of_tokens_says_so(model: CTranslateModel):
    reply = model.generate(ask(Sampling(max_tokens=3), "sea"))[0]
    assert (reply.finish_reason, reply.completion_tokens) == ("length", 3)


def test_text_from_a_stop_string_on_is_cut_off(model: CTranslateModel):
    whole = model.generate(ask(GREEDY, "sea"))[0].text
    mark = next(sign for sign in whole[1:] if sign.isalpha())
    cut = model.generate(ask(Sampling(max_tokens=12, stop=(mark,)), "sea"))[0]
    assert cut.text == whole.partition(mark)[0].strip()
    assert cut.finish_reason == "stop"


def test_a_prompt_beyond_the_window_costs_its_row_only(model: CTranslateModel):
    too_long, fine = model.generate(ask(GREEDY, "sea " * 2000, "sea"))
    assert too_long.problem == "prompt_too_long"
    assert fine.problem is None


def test_conversion_happens_once_and_leaves_no_partial_folder(folder: Path, model: CTranslateModel):
    once = converted(folder)
    stamp = (once / "model.bin").stat().st_mtime_ns
    assert converted(folder) == once
    assert (once / "model.bin").stat().st_mtime_ns == stamp
    assert list(folder.glob(f"{CONVERTED}*")) == [once]


def test_other_weights_in_the_same_folder_are_converted_anew(tmp_path: Path):
    build_tiny_model(tmp_path / "student", seed=1)
    build_tiny_model(tmp_path / "other", seed=2)
    first = converted(tmp_path / "student")
    before = (first / "model.bin").read_bytes()
    shutil.copy2(tmp_path / "other" / "model.safetensors", tmp_path / "student")
    second = converted(tmp_path / "student")
    assert (second / "model.bin").read_bytes() != before
    assert list((tmp_path / "student").glob(f"{CONVERTED}*")) == [second]


def test_identity_tells_weights_engine_and_precision(folder: Path):
    backend = open_local(Model(kind="local", model="x", engine="ctranslate2", batch=4, threads=1), folder)
    assert isinstance(backend, BatchBackend)
    assert backend.batch_size == 4
    assert backend.identity.split()[2:] == ["ctranslate2", "int8"]
    backend.close()


def test_a_common_beginning_counts_only_if_it_is_long_and_leaves_each_row_a_token():
    base = list(range(30))
    assert shared_prefix([[*base, 90], [*base, 91, 92]]) == 30
    assert shared_prefix([base, [*base, 91]]) == 29
    assert shared_prefix([base[:20], base[:20]]) == 0
    assert shared_prefix([[*base, 90]]) == 0


def test_rows_of_equal_length_stay_together_and_a_long_one_goes_apart():
    # Feeding 300 tokens step by step to two rows costs more than reading them at once by themselves.
    assert groups([40, 40, 40], 8, 10_000, keep_logits=False) == [(0, 3)]
    assert groups([40, 340], 8, 10_000, keep_logits=False) == [(0, 1), (1, 2)]
    assert groups([40, 41], 8, 10_000, keep_logits=False) == [(0, 2)]


def test_groups_stay_below_the_bound_on_logits():
    assert groups([40, 40, 40, 40], 8, 80, keep_logits=False) == [(0, 2), (2, 4)]
    assert groups([10, 10], 50, 80, keep_logits=True) == [(0, 1), (1, 2)]


@pytest.mark.slow
def test_real_weights_repeat_themselves_batch_for_batch():
    settings = Model(kind="local", model="smollm2-135m-instruct", engine="ctranslate2", batch=4)
    batch = ask(Sampling(temperature=0.5, max_tokens=24), *QUESTIONS)
    said: list[list[Reply]] = []
    for _ in range(2):
        backend = open_local(settings, resolve(settings))
        # Other replies in between must leave no trace in the second round.
        said += [backend.generate(batch), backend.generate(ask(WARM, "sea")), backend.generate(batch)]
        backend.close()
    assert said[0] == said[2] == said[3] == said[5]
    assert said[1] == said[4]
