"""Programs in the sandbox: what they print comes back, and nothing they do reaches outside."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tapir import sandbox
from tapir.curriculum.checks import ProgramRun, parse_check, score_check

isolated = pytest.mark.skipif(not sandbox.is_available(), reason="this machine cannot isolate programs")


def test_without_isolation_nothing_is_run_and_the_check_is_skipped(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sandbox, "is_available", lambda: False)
    assert sandbox.run_program("python", "print(1)").skipped == "no_sandbox"
    check = parse_check('{"kind": "program", "call": "f(3)", "output": "6"}')
    assert score_check(check, "def f(x): return 2 * x", sandbox.run_program).skipped == "no_sandbox"


def test_another_language_is_skipped():
    assert sandbox.run_program("perl", "print 1").skipped == "language_not_supported"


@isolated
def test_what_is_printed_comes_back_and_an_error_is_not_ok():
    ran = sandbox.run_program("python", "import json, math\nprint(json.dumps([math.floor(6.5)]))")
    assert (ran.stdout, ran.ok, ran.skipped) == ("[6]\n", True, None)
    assert not sandbox.run_program("python", "1 / 0").ok


@isolated
def test_a_program_check_passes_and_fails_by_output():
    check = parse_check('{"kind": "program", "call": "f(3)", "output": "6"}')
    assert score_check(check, "```python\ndef f(x):\n    return 2 * x\n```", sandbox.run_program).passed
    assert not score_check(check, "```python\ndef f(x):\n    return x\n```", sandbox.run_program).passed


@isolated
def test_files_outside_cannot_be_written(tmp_path: Path):
    tmp_path.chmod(0o777)
    target = tmp_path / "owned"
    assert not sandbox.run_program("python", f"open({str(target)!r}, 'w').write('x')").ok
    assert not target.exists()


@isolated
def test_no_socket_and_no_file_outside_is_seen():
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, socket.socket(socket.AF_UNIX) as listener:
        Path(folder).chmod(0o755)
        listener.bind(f"{folder}/s")
        listener.listen()
        Path(folder, "s").chmod(0o666)
        source = f"import socket; socket.socket(socket.AF_UNIX).connect({folder + '/s'!r}); print('reached')"
        assert sandbox.run_program("python", source) == ProgramRun("", ok=False)
    seen = sandbox.run_program("python", "import os; print(*os.listdir('/tmp'), *os.listdir('/'))").stdout.split()
    assert {"program.py", "usr"} <= set(seen)
    assert not {"proc", "run", "sys", "var"} & set(seen)


@isolated
def test_a_fence_that_lets_a_socket_through_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    script = tmp_path / "no_fence.py"
    script.write_text("import sys\nexec(sys.stdin.read())\n")
    monkeypatch.setattr(sandbox, "INSIDE", script)
    assert "sockets" in sandbox._reached()
    assert not sandbox.is_available.__wrapped__()


@isolated
def test_after_its_time_nothing_of_a_program_is_left():
    name = f"tapir-{os.getpid()}"
    # It does what it can to outlive its parent: no signal with the parent's end, a session and a child of its own.
    source = (
        "import ctypes, os, time\nlibc = ctypes.CDLL(None)\n"
        f"libc.prctl(15, b{name!r}, 0, 0, 0)\nlibc.prctl(1, 0, 0, 0, 0)\nif not os.fork():\n    os.setsid()\n"
        "time.sleep(600)"
    )
    assert sandbox._run(source, 2.0) == ProgramRun(ok=False)
    until = time.monotonic() + 30
    while _named(name) and time.monotonic() < until:
        time.sleep(0.01)
    left = _named(name)
    for process in left:
        os.kill(process, signal.SIGKILL)
    assert not left


def _named(name: str) -> list[int]:
    found: list[int] = []
    for path in Path("/proc").glob("[0-9]*/comm"):
        try:
            if path.read_text().strip() == name:
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


@isolated
@pytest.mark.parametrize(
    "source",
    [
        "import socket; socket.create_connection(('127.0.0.1', 22), timeout=1)",
        "import socket; socket.getaddrinfo('example.com', 80)",
        "import socket; socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)",
        "x = bytearray(2 << 30)",
        "open('big', 'wb').write(bytes(8 << 20))",
        "[open('program.py') for _ in range(500)]",
        "while True: pass",
        "import ctypes, os; r = ctypes.CDLL(None).mount(b'none', b'/', None, 32 | 4096, None); os._exit(1 if r else 0)",
    ],
)
def test_network_memory_files_time_and_mounts_are_out_of_reach(source: str):
    assert not sandbox.run_program("python", source).ok


@isolated
def test_an_event_loop_runs_without_a_socket():
    source = "import asyncio\nasync def f():\n    await asyncio.sleep(0)\n    return 6\nprint(asyncio.run(f()))"
    assert sandbox.run_program("python", source) == ProgramRun("6\n", ok=True)


@isolated
def test_the_number_of_processes_is_limited():
    source = (
        "import os, time\nmade = []\ntry:\n    for _ in range(100):\n        child = os.fork()\n"
        "        if not child:\n            time.sleep(3); os._exit(0)\n        made.append(child)\n"
        "except OSError:\n    pass\nprint(len(made) < 50)\n[os.kill(c, 9) for c in made]"
    )
    assert sandbox.run_program("python", source).stdout == "True\n"


@isolated
def test_no_secret_of_the_environment_is_seen(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TEACHER_KEY", "secret")
    assert "secret" not in sandbox.run_program("python", "import os; print(os.environ)").stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_an_ordinary_user_gets_the_same_fence_or_nothing_is_run():
    """As nobody: either user namespaces isolate the program, or it is not run at all."""
    code = """
from tapir import sandbox
from tapir.curriculum.checks import ProgramRun
ran = sandbox.run_program("python", "import os; print('ran', os.getuid())")
tried = sandbox.run_program("python", "import socket; socket.create_connection(('127.0.0.1', 9), timeout=1)")
assert ran.skipped == tried.skipped, (ran, tried)
assert (ran.skipped == "no_sandbox") if not sandbox.is_available() else (ran.ok and not tried.ok), (ran, tried)
print("fenced" if sandbox.is_available() else "not run")
"""
    environment = {"PATH": os.defpath, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "HOME": "/"}
    command = [sys.executable, "-c", code]
    try:
        done = subprocess.run(
            command, user=65534, group=65534, extra_groups=[], cwd="/", env=environment, capture_output=True, text=True
        )
    except PermissionError:
        pytest.skip("an ordinary user may not start this Python")
    if "Permission denied" in done.stderr or "No module named" in done.stderr:
        pytest.skip("an ordinary user cannot read this Python's packages or this checkout")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in ("fenced", "not run")
