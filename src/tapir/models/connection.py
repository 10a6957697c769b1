"""How an endpoint is connected to: its URLs, keys from the environment, proxies, certificates, time-outs.

A key leaves this module as a request header and in no other way; `secrets` exist so that replies can be rid of them.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import re
import ssl
import urllib.request
from collections.abc import Iterable, Mapping
from urllib.parse import unquote, urlsplit

import aiohttp

from tapir import config
from tapir.errors import RecipeError
from tapir.models.chat_protocol import REDACTED

LEAST_SECRET_CHARS = 8
LONGEST_WORD_CHARS = 20
_SCHEME = re.compile(r"\A(?:basic|bearer|token|api-?key) +", re.IGNORECASE)
_LOGIN = re.compile("//.*@")


class Connection:
    """One endpoint's sessions, one for each event loop that speaks to it."""

    def __init__(self, model: config.Model, environ: Mapping[str, str] = os.environ) -> None:
        self.urls = urls_of(model)
        self.identity = identity_of(model)
        self._headers, keys = _headers(model, environ)
        self.secrets = _as_echoed(keys | _proxy_logins(self.urls))
        self._limits = model.limits
        self._sessions: dict[asyncio.AbstractEventLoop, aiohttp.ClientSession] = {}

    def __repr__(self) -> str:
        return f"Connection({self.identity!r})"

    def session(self) -> aiohttp.ClientSession:
        """The running loop's session."""
        loop = asyncio.get_running_loop()
        session = self._sessions.get(loop)
        if session is None:
            timeout = aiohttp.ClientTimeout(
                total=self._limits.timeout_s,
                sock_connect=self._limits.connect_timeout_s,
                sock_read=self._limits.first_byte_timeout_s,
            )
            session = aiohttp.ClientSession(
                # The engine caps what is in flight; a second cap here would make time-outs count waiting.
                connector=aiohttp.TCPConnector(limit=0, ssl=_tls(), ttl_dns_cache=300, keepalive_timeout=30),
                timeout=timeout,
                headers=self._headers,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
            self._sessions[loop] = session
        return session

    async def aclose(self) -> None:
        """Close the running loop's session."""
        session = self._sessions.pop(asyncio.get_running_loop(), None)
        if session is not None:
            await session.close()

    def without_secrets(self, raw: bytes) -> bytes:
        """Servers echo keys, in errors above all: removed before anything is read or kept."""
        for secret in self.secrets:
            raw = raw.replace(secret.encode(), REDACTED.encode())
        return raw


def unreached(error: Exception) -> bool:
    """Whether the request cannot have arrived, so that nobody can have worked for it."""
    return isinstance(
        error,
        aiohttp.ConnectionTimeoutError
        | aiohttp.ClientConnectorError
        | aiohttp.ClientHttpProxyError
        | aiohttp.InvalidURL,
    )


def told(error: Exception) -> str:
    """What a failed connection's error says, without the login that it may quote from a proxy's URL."""
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"the proxy refused the connection ({error.status}); check HTTPS_PROXY and the login in it"
    if isinstance(error, aiohttp.InvalidURL):
        return "not a URL that can be called; correct base_url, or the proxy in HTTPS_PROXY"
    return _LOGIN.sub("//", str(error))


def proxy_for(url: str) -> str | None:
    """By HTTP_PROXY, HTTPS_PROXY and NO_PROXY; not by aiohttp's `trust_env`, which would also send .netrc logins."""
    parts = urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme)
    return None if not proxy or urllib.request.proxy_bypass(parts.netloc) else proxy


def urls_of(model: config.Model) -> tuple[str, ...]:
    """Where the model is served."""
    found = model.base_urls or ((model.base_url,) if model.base_url else ())
    if not found:
        raise RecipeError("an openai model needs base_url: the endpoint's URL up to and including /v1")
    return found


def identity_of(model: config.Model) -> str:
    """URL and model; and which parameters do not reach the model, since that can change a reply."""
    if model.identity:
        return model.identity
    name = f"{' '.join(sorted(urls_of(model)))} {model.model}"
    return f"{name} without {','.join(sorted(model.drop_params))}" if model.drop_params else name


def secrets_in(value: str) -> set[str]:
    """What of a key or header must appear in nothing that is kept; the scheme before it ("Bearer KEY") may.

    Its echo is cut out of replies, so a value that a reply could hold by chance is no secret: fewer than
    `LEAST_SECRET_CHARS` characters, or a single plain word (EMPTY, anything, production), which is what people write
    where a server wants no key. A real key is longer or mixes letters with other signs.
    """
    secret = _SCHEME.sub("", value)
    plain = secret.isalpha() and secret in (secret.lower(), secret.upper(), secret.title())
    kept = len(secret) < LEAST_SECRET_CHARS or (plain and len(secret) <= LONGEST_WORD_CHARS)
    return set() if kept else {secret}


def _headers(model: config.Model, environ: Mapping[str, str]) -> tuple[dict[str, str], set[str]]:
    """The request headers, and the secrets among them."""
    headers = {"Accept": "application/json, text/event-stream"}
    secrets: set[str] = set()
    wanted = dict(model.headers_env)
    if model.api_key_env:
        wanted["Authorization"] = model.api_key_env
    for header, variable in wanted.items():
        value = environ.get(variable, "").strip()
        if not value:
            raise RecipeError(f"the environment variable {variable} is not set; it holds the model's {header}")
        if not value.isascii() or not value.isprintable():
            # The value itself is never shown.
            raise RecipeError(f"the environment variable {variable} holds characters that no header can carry")
        is_key = header == "Authorization" and variable == model.api_key_env
        headers[header] = f"Bearer {value}" if is_key else value
        secrets.update(secrets_in(value))
    return headers, secrets


def _proxy_logins(urls: Iterable[str]) -> set[str]:
    """The passwords of the proxies on the way: as written, as meant, and as they go over the wire."""
    found: set[str] = set()
    for proxy in filter(None, map(proxy_for, urls)):
        # One that is no URL is told of by the call that would go through it.
        with contextlib.suppress(ValueError):
            parts = urlsplit(proxy)
            user, password = unquote(parts.username or ""), unquote(parts.password or "")
            sent = base64.b64encode(f"{user}:{password}".encode()).decode()
            found |= secrets_in(parts.password or "") | secrets_in(password) | (secrets_in(sent) if password else set())
    return found


def _as_echoed(secrets: set[str]) -> tuple[str, ...]:
    """The secrets in the forms a server could echo them in, longest first: one may hold another."""
    escaped = {json.dumps(secret)[1:-1] for secret in secrets}
    return tuple(sorted(secrets | escaped, key=len, reverse=True))


def _tls() -> ssl.SSLContext:
    """The system's authorities and SSL_CERT_FILE; also what other Python clients are told by the other two names."""
    context = ssl.create_default_context()
    for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        bundle = os.environ.get(variable)
        if bundle:
            context.load_verify_locations(cafile=bundle)
    return context
