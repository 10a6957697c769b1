"""A real browser: Debian's Chromium, driven by Playwright. Where there is none, these tests say so and are skipped."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest


@dataclass
class Watched:
    """What a page did that it should not have done."""

    own: str
    complaints: list[str] = field(default_factory=list)

    def request(self, url: str) -> None:
        if urlsplit(url).netloc != self.own and urlsplit(url).scheme not in ("data", "file"):
            self.complaints.append(f"request to {url}")


# Not for the whole session: Playwright keeps an event loop running in this thread, and no other test could start one.
@pytest.fixture(scope="module")
def chromium() -> Iterator[object]:
    path = shutil.which("chromium")
    if path is None:
        pytest.skip(
            "no chromium here: run scripts/install_browser.sh (root on Debian), or install the package chromium"
        )
    playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make install-dev")
    with playwright_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def watched(chromium):
    """Opens pages of one server; at the end none has complained or asked anybody else."""
    opened: list[Watched] = []

    def open_page(url: str):
        page = chromium.new_page()
        watch = Watched(urlsplit(url).netloc)
        opened.append(watch)
        page.on("console", lambda m: watch.complaints.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: watch.complaints.append(str(error)))
        page.on("request", lambda request: watch.request(request.url))
        page.on("dialog", lambda dialog: (watch.complaints.append("a dialog"), dialog.dismiss()))
        page.set_default_timeout(60_000)
        page.goto(url)
        return page

    yield open_page
    assert [c for watch in opened for c in watch.complaints] == []
    for context in chromium.contexts:
        context.close()
