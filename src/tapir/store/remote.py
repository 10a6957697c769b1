"""Finished steps on another file system: copied there when done, receipt last, and read back by a fresh machine.

Any file system that fsspec speaks (`s3://`, `gs://`, `file://` …), which also finds the credentials. The ledger and
live checkpoints stay on local disk: one is a database, whose calls `store.calls` copies, the others change while they
are read.
"""

from __future__ import annotations

import importlib.util
import json
import os
import posixpath
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from tapir.errors import DataError, MissingExtra
from tapir.store.rundir import Step
from tapir.store.tables import sync

LINK = "student.json"
"""A step's folder that only names weights on this machine (a student taken as it is); elsewhere it is made anew."""
KEYS = "calls"
"""Ending of the file that keeps a step's ledger keys in the store; in a run they lie together, in `calls.txt`."""

Note = Callable[[Iterable[str]], None]


class RemoteStore:
    """The steps of one run under a URL; `run` is its place there: its name, or in an ablation `NAME/rows/…`."""

    def __init__(self, url: str, run: str) -> None:
        # Comes with every extra that can need it; the core does without.
        if importlib.util.find_spec("fsspec") is None:
            raise MissingExtra("store needs fsspec: pip install 'tapir-distill[s3]', or fsspec and your file system's")
        import fsspec

        options: dict[str, Any] = {"skip_instance_cache": True, "use_listings_cache": False}
        try:
            found: tuple[Any, Any] = fsspec.core.url_to_fs(url.rstrip("/"), **options)
        except ImportError as error:
            raise MissingExtra(f"store: {error}; for s3 that is pip install 'tapir-distill[s3]'") from error
        except ValueError as error:
            raise DataError(f"store: {url!r} is not a URL that fsspec knows ({error})") from error
        self._files, self._base = found
        self._failures = _failures()
        self._url, self._root = url, f"{self._base}/{run}"

    def save(self, step: Step, keys: Iterable[str] = ()) -> None:
        """Copy a finished step and the ledger keys that it used, unless the store holds it already."""
        held = self._receipt(self._root, step)
        if _travels(step) and (held is None or held["fingerprint"] != step.fingerprint):
            self.replace(step, keys)

    def replace(self, step: Step, keys: Iterable[str] = ()) -> None:
        """Copy a finished step in place of whatever the store holds of it.

        Of a step that was taken over from another run of the store only the receipt is copied, which names that run:
        every arm of an ablation has the same student_0.
        """
        lent = self._lender(step, step.receipt()) is not None
        try:
            for name in self._names(self._root, step):
                self._files.rm_file(f"{self._root}/{name}")
            if not lent:
                self._put_keys(step, keys)
            # What is not named last is not there: the receipt tells a reader that all the rest is.
            for path in [*(() if lent else _files(step)), step.receipt_path]:
                self._files.put_file(str(path), self._made(self._remote(self._root, step, path)))
        except self._failures as error:
            raise DataError(
                f"store: {step.place} cannot be written to {self._url} ({error}); run again to go on"
            ) from error

    def _put_keys(self, step: Step, keys: Iterable[str]) -> None:
        with self._files.open(self._made(f"{self._root}/{step.place}.{KEYS}"), "wb") as file:
            file.writelines(f"{key}\n".encode() for key in keys)

    def _made(self, target: str) -> str:
        """The place, in a folder that is there: object stores have none and take this for nothing."""
        self._files.makedirs(target.rpartition("/")[0], exist_ok=True)
        return target

    def put(self, path: Path, name: str) -> None:
        """Copy a file to this place of the store, where it appears whole or not at all."""
        target = self._made(f"{self._base}/{name}")
        try:
            self._files.put_file(str(path), f"{target}.partial")
            self._files.mv(f"{target}.partial", target)
        except self._failures as error:
            raise DataError(f"store: {name} cannot be written to {self._url} ({error}); run again to go on") from error

    def names_in(self, folder: str) -> list[str]:
        """Names of the files at this place of the store."""
        try:
            found: list[str] = self._files.find(f"{self._base}/{folder}")
        except FileNotFoundError:
            return []
        except self._failures as error:
            raise self._unreachable(error) from error
        return sorted(path.rpartition("/")[2] for path in found)

    def fetch(self, name: str, target: Path) -> None:
        """Bring a file of this place of the store."""
        self._fetch(f"{self._base}/{name}", target)

    def receipt(self, step: Step) -> dict[str, Any] | None:
        """What the store has been told of a step, whatever recipe it was finished by."""
        return self._receipt(self._root, step)

    def load(self, step: Step, note: Note = lambda keys: None) -> bool:
        """Bring a step that was finished elsewhere with this fingerprint; False if the store has none.

        `note` gets the ledger keys that it used, before its receipt is here; not of steps that were stored without.
        """
        held = self._receipt(self._root, step)
        if held is None or held["fingerprint"] != step.fingerprint:
            return False
        home, names = self._root, self._names(self._root, step)
        if len(names) == 1 and "shared_with" in held and "weights_deleted" not in held:
            lender = self._lender(step, held)
            if lender is None:
                return False
            home, names = lender, self._names(lender, step)
        step.clear()
        keys = f"{step.place}.{KEYS}"
        for name in names:
            if name != keys and step.root / name != step.receipt_path:
                self._fetch(f"{home}/{name}", step.root / name)
        if keys in names:
            note(self._keys(f"{home}/{keys}"))
        self._fetch(self._remote(self._root, step, step.receipt_path), step.receipt_path)
        return True

    def _keys(self, source: str) -> Iterator[str]:
        try:
            with self._files.open(source, "rb") as lines:
                yield from (line.decode().rstrip("\n") for line in lines)
        except self._failures as error:
            raise self._unread(source, error) from error

    def _fetch(self, source: str, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
        try:
            self._files.get_file(source, str(partial))
        except self._failures as error:
            partial.unlink(missing_ok=True)
            raise self._unread(source, error) from error
        sync(partial)
        os.replace(partial, target)

    def _unread(self, source: str, error: Exception) -> DataError:
        return DataError(f"store: {source} cannot be read from {self._url} ({error}); run again")

    def _lender(self, step: Step, receipt: dict[str, Any] | None) -> str | None:
        """The place of the run that a step was taken over from, where the store holds the step whole."""
        if receipt is None or "shared_with" not in receipt:
            return None
        home = posixpath.normpath(f"{self._root}/{receipt['shared_with']}")
        if not home.startswith(f"{self._base}/"):
            return None
        found = self._receipt(home, step)
        if found is None or found["fingerprint"] != receipt["fingerprint"]:
            return None
        return None if {"shared_with", "weights_deleted"} & set(found) else home

    def _receipt(self, home: str, step: Step) -> dict[str, Any] | None:
        """The receipt that the store has of this step of the run at `home`.

        One that cannot be read is none: it is written last, so what was cut off there is a step that never got whole.
        """
        try:
            raw: bytes = self._files.cat_file(self._remote(home, step, step.receipt_path))
            found = json.loads(raw)
        except (FileNotFoundError, ValueError):
            return None
        except self._failures as error:
            raise self._unreachable(error) from error
        return found if isinstance(found, dict) and "fingerprint" in found else None

    def _unreachable(self, error: Exception) -> DataError:
        return DataError(f"store: {self._url} cannot be reached ({error}); run again, or without store")

    def _names(self, home: str, step: Step) -> list[str]:
        """The step's files of the run at `home`, by their place under the run; the receipt first."""
        folder, _, base = step.place.rpartition("/")
        try:
            found: list[str] = self._files.find(f"{home}/{folder}")
        except self._failures as error:
            raise self._unreachable(error) from error
        names = [path[path.index(f"{home.strip('/')}/") + len(home.strip("/")) + 1 :] for path in found]
        own = [name for name in names if name.startswith((f"{folder}/{base}.", f"{folder}/{base}/"))]
        return sorted(own, key=lambda name: not name.endswith(".receipt.json"))

    def _remote(self, home: str, step: Step, path: Path) -> str:
        return f"{home}/{path.relative_to(step.root).as_posix()}"


def _failures() -> tuple[type[Exception], ...]:
    """What a file system raises when it fails; S3's client has an error of its own beside the usual one."""
    if importlib.util.find_spec("botocore") is None:
        return (OSError,)
    from botocore.exceptions import BotoCoreError

    return OSError, BotoCoreError


def _travels(step: Step) -> bool:
    return not (step.folder / LINK).exists()


def _files(step: Step) -> list[Path]:
    """Tables, logs and the checkpoint of a step; hidden ones are conversions, which each machine makes for itself."""
    base = step.folder
    beside = [p for p in base.parent.glob(f"{base.name}.*") if p.is_file() and p != step.receipt_path]
    inside = [p for p in base.rglob("*") if p.is_file()] if base.is_dir() else []
    return sorted(p for p in [*beside, *inside] if not any(x.startswith(".") for x in p.relative_to(base.parent).parts))
