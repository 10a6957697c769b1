"""An OpenAI-compatible chat-completions endpoint: one try of one call, and what each kind of failure means.

Bodies and the reading of replies are `chat_protocol`'s, keys and connections `connection`'s; retries, limits, budget
and the ledger are `sender`'s.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urljoin

import aiohttp
import yarl

from tapir import config
from tapir.errors import EndpointError, ReplayMiss
from tapir.models import chat_protocol, records
from tapir.models.calls import PassingFailure, Reply, Request
from tapir.models.connection import Connection, identity_of, proxy_for

REDIRECTS = frozenset({301, 302, 303, 307, 308})
MAX_REDIRECTS = 3
MAX_REPLY_BYTES = 64 * 2**20
_JSON = {"Content-Type": "application/json"}
REST_S = 5.0
"""How long an address that refused a connection is passed over when others serve the same model."""


@dataclass(slots=True, eq=False)
class _Address:
    """One of the URLs that serve the model."""

    url: yarl.URL
    proxy: str | None
    in_flight: int = 0
    resting_until: float = 0.0


class RecordedEndpoint:
    """An endpoint in a replay: known by its identity and never spoken to, so that neither key nor network is needed."""

    def __init__(self, model: config.Model) -> None:
        self.identity = identity_of(model)

    async def send(self, request: Request) -> Reply:
        raise ReplayMiss(f"row {request.row or '?'}: a replay sends nothing to {self.identity}; import the recording")

    async def aclose(self) -> None:
        """Nothing is open."""


class HttpBackend:
    """A `calls.RemoteBackend` for one role's `config.Model`."""

    def __init__(self, model: config.Model, *, environ: Mapping[str, str] = os.environ) -> None:
        self._model = model
        self._connection = Connection(model, environ)
        self.identity = self._connection.identity
        self._addresses = [
            _Address(yarl.URL(f"{url}/chat/completions"), proxy_for(url)) for url in self._connection.urls
        ]
        self._worked = False

    def __repr__(self) -> str:
        return f"HttpBackend({self.identity!r})"

    async def send(self, request: Request) -> Reply:
        """One try. A bad row comes back as a reply with its problem; what may pass is a `PassingFailure`."""
        body = records.dumps(chat_protocol.body(self._model, request))
        address = self._pick()
        address.in_flight += 1
        try:
            reply = await self._exchange(address, body)
        except TimeoutError as error:
            # aiohttp: a connection that never stood has sent nothing, so nothing can have been billed.
            unreachable = isinstance(error, aiohttp.ConnectionTimeoutError)
            raise PassingFailure(
                "timeout", f"no reply from {address.url} in time", billed=not unreachable, unreachable=unreachable
            ) from None
        except aiohttp.ClientError as error:
            raise self._connection_failure(address, error) from None
        finally:
            address.in_flight -= 1
        self._worked = self._worked or reply.problem is None
        return chat_protocol.redacted(reply, self._connection.secrets)

    async def aclose(self) -> None:
        await self._connection.aclose()

    async def _exchange(self, address: _Address, body: bytes) -> Reply:
        url = address.url
        for _ in range(MAX_REDIRECTS + 1):
            async with self._connection.session().post(
                url, data=body, headers=_JSON, proxy=address.proxy, allow_redirects=False
            ) as response:
                if response.status in REDIRECTS:
                    url = self._redirected(url, response.headers.get("Location", ""))
                    continue
                if response.status != 200:
                    raw = await self._read(response)
                    return self._refused(url, response.status, response.headers, raw)
                if response.content_type == "text/event-stream":
                    return chat_protocol.read_stream(await self._read_stream(response))
                return chat_protocol.read_body(await self._read(response))
        raise EndpointError(f"{address.url} redirects in a circle; give the endpoint's final URL as base_url")

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        raw = await response.read()
        if len(raw) > MAX_REPLY_BYTES:
            raise PassingFailure("oversized", f"{response.url} sent {len(raw)} bytes for one reply", billed=True)
        return self._connection.without_secrets(raw)

    async def _read_stream(self, response: aiohttp.ClientResponse) -> bytes:
        chunks: list[bytes] = []
        size = 0
        async for chunk in response.content.iter_any():
            chunks.append(chunk)
            size += len(chunk)
            if size > MAX_REPLY_BYTES:
                raise PassingFailure("oversized", f"{response.url} sent over {size} bytes for one reply", billed=True)
        return self._connection.without_secrets(b"".join(chunks))

    def _redirected(self, url: yarl.URL, location: str) -> yarl.URL:
        target = yarl.URL(urljoin(str(url), location))
        if (target.scheme, target.host, target.port) != (url.scheme, url.host, url.port):
            raise EndpointError(
                f"{url} redirects to {target.scheme}://{target.host}, another host, which is not followed; "
                "if that is the right one, give it as base_url"
            )
        return target

    def _refused(self, url: yarl.URL, status: int, headers: Mapping[str, str], raw: bytes) -> Reply:
        refusal = chat_protocol.Refusal.read(status, headers, raw)
        if refusal.wrong_endpoint(worked=self._worked):
            raise EndpointError(f"{url} answered {status}: {refusal.detail}; {refusal.advice(self._model)}")
        if refusal.problem is not None:
            return Reply(problem=refusal.problem, finish_reason="error", text="", raw=raw)
        raise PassingFailure(
            refusal.reason,
            f"{status}: {refusal.detail}",
            pressure=status in (429, 503, 529),
            retry_after_s=refusal.retry_after_s,
        )

    def _connection_failure(self, address: _Address, error: aiohttp.ClientError) -> Exception:
        if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError):
            return EndpointError(
                f"{address.url}: no trusted TLS connection ({error}); for a private certificate authority set "
                "SSL_CERT_FILE"
            )
        if isinstance(error, aiohttp.InvalidURL):
            return EndpointError(f"{address.url}: not a URL that can be called; correct base_url")
        if isinstance(error, aiohttp.ClientConnectorDNSError) and not self._worked:
            return EndpointError(f"{address.url}: no such host ({error}); correct base_url")
        detail = f"{address.url}: {type(error).__name__} {error}"
        if isinstance(error, aiohttp.ClientConnectorError):
            address.resting_until = asyncio.get_running_loop().time() + REST_S
            return PassingFailure("unreachable", detail, unreachable=True)
        return PassingFailure("broken_stream", detail, billed=True)

    def _pick(self) -> _Address:
        """The least busy address, passing over those that just refused a connection."""
        if len(self._addresses) == 1:
            return self._addresses[0]
        now = asyncio.get_running_loop().time()
        return min(self._addresses, key=lambda a: (a.resting_until > now, a.in_flight))
