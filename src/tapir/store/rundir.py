"""One run on disk: which steps are done and still valid, one writer at a time.

A step is skipped only if its fingerprint (its part of the recipe, its stage version, the fingerprints of the steps it
read and the hashes of outside files) is the one in its receipt. What a step does is `tapir.stages`' business.
"""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import json
import os
import secrets
import shutil
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, cast

from tapir.config import parse_recipe, read_yaml
from tapir.errors import DataError, RecipeError, RunBusy
from tapir.store.tables import Row, appending, read_rows, sync, write_rows
from tapir.types import Receipt, canonical_json

State = Literal["done", "stale", "missing"]


def fingerprint(*parts: Any) -> str:
    """16 hex digits for plain data."""
    return hashlib.sha256(canonical_json(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def file_hash(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True, slots=True)
class Step:
    """One numbered step of a run, for instance `round_0/05_verdicts`."""

    root: Path
    place: str
    fingerprint: str

    @property
    def stage(self) -> str:
        return self.place.split("/")[-1].split("_", 1)[1]

    def table(self, name: str | None = None) -> Path:
        """Path of the step's table; a step with several tables names them."""
        base = self.root / self.place
        return base.with_suffix(".parquet") if name is None else base.with_name(f"{base.name}.{name}.parquet")

    @property
    def folder(self) -> Path:
        """Path of the step's folder, for steps that make checkpoints."""
        return self.root / self.place

    @property
    def receipt_path(self) -> Path:
        base = self.root / self.place
        return base.with_name(f"{base.name}.receipt.json")

    def receipt(self) -> dict[str, Any] | None:
        """The finished step's receipt, or None."""
        return _read_receipt(self.receipt_path)

    @property
    def state(self) -> State:
        found = self.receipt()
        if found is None:
            return "missing"
        return "done" if found["fingerprint"] == self.fingerprint else "stale"

    def clear(self) -> None:
        """Make room for this recipe's work: leftovers of a try go, and what an earlier recipe finished is set aside.

        The new work may fail at its first row, and the old may be a day of training. It goes with `forget_aside`.
        """
        # A training that was killed goes on from its checkpoints, which check for themselves; its log is cut back to
        # them by whoever goes on. The log of a finished one is not theirs.
        resumable = self._checkpoints.exists() and self.receipt() is None
        if self.receipt() is not None:
            self._set_aside()
        self.receipt_path.unlink(missing_ok=True)
        for path in self._files():
            if resumable and path.name == f"{self.folder.name}.log.jsonl":
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def take_back(self) -> bool:
        """Put back what was set aside, if the recipe is again the one that it was made by and nothing came of another.

        Like `borrow`: the receipt comes last, and until then all is still aside. What another recipe has trained so
        far goes, as it does when a training of this one begins.
        """
        receipt = self._aside / self.receipt_path.name
        found = self.receipt_aside()
        if found is None or found["fingerprint"] != self.fingerprint or self.receipt() is not None:
            return False
        if self._checkpoints.exists():
            shutil.rmtree(self._checkpoints)
        self.clear()
        for path in self._aside.iterdir():
            if path != receipt:
                _link(path, self.folder.with_name(path.name))
        _link(receipt, self.receipt_path)
        self.forget_aside()
        return True

    def receipt_aside(self) -> dict[str, Any] | None:
        """The receipt of what was set aside, or None."""
        return _read_receipt(self._aside / self.receipt_path.name)

    def forget_aside(self) -> None:
        """Delete what was set aside, now that this step is finished."""
        # The receipt goes first: what was half deleted is not to be put back.
        (self._aside / self.receipt_path.name).unlink(missing_ok=True)
        if self._aside.exists():
            shutil.rmtree(self._aside)

    @property
    def _checkpoints(self) -> Path:
        """Where an unfinished training keeps them."""
        return self.folder.with_name(f".{self.folder.name}.training")

    @property
    def _aside(self) -> Path:
        return self.folder.with_name(f".{self.folder.name}.aside")

    def _set_aside(self) -> None:
        """All at once, whenever the process may be killed: the folder gets its name when everything is in it."""
        partial = self._aside.with_suffix(".partial")
        if partial.exists():
            shutil.rmtree(partial)
        for path in self._files():
            _link(path, partial / path.name)
        self.forget_aside()
        partial.rename(self._aside)

    def _files(self) -> list[Path]:
        """Everything that the step has written: its tables, folder, log and receipt."""
        return sorted(self.folder.parent.glob(f"{self.folder.name}*"))

    def borrow(self, lender: RunDir) -> bool:
        """Take this step's files over from another run that has done the very same; False if it has not.

        Equal fingerprints are equal rows, so hard links do: nothing here changes a file in place. The receipt comes
        last, and says whose work it was.
        """
        other = Step(lender.root, self.place, self.fingerprint)
        receipt = other.receipt()
        if receipt is None or other.state != "done" or "weights_deleted" in receipt:
            return False
        base = lender.root / self.place
        try:
            for path in sorted(base.parent.glob(f"{base.name}*")):
                if path != other.receipt_path:
                    _link(path, self.root / path.relative_to(lender.root))
        except (FileNotFoundError, shutil.Error):
            # The lender, another process perhaps, is just deleting weights that it needs no more.
            self.clear()
            return False
        # Where the lender had it from somebody else, that one is named: by the way from here.
        owner = os.path.normpath(lender.root / receipt.get("shared_with", "."))
        write_json(self.receipt_path, {**receipt, "shared_with": os.path.relpath(owner, self.root)})
        return True

    def write(self, row_type: type[Row], rows: Iterable[Row], name: str | None = None) -> int:
        return write_rows(self.table(name), row_type, rows)

    def appending(self, row_type: type[Row], name: str | None = None) -> AbstractContextManager[Callable[[Row], None]]:
        """A table to which rows are added one by one."""
        return appending(self.table(name), row_type)

    def read(self, row_type: type[Row], name: str | None = None) -> Iterator[Row]:
        return read_rows(self.table(name), row_type)

    def finish(self, receipt: Receipt) -> None:
        """Write the receipt, last of all: from now on the step is done."""
        receipt.check()
        write_json(self.receipt_path, {**as_plain(receipt), "fingerprint": self.fingerprint})


def _link(source: Path, target: Path) -> None:
    """A hard link to a file or to a whole folder's files; a copy where the file system has none."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, copy_function=lambda a, b: _link(Path(a), Path(b)))
        return
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _read_receipt(path: Path) -> dict[str, Any] | None:
    """A receipt appears whole or not at all, so a broken one is damage, and no leave to do paid work again."""
    remedy = "put a copy of it back, or remove it and `tapir run` does this step again"
    try:
        found = _read_object(path, remedy)
    except FileNotFoundError:
        return None
    if "fingerprint" not in found:
        raise DataError(f"{path}: no receipt of a step; {remedy}")
    return found


def _read_object(path: Path, remedy: str) -> dict[str, Any]:
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: cannot be read ({error}); {remedy}") from None
    if not isinstance(found, dict):
        raise DataError(f"{path}: no JSON object; {remedy}")
    return cast("dict[str, Any]", found)


def as_plain(receipt: Receipt) -> dict[str, Any]:
    plain = dataclasses.asdict(receipt)
    plain["dropped"] = dict(sorted(Counter(receipt.dropped).items()))
    return plain


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    write_lines(path, (text,))


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """The same from pieces that need not be in memory together; they may come from the file's old content."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("w", encoding="utf-8") as file:
            file.writelines(lines)
        sync(partial)
        os.replace(partial, path)
    except OSError as error:
        if partial.exists():
            partial.unlink()
        raise DataError(
            f"{path}: cannot be written ({error.strerror}); name another place, or look at the disk and its rights"
        ) from None


@dataclass(frozen=True, slots=True)
class RunDir:
    """A run's directory."""

    root: Path

    @property
    def recipe_path(self) -> Path:
        return self.root / "recipe.yaml"

    @property
    def manifest_path(self) -> Path:
        return self.root / "manifest.json"

    @property
    def calls_path(self) -> Path:
        return self.root / "calls.txt"

    @property
    def called_from_path(self) -> Path:
        """A file of its own: the manifest is shown in reports, and where a run lies is nobody else's business."""
        return self.root / ".called_from"

    def called_from(self) -> Path:
        """Where the recipe's relative paths start: the directory that `tapir run` was called in, else this one."""
        try:
            there = self.called_from_path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return Path.cwd()
        # On another machine there may be none, and another user's may be closed to this one.
        return Path(there) if os.access(f"{there}/.", os.X_OK) else Path.cwd()

    def named(self, path: str) -> Path:
        """A file that the run's recipe names."""
        return self.called_from() / path

    def manifest(self) -> dict[str, Any]:
        """What the run was made with."""
        return _read_object(
            self.manifest_path,
            "put a copy of it back, or remove it and `tapir run` writes it again (the budget then counts from nothing)",
        )

    def identity(self) -> str:
        """The run's own name, kept in its manifest: directories of equal name share a ledger, not a budget."""
        known = self.manifest() if self.manifest_path.exists() else {}
        return str(known.get("run_id") or f"{self.root.resolve().name}-{secrets.token_hex(4)}")

    def step(self, place: str, mark: str) -> Step:
        return Step(self.root, place, mark)

    def calls_used(self) -> list[str]:
        """The ledger keys of every call that the run's steps used."""
        return [key for _, key in self.calls_by_place()]

    def calls_by_place(self) -> Iterator[tuple[str, str]]:
        """The same, each with the step that used it."""
        if not self.calls_path.exists():
            return
        with self.calls_path.open(encoding="utf-8") as lines:
            for line in lines:
                place, _, key = line.rstrip("\n").partition(" ")
                yield place, key

    def calls_of(self, place: str) -> Iterator[str]:
        """The keys of one step."""
        return (key for step, key in self.calls_by_place() if step == place)

    def receipts(self) -> dict[str, dict[str, Any]]:
        """All finished steps' receipts by place, in the order of the run."""
        found: dict[str, dict[str, Any]] = {}
        for path in sorted(self.root.glob("round_*/*.receipt.json"), key=_natural):
            receipt = _read_receipt(path)
            if receipt is not None:
                found[f"{path.parent.name}/{path.name.removesuffix('.receipt.json')}"] = receipt
        return found

    def rounds(self) -> list[int]:
        """The rounds that are there, round 0 among them, up to as many as the run's recipe has.

        One that had more has left its later ones here: they are no part of this run, and done if it gets them back.
        """
        there = sorted(int(path.name.removeprefix("round_")) for path in self.root.glob("round_[0-9]*"))
        try:
            last = parse_recipe(read_yaml(self.recipe_path)).curriculum.rounds
        except RecipeError:
            return there
        return [number for number in there if number <= last]

    def writer(self) -> int | None:
        """The process that is writing this run, or None."""
        path = self.root / ".lock"
        pid = path.read_text(encoding="utf-8").strip() if path.exists() else ""
        if not pid.isdigit() or not _alive(int(pid)):
            # No lock is tried for: a run that starts at this moment must find it free.
            return None
        with path.open("r") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(pid)
        return None

    @contextmanager
    def writing(self) -> Generator[None]:
        """Be the only writer; a second one is refused with this one's pid. The lock dies with the process."""
        with self._open_lock() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                holder = lock.read().strip() or "unknown"
                raise RunBusy(
                    f"{self.root}: process {holder} is already writing this run; wait for it, or stop it first"
                ) from None
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            yield

    def _open_lock(self) -> IO[str]:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            return (self.root / ".lock").open("a+")
        except OSError as error:
            raise DataError(
                f"{self.root}: no run can be written here ({error.strerror}); name another folder with --out"
            ) from None


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _natural(path: Path) -> tuple[int, str]:
    return int(path.parent.name.removeprefix("round_")), path.name


def open_run(path: str | Path) -> RunDir:
    """An existing run, for reading."""
    run = RunDir(Path(path))
    if not run.manifest_path.exists():
        raise DataError(f"{path}: no run here (no manifest.json); `tapir run RECIPE` makes one")
    return run
