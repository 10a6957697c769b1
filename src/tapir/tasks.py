"""The task taxonomy: data, not code. A user may give another file of the same form (`taxonomy:` in the recipe)."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from tapir.errors import DataError, RecipeError

OTHERS = "Others"


@dataclass(frozen=True, slots=True)
class Task:
    name: str
    family: str
    definition: str
    examples: tuple[str, ...]
    style: str
    """How a good answer to such an instruction is laid out; the refiner works towards it."""


@dataclass(frozen=True, slots=True)
class Taxonomy:
    tasks: tuple[Task, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(t.name for t in self.tasks)

    def __getitem__(self, name: str) -> Task:
        for task in self.tasks:
            if task.name == name:
                return task
        raise RecipeError(f"{name!r} is not a task type of this taxonomy; it has {', '.join(self.names)}")

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def read_label(self, text: str) -> str | None:
        """The task name that `text` is, whatever its case, spacing or hyphens; None if it is none of them."""
        wanted = _folded(text)
        return next((name for name in self.names if _folded(name) == wanted), None)


def _folded(text: str) -> str:
    return "".join(c for c in text.casefold() if c.isalnum())


@functools.cache
def load_taxonomy(path: Path | None = None) -> Taxonomy:
    """The shipped 32 task types of Table 6, or the file at `path`."""
    source = path or resources.files("tapir.data") / "tasks.yaml"
    try:
        raw: list[dict[str, Any]] = yaml.safe_load(source.read_text(encoding="utf-8"))
        tasks = tuple(Task(r["name"], r["family"], r["definition"], tuple(r["examples"]), r["style"]) for r in raw)
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise DataError(
            f"{source}: not a task taxonomy ({error}); give a YAML list of name, family, definition, examples, style"
        ) from error
    if len({_folded(t.name) for t in tasks}) != len(tasks) or not tasks:
        raise DataError(f"{source}: task names must be there and differ from each other")
    if not any(t.name == OTHERS for t in tasks):
        raise DataError(f"{source}: it needs a task named {OTHERS}, for instructions that fit none of the rest")
    return Taxonomy(tasks)
