"""What benchmarks share: the fake server as a process, environments, contenders, a heading with commit and hardware."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import urllib.request
import venv
from pathlib import Path
from typing import Any


class Server:
    """The fake server in its own process."""

    def __init__(self, *options: str) -> None:
        command = [sys.executable, "-m", "tapir", "serve-fake", "--port", "0", *options]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def counts(self) -> dict[str, int]:
        """The server's own count of what it was asked."""
        with urllib.request.urlopen(self.url.replace("/v1", "/fake/counts")) as answer:
            return json.load(answer)["total"]


def make_env(folder: Path, packages: tuple[str, ...]) -> Path:
    """The Python of an environment that holds `packages`; made once."""
    python = folder / "bin" / "python"
    done = folder / "installed"
    if not done.exists():
        print(f"making {folder} for {', '.join(packages)}", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        # Other tools bring the versions they were made for; ours must not bind them.
        environment = {name: value for name, value in os.environ.items() if name != "PIP_CONSTRAINT"}
        subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=True, env=environment)
        done.touch()
    return python


def contender(python: Path, script: Path, url: str, calls: int, concurrency: int) -> dict[str, Any]:
    """Run one contender; what its last lines of output say."""
    with tempfile.TemporaryDirectory() as folder:
        command = [python, script, url, str(calls), str(concurrency), folder]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"TMPDIR": folder})
    if done.returncode:
        raise SystemExit(f"{script.name} failed:\n{done.stderr[-3000:]}")
    results: dict[str, Any] = {}
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            results |= json.loads(line)
    return results


def heading(title: str, what: str) -> str:
    """Title, commit, hardware and date: a number without them means nothing."""
    return f"### {title}\n\n{what}; {stamp()}."


def stamp() -> str:
    """Commit, hardware and date."""
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True).stdout.strip()
    processor = next(
        (line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor() or platform.machine(),
    )
    machine = f"{os.cpu_count()} x {processor}, Python {platform.python_version()}"
    return f"commit {commit or '?'}, {machine}, {time.strftime('%Y-%m-%d')}"


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []
