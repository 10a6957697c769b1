"""No key in anything a run writes: the whole directory, the ledger and the terminal are searched for it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from fake_endpoint import serving
from whole_run import prepare

from tapir.cli.terminal import TerminalProgress
from tapir.models.fake_server import Fake, Faults
from tapir.models.scripted import ScriptedModel, load_rules
from tapir.pipeline import run
from tapir.report.html import write_report
from tapir.wiring import load_recipe

KEY = "sk-tapir-0123456789abcdef"


def test_a_whole_run_against_a_server_that_quotes_keys_leaves_none_behind(tmp_path: Path, monkeypatch, capfd):
    monkeypatch.setenv("TAPIR_TEST_KEY", KEY)
    server = Fake(ScriptedModel(load_rules("builtin")), faults=Faults(echo_key=0.5, error_500=0.2, bad_rows=0.05))
    with serving(server) as url:
        endpoint = {"kind": "openai", "base_url": url, "model": "fake", "api_key_env": "TAPIR_TEST_KEY",
                    "max_answer_tokens": 32}  # fmt: skip
        recipe = prepare(tmp_path / "files", curriculum={"rounds": 1}, judge={"max_pairs": 12, "max_unscored": 1.0})
        sets = [f"models.teacher={endpoint}", f"ledger.path={tmp_path / 'run' / 'ledger.sqlite'}"]
        done = run(load_recipe(recipe, sets), tmp_path / "run", progress=TerminalProgress())
    write_report(done)
    assert server.counts["replies"] > 50
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [str(path) for path in files if KEY.encode() in path.read_bytes()] == []
    out, err = capfd.readouterr()
    assert KEY not in out + err
    # The ledger packs long texts, so the search above does not see into them.
    with sqlite3.connect(tmp_path / "run/ledger.sqlite") as db:
        (count,) = db.execute("SELECT COUNT(*) FROM calls").fetchone()
    assert count > 50
    assert _keys_in_ledger(tmp_path / "run/ledger.sqlite") == 0


def _keys_in_ledger(path: Path) -> int:
    from tapir.models.ledger import Ledger

    with Ledger(path) as ledger:
        return sum(KEY in f"{e.request} {e.reply} {e.reply.raw!r}" for e in ledger.entries())
