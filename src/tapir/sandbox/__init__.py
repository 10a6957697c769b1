"""Running a program that a model wrote: no network, nothing to write to but a small scratch disk, and hard limits.

Owns the decision whether this machine can isolate a program at all; where it cannot, nothing is run. Linux
namespaces (network, mounts, processes) do the isolating, `inside.py` sets it up from within. Of files the program sees
its interpreter and the system's programs and libraries, and it can make no socket. The kernel is shared: it is a fence
against accidents and mischief by generated code, not a vault.
"""

from __future__ import annotations

import functools
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from tapir.curriculum.checks import ProgramRun

WALL_S = 10.0
MAX_OUTPUT_BYTES = 1 << 20
INSIDE = Path(__file__).with_name("inside.py")

_PROBE = """
import os, socket, sys
try:
    socket.create_connection(("127.0.0.1", 9), timeout=1)
    print("network")
except ConnectionRefusedError:
    print("network")
except OSError:
    pass
try:
    socket.socket(socket.AF_UNIX).connect(os.path.join(outside, "socket"))
    print("sockets")
except OSError:
    pass
try:
    socket.socket()
    print("sockets")
except OSError:
    pass
for folder in (outside, os.path.join(sys.base_prefix, "lib")):
    try:
        open(os.path.join(folder, "tapir-probe"), "w").close()
        print("files")
    except OSError:
        pass
children = []
try:
    for _ in range(64):
        child = os.fork()
        if not child:
            os.read(0, 1); import time; time.sleep(5); os._exit(0)
        children.append(child)
    print("processes")
except OSError:
    pass
for child in children:
    os.kill(child, 9)
print("ready")
"""
"""Prints what it could reach, then `ready`. `outside` is a folder open to all, with a socket that listens."""


def run_program(language: str, source: str) -> ProgramRun:
    """Run a program in the sandbox; `skipped` says why it was not run. Never raises for what the source does."""
    if language != "python":
        return ProgramRun(skipped="language_not_supported")
    if not is_available():
        return ProgramRun(skipped="no_sandbox")
    return _run(source, WALL_S)


@functools.cache
def is_available() -> bool:
    """Whether a program here is cut off from network, files and further processes: tried out once, not assumed."""
    if not sys.platform.startswith("linux") or shutil.which("unshare") is None:
        return False
    try:
        return _reached() == ["ready"]
    except OSError:
        # No place for the try, or for a socket in it: then there is none for a program either.
        return False


def _reached() -> list[str]:
    # The path of a socket must be short.
    place = min(("/tmp", tempfile.gettempdir()), key=lambda folder: (not os.access(folder, os.W_OK), len(folder)))
    with (
        tempfile.TemporaryDirectory(prefix="tapir-probe-", dir=place) as outside,
        socket.socket(socket.AF_UNIX) as listener,
    ):
        listener.bind(f"{outside}/socket")
        listener.listen()
        os.chmod(f"{outside}/socket", 0o777)
        os.chmod(outside, 0o777)
        return _run(f"outside = {outside!r}\n{_PROBE}", WALL_S).stdout.split()


def _run(source: str, wall_s: float) -> ProgramRun:
    with tempfile.TemporaryDirectory(prefix="tapir-sandbox-") as scratch, tempfile.TemporaryFile() as printed:
        command = [*_isolation(), sys.executable, "-I", "-S", str(INSIDE), scratch, sys.base_prefix]
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=printed,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={"PATH": os.defpath},
            start_new_session=True,
        )
        try:
            process.communicate(source.encode("utf-8", "replace"), timeout=wall_s)
        except subprocess.TimeoutExpired:
            return ProgramRun(ok=False)
        finally:
            # `--kill-child` takes the namespace's first process along, and the kernel every other one in it.
            process.kill()
            process.wait()
        printed.seek(0)
        text = printed.read(MAX_OUTPUT_BYTES).decode("utf-8", "replace")
        return ProgramRun(text, ok=process.returncode == 0)


def _isolation() -> list[str]:
    """Fresh namespaces. An ordinary user needs a user namespace for the others; root does not, and limits on the
    number of processes hold for it only once `inside.py` has become somebody else."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return ["unshare", *user, "--net", "--mount", "--ipc", "--pid", "--fork", "--kill-child", "--"]
