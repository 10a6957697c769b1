"""The fake server in a thread of the test, and the small things that tests of calls need."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from tapir import config
from tapir.models.calls import Request, Sampling
from tapir.models.engine import Caller
from tapir.models.fake_server import Fake, Faults, running
from tapir.models.http import HttpBackend
from tapir.models.ledger import Ledger
from tapir.models.scripted import Rule, ScriptedModel
from tapir.types import Message

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
ECHO = Rule(r"\A(.*)\Z", "you said {1}")


def fake(faults: Faults | None = None, *, rules: Iterable[Rule] = (ECHO,), **settings: Any) -> Fake:
    return Fake(ScriptedModel(tuple(rules)), faults=faults or Faults(), **settings)


@contextmanager
def serving(server: Fake, port: int = 0) -> Iterator[str]:
    """`server` on a free port while the block runs; its base URL."""
    loop = asyncio.new_event_loop()
    ready: list[str] = []
    started, stop = threading.Event(), asyncio.Event()

    async def serve() -> None:
        async with running(server, port=port) as url:
            ready.append(url)
            started.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.Runner(loop_factory=lambda: loop).run(serve()))
    thread.start()
    assert started.wait(10)
    try:
        yield ready[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


@contextmanager
def answering(handle: Handler, certificate: ssl.SSLContext | None = None) -> Iterator[str]:
    """A server of one handler, for what the fake server does not do."""
    loop = asyncio.new_event_loop()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app)

    async def start() -> str:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=certificate).start()
        return f"http{'s' if certificate else ''}://127.0.0.1:{runner.addresses[0][1]}/v1"

    url = loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield url
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def model(url: str, **settings: Any) -> config.Model:
    limits = {"in_flight": 16, **settings.pop("limits", {})}
    return config.Model(base_url=url, model="fake", limits=config.Limits(**limits), **settings)


def caller(url: str, ledger: Ledger | Path, *, environ: dict[str, str] | None = None, **settings: Any) -> Caller:
    """A caller of the endpoint; `budget`, `price`, `run_id` are the caller's, all else the model's."""
    own = {name: settings.pop(name) for name in ("budget", "price", "run_id", "observers") if name in settings}
    settings_model = model(url, **settings)
    backend = HttpBackend(settings_model, environ=environ or {})
    kept = ledger if isinstance(ledger, Ledger) else Ledger(ledger)
    return Caller(backend, kept, limits=settings_model.limits, extra_body=settings_model.extra_body, **own)


def ask(text: str, **sampling: Any) -> Request:
    return Request((Message("user", text),), Sampling(**{"max_tokens": 64, **sampling}), row=text)


def asks(count: int, **sampling: Any) -> list[Request]:
    return [ask(f"question {number}", **sampling) for number in range(count)]
