"""The chat-completions protocol as data: request bodies, and what replies, streams and refusals say.

No sockets. `http` sends what `body` makes and hands the bytes that came back to the readers here.
"""

from __future__ import annotations

import email.utils
import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from tapir import config
from tapir.models import records
from tapir.models.calls import Body, PassingFailure, Reply, Request, TokenLogprob

REDACTED = "[redacted]"
MAX_DETAIL_CHARS = 300
_THINK_END = "</think>"
_FILTER_CODES = ("content_filter", "content_policy_violation", "responsible_ai_policy_violation", "moderation")
_NO_CREDIT_CODES = ("insufficient_quota", "billing_hard_limit_reached", "insufficient_balance")
_ODD = (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError, RecursionError)
"""What reading JSON of another shape than the protocol's, or none at all, ends in."""


def body(model: config.Model, request: Request) -> Body:
    """The JSON body that asks for `request`."""
    s = request.sampling
    fields: Body = {
        "model": model.model,
        "messages": [{"role": m.role, "content": m.content} for m in request.messages],
        "temperature": s.temperature,
        model.token_param: s.max_tokens,
    }
    if s.top_p != 1.0:
        fields["top_p"] = s.top_p
    if s.stop:
        fields["stop"] = list(s.stop)
    if s.top_logprobs:
        fields |= {"logprobs": True, "top_logprobs": s.top_logprobs}
    if s.schema is not None:
        schema = {"name": "reply", "strict": True, "schema": json.loads(s.schema)}
        fields["response_format"] = {"type": "json_schema", "json_schema": schema}
    if request.prefill:
        # vLLM's and SGLang's words for "go on with this message".
        fields["messages"].append({"role": "assistant", "content": request.prefill})
        fields |= {"add_generation_prompt": False, "continue_final_message": True}
    if model.stream:
        fields |= {"stream": True, "stream_options": {"include_usage": True}}
    if s.extra != "{}":
        fields |= json.loads(s.extra)
    for name in model.drop_params:
        fields.pop(name, None)
    return fields


def read_body(raw: bytes) -> Reply:
    """The reply in a complete, unstreamed body."""
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return _invalid_utf8(raw)
    heard = _Heard()
    try:
        parsed = records.loads(raw)
        heard.take(parsed["choices"][0], "message")
        heard.usage = parsed.get("usage")
    except _ODD:
        raise PassingFailure("unreadable", f"not a chat completion: {excerpt(raw)}", billed=True) from None
    return heard.reply(raw)


def read_stream(raw: bytes) -> Reply:
    """The reply in a stream of server-sent events; a stream that ends before its end is a `broken_stream`."""
    try:
        # By the line ends of the protocol alone: `splitlines` also breaks at U+2028 and its like, in the midst of JSON.
        lines = raw.decode("utf-8").replace("\r", "\n").split("\n")
    except UnicodeDecodeError:
        return _invalid_utf8(raw)
    heard = _Heard()
    done = False
    for line in lines:
        if not line.startswith("data:"):
            continue
        data = line[5:].strip()
        if data == "[DONE]":
            done = True
            continue
        try:
            heard.add(records.loads(data))
        except _ODD:
            raise PassingFailure("broken_stream", f"not an event: {excerpt(data)}", billed=True) from None
    if not (done or heard.finish_reason):
        raise PassingFailure("broken_stream", "the stream ended before the reply did", billed=True)
    return heard.reply(raw)


@dataclass(slots=True)
class _Heard:
    """What has been read of a reply so far."""

    finish_reason: str = ""
    logprobs: tuple[TokenLogprob, ...] = ()
    usage: Any = None
    pieces: list[str] = field(default_factory=lambda: list[str]())
    thoughts: list[str] = field(default_factory=lambda: list[str]())

    def add(self, event: dict[str, Any]) -> None:
        """One event of a stream."""
        if "error" in event:
            raise PassingFailure(
                "broken_stream", f"the stream ended in an error: {excerpt(event['error'])}", billed=True
            )
        self.usage = event.get("usage") or self.usage
        for choice in event.get("choices") or ():
            self.take(choice, "delta")

    def take(self, choice: dict[str, Any], under: Literal["message", "delta"]) -> None:
        """A choice's whole message, or the piece of it that an event brings."""
        said = choice.get(under) or {}
        self.pieces.append(_text(said.get("content")) or _text(said.get("refusal")))
        self.thoughts.append(_text(said.get("reasoning_content")) or _text(said.get("reasoning")))
        self.finish_reason = _text(choice.get("finish_reason")) or self.finish_reason
        self.logprobs += _logprobs(choice.get("logprobs"))

    def reply(self, raw: bytes) -> Reply:
        thought, text = split_thinking("".join(self.pieces), cut=self.finish_reason == "length")
        said = "".join(self.thoughts)
        prompt_tokens, completion_tokens = _usage(self.usage)
        return Reply(
            text=_whole(text),
            finish_reason=self.finish_reason or "stop",
            reasoning=_whole("\n".join(t for t in (said, thought) if t)),
            prompt_tokens=prompt_tokens or 0,
            completion_tokens=completion_tokens or 0,
            logprobs=self.logprobs,
            problem="content_filter" if self.finish_reason == "content_filter" else None,
            usage_known=prompt_tokens is not None and completion_tokens is not None,
            raw=raw,
        )


def split_thinking(text: str, *, cut: bool = False) -> tuple[str, str]:
    """`<think>` text and the answer after it.

    Some chat templates open the thought themselves, so that the reply holds its end only. A thought that never ends
    (because the reply was cut) leaves no answer.
    """
    opened = text.lstrip().startswith("<think>")
    thought, end, answer = text.partition(_THINK_END)
    if end and (opened or "<think>" not in thought):
        return thought.strip().removeprefix("<think>").strip(), answer.lstrip()
    if opened and not end and cut:
        return text.strip().removeprefix("<think>").strip(), ""
    return "", text


def redacted(reply: Reply, secrets: tuple[str, ...]) -> Reply:
    """The reply without the secrets, where it holds any: a stream can carry one in pieces."""
    hit = [s for s in secrets if s in reply.text or s in reply.reasoning]
    if not hit:
        return reply
    text, reasoning = reply.text, reply.reasoning
    for secret in hit:
        text, reasoning = text.replace(secret, REDACTED), reasoning.replace(secret, REDACTED)
    # The tokens and the raw stream still spell it, in pieces.
    return replace(reply, text=text, reasoning=reasoning, logprobs=(), raw=b"")


@dataclass(frozen=True, slots=True)
class Refusal:
    """An HTTP status other than 200, and what it means for the row, the call and the endpoint."""

    status: int
    code: str
    detail: str
    retry_after_s: float | None

    @classmethod
    def read(cls, status: int, headers: Mapping[str, str], raw: bytes) -> Refusal:
        code, message = "", excerpt(raw)
        try:
            error = records.loads(raw)
            error = error.get("error", error)
            if isinstance(error, dict):
                fields: dict[str, Any] = error
                code = str(fields.get("code") or fields.get("type") or "")
                message = excerpt(fields.get("message") or message)
            else:
                message = excerpt(error)
        except (ValueError, AttributeError):
            pass  # a proxy's HTML page: the excerpt says what there is to say
        return cls(status, code, message, _retry_after(headers))

    @property
    def problem(self) -> str | None:
        """Why the row is bad; None where the status says nothing about the row."""
        if any(c in self.code for c in _FILTER_CODES):
            return "content_filter"
        return "bad_request" if self.status in (400, 403, 413, 422) else None

    @property
    def reason(self) -> str:
        """The reason of the row if no try succeeds."""
        return {429: "rate_limited", 408: "timeout", 504: "timeout"}.get(self.status, "server_error")

    def wrong_endpoint(self, *, worked: bool) -> bool:
        """Whether the endpoint as a whole is at fault (key, address, model, account), not this row.

        After calls have worked, a 403 or 404 is a row's or a passing one; some gateways send them for a moment.
        """
        if any(c in self.code for c in _FILTER_CODES):
            return False
        if self.status in (401, 402, 407) or self.code in (*_NO_CREDIT_CODES, "model_not_found"):
            return True
        passing = self.status in (408, 409, 425, 429) or self.status >= 500
        return not worked and not passing and self.status not in (400, 413, 422)

    def advice(self, model: config.Model) -> str:
        """What to do about a wrong endpoint."""
        if self.status in (401, 403):
            place = f"the key in {model.api_key_env}" if model.api_key_env else "api_key_env: no key was sent"
            return f"check {place}"
        if self.status == 407:
            return "that is the proxy's answer: check HTTP_PROXY and the login in it"
        if self.status == 402 or self.code in _NO_CREDIT_CODES:
            return "the account has no credit left; finished calls are kept, run again once it has"
        return f"check base_url (up to and including /v1) and the model name {model.model!r}"


def _usage(usage: Any) -> tuple[int | None, int | None]:
    if not isinstance(usage, dict):
        return None, None
    counts: dict[str, Any] = usage
    prompt, completion = counts.get("prompt_tokens"), counts.get("completion_tokens")
    return (prompt if isinstance(prompt, int) else None, completion if isinstance(completion, int) else None)


def _text(content: Any) -> str:
    """Content is a string, nothing, or a list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts: list[Any] = content
        return "".join(str(p.get("text", "")) for p in parts if isinstance(p, dict))  # pyright: ignore
    return ""


def _logprobs(found: Any) -> tuple[TokenLogprob, ...]:
    """The tokens whose likelihood is told: some servers leave that of an alternative, or of a token, empty."""
    return tuple(
        TokenLogprob(
            _whole(t["token"]),
            float(t["logprob"]),
            tuple((_whole(a["token"]), float(a["logprob"])) for a in _told(t.get("top_logprobs"))),
        )
        for t in _told((found or {}).get("content"))
    )


def _told(tokens: list[dict[str, Any]] | None) -> Iterator[dict[str, Any]]:
    return (t for t in tokens or () if t.get("logprob") is not None)


_HALF_SURROGATE = re.compile("[\ud800-\udfff]")


def _whole(text: str) -> str:
    """Half surrogates (an emoji cut by the token limit) cannot be written to a table; they become U+FFFD."""
    return text if text.isascii() else _HALF_SURROGATE.sub("\ufffd", text)


def _invalid_utf8(raw: bytes) -> Reply:
    return Reply(problem="invalid_utf8", finish_reason="error", usage_known=False, raw=raw)


def excerpt(value: Any) -> str:
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= MAX_DETAIL_CHARS else line[:MAX_DETAIL_CHARS] + "…"


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds, or a date; some providers give milliseconds under another name."""
    millis, value = headers.get("retry-after-ms", ""), headers.get("Retry-After", "")
    try:
        if millis:
            return max(0.0, float(millis) / 1000)
        if value[:1].isalpha():
            return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
        return max(0.0, float(value)) if value else None
    except ValueError:
        return None  # a header that cannot be read asks for nothing
