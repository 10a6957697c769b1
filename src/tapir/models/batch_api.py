"""OpenAI's offline batch API behind the interface of a local engine: many calls at once, cheaper, hours later.

A job's id is in the ledger before we wait for it, so a killed run finds its jobs again and fetches what they made
instead of paying twice. A row is off its job in the transaction that keeps its reply, also one that says that the row
expired: the next run sends such a row again. A job without rows is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import aiohttp

from tapir import config
from tapir.errors import EndpointError
from tapir.models import chat_protocol, records
from tapir.models.calls import PassingFailure, Reply, Request
from tapir.models.connection import Connection, proxy_for, told, unreached
from tapir.models.ledger import Ledger

T = TypeVar("T")
JOB_ROWS = 10_000
"""Rows of one job; providers allow 50,000."""
JOB_BYTES = 100_000_000
"""Size of one job's file; providers allow 200 MB."""
WINDOW_ROWS = 50_000
"""Rows whose jobs are under way at once: a job may take a day, so they must not follow one another."""
POLL_S = 30.0
TRIES = 6
ENDED = frozenset({"completed", "failed", "expired", "cancelled"})


class BatchApiBackend:
    """A `calls.BatchBackend` whose batches are jobs at the endpoint. Replies share the keys of `HttpBackend`'s."""

    def __init__(
        self,
        model: config.Model,
        ledger: Ledger,
        *,
        run_id: str = "",
        say: Callable[[str], None] | None = None,
        environ: Mapping[str, str] = os.environ,
        job_rows: int = JOB_ROWS,
        poll_s: float = POLL_S,
    ) -> None:
        self._model = model
        self._ledger = ledger
        self._connection = Connection(model, environ)
        self._base = self._connection.urls[0]
        self._proxy = proxy_for(self._base)
        self._poll_s = poll_s
        self._job_rows = job_rows
        self._run_id = run_id
        self._say = say
        self.identity = self._connection.identity
        self.batch_size = WINDOW_ROWS
        self._perhaps_sent: frozenset[str] = frozenset()

    def generate(self, batch: Sequence[Request]) -> list[Reply]:
        """Every request's reply; waits for hours where the endpoint takes them.

        An interrupt ends the wait, and no job: the next run fetches what it made.
        """
        loop = asyncio.new_event_loop()

        def work() -> list[Reply]:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                return runner.run(self._closing(self._generate(batch)))

        # A thread of its own: the caller may be inside a running event loop (a notebook).
        with ThreadPoolExecutor(1, thread_name_prefix="tapir-batch") as apart:
            try:
                return apart.submit(work).result()
            except BaseException:
                # Or leaving the pool would wait for the jobs. A loop that ended in this very error is closed.
                with contextlib.suppress(RuntimeError):
                    loop.call_soon_threadsafe(_cancel_all, loop)
                raise

    def reserved_before(self) -> frozenset[str]:
        """Addresses in open jobs of this run: their cost was reserved when the job was sent."""
        return frozenset[str]().union(*self._ledger.open_jobs(self.identity, run=self._run_id).values())

    def perhaps_sent(self) -> frozenset[str]:
        return self._perhaps_sent

    def close(self) -> None:
        """Nothing to release: connections end with each batch."""

    async def _closing(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return await work
        finally:
            await self._connection.aclose()

    async def _generate(self, batch: Sequence[Request]) -> list[Reply]:
        self._perhaps_sent = frozenset()
        wanted = {request.address(self.identity): request for request in batch}
        replies = await self._from_open_jobs(frozenset(wanted))
        rest = {address: request for address, request in wanted.items() if address not in replies}
        started: list[str] = []
        for lines in self._cut(rest):
            job = await self._start(lines)
            self._ledger.open_job(job, self.identity, lines, run=self._run_id)
            self._perhaps_sent = frozenset()
            started.append(job)
        for made in await asyncio.gather(*(self._finish(job) for job in started)):
            replies |= made
        missing = Reply(problem="expired", finish_reason="error")
        return [replies.get(address, missing) for address in wanted]

    async def _from_open_jobs(self, wanted: frozenset[str]) -> dict[str, Reply]:
        """What jobs of an earlier, killed run made of the wanted rows that they still owe."""
        replies: dict[str, Reply] = {}
        for job, addresses in self._ledger.open_jobs(self.identity).items():
            if owed := addresses & wanted:
                replies |= {a: r for a, r in (await self._finish(job)).items() if a in owed}
        return replies

    def _cut(self, requests: Mapping[str, Request]) -> Iterator[dict[str, bytes]]:
        """The lines of each job to start, by address, within what providers allow."""
        lines: dict[str, bytes] = {}
        size = 0
        for address, request in requests.items():
            asked = {"custom_id": address, "method": "POST", "url": "/v1/chat/completions", "body": self._body(request)}
            line = records.dumps(asked)
            if lines and (len(lines) == self._job_rows or size + len(line) > JOB_BYTES):
                yield lines
                lines, size = {}, 0
            lines[address] = line
            size += len(line) + 1
        if lines:
            yield lines

    async def _start(self, lines: Mapping[str, bytes]) -> str:
        form = aiohttp.FormData()
        form.add_field("purpose", "batch")
        form.add_field("file", b"\n".join(lines.values()), filename="batch.jsonl", content_type="application/jsonl")
        # Neither is sent again by itself: a second upload is waste, a second job would be paid for twice.
        file = await self._post("files", data=form)
        asked = {"input_file_id": _id(file), "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        # Until the job is in the ledger, or refused: whatever ends this in between, it may be under way.
        self._perhaps_sent = frozenset(lines)
        try:
            return _id(await self._post("batches", json=asked))
        except _Unanswered:
            raise
        except EndpointError:
            self._perhaps_sent = frozenset()
            raise

    def _body(self, request: Request) -> dict[str, Any]:
        body = chat_protocol.body(self._model, request)
        # Streams make no sense offline.
        return {name: value for name, value in body.items() if name not in ("stream", "stream_options")}

    async def _finish(self, job: str) -> dict[str, Reply]:
        """Wait for the job and read its results; a job the endpoint no longer knows has none."""
        told = ""
        while True:
            state = await self._again(lambda: self._look(job))
            counts = (state or {}).get("request_counts") or {}
            done = f"{counts.get('completed', 0)} of {counts.get('total', '?')}"
            if self._say and counts and done != told:
                self._say(f"batch {job}: {done} done, {counts.get('failed', 0)} failed")
                told = done
            if state is None:
                return {}
            if state["status"] in ENDED:
                break
            await asyncio.sleep(self._poll_s)
        if state["status"] == "failed":
            self._ledger.close_job(job)
            said = chat_protocol.excerpt((state.get("errors") or {}).get("data") or state["status"])
            raise EndpointError(f"{self._base}: batch {job} was refused ({said}); correct the recipe and run again")
        replies: dict[str, Reply] = {}
        for name in ("output_file_id", "error_file_id"):
            if state.get(name):
                raw = await self._again(lambda file=state[name]: self._fetch(file))
                replies |= self._read(raw)
        return replies

    async def _look(self, job: str) -> dict[str, Any] | None:
        """The job's state; None where the endpoint no longer knows it."""
        url = f"{self._base}/batches/{job}"
        async with self._connection.session().get(url, proxy=self._proxy, allow_redirects=False) as response:
            return None if response.status == 404 else records.loads(await self._body_of(response))

    async def _fetch(self, file: str) -> bytes:
        url = f"{self._base}/files/{file}/content"
        async with self._connection.session().get(url, proxy=self._proxy, allow_redirects=False) as response:
            return await self._body_of(response)

    async def _post(self, path: str, **sent: Any) -> dict[str, Any]:
        url = f"{self._base}/{path}"
        try:
            async with self._connection.session().post(
                url, proxy=self._proxy, allow_redirects=False, **sent
            ) as response:
                return records.loads(await self._body_of(response))
        except (PassingFailure, aiohttp.ClientError, TimeoutError, json.JSONDecodeError) as error:
            # A gateway's 502 or 504, and a page in place of JSON, do not tell what became of what was asked.
            turned_down = isinstance(error, PassingFailure) and error.reason == "rate_limited"
            failure = EndpointError if turned_down or unreached(error) else _Unanswered
            raise failure(f"{url}: no batch could be started ({told(error)}); run again later") from None

    async def _body_of(self, response: aiohttp.ClientResponse) -> bytes:
        raw = self._connection.without_secrets(await response.read())
        if response.status != 200:
            raise self._refused(response, raw)
        return raw

    def _refused(self, response: aiohttp.ClientResponse, raw: bytes) -> Exception:
        refusal = chat_protocol.Refusal.read(response.status, response.headers, raw)
        message = f"{response.url} answered {response.status}: {refusal.detail}"
        if response.status == 429 or response.status >= 500:
            return PassingFailure(refusal.reason, message, retry_after_s=refusal.retry_after_s)
        return EndpointError(f"{message}; {refusal.advice(self._model)}")

    async def _again(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Looking and fetching may fail for a while without harm."""
        for tried in range(1, TRIES + 1):
            try:
                return await ask()
            except (PassingFailure, aiohttp.ClientError, TimeoutError) as error:
                if tried == TRIES:
                    raise EndpointError(
                        f"{self._base} cannot be reached ({told(error)}); the batch goes on there, "
                        "run again to fetch it"
                    ) from None
                await asyncio.sleep(min(self._poll_s, 2.0**tried))
        raise AssertionError("unreachable")

    def _read(self, raw: bytes) -> dict[str, Reply]:
        replies: dict[str, Reply] = {}
        for line in raw.splitlines():
            result = records.loads(line)
            replies[result["custom_id"]] = chat_protocol.redacted(_reply(result), self._connection.secrets)
        return replies


class _Unanswered(EndpointError):
    """No answer told whether the endpoint did what was asked."""


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    for task in asyncio.all_tasks(loop):
        task.cancel()


def _id(made: Any) -> str:
    if not isinstance(made, dict) or "id" not in made:
        raise _Unanswered(f"the endpoint answered {chat_protocol.excerpt(made)!r} where it should name what it made")
    return str(made["id"])  # pyright: ignore[reportUnknownArgumentType]


def _reply(result: dict[str, Any]) -> Reply:
    """One line of a result file: a completion, a refusal of the row, or word that it expired."""
    response = result.get("response") or {}
    raw = records.dumps(response.get("body") or result.get("error") or {})
    if response.get("status_code") == 200:
        try:
            return chat_protocol.read_body(raw)
        except PassingFailure as failure:
            return Reply(problem=failure.reason, finish_reason="error", raw=raw)
    error = result.get("error") or {}
    if error.get("code") == "batch_expired" or not response:
        return Reply(problem="expired", finish_reason="error", raw=raw)
    refusal = chat_protocol.Refusal.read(int(response.get("status_code", 500)), {}, raw)
    return Reply(problem=refusal.problem or refusal.reason, finish_reason="error", raw=raw)
