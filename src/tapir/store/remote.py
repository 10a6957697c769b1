"""Finished steps on another file system: copied there when done, receipt last, and read back by a fresh machine.

Any file system that fsspec speaks (`s3://`, `gs://`, `file://` …), which also finds the credentials. The ledger and
live checkpoints stay on local disk: one is a database, the others change while they are read.
"""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from typing import Any

from tapir.errors import DataError, MissingExtra
from tapir.store.rundir import Step

LINK = "student.json"
"""A step's folder that only names weights on this machine (a student taken as it is); elsewhere it is made anew."""


class RemoteStore:
    """The steps of one run under a URL."""

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
        self._files, base = found
        self._failures = _failures()
        self._url, self._root = url, f"{base}/{run}"

    def save(self, step: Step) -> None:
        """Copy a finished step, unless the store holds it already."""
        if not _travels(step) or self._fingerprint(step) == step.fingerprint:
            return
        try:
            for name in self._names(step):
                self._files.rm_file(f"{self._root}/{name}")
            # What is not named last is not there: the receipt tells a reader that all the rest is.
            for path in [*_files(step), step.receipt_path]:
                target = self._remote(step, path)
                # Object stores have no folders and take this for nothing; other file systems need them.
                self._files.makedirs(target.rpartition("/")[0], exist_ok=True)
                self._files.put_file(str(path), target)
        except self._failures as error:
            raise DataError(
                f"store: {step.place} cannot be written to {self._url} ({error}); run again to go on"
            ) from error

    def load(self, step: Step) -> bool:
        """Bring a step that was finished elsewhere with this fingerprint; False if the store has none."""
        if self._fingerprint(step) != step.fingerprint:
            return False
        step.clear()
        names = sorted(self._names(step), key=lambda name: name.endswith(".receipt.json"))
        for name in names:
            target = step.root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
            try:
                self._files.get_file(f"{self._root}/{name}", str(partial))
            except self._failures as error:
                partial.unlink(missing_ok=True)
                raise DataError(f"store: {name} cannot be read from {self._url} ({error}); run again") from error
            os.replace(partial, target)
        return True

    def _fingerprint(self, step: Step) -> str | None:
        """The fingerprint in the store's receipt of this step."""
        try:
            raw: bytes = self._files.cat_file(self._remote(step, step.receipt_path))
        except FileNotFoundError:
            return None
        except self._failures as error:
            raise DataError(f"store: {self._url} cannot be reached ({error}); run again, or without store") from error
        return json.loads(raw)["fingerprint"]

    def _names(self, step: Step) -> list[str]:
        """The step's files there, by their place under the run; the receipt first."""
        folder, _, base = step.place.rpartition("/")
        found: list[str] = self._files.find(f"{self._root}/{folder}")
        names = [path[path.index(f"{self._root.strip('/')}/") + len(self._root.strip("/")) + 1 :] for path in found]
        own = [name for name in names if name.startswith((f"{folder}/{base}.", f"{folder}/{base}/"))]
        return sorted(own, key=lambda name: not name.endswith(".receipt.json"))

    def _remote(self, step: Step, path: Path) -> str:
        return f"{self._root}/{path.relative_to(step.root).as_posix()}"


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
