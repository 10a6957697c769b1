"""An OpenAI-compatible chat-completions endpoint: one try of one call, and what each kind of failure means.

Bodies and the reading of replies are `chat_protocol`'s, keys and connections `connection`'s, the choice among several
URLs `addresses`'; retries, limits, budget and the ledger are `sender`'s.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from urllib.parse import urljoin

import aiohttp
import yarl

from tapir import config
from tapir.errors import EndpointError, ReplayMiss
from tapir.models import chat_protocol, records
from tapir.models.addresses import Address, Addresses
from tapir.models.calls import PassingFailure, Reply, Request
from tapir.models.connection import Connection, identity_of, told, unreached

REDIRECTS = frozenset({301, 302, 303, 307, 308})
MAX_REDIRECTS = 3
MAX_REPLY_BYTES = 64 * 2**20
_JSON = {"Content-Type": "application/json"}


class RecordedEndpoint:
    """An endpoint in a replay: known by its identity and never spoken to, so that neither key nor network is needed."""

    def __init__(self, model: config.Model) -> None:
        self.identity = identity_of(model)

    async def send(self, request: Request, *, avoid: str = "") -> Reply:
        raise ReplayMiss(f"row {request.row or '?'}: a replay sends nothing to {self.identity}; import the recording")

    async def aclose(self) -> None:
        """Nothing is open."""


class HttpBackend:
    """A `calls.RemoteBackend` for one role's `config.Model`."""

    def __init__(
        self,
        model: config.Model,
        *,
        environ: Mapping[str, str] = os.environ,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self._model = model
        self._connection = Connection(model, environ)
        self.identity = self._connection.identity
        self._addresses = Addresses(self._connection.urls, say=say)

    def __repr__(self) -> str:
        return f"HttpBackend({self.identity!r})"

    async def send(self, request: Request, *, avoid: str = "") -> Reply:
        """One try. A bad row comes back as a reply with its problem; what may pass is a `PassingFailure`."""
        body = records.dumps(chat_protocol.body(self._model, request))
        address = self._addresses.pick(avoid)
        address.in_flight += 1
        try:
            reply = await self._exchange(address, body)
        except (TimeoutError, aiohttp.ClientError, PassingFailure, EndpointError) as error:
            raise self._failure(address, error) from None
        finally:
            address.in_flight -= 1
        if reply.problem is None:
            self._addresses.answered(address)
        return chat_protocol.redacted(reply, self._connection.secrets)

    async def aclose(self) -> None:
        await self._connection.aclose()

    async def _exchange(self, address: Address, body: bytes) -> Reply:
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
                    return self._refused(address, url, response.status, response.headers, raw)
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

    def _refused(self, address: Address, url: yarl.URL, status: int, headers: Mapping[str, str], raw: bytes) -> Reply:
        refusal = chat_protocol.Refusal.read(status, headers, raw)
        if refusal.wrong_endpoint(worked=address.worked):
            raise EndpointError(f"{url} answered {status}: {refusal.detail}; {refusal.advice(self._model)}")
        # An address that has answered nothing yet may turn down every row; another one says whether this one is bad.
        unproven = not address.worked and self._addresses.others_answer(address)
        if refusal.problem is not None and not (refusal.problem == "bad_request" and unproven):
            return Reply(problem=refusal.problem, finish_reason="error", text="", raw=raw)
        raise PassingFailure(
            refusal.reason,
            f"{status}: {refusal.detail}",
            pressure=status in (429, 503, 529),
            retry_after_s=refusal.retry_after_s,
        )

    def _failure(self, address: Address, error: Exception) -> PassingFailure | EndpointError:
        """What to raise for this failed try, once its address has been put to rest where there are others."""
        meant = error if isinstance(error, PassingFailure | EndpointError) else self._connection_failure(address, error)
        failure = self._addresses.failed(address, meant)
        if isinstance(failure, PassingFailure):
            failure.at = str(address.url)
        return failure

    def _connection_failure(self, address: Address, error: Exception) -> PassingFailure | EndpointError:
        """A connection that failed, or brought no reply."""
        if isinstance(error, TimeoutError):
            return PassingFailure(
                "timeout",
                f"no reply from {address.url} in time",
                billed=not unreached(error),
                unreachable=unreached(error),
            )
        if isinstance(error, aiohttp.ClientHttpProxyError):
            said = f"{address.url}: {told(error)}"
            passing = error.status == 429 or error.status >= 500
            return PassingFailure("unreachable", said, unreachable=True) if passing else EndpointError(said)
        if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError):
            return EndpointError(
                f"{address.url}: no trusted TLS connection ({told(error)}); for a private certificate authority set "
                "SSL_CERT_FILE"
            )
        if isinstance(error, aiohttp.InvalidURL):
            return EndpointError(f"{address.url}: {told(error)}")
        if isinstance(error, aiohttp.ClientConnectorDNSError) and not address.worked:
            return EndpointError(f"{address.url}: no such host ({told(error)}); correct base_url")
        detail = f"{address.url}: {type(error).__name__} {told(error)}"
        if unreached(error):
            return PassingFailure("unreachable", detail, unreachable=True)
        return PassingFailure("broken_stream", detail, billed=True)
