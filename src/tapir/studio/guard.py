"""Who may ask the studio what: Host, Origin, token, method, and the headers of every answer.

A page of another site can make a browser send requests to 127.0.0.1. It gets nothing: a foreign Host (DNS rebinding)
or Origin is refused, and a change needs the token of a form that only our own pages carry.
"""

from __future__ import annotations

import ipaddress
import secrets
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "tapir_studio"
MOST_BODY_BYTES = 64_000
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    # Not no-referrer: browsers would then send `Origin: null` with our own forms.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server bound to `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class Access:
    """What this server allows."""

    host: str = "127.0.0.1"
    """The address it is bound to."""
    names: frozenset[str] = frozenset()
    """Further names by which it may be asked, where it is bound to anything but loopback."""
    annotate: bool = False
    token: str | None = None
    """Asked of everybody, once, where others can reach the server."""
    form_token: str = field(default_factory=lambda: secrets.token_urlsafe(24))

    @classmethod
    def of(cls, host: str, *, annotate: bool = False, names: frozenset[str] = frozenset()) -> Access:
        token = None if is_loopback(host) else secrets.token_urlsafe(24)
        return cls(host, names, annotate, token)

    def knows_host(self, header: str) -> bool:
        """A name can be pointed at us by anybody, an address cannot: addresses are fine where the token protects."""
        name = _host_name(header)
        if self.token is None:
            return is_loopback(name)
        return name in self.names or name == self.host or is_loopback(name) or _is_address(name)

    def knows_form(self, token: str) -> bool:
        return secrets.compare_digest(token.encode(), self.form_token.encode())


def _host_name(header: str) -> str:
    name, _, port = header.rpartition(":")
    bare = name if port.isdigit() and name else header
    return bare.strip("[]").lower()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class Guard:
    """ASGI middleware that lets through what `Access` allows and adds the headers."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        refused = self._refusal(scope)
        await (refused or self._app)(scope, receive, with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        headers, method = Headers(scope=scope), str(scope["method"])
        host = headers.get("host", "")
        if not self._access.knows_host(host):
            return PlainTextResponse("this server is not known by that name\n", 403)
        origin = headers.get("origin")
        if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
            return PlainTextResponse("requests of other sites are refused\n", 403)
        if method == "POST":
            if not self._access.annotate:
                return PlainTextResponse("read only: start it with --annotate to mark things\n", 405)
            if origin is None or headers.get("sec-fetch-site", "same-origin") != "same-origin":
                return PlainTextResponse("a change must come from this server's own pages\n", 403)
            length = headers.get("content-length", "")
            if not length.isdigit() or int(length) > MOST_BODY_BYTES:
                return PlainTextResponse("too long\n", 413)
        elif method not in ("GET", "HEAD"):
            return PlainTextResponse("there is only GET and POST here\n", 405)
        return self._stranger(scope, headers)

    def _stranger(self, scope: Scope, headers: Headers) -> Response | None:
        """Asks for the token where there is one; from then on a cookie stands for it."""
        token = self._access.token
        if token is None:
            return None
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            cookie = None
        if cookie is not None and secrets.compare_digest(cookie.value.encode(), token.encode()):
            return None
        asked = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = dict(asked).get("token", "")
        if not secrets.compare_digest(given.encode(), token.encode()):
            return PlainTextResponse("open the address that `tapir studio` printed, with its token\n", 403)
        rest = urlencode([(k, v) for k, v in asked if k != "token"])
        # Not scope["path"] as a relative reference: a path of two slashes would name another host.
        path = "/" + str(scope["path"]).lstrip("/")
        answer = RedirectResponse(path + (f"?{rest}" if rest else ""), 303)
        answer.set_cookie(COOKIE, token, httponly=True, samesite="strict")
        return answer
