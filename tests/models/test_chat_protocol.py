from __future__ import annotations

import json

import pytest

from tapir.models.calls import PassingFailure, TokenLogprob
from tapir.models.chat_protocol import Refusal, read_body, read_stream, split_thinking


def completion(message: dict[str, object], **choice: object) -> bytes:
    usage = {"prompt_tokens": 3, "completion_tokens": 9}
    return json.dumps({"choices": [{"message": message, "finish_reason": "stop", **choice}], "usage": usage}).encode()


def event(**delta: object) -> str:
    return "data: " + json.dumps({"choices": [{"delta": delta, "finish_reason": None}]}) + "\n\n"


@pytest.mark.parametrize(
    ("text", "thought", "answer"),
    [
        ("plain", "", "plain"),
        ("<think>\nhm\n</think>\n\nyes", "hm", "yes"),
        ("hm\n</think>yes", "hm", "yes"),
        ("Use <think> and </think> tags.", "", "Use <think> and </think> tags."),
        ("<think>a</think>b</think>c", "a", "b</think>c"),
        ("<think>not a thought", "", "<think>not a thought"),
    ],
)
def test_thinking_is_split_off(text, thought, answer):
    assert split_thinking(text) == (thought, answer)


def test_a_thought_that_is_cut_leaves_no_answer():
    reply = read_body(completion({"content": "<think>and then"}, finish_reason="length"))
    assert (reply.reasoning, reply.text, reply.finish_reason) == ("and then", "", "length")


def test_reasoning_content_is_kept_apart_and_billed():
    reply = read_body(completion({"content": "42", "reasoning_content": "six times seven"}))
    assert (reply.text, reply.reasoning, reply.completion_tokens) == ("42", "six times seven", 9)


def test_a_refusal_in_words_is_an_answer():
    reply = read_body(completion({"content": None, "refusal": "I cannot."}))
    assert (reply.text, reply.problem) == ("I cannot.", None)


def test_half_an_emoji_becomes_a_replacement_mark():
    assert read_body(completion({"content": "hi \ud83d"})).text == "hi \ufffd"


def test_content_in_parts_is_joined():
    assert read_body(completion({"content": [{"type": "text", "text": "a"}, {"text": "b"}]})).text == "ab"


def test_a_stream_is_put_together_with_its_usage():
    end = 'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\n'
    usage = 'data: {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 9}}\n\ndata: [DONE]\n\n'
    opening = ": keep-alive\n\n" + event(role="assistant", content="") + event(reasoning_content="hm")
    reply = read_stream((opening + event(content="Hel") + event(content="lo") + end + usage).encode())
    assert (reply.text, reply.reasoning, reply.prompt_tokens, reply.usage_known) == ("Hello", "hm", 3, True)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\u0085"])
def test_only_the_protocols_line_ends_cut_a_stream(mark, end):
    choice = {"delta": {"content": f"one{mark}two"}, "finish_reason": "stop"}
    raw = json.dumps({"choices": [choice]}, ensure_ascii=False)
    assert mark in raw
    assert read_stream(f"data: {raw}{end}{end}data: [DONE]{end}{end}".encode()).text == f"one{mark}two"


@pytest.mark.parametrize(
    "stream",
    [event(content="Hel"), event(content="Hel") + 'data: {"choi', event(content="x") + 'data: {"error": "overload"}'],
)
def test_a_stream_that_stops_early_is_broken(stream):
    with pytest.raises(PassingFailure) as caught:
        read_stream(stream.encode())
    assert (caught.value.reason, caught.value.billed) == ("broken_stream", True)


TOKEN = {"token": "A", "logprob": -0.5, "top_logprobs": [{"token": "B", "logprob": None}, {"token": "C"}]}
UNTOLD = [{"token": "D", "logprob": None}, {"token": "E"}]


def test_a_token_whose_likelihood_is_not_told_is_left_out():
    logprobs = {"content": [TOKEN, *UNTOLD, {"token": "F", "logprob": -1, "top_logprobs": [TOKEN]}]}
    streamed = {"choices": [{"delta": {"content": "AF"}, "finish_reason": "stop", "logprobs": logprobs}]}
    wanted = (TokenLogprob("A", -0.5, ()), TokenLogprob("F", -1.0, (("A", -0.5),)))
    assert read_body(completion({"content": "AF"}, logprobs=logprobs)).logprobs == wanted
    assert read_stream(f"data: {json.dumps(streamed)}\n\ndata: [DONE]\n\n".encode()).logprobs == wanted


ODD = [
    {"message": "hi"},
    {"message": {"content": "A"}, "logprobs": "none"},
    {"message": {"content": "A"}, "logprobs": {"content": ["A"]}},
    {"message": {"content": "A"}, "logprobs": {"content": [{"logprob": -1}]}},
    {"message": {"content": "A"}, "logprobs": {"content": [{"token": None, "logprob": -1}]}},
    {"message": {"content": "A"}, "logprobs": {"content": [{"token": "A", "logprob": "low"}]}},
    {"message": {"content": "A"}, "logprobs": {"content": [{"token": "A", "logprob": -1, "top_logprobs": 5}]}},
]


@pytest.mark.parametrize("choice", ["hi", 5, None, *ODD])
def test_a_completion_of_another_shape_is_unreadable_and_billed(choice):
    with pytest.raises(PassingFailure, match="not a chat completion") as caught:
        read_body(json.dumps({"choices": [choice]}).encode())
    assert (caught.value.reason, caught.value.billed) == ("unreadable", True)


@pytest.mark.parametrize("choice", ["hi", 5, *ODD])
def test_an_event_of_another_shape_breaks_the_stream(choice):
    given = {"delta": choice["message"], **choice} if isinstance(choice, dict) else choice
    with pytest.raises(PassingFailure, match="not an event") as caught:
        read_stream(f"data: {json.dumps({'choices': [given]})}\n\ndata: [DONE]\n\n".encode())
    assert (caught.value.reason, caught.value.billed) == ("broken_stream", True)


def test_json_nested_beyond_reason_is_unreadable():
    with pytest.raises(PassingFailure, match="not a chat completion"):
        read_body(b"[" * 200_000)


def test_usage_that_is_missing_is_unknown_not_zero():
    assert not read_body(b'{"choices": [{"message": {"content": "x"}}]}').usage_known


@pytest.mark.parametrize(
    ("status", "code", "worked", "wrong", "problem"),
    [
        (401, "invalid_api_key", True, True, None),
        (402, "", True, True, None),
        (429, "insufficient_quota", True, True, None),
        (429, "rate_limit", False, False, None),
        (403, "forbidden", False, True, "bad_request"),
        (403, "forbidden", True, False, "bad_request"),
        (403, "moderation_blocked", False, False, "content_filter"),
        (404, "", False, True, None),
        (404, "", True, False, None),
        (400, "model_not_found", True, True, "bad_request"),
        (400, "content_filter", False, False, "content_filter"),
        (400, "context_length_exceeded", False, False, "bad_request"),
        (500, "", False, False, None),
        (503, "", False, False, None),
    ],
)
def test_what_a_status_says_about_endpoint_and_row(status, code, worked, wrong, problem):
    refusal = Refusal.read(status, {}, json.dumps({"error": {"code": code, "message": "no"}}).encode())
    assert refusal.wrong_endpoint(worked=worked) == wrong
    assert refusal.problem == problem


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7),
        ({"retry-after-ms": "250", "Retry-After": "1"}, 0.25),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
        ({"Retry-After": "soon"}, None),
    ],
)
def test_retry_after_is_read_in_all_its_forms(headers, seconds):
    assert Refusal.read(429, headers, b"slow down").retry_after_s == seconds


def test_a_page_of_html_as_error_is_shown_in_short_and_in_one_line():
    refusal = Refusal.read(502, {}, b"<html>\n\x1b[31mBad gateway" + b"x" * 1000)
    assert refusal.detail.startswith("<html> [31mBad gateway")
    assert len(refusal.detail) == 301
