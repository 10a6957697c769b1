"""A small refiner distilled from a strong one (appendix C): what it is trained on, and how it is known again.

Pure rows and files; whom to ask and what trains is `tapir.steps.refiner`'s.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tapir.config import Model
from tapir.prompts.tasks import plain_refine_messages
from tapir.store.rundir import write_json
from tapir.tasks import OTHERS, Taxonomy
from tapir.types import Example, Instruction, Message, Receipt, Refinement

MARK = "tapir-refiner.json"
"""In the folder of a trained refiner: what it was trained on, and that it takes the plain prompt."""


def trained_refiner(model: Model) -> Path | None:
    """The folder of a refiner of ours, if the role is played by one; such a model is asked without examples."""
    folder = Path(model.model)
    return folder if model.kind == "local" and (folder / MARK).exists() else None


def write_mark(folder: Path, told: Mapping[str, Any]) -> None:
    write_json(folder / MARK, dict(told))


def read_mark(folder: Path) -> dict[str, Any]:
    return json.loads((folder / MARK).read_text(encoding="utf-8"))


def chosen(
    rows: Sequence[Instruction], count: int, held_out: int, rng: random.Random
) -> tuple[list[Instruction], list[Instruction]]:
    """Instructions to annotate and others to measure on; the measured ones come first where there are too few.

    At least half of a small pool is trained on.
    """
    ordered = sorted(rows, key=lambda i: i.id)
    rng.shuffle(ordered)
    apart = min(held_out, len(ordered) // 2)
    return ordered[apart : apart + count], ordered[:apart]


def refiner_examples(
    rows: Iterable[Instruction], refinements: Mapping[str, Refinement], taxonomy: Taxonomy, receipt: Receipt
) -> list[Example]:
    """(plain prompt, refined text) for every refinement that passed the guards; the others are dropped and counted."""
    found: list[Example] = []
    for row in rows:
        receipt.rows_in += 1
        refinement = refinements[row.id]
        if refinement.fallback:
            receipt.drop(refinement.fallback)
            continue
        receipt.rows_out += 1
        task = row.task or OTHERS
        asked = plain_refine_messages(row, taxonomy[task])
        found.append(Example((*asked, Message("assistant", refinement.text)), row.id, task, hard=True))
    return found
