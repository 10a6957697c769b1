"""The task classifier distilled from labelled instructions (§3.3, footnote 3): reading, training, and what it is worth.

Everything about the outcome is in one file of the classifier's folder, so that a person can decide whether to use it.
"""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tapir.config import Seeds
from tapir.curriculum.labelling import Agreement, agreement, at_confidences, balanced, class_weights, split
from tapir.errors import DataError
from tapir.models.classifier import SETTINGS, Classifier, Guess, open_classifier
from tapir.models.weights_hash import weights_hash
from tapir.stages.reading import BY_DEFAULT, read_instructions
from tapir.store.rundir import write_json
from tapir.store.tables import read_rows, sync_folder
from tapir.tasks import Taxonomy
from tapir.types import Instruction, Receipt

if TYPE_CHECKING:
    from tapir.training.encoder import EncoderSettings, Says

TAXONOMY = "taxonomy.yaml"
FEWEST_TYPES = 2


def read_labelled(source: str, taxonomy: Taxonomy, *, receipt: Receipt, like: Seeds = BY_DEFAULT) -> list[Instruction]:
    """Instructions with a task type of the taxonomy; others are dropped and counted.

    `source` is a file of rows with `task`, a run directory (its labelled pool and what it has grown), or `builtin`
    and `builtin:held_out` for the shipped pool. A pool's rows are read `like` those of a recipe's.
    """
    kept: list[Instruction] = []
    for row in _instructions(source, receipt, like):
        receipt.rows_in += 1
        task = taxonomy.read_label(row.task or "")
        if task is None:
            receipt.drop("unknown_label" if row.task else "no_label")
            continue
        receipt.rows_out += 1
        kept.append(replace(row, task=task))
    if not kept:
        raise DataError(
            f"{source}: no instruction in it has a task type of the taxonomy; label it with `tapir classify`"
        )
    return kept


def _instructions(source: str, receipt: Receipt, like: Seeds) -> list[Instruction]:
    path = Path(source)
    if path.is_dir() and (path / "manifest.json").exists():
        tables = [path / "round_0/02_classified.parquet", *sorted(path.glob("round_*/01_expanded.parquet"))]
        return [row for table in tables for row in read_rows(table, Instruction)]
    return read_instructions(source, receipt, like)


@dataclass(frozen=True, slots=True)
class Choices:
    """How the rows of a training are chosen."""

    per_type: int | None = None
    held_out: float = 0.1
    seed: int = 17


def train_classifier(
    base: Path,
    rows: Sequence[Instruction],
    taxonomy: Taxonomy,
    out: Path,
    choices: Choices,
    settings: EncoderSettings,
    *,
    say: Says,
) -> dict[str, Any]:
    """A classifier in the folder `out`, which appears whole or not at all; returns what its settings file says."""
    # Here, not above: torch is heavy, and `tapir classify` does without.
    from tapir.training.encoder import train_encoder

    if out.exists():
        raise DataError(f"{out} exists already; delete it to train this classifier again")
    rng = random.Random(choices.seed)
    chosen = balanced(rows, choices.per_type, rng)
    train, held_out = split(chosen, choices.held_out, rng)
    seen = {str(row.task) for row in train}
    labels = [name for name in taxonomy.names if name in seen]
    if len(labels) < FEWEST_TYPES:
        raise DataError("all instructions are of one task type; a classifier needs two at least")
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    partial.mkdir(parents=True)
    try:
        training = train_encoder(base, train, held_out, labels, class_weights(str(r.task) for r in train), partial,
                                 settings, say=say)  # fmt: skip
        with_examples = [asdict(task) for task in taxonomy.tasks]
        (partial / TAXONOMY).write_text(yaml.safe_dump(with_examples, sort_keys=False), encoding="utf-8")
        found = {
            "labels": labels,
            "max_tokens": settings.max_tokens,
            "never_seen": [name for name in taxonomy.names if name not in seen],
            "base": base.name,
            "base_hash": weights_hash(base),
            "rows": {"train": len(train), "held_out": len(held_out), "left_out": len(rows) - len(chosen)},
            "train_by_type": dict(sorted(Counter(str(r.task) for r in train).items())),
            "settings": asdict(settings) | asdict(choices),
            "training": training,
        }
        write_json(partial / SETTINGS, found)
        if held_out:
            found["held_out"] = _measured(partial, held_out)
            write_json(partial / SETTINGS, found)
        sync_folder(partial)
        os.replace(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return found


def _measured(folder: Path, rows: Sequence[Instruction]) -> dict[str, Any]:
    classifier = open_classifier(folder)
    try:
        return outcome(classifier, rows)[1]
    finally:
        classifier.close()


def outcome(classifier: Classifier, rows: Sequence[Instruction]) -> tuple[Agreement, dict[str, Any]]:
    """How far the classifier agrees with the rows' own labels: counts, and the same as plain data."""
    guesses = list(classifier.guesses(rows))
    found = compared(rows, guesses, classifier.labels)
    low, high = found.interval()
    outcomes = [(g.confidence, g.task == row.task) for g, row in zip(guesses, rows, strict=True)]
    by_type = {
        label: {"given": s.given, "said": s.said, "precision": s.precision, "recall": s.recall}
        for label, s in found.by_type().items()
    }
    plain = {
        "n": found.n,
        "agree": found.right,
        "share": found.right / found.n,
        "low": low,
        "high": high,
        "engine": classifier.engine.name,
        "by_type": by_type,
        "confusion": {"labels": list(found.labels), "rows_given_columns_said": [list(r) for r in found.confusion]},
        "at_confidence": [asdict(a) for a in at_confidences(outcomes)],
    }
    return found, plain


def compared(rows: Sequence[Instruction], guesses: Sequence[Guess], labels: Sequence[str]) -> Agreement:
    """Guesses against the rows' labels; a type that the classifier never saw has a row of its own all the same."""
    given = [str(row.task) for row in rows]
    every = [*labels, *sorted(set(given) - set(labels))]
    return agreement(zip(given, (g.task for g in guesses), strict=True), every)
