"""The scripted model behind a real HTTP server that speaks the chat-completions protocol: `tapir serve-fake`.

For tests, benchmarks and people who try the tool. It delays, fails and refuses on request, and counts what it was
asked (`GET /fake/counts`), so that a test can trust the server's own count. Faults are drawn from the request's
content, so that a run of it repeats; "one-off" faults strike the first time a request is seen.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields
from typing import Any

from aiohttp import web

from tapir.errors import RecipeError
from tapir.models import fake_batches, records
from tapir.models.calls import Reply, Request, Sampling
from tapir.models.scripted import ScriptedModel, dice
from tapir.types import Message, canonical_json


@dataclass(frozen=True, slots=True)
class Faults:
    """Shares of requests that meet each fault."""

    error_500: float = 0.0
    """One-off."""
    error_429: float = 0.0
    """One-off, with Retry-After."""
    retry_after_s: float = 1.0
    broken: float = 0.0
    """One-off: the connection is cut in the middle of the reply."""
    bad_rows: float = 0.0
    """For ever: a 400."""
    filtered: float = 0.0
    """For ever: finish_reason content_filter."""
    empty: float = 0.0
    truncated: float = 0.0
    invalid_utf8: float = 0.0
    echo_key: float = 0.0
    """For ever: the reply's text quotes the caller's key, as a proxy's debugging output may."""
    hang: float = 0.0
    """For ever: no reply at all."""
    outage_after: int | None = None
    """Every request after so many gets a 503."""


@dataclass(slots=True)
class Fake:
    """What the server does and what it has seen."""

    model: ScriptedModel
    latency_s: float = 0.0
    faults: Faults = field(default_factory=Faults)
    in_flight_cap: int | None = None
    """More than this at once is answered with 429."""
    api_key: str | None = None
    """Other keys are answered with 401, which echoes them, as some real servers do."""
    models: tuple[str, ...] = ()
    """Other model names are answered with 404."""
    fixed_text: str | None = None
    """Answer everything with this, at the least cost: for benchmarks."""
    counts: Counter[str] = field(default_factory=lambda: Counter[str]())
    by_request: Counter[str] = field(default_factory=lambda: Counter[str]())
    turned_down: set[str] = field(default_factory=lambda: set[str]())
    in_flight: int = 0


_FAKE: web.AppKey[Fake] = web.AppKey("fake", Fake)


def application(fake: Fake) -> web.Application:
    """The server's routes."""
    app = web.Application(client_max_size=2**30)
    app[_FAKE] = fake
    app.router.add_post("/v1/chat/completions", _chat)
    app.router.add_get("/v1/models", _models)
    app.router.add_get("/fake/counts", _counts)
    fake_batches.add_routes(app, lambda body: completion(fake, body))
    return app


async def _models(request: web.Request) -> web.Response:
    names = request.app[_FAKE].models or ("fake",)
    return web.json_response({"object": "list", "data": [{"id": n, "object": "model"} for n in names]})


async def _counts(request: web.Request) -> web.Response:
    fake = request.app[_FAKE]
    return web.json_response(
        {"total": dict(fake.counts) | {"bad_rows": len(fake.turned_down)}, "by_request": dict(fake.by_request)}
    )


async def _chat(request: web.Request) -> web.StreamResponse:
    fake = request.app[_FAKE]
    raw = await request.read()
    fake.counts["requests"] += 1
    key = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if fake.api_key is not None and key != fake.api_key:
        return _error(401, "invalid_api_key", f"Incorrect API key provided: {key}")
    body = records.loads(raw)
    if fake.models and body["model"] not in fake.models:
        return _error(404, "model_not_found", f"The model `{body['model']}` does not exist")
    fake.in_flight += 1
    fake.counts["most_in_flight"] = max(fake.counts["most_in_flight"], fake.in_flight)
    try:
        return await _answer(request, fake, body)
    finally:
        fake.in_flight -= 1


async def _answer(request: web.Request, fake: Fake, body: dict[str, Any]) -> web.StreamResponse:
    if fake.in_flight_cap is not None and fake.in_flight > fake.in_flight_cap:
        fake.counts["refused"] += 1
        return _error(429, "rate_limit_exceeded", "Too many requests", {"Retry-After": str(fake.faults.retry_after_s)})
    key = hashlib.sha256(canonical_json(body).encode("utf-8", "surrogatepass")).hexdigest()
    fake.by_request[key] += 1
    first = fake.by_request[key] == 1
    faults = fake.faults

    def strikes(name: str, share: float, *, once: bool = False) -> bool:
        return share > 0 and (first or not once) and dice(name, key) < share

    if faults.outage_after is not None and fake.counts["requests"] > faults.outage_after:
        return _error(503, "overloaded", "down")
    if strikes("500", faults.error_500, once=True):
        return _error(500, "server_error", "something broke")
    if strikes("429", faults.error_429, once=True):
        return _error(429, "rate_limit_exceeded", "slow down", {"Retry-After": str(faults.retry_after_s)})
    if strikes("hang", faults.hang):
        await asyncio.sleep(3600)
    if fake.latency_s:
        await asyncio.sleep(fake.latency_s)
    if strikes("bad", faults.bad_rows):
        fake.turned_down.add(key)
        return _error(400, "invalid_request_error", "this row is malformed")
    said = completion(fake, body)
    _spoil(said, strikes, faults)
    if strikes("echo", faults.echo_key):
        said["choices"][0]["message"]["content"] += f" (debug: {request.headers.get('Authorization', '')})"
    # A reply that breaks off was paid for like any other.
    _tally(fake, said)
    if strikes("broken", faults.broken, once=True):
        return await _broken(request, said, stream=bool(body.get("stream")))
    if strikes("utf8", faults.invalid_utf8):
        return web.Response(body=records.dumps(said).replace(b'"content":"', b'"content":"\xff'), headers=_JSON)
    if body.get("stream"):
        return await _streamed(request, said)
    return web.Response(body=records.dumps(said), headers=_JSON)


_JSON = {"Content-Type": "application/json"}


def _spoil(said: dict[str, Any], strikes: Callable[[str, float], bool], faults: Faults) -> None:
    choice = said["choices"][0]
    if strikes("filtered", faults.filtered):
        choice["finish_reason"], choice["message"]["content"] = "content_filter", ""
    if strikes("empty", faults.empty):
        choice["message"]["content"] = ""
    if strikes("truncated", faults.truncated):
        choice["finish_reason"] = "length"


def _tally(fake: Fake, said: dict[str, Any]) -> None:
    fake.counts["replies"] += 1
    fake.counts["prompt_tokens"] += said["usage"]["prompt_tokens"]
    fake.counts["completion_tokens"] += said["usage"]["completion_tokens"]


def completion(fake: Fake, body: dict[str, Any]) -> dict[str, Any]:
    """The reply's body; JSON that fits the schema where one is asked for and the script gives none."""
    if fake.fixed_text is not None:
        reply = Reply(text=fake.fixed_text, prompt_tokens=20, completion_tokens=200)
    else:
        reply = fake.model.reply(_request(body))
    choice: dict[str, Any] = {
        "index": 0,
        "message": {"role": "assistant", "content": reply.text},
        "finish_reason": reply.finish_reason,
        "logprobs": None,
    }
    if reply.reasoning:
        choice["message"]["reasoning_content"] = reply.reasoning
    if body.get("logprobs"):
        choice["logprobs"] = {"content": [_logprob(t.token, t.logprob, t.top) for t in reply.logprobs]}
    usage = {
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": reply.completion_tokens,
        "total_tokens": reply.prompt_tokens + reply.completion_tokens,
    }
    return {"id": "chatcmpl-fake", "object": "chat.completion", "created": 0, "model": body.get("model", "fake"),
            "choices": [choice], "usage": usage}  # fmt: skip


def _logprob(token: str, logprob: float, top: Sequence[tuple[str, float]] = ()) -> dict[str, Any]:
    alternatives = [{"token": t, "logprob": p, "bytes": list(t.encode())} for t, p in top]
    return {"token": token, "logprob": logprob, "bytes": list(token.encode()), "top_logprobs": alternatives}


def _request(body: dict[str, Any]) -> Request:
    schema = body.get("response_format", {}).get("json_schema", {}).get("schema")
    sampling = Sampling(
        temperature=float(body.get("temperature", 1.0)),
        max_tokens=int(body.get("max_tokens") or body.get("max_completion_tokens") or 4096),
        top_logprobs=int(body.get("top_logprobs", 0)),
        schema=canonical_json(schema) if schema else None,
    )
    return Request(tuple(Message(m["role"], m["content"]) for m in body["messages"]), sampling)


def _error(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response(
        {"error": {"message": message, "type": code, "code": code}}, status=status, headers=headers
    )


async def _streamed(request: web.Request, said: dict[str, Any], *, cut: bool = False) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    choice = said["choices"][0]
    words = choice["message"]["content"].split(" ")
    pieces = [w if not at else " " + w for at, w in enumerate(words)]
    for piece in pieces[: len(pieces) // 2] if cut else pieces:
        event = {"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]}
        await response.write(b"data: " + records.dumps(event) + b"\n\n")
    if cut:
        return response
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"],
                        "logprobs": choice["logprobs"]}]}  # fmt: skip
    for event in (end, {"choices": [], "usage": said["usage"]}):
        await response.write(b"data: " + records.dumps(event) + b"\n\n")
    await response.write(b"data: [DONE]\n\n")
    return response


async def _broken(request: web.Request, said: dict[str, Any], *, stream: bool) -> web.StreamResponse:
    """Half of the reply, then a cut connection."""
    if stream:
        response = await _streamed(request, said, cut=True)
    else:
        whole = records.dumps(said)
        response = web.StreamResponse(headers={**_JSON, "Content-Length": str(len(whole))})
        await response.prepare(request)
        await response.write(whole[: len(whole) // 2])
    if request.transport is not None:
        request.transport.abort()
    return response


@asynccontextmanager
async def running(fake: Fake, host: str = "127.0.0.1", port: int = 0) -> AsyncGenerator[str]:
    """The server, while the block runs; its base URL."""
    runner = web.AppRunner(application(fake), access_log=None, handle_signals=False, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, host, port, backlog=1024, reuse_address=True)
    await site.start()
    try:
        bound: tuple[Any, ...] = runner.addresses[0]
        yield f"http://{host}:{bound[1]}/v1"
    finally:
        await runner.cleanup()


def serve(fake: Fake, *, host: str = "127.0.0.1", port: int = 8010) -> None:
    """Serve until interrupted; the first line of stdout is the base URL."""

    async def forever() -> None:
        async with running(fake, host, port) as url:
            print(url, flush=True)
            await asyncio.Event().wait()

    try:
        asyncio.run(forever())
    except KeyboardInterrupt:
        return


def read_faults(text: str) -> Faults:
    """`Faults` from JSON, for instance `{"error_500": 0.1, "error_429": 0.02}`."""
    try:
        return Faults(**json.loads(text))
    except (json.JSONDecodeError, TypeError) as error:
        known = ", ".join(f.name for f in fields(Faults))
        raise RecipeError(f"faults {text!r}: give a JSON object of shares ({error}); known: {known}") from None
