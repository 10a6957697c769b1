"""Asks a studio over real HTTP on loopback."""

from __future__ import annotations

import http.client
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit


@dataclass(frozen=True)
class Asker:
    """Asks one server."""

    url: str

    def ask(
        self, path: str, *, method: str = "GET", form: dict[str, str] | None = None, **headers: str
    ) -> tuple[int, dict[str, str], str]:
        host = urlsplit(self.url).netloc
        connection = http.client.HTTPConnection(host, timeout=60)
        body = urlencode(form) if form is not None else None
        sent = {k.replace("_", "-"): v for k, v in headers.items()}
        if form is not None:
            sent = {"Content-Type": "application/x-www-form-urlencoded", "Origin": self.url, **sent}
        connection.request(method if form is None else "POST", path, body, sent)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, text

    def page(self, path: str) -> str:
        status, _, text = self.ask(path)
        assert status == 200, text
        return text
