"""Screenshots of a finished run's report and studio pages, into docs/images: `python scripts/screenshots.py RUN`.

The run is copied first and the marks that the pictures show are made in the copy. Needs Chromium
(`scripts/install_browser.sh`).
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from tapir.report.marked import judged_pairs
from tapir.store.rundir import RunDir
from tapir.store.tables import read_rows
from tapir.studio.serving import serving
from tapir.types import Verdict

PAGES = {
    "runs": "/",
    "overview": "/run/{run}",
    "rows": "/run/{run}/rows?stage=round_0%2F02_classified&verdict=teacher&sort=-mfd",
    "instruction": "/run/{run}/instruction/{id}",
    "difficulty": "/run/{run}/difficulty?delta=3",
    "mix": "/run/{run}/mix",
    "judge": "/run/{run}/judge",
    "answers": "/run/{run}/answers",
    "annotate": "/run/{run}/annotate",
    "compare": "/compare?a={run}&b=before",
}
NARROW, WIDE = (400, 860), (1280, 860)


def chromium() -> str:
    """Debian's browser; Playwright's own is a download."""
    found = shutil.which("chromium")
    if found is None:
        raise SystemExit("no chromium here; run scripts/install_browser.sh")
    return found


def shoot(browser: Browser, url: str, path: Path, *, size: tuple[int, int], dark: bool, whole: bool) -> None:
    page = browser.new_page(viewport={"width": size[0], "height": size[1]}, color_scheme="dark" if dark else "light")
    page.goto(url)
    page.screenshot(path=path, full_page=whole)
    page.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--into", type=Path, default=Path("docs/images"))
    parser.add_argument("--all", action="store_true", help="also dark, narrow and whole pages, to look at")
    options = parser.parse_args()
    options.into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        name = options.run.name
        ignored = shutil.ignore_patterns("*.safetensors", "model.bin", "marks.jsonl")
        for copy in (name, "before"):
            shutil.copytree(options.run, Path(folder) / copy, ignore=ignored)
        pairs = judged_pairs(RunDir(Path(folder) / name))
        shown = next(v.instruction_id for v in read_rows(pairs[0].verdicts, Verdict) if v.method != "verified")
        with serving(Path(folder), annotate=True, author="ada") as server, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
            for page, address in PAGES.items():
                url = server + address.format(run=name, id=shown)
                shoot(browser, url, options.into / f"studio-{page}.png", size=WIDE, dark=False, whole=False)
                if options.all:
                    shoot(browser, url, options.into / f"studio-{page}-dark.png", size=WIDE, dark=True, whole=True)
                    shoot(browser, url, options.into / f"studio-{page}-narrow.png", size=NARROW, dark=False, whole=True)
            report = (options.run / "report.html").resolve().as_uri()
            shoot(browser, report, options.into / "report.png", size=WIDE, dark=False, whole=False)
            browser.close()


if __name__ == "__main__":
    main()
