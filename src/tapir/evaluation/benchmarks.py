"""Public benchmarks by name: where each lies, and its texts, for keeping them out of training data.

The list is data (`data/benchmarks.yaml`). Texts come from the user's folder, the hub's cache, or the hub where it
answers; what is at hand is never sent for again, and offline nothing waits. Looking for them is
`curriculum.contamination`'s business.
"""

from __future__ import annotations

import functools
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, cast

import yaml

from tapir.curriculum.contamination import Item
from tapir.errors import DataError, MissingExtra, RecipeError
from tapir.models.catalogue import hub_answers
from tapir.store.given import every_row

ALL = "public"
ENDINGS = (".jsonl", ".parquet", ".json", ".csv")
EVERY_CONFIG = "*"


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One public evaluation set."""

    name: str
    hub: str
    split: str
    columns: tuple[str, ...]
    """Texts that must not be trained on, each an item of its own."""
    config: str | None = None
    revision: str | None = None
    files: str | None = None
    """The split's files, by a pattern, where the repository names no configurations."""


@functools.cache
def benchmarks() -> dict[str, Benchmark]:
    """The list by name."""
    text = (resources.files("tapir.data") / "benchmarks.yaml").read_text(encoding="utf-8")
    listed: list[dict[str, Any]] = yaml.safe_load(text)
    return {raw["name"]: Benchmark(columns=tuple(raw.pop("columns")), **raw) for raw in listed}


def benchmark_names(against: Iterable[str], waive: Iterable[str] = ()) -> list[str]:
    """The benchmarks that `against` names, without those waived; a waived name that is none is an error."""
    known, waived = benchmarks(), set(waive)
    unknown = sorted(waived - known.keys())
    if unknown:
        raise RecipeError(f"decontaminate.waive: {unknown[0]!r} is no public benchmark; there are {', '.join(known)}")
    named = [name for entry in against for name in (known if entry == ALL else [entry] if entry in known else [])]
    return [name for name in dict.fromkeys(named) if name not in waived]


def files_among(against: Iterable[str]) -> list[str]:
    """Entries that are no benchmark names: files, folders, `builtin` and `hub:` sources."""
    return [entry for entry in dict.fromkeys(against) if entry != ALL and entry not in benchmarks()]


def load_benchmark(name: str, folder: str | Path | None = None) -> list[Item]:
    """(benchmark, item, text) of every listed column; `DataError` where it is not at hand."""
    wanted = benchmarks()[name]
    file = local_file(name, folder)
    rows = (row for _, row in every_row(file)) if file is not None else _hub_rows(wanted)
    items = [item for number, row in enumerate(rows) for item in _items(wanted, number, row)]
    if not items:
        where = file or wanted.hub
        raise DataError(f"{name}: {where} has no text in {', '.join(wanted.columns)}; rename its columns so")
    return items


def local_file(name: str, folder: str | Path | None) -> Path | None:
    """The user's own copy of a benchmark."""
    if folder is None:
        return None
    if not Path(folder).is_dir():
        raise DataError(f"{folder}: there is no such folder; decontaminate.folder holds files such as gsm8k.jsonl")
    return next((p for ending in ENDINGS if (p := Path(folder) / f"{name}{ending}").exists()), None)


def _items(wanted: Benchmark, number: int, row: dict[str, Any]) -> Iterator[Item]:
    for column in wanted.columns:
        value = row.get(column)
        # MT-Bench keeps the turns of a conversation in a list.
        texts = cast("list[Any]", value) if isinstance(value, list) else [value]
        for turn, text in enumerate(texts):
            if isinstance(text, str) and text.strip():
                mark = f"{number}:{column}" + (f":{turn}" if isinstance(value, list) else "")
                yield wanted.name, mark, text


def _hub_rows(wanted: Benchmark) -> Iterator[dict[str, Any]]:
    try:
        import datasets  # pyright: ignore[reportMissingTypeStubs]
    except ImportError:
        raise MissingExtra("reading a public benchmark needs `pip install 'tapir-distill[local]'`") from None
    library = cast("Any", datasets)
    with _offline_without_hub(library):
        try:
            every = wanted.config == EVERY_CONFIG
            configs = library.get_dataset_config_names(wanted.hub) if every else [wanted.config]
            for config in configs:
                files = None if wanted.files is None else {wanted.split: wanted.files}
                for row in library.load_dataset(
                    wanted.hub, config, data_files=files, split=wanted.split, revision=wanted.revision
                ):
                    yield dict(row)
        except (OSError, ValueError, RuntimeError) as error:
            raise DataError(
                f"decontaminate: the benchmark {wanted.name} ({wanted.hub}) is not at hand ({type(error).__name__}); "
                f"put {wanted.name}.jsonl into decontaminate.folder, load it once online, or name it in "
                "decontaminate.waive"
            ) from error


@contextmanager
def _offline_without_hub(library: Any) -> Generator[None]:
    """Where the hub does not answer, the library would try for half a minute before it looks into its cache."""
    before = library.config.HF_HUB_OFFLINE
    library.config.HF_HUB_OFFLINE = before or not hub_answers()
    try:
        yield
    finally:
        library.config.HF_HUB_OFFLINE = before
