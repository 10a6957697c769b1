from __future__ import annotations

import gzip
import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_endpoint import ask, asks
from hypothesis import given
from hypothesis import strategies as st

from tapir.errors import DataError
from tapir.models import records
from tapir.models.calls import Reply, Request, Sampling, TokenLogprob
from tapir.models.ledger import Entry, Ledger, is_ledger
from tapir.models.ledger_files import export, import_, read_recording
from tapir.types import Message


def entry(text: str = "hi", reply: str = "hello", **changes: Any) -> Entry:
    request = ask(text)
    kept = Reply(text=reply, prompt_tokens=3, completion_tokens=5, raw=b'{"id": 1}')
    return replace(Entry(request.address("m"), "m", request, kept, stage="answer", run="r"), **changes)


@pytest.fixture
def ledger(tmp_path):
    with Ledger(tmp_path / "ledger.sqlite") as opened:
        yield opened


def test_what_is_put_is_found_as_a_cached_reply(ledger):
    ledger.put([entry()])
    found = ledger.get_many([entry().address, entry("other").address])
    assert found == {entry().address: replace(entry().reply, cached=True)}


def test_more_rows_than_one_query_takes_are_found_together(ledger):
    """By the limit that SQLite itself sets; some systems build it with a higher one."""
    with ledger.reading() as db:
        db.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 32_766)
    first, last = entry("a"), entry("b")
    ledger.put([first, last])
    window = [first.address, *(f"{number:064x}" for number in range(50_000)), last.address]
    assert set(ledger.get_many(window)) == {first.address, last.address}


def test_a_second_later_and_for_a_sent_job_at_once_all_is_forced_to_disk(tmp_path, clock, monkeypatch):
    """SQLite's own word for it: 2 is FULL, which takes the whole log to disk at a commit; 1 is NORMAL."""
    monkeypatch.setattr("tapir.models.ledger.time.monotonic", clock)

    def level(ledger: Ledger, **asked: bool) -> int:
        with ledger.transaction(**asked) as db:
            return int(db.execute("PRAGMA synchronous").fetchone()[0])

    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        found = [level(ledger), level(ledger)]
        clock.now = 0.5
        found += [level(ledger), level(ledger, to_disk=True), level(ledger)]
        clock.now = 1.5
        found += [level(ledger), level(ledger)]
    assert found == [2, 1, 1, 2, 1, 2, 1]


def test_another_process_sees_it(ledger):
    ledger.put([entry()])
    program = "import sys; from tapir.models.ledger import Ledger; print(Ledger(sys.argv[1]).get(sys.argv[2]).text)"
    command = [sys.executable, "-c", program, str(ledger.path), entry().address]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "hello\n"


def test_the_first_reply_stands_when_two_processes_asked_the_same(ledger):
    ledger.put([entry(reply="first")])
    standing = ledger.put([entry(reply="second")])
    assert standing[entry().address].text == "first"
    assert ledger.get(entry().address).text == "first"


def test_a_failure_that_may_pass_is_not_served_and_makes_room(ledger):
    ledger.put([_timeout()])
    assert ledger.get(entry().address) is None
    ledger.put([entry()])
    assert ledger.get(entry().address).text == "hello"


def test_a_failure_that_may_pass_is_served_in_replay(ledger):
    ledger.put([_timeout()])
    with Ledger(ledger.path, replay=True) as replay:
        assert replay.get(entry().address).problem == "timeout"


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("replay", [True, False])
def test_a_failure_that_may_pass_hides_no_answer_of_a_recording(tmp_path, ledger, own, replay):
    files = [tmp_path / "failed.jsonl", tmp_path / "answered.jsonl", tmp_path / "again.jsonl"]
    for number, (file, kept) in enumerate(zip(files, (_timeout(), entry(), entry(reply="again")), strict=True)):
        with Ledger(tmp_path / f"{number}.sqlite") as made:
            made.put([kept])
            export(made, file)
    if own:
        ledger.put([_timeout()])
    with Ledger(ledger.path, replay=replay, recordings=files) as opened:
        reply = opened.get(entry().address)
    assert (reply.text, reply.problem, reply.replayed) == ("hello", None, True)


def _timeout() -> Entry:
    return replace(entry(), reply=Reply(problem="timeout", finish_reason="error"), passing=True)


def test_raw_reply_and_request_are_shown_for_a_prefix_of_the_key(ledger):
    ledger.put([entry()])
    shown = ledger.show(entry().address[:10])
    assert (shown.request, shown.reply.raw) == (ask("hi"), b'{"id": 1}')


def test_a_prefix_that_fits_nothing_or_several_is_refused(ledger):
    ledger.put([entry(str(number)) for number in range(20)])
    with pytest.raises(DataError, match="no call begins with zz"):
        ledger.show("zz")
    with pytest.raises(DataError, match="several calls"):
        ledger.show("")


def test_stats_count_by_endpoint_and_stage(ledger):
    ledger.put([entry("a"), entry("b"), entry("c", stage="judge", origin="shared.jsonl")])
    answer, judge = ledger.stats()
    assert (answer.stage, answer.calls, answer.imported, answer.completion_tokens) == ("answer", 2, 0, 10)
    assert (judge.stage, judge.calls, judge.imported) == ("judge", 1, 1)


def test_prune_keeps_what_it_is_told_to_keep(ledger):
    ledger.put([entry("a"), entry("b"), entry("c")])
    assert ledger.prune(keep=[entry("b").address]) == 2
    assert [e.address for e in ledger.entries()] == [entry("b").address]
    with pytest.raises(DataError, match="needs a condition"):
        ledger.prune()


def test_prune_keeps_what_a_run_paid_for(ledger):
    ledger.put([entry("a", run="kept"), entry("b", run="gone"), entry("c", run="other")])
    assert ledger.prune(keep=[entry("c").address], keep_runs=["kept"]) == 1
    assert {e.run for e in ledger.entries()} == {"kept", "other"}


@pytest.mark.parametrize("name", ["calls.jsonl", "calls.jsonl.gz"])
def test_an_export_is_equal_for_equal_calls_and_in_order(tmp_path, name):
    files = []
    for run, order in enumerate((asks(5), asks(5)[::-1])):
        folder = tmp_path / str(run)
        folder.mkdir()
        with Ledger(folder / "l.sqlite") as ledger:
            for request in order:
                ledger.put([replace(entry(), address=request.address("m"), request=request, run=str(run))])
            assert export(ledger, folder / name) == 5
        files.append((folder / name).read_bytes())
    assert files[0] == files[1]
    text = gzip.decompress(files[0]) if name.endswith("gz") else files[0]
    addresses = [json.loads(line)["address"] for line in text.splitlines()[1:]]
    assert addresses == sorted(addresses)


def test_an_export_takes_from_recordings_what_the_ledger_lacks(tmp_path, ledger):
    with Ledger(tmp_path / "theirs.sqlite") as theirs:
        theirs.put([entry("a"), entry("b", origin="paper.jsonl"), entry("c"), entry("unused")])
        export(theirs, tmp_path / "theirs.jsonl")
    failed = Reply(problem="timeout", finish_reason="error")
    ledger.put([entry("a", "own"), replace(entry("c", passing=True), reply=failed)])
    keys = frozenset(entry(text).address for text in "abcd")
    assert export(ledger, tmp_path / "run.jsonl", keys=keys, recordings=[tmp_path / "theirs.jsonl"]) == 3
    found = list(read_recording(tmp_path / "run.jsonl"))
    assert [e.address for e in found] == sorted(e.address for e in found)
    assert {e.request.row: (e.reply.text, e.origin) for e in found} == {
        "a": ("own", "run.jsonl"),
        "b": ("hello", "paper.jsonl"),
        "c": ("hello", "theirs.jsonl"),
    }


def test_an_export_is_never_replaced_by_nothing_and_the_ledger_not_by_an_export(tmp_path, ledger):
    ledger.put([entry()])
    export(ledger, tmp_path / "good.jsonl")
    kept = (tmp_path / "good.jsonl").read_bytes()
    with pytest.raises(DataError, match=r"good\.jsonl: .* holds no such call, so the file is left as it was"):
        export(ledger, tmp_path / "good.jsonl", keys=frozenset({"0" * 64}))
    assert (tmp_path / "good.jsonl").read_bytes() == kept
    with pytest.raises(DataError, match="the ledger itself"):
        export(ledger, ledger.path)
    assert ledger.get(entry().address).text == "hello"
    assert export(ledger, tmp_path / "empty.jsonl", keys=frozenset()) == 0
    assert {p.suffix for p in tmp_path.iterdir()} == {".jsonl", ".sqlite", ".sqlite-shm", ".sqlite-wal"}


def test_another_programs_database_is_neither_read_nor_made_a_ledger(tmp_path):
    path = tmp_path / "other.sqlite"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE calls(number TEXT)")
    before = path.read_bytes()
    assert not is_ledger(path)
    with pytest.raises(DataError, match="a database, but no ledger"):
        list(read_recording(path))
    assert path.read_bytes() == before


def test_imported_entries_keep_their_origin(tmp_path, ledger):
    ledger.put([entry()])
    export(ledger, tmp_path / "shared.jsonl.gz")
    with Ledger(tmp_path / "other.sqlite") as other:
        assert import_(other, tmp_path / "shared.jsonl.gz") == 1
        assert import_(other, tmp_path / "shared.jsonl.gz") == 0
        reply = other.get(entry().address)
        assert (reply.text, reply.cached, reply.replayed) == ("hello", True, True)
        assert other.show(entry().address).origin == "shared.jsonl.gz"


def test_another_ledgers_calls_do_not_become_ones_own(tmp_path, ledger):
    ledger.put([entry("a"), entry("b", origin="paper.jsonl")])
    with Ledger(tmp_path / "other.sqlite") as other:
        assert import_(other, ledger.path) == 2
        assert {e.request.row: e.origin for e in other.entries()} == {"a": "ledger.sqlite", "b": "paper.jsonl"}
        assert other.get(entry("a").address).replayed


@pytest.mark.parametrize("name", ["shared.jsonl.gz", "ledger.sqlite"])
def test_a_recording_is_read_beside_a_ledger_that_is_not_there(tmp_path, ledger, name):
    ledger.put([entry()])
    export(ledger, tmp_path / "shared.jsonl.gz")
    with Ledger(tmp_path / "none.sqlite", replay=True, recordings=[tmp_path / name]) as replay:
        assert replay.get(entry().address).replayed
    assert not (tmp_path / "none.sqlite").exists()


def test_a_recording_whose_request_was_changed_is_refused(tmp_path, ledger):
    ledger.put([entry()])
    export(ledger, tmp_path / "shared.jsonl")
    text = (tmp_path / "shared.jsonl").read_text().replace('"content":"hi"', '"content":"ho"')
    (tmp_path / "changed.jsonl").write_text(text)
    with pytest.raises(DataError, match=r"changed\.jsonl, line 2: the address does not fit"):
        import_(ledger, tmp_path / "changed.jsonl")


def test_other_files_are_refused_with_a_word_on_what_to_do(tmp_path, ledger):
    (tmp_path / "other.jsonl").write_text('{"instruction": "x"}\n')
    with pytest.raises(DataError, match="not a ledger export; `tapir ledger export` writes one"):
        list(read_recording(tmp_path / "other.jsonl"))
    (tmp_path / "text.sqlite").write_text("no database, this is text of some length" * 9)
    with pytest.raises(DataError, match="not a usable ledger"):
        Ledger(tmp_path / "text.sqlite")
    with pytest.raises(DataError, match="there is no such recording"):
        Ledger(tmp_path / "l.sqlite", recordings=[tmp_path / "gone.jsonl"])


def test_a_ledger_of_a_newer_version_is_refused(tmp_path, ledger):
    with ledger.transaction() as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(DataError, match="newer tapir"):
        Ledger(ledger.path)


texts = st.text(st.characters(codec="utf-8"), max_size=30)
replies = st.builds(
    Reply,
    text=texts,
    reasoning=texts,
    finish_reason=st.sampled_from(["stop", "length"]),
    prompt_tokens=st.integers(0, 9),
    completion_tokens=st.integers(0, 9),
    logprobs=st.lists(
        st.builds(TokenLogprob, texts, st.floats(-9, 0), st.lists(st.tuples(texts, st.floats(-9, 0))).map(tuple)),
        max_size=2,
    ).map(tuple),
    problem=st.none() | st.just("empty"),
    usage_known=st.booleans(),
)


@given(replies)
def test_a_reply_survives_being_written_down(reply):
    assert records.read_reply(records.loads(records.dumps(records.reply_record(reply)))) == reply


@given(st.text(st.characters(exclude_categories=()), max_size=10))
def test_a_request_survives_being_written_down_half_surrogates_included(text):
    sampling = Sampling(0.5, 0.9, 7, ("a",), 3, '{"x":1}', '{"y":2}')
    request = Request((Message("user", text),), sampling, sample=2, prefill="[[", row="r1")
    assert records.read_request(records.loads(records.dumps(records.request_record(request)))) == request


def test_the_ledger_opens_without_heavy_imports():
    heavy = ("pydantic", "aiohttp", "torch")
    program = f"import sys, tapir.models.ledger; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def of_the_first_form(path: Path) -> Path:
    with Ledger(path) as ledger:
        ledger.put([entry()])
        with ledger.transaction() as db:
            db.execute("ALTER TABLE batch_jobs DROP COLUMN run")
            db.execute("PRAGMA user_version = 1")
    return path


def test_a_ledger_of_the_first_form_is_read_as_it_is_where_nothing_may_be_written(tmp_path):
    path = of_the_first_form(tmp_path / "theirs.sqlite")
    before = path.read_bytes()
    with Ledger(path, replay=True) as replay:
        assert replay.get(entry().address).text == "hello"
    with Ledger(tmp_path / "own.sqlite", recordings=[path]) as ledger:
        assert ledger.get(entry().address).replayed
        assert import_(ledger, path) == 1
    assert path.read_bytes() == before


def test_a_replay_makes_no_ledger_of_another_file(tmp_path):
    empty, other = tmp_path / "empty.sqlite", tmp_path / "other.sqlite"
    empty.touch()
    with closing(sqlite3.connect(other)) as db:
        db.execute("CREATE TABLE calls(number TEXT)")
    before = other.read_bytes()
    with Ledger(empty, replay=True) as replay:
        assert replay.get(entry().address) is None
    with pytest.raises(DataError, match="no ledger"):
        Ledger(other, replay=True)
    assert (empty.read_bytes(), other.read_bytes()) == (b"", before)


def test_a_ledger_of_the_first_form_is_brought_up_to_date_with_all_its_calls(tmp_path):
    path = of_the_first_form(tmp_path / "old.sqlite")
    for _ in range(2):
        with Ledger(path) as ledger:
            ledger.open_job("job", "m", ["a"], run="r")
            assert ledger.open_jobs("m", run="r") == {"job": frozenset({"a"})}
            assert ledger.get(entry().address).text == "hello"


def test_jobs_are_told_apart_by_run(ledger):
    ledger.open_job("one", "m", ["a"], run="r")
    ledger.open_job("two", "m", ["b"], run="s")
    assert set(ledger.open_jobs("m")) == {"one", "two"}
    assert set(ledger.open_jobs("m", run="s")) == {"two"}
