"""A run killed at any moment loses no finished reply and repeats at most what was in flight."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from tapir.models.budget import Ration
from tapir.models.ledger import Ledger

ROWS, IN_FLIGHT, KILLS = 1500, 16, 10
WORKER = Path(__file__).with_name("kill_worker.py")


def start(url: str, folder: Path, seen: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(WORKER), url, folder / "ledger.sqlite", folder / seen, str(ROWS), str(IN_FLIGHT)]
    worker = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    assert worker.stdout.readline() == "ready\n"
    return worker


def table(path: Path) -> list[list[str]]:
    """The whole lines: a kill may cut the last one."""
    return [line.split("\t") for line in path.read_text().split("\n")[:-1]] if path.exists() else []


def test_ten_kills_at_random_moments_lose_nothing(tmp_path):
    options = ["--port", "0", "--latency-s", "0.02"]
    server = subprocess.Popen(
        [sys.executable, "-m", "tapir", "serve-fake", *options], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
        for folder in (undisturbed, killed):
            folder.mkdir()
        with start(url, undisturbed, "table") as worker:
            assert worker.wait(60) == 0
        once = counts(url)
        assert once == ROWS
        moments = random.Random(3)
        for kill in range(KILLS):
            with start(url, killed, f"table_{kill}") as worker:
                time.sleep(moments.uniform(0.02, 0.35))
                worker.send_signal(signal.SIGKILL)
            nothing_lost(killed, kill)
        with start(url, killed, "table") as worker:
            assert worker.wait(60) == 0
        repeats = counts(url) - once - ROWS
        assert 0 <= repeats <= KILLS * IN_FLIGHT
        assert table(killed / "table") == table(undisturbed / "table")
        assert len(table(killed / "table")) == ROWS
        with Ledger(killed / "ledger.sqlite") as ledger, ledger.reading() as db:
            assert Ration("r").spent(db).calls >= counts(url) - once
    finally:
        server.kill()
        server.communicate()


def nothing_lost(folder: Path, kill: int) -> None:
    """Every row the killed run had handed on is in the ledger, as it was handed on."""
    rows = table(folder / f"table_{kill}")
    with Ledger(folder / "ledger.sqlite") as ledger:
        for _, address, text in rows:
            kept = ledger.get(address)
            assert kept is not None
            assert kept.text == text


def counts(url: str) -> int:
    with urllib.request.urlopen(url.replace("/v1", "/fake/counts")) as answer:
        return json.load(answer)["total"]["requests"]
