"""What runs first inside the sandbox's namespaces: a root of its own, a scratch disk, limits, no privileges.

Run as a script, with the program on standard input: `inside.py ROOT PYTHON_HOME`. Standard library only.
Any step that fails ends it: a sandbox half built runs nothing.
"""

from __future__ import annotations

import ctypes
import os
import resource
import struct
import sys

CPU_S = 5
MEMORY_BYTES = 512 << 20
FILE_BYTES = 1 << 20
DISK = b"size=16m,nr_inodes=256,mode=755"
SCRATCH = "/tmp"
PROCESSES = 16
OPEN_FILES = 64
SOMEBODY = 0x6000_0000
"""User ids from here on belong to nobody: the number of processes is limited for each user apart."""
SHOWN = (
    "/bin", "/lib", "/lib64", "/usr/bin", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/share/zoneinfo",
    "/nix/store", "/etc/ld.so.cache", "/dev/null", "/dev/zero", "/dev/urandom",
)  # fmt: skip
"""What the program finds of this machine, beside its interpreter: programs and libraries, no place for sockets."""

_MOUNT_SETATTR, _AT_FDCWD, _AT_RECURSIVE, _RDONLY, _NOSUID = 442, -100, 0x8000, 1, 2
_MS_NOSUID, _MS_NODEV, _MS_BIND, _MS_REC = 2, 4, 4096, 16384
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 24, 38, 22, 2
_MACHINES = {"x86_64": (0xC000_003E, 41), "aarch64": (0xC000_00B7, 198)}
"""The kernel's name for a machine's system calls, and the number of `socket` among them."""
_IO_URING_SETUP, _OTHER_NUMBERS = 425, 0x4000_0000
"""The way around system calls, and from where on x86_64 has a second set of them."""

_libc = ctypes.CDLL(None, use_errno=True)


def main(root: str, home: str) -> None:
    source = sys.stdin.buffer.read()
    os.umask(0o022)
    _freeze()
    _call("mount the scratch disk", _libc.mount(b"tmpfs", root.encode(), b"tmpfs", _MS_NOSUID | _MS_NODEV, DISK))
    for path in (*SHOWN, *(os.path.join(home, name) for name in ("bin", "lib", "lib64"))):
        _show(path, root)
    program = os.path.join(SCRATCH, "program.py")
    # It is there where the interpreter lies below it.
    os.makedirs(root + SCRATCH, exist_ok=True)
    os.chmod(root + SCRATCH, 0o1777)
    with open(root + program, "wb") as file:
        file.write(source)
    # The namespace's first process stays this one: it keeps the privileges without which nobody can take from it the
    # signal that ends it with its parent, and with it the kernel ends every other process here.
    if child := os.fork():
        _, status = os.waitpid(child, 0)
        os._exit(0 if status == 0 else 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    _limit()
    _drop_privileges(root)
    python = os.path.join(home, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}")
    os.execve(python, [python, "-I", "-S", program], {"HOME": SCRATCH, "TMPDIR": SCRATCH, "PATH": os.defpath})


def _freeze() -> None:
    """Nothing outside the scratch disk can be written."""
    attributes = (ctypes.c_uint64 * 4)(_RDONLY | _NOSUID, 0, 0, 0)
    done = _libc.syscall(_MOUNT_SETATTR, _AT_FDCWD, b"/", _AT_RECURSIVE, ctypes.byref(attributes), 32)
    _call("make files read-only", done)


def _show(path: str, root: str) -> None:
    """A file or folder of this machine at its own place below the new root, where somebody without rights can reach
    it too (the interpreter may lie in root's own folder)."""
    place = root + path
    if not os.path.exists(path) or os.path.exists(place):
        return
    os.makedirs(os.path.dirname(place), exist_ok=True)
    if os.path.isdir(path):
        os.mkdir(place)
    else:
        open(place, "wb").close()
    _call(f"show {path}", _libc.mount(path.encode(), place.encode(), None, _MS_BIND | _MS_REC, None))


def _limit() -> None:
    for what, most in (
        (resource.RLIMIT_CPU, CPU_S),
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, FILE_BYTES),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_NPROC, PROCESSES),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))


def _drop_privileges(root: str) -> None:
    """Into the new root, with no capability that survives the exec: otherwise the program could undo all of this."""
    with open("/proc/sys/kernel/cap_last_cap", encoding="ascii") as file:
        last = int(file.read())
    with open("/proc/self/uid_map", encoding="ascii") as file:
        is_real_root = file.read().split() == ["0", "0", "4294967295"]
    for capability in range(last + 1):
        _call("drop capabilities", _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0))
    os.chroot(root)
    os.chdir(SCRATCH)
    if is_real_root:
        somebody = SOMEBODY + int.from_bytes(os.urandom(3), "big")
        os.setgroups([])
        os.setresgid(somebody, somebody, somebody)
        os.setresuid(somebody, somebody, somebody)
    _call("refuse new privileges", _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _refuse_sockets()


def _refuse_sockets() -> None:
    """Let the kernel refuse every new socket: some kinds, such as those to a virtual machine's host, are of no network
    namespace. On a machine whose calls are not known here this fails, and nothing runs."""
    machine, socket = _MACHINES[os.uname().machine]
    load, equal, at_least, end = 0x20, 0x15, 0x35, 0x06
    allow, refuse, kill = 0x7FFF_0000, 0x0005_0001, 0x8000_0000
    # (code, lines to skip if so, if not, operand); of what is looked at, the number is at 0 and the machine at 4.
    program = (
        (load, 0, 0, 4),
        (equal, 1, 0, machine),
        (end, 0, 0, kill),
        (load, 0, 0, 0),
        (at_least, 3, 0, _OTHER_NUMBERS),
        (equal, 2, 0, socket),
        (equal, 1, 0, _IO_URING_SETUP),
        (end, 0, 0, allow),
        (end, 0, 0, refuse),
    )
    lines = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in program))
    header = struct.pack("@HP", len(program), ctypes.addressof(lines))
    _call("refuse sockets", _libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, header, 0, 0))


def _call(what: str, result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), f"could not {what}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
