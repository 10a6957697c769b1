"""What a run has paid for is in its store too, and a machine that has nothing else goes on from it."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from fake_endpoint import ask, serving
from whole_run import finish, prepare, start

from tapir.errors import BudgetReached, DataError
from tapir.models.budget import Ration, Spend, handed_out
from tapir.models.calls import Reply
from tapir.models.fake_server import Fake
from tapir.models.ledger import Entry, Ledger
from tapir.models.ledger_files import read_recording
from tapir.models.scripted import ScriptedModel, load_rules
from tapir.pipeline import run
from tapir.store.calls import StoredCalls
from tapir.store.remote import RemoteStore
from tapir.wiring import load_recipe

RUN = "tiny-1"


def entry(text: str, **changes: Any) -> Entry:
    request = ask(text)
    told: dict[str, Any] = {"stage": "answer", "run": RUN, **changes}
    return Entry(request.address("m"), "m", request, Reply(text=f"{text}!"), **told)


def stored(folder: Path, ledger: Ledger, run: str = RUN) -> StoredCalls:
    url = f"file://{folder}"
    return StoredCalls(RemoteStore(url, "tiny"), url, ledger, run=run, name="tiny")


def recordings(folder: Path) -> list[Path]:
    return sorted((folder / "tiny/calls").glob("*.jsonl.gz"))


def test_calls_account_and_jobs_come_to_another_machine(tmp_path: Path):
    with Ledger(tmp_path / "a.sqlite") as a, Ledger(tmp_path / "b.sqlite") as b:
        a.put([entry("one"), entry("two"), entry("failed", passing=True), entry("of another", run="other")])
        a.open_job("job-7", "m", [entry("owed").address], run=RUN)
        with a.transaction() as db:
            Ration(RUN).settle(db, "answer", [(Spend(), Spend(2, 30, 10, 5_000))])
            Ration(RUN).settle(db, handed_out("/home/a/run", "answer"), [(Spend(), Spend(9))])
        stored(tmp_path / "s", a).save()
        assert stored(tmp_path / "s", b, run="tiny-2").bring() == 2
        assert [b.get(entry(text).address) is not None for text in ("one", "two", "failed", "of another")] == [
            True, True, False, False,
        ]  # fmt: skip
        assert b.open_jobs("m", run="tiny-2") == {"job-7": frozenset([entry("owed").address])}
        with b.reading() as db:
            assert Ration("tiny-2").spent(db) == Spend(2, 30, 10, 5_000)
    assert not any("/home/a" in path.read_text() for path in (tmp_path / "s").rglob("account.json"))


def test_what_is_there_is_neither_copied_nor_brought_again(tmp_path: Path):
    with Ledger(tmp_path / "a.sqlite") as a, Ledger(tmp_path / "b.sqlite") as b:
        a.put([entry("one")])
        stored(tmp_path / "s", a).save()
        # Another process, which has seen nothing of it.
        stored(tmp_path / "s", a).save()
        assert len(recordings(tmp_path / "s")) == 1
        assert [stored(tmp_path / "s", b).bring() for _ in range(2)] == [1, 0]
        stored(tmp_path / "s", b).save()
        assert len(recordings(tmp_path / "s")) == 1
        b.put([entry("two")])
        stored(tmp_path / "s", b).save()
        assert stored(tmp_path / "s", a).bring() == 1
        assert a.get(entry("two").address) is not None


def test_after_a_prune_no_call_is_missed(tmp_path: Path):
    with Ledger(tmp_path / "a.sqlite") as a, Ledger(tmp_path / "b.sqlite") as b:
        a.put([entry(str(n)) for n in range(5)])
        stored(tmp_path / "s", a).save()
        a.prune(keep=[entry("4").address])
        a.put([entry("new")])
        stored(tmp_path / "s", a).save()
        stored(tmp_path / "s", b).bring()
        assert all(b.get(entry(text).address) for text in ("0", "4", "new"))


def test_the_larger_account_holds_both(tmp_path: Path):
    with Ledger(tmp_path / "a.sqlite") as a, a.transaction() as db:
        Ration(RUN).settle(db, "answer", [(Spend(), Spend(5, 50, 20, 9))])
    with Ledger(tmp_path / "a.sqlite") as a:
        a.take_account(RUN, {"spent": [["answer", 3, 30, 40, 7], ["judge", 1, 1, 1, 1]], "jobs": []})
        with a.reading() as db:
            assert Ration(RUN).spent(db, "answer") == Spend(5, 50, 40, 9)
            assert Ration(RUN).spent(db, "judge") == Spend(1, 1, 1, 1)


def test_a_store_that_fails_is_told_of_and_stops_nothing(tmp_path: Path):
    said: list[str] = []
    with Ledger(tmp_path / "a.sqlite") as a:
        a.put([entry("one")])
        calls = stored(tmp_path / "s", a)
        (tmp_path / "s").write_text("a file where the folder would be")
        with calls.saving(said.append):
            pass
        (tmp_path / "s").unlink()
        with calls.saving(said.append):
            pass
    assert len(said) == 1
    assert "until then calls are in" in said[0]
    assert len(recordings(tmp_path / "s")) == 1


def test_a_changed_recording_is_refused(tmp_path: Path):
    with Ledger(tmp_path / "a.sqlite") as a, Ledger(tmp_path / "b.sqlite") as b:
        a.put([entry("one")])
        stored(tmp_path / "s", a).save()
        recordings(tmp_path / "s")[0].write_bytes(b"\x1f\x8bcut off")
        with pytest.raises(DataError, match="cannot be read"):
            stored(tmp_path / "s", b).bring()
        recordings(tmp_path / "s")[0].unlink()
        for broken in ("{", "[]", '{"spent": [["answer"]], "jobs": []}', '{"spent": [], "jobs": [["a", "b", 3]]}'):
            (tmp_path / "s/tiny/calls/account.json").write_text(broken)
            with pytest.raises(DataError, match=r"account.json: no account of a run"):
                stored(tmp_path / "s", b).bring()


def test_a_terminated_run_leaves_its_calls_in_the_store(tmp_path: Path):
    """SIGTERM is what schedulers and clouds send before they take the machine."""
    server = Fake(ScriptedModel(load_rules("builtin")), latency_s=0.5)
    source = prepare(tmp_path / "files", store=f"file://{tmp_path}/store", classify={"by": "keep"})
    with serving(server) as url:
        teacher = {
            "kind": "openai",
            "base_url": url,
            "model": "fake",
            "max_answer_tokens": 32,
            "limits": {"in_flight": 1},
        }
        process = start(source, tmp_path / "tiny", tmp_path / "l.sqlite", "--set", f"models.teacher={teacher}")
        while server.counts["replies"] < 2:
            assert process.poll() is None
            time.sleep(0.01)
        process.terminate()
        assert "the same command goes on from here" in finish(process, expected=143)
    (calls,) = recordings(tmp_path / "store")
    assert 1 <= len(list(read_recording(calls))) < 24


def test_a_step_under_way_is_not_paid_for_again_on_a_fresh_machine_nor_the_cap_counted_anew(tmp_path: Path):
    server = Fake(ScriptedModel(load_rules("builtin")))
    source = prepare(tmp_path / "files", store=f"file://{tmp_path}/store", classify={"by": "keep"})

    def on(machine: str, url: str, cap: int) -> None:
        teacher = {"kind": "openai", "base_url": url, "model": "fake", "max_answer_tokens": 32}
        sets = [f"models.teacher={teacher}", f"ledger.path={tmp_path / machine}/l.sqlite", f"budget.calls={cap}"]
        run(load_recipe(source, sets), tmp_path / machine / "tiny", until="teacher_answers")

    with serving(server) as url:
        with pytest.raises(BudgetReached):
            on("first", url, 10)
        shutil.rmtree(tmp_path / "first")
        with pytest.raises(BudgetReached):
            on("second", url, 10)
        assert server.counts["requests"] == 10
        shutil.rmtree(tmp_path / "second")
        on("third", url, 100)
    assert server.counts["requests"] == 24
