"""What is done with a whole pool, through Ray Data: task types, vectors and near duplicates, as one process finds them.

Each actor loads its classifier, encoder or index once. A few rows are not worth the way to the cluster and back: they
are done here, by the same code in the same batches.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapir.config import RaySettings
from tapir.curriculum.dedup import Alike, AlikeFinder, NearDuplicate, first_of_alike, near_duplicates
from tapir.executors.cluster import connect, failures_told, here
from tapir.executors.generation import Worker, spread
from tapir.models import classifier as classifying
from tapir.models import embedding
from tapir.models.classifier import Classifier, Guess
from tapir.models.embedding import Encoder
from tapir.parts import parts
from tapir.types import Instruction

NEAR_ROWS = 20_000
"""Rows from which near duplicates are looked for on the cluster; below, one process needs seconds."""
NEAR_BLOCK = 2_000
ENCODED_TOGETHER = 16 * embedding.BATCH


class RayClassifier:
    """The counterpart of `classifier.Classifier`, on the cluster."""

    def __init__(self, folder: Path, settings: RaySettings) -> None:
        self.labels: tuple[str, ...] = tuple(classifying.read_settings(folder)["labels"])
        self._folder, self._settings = folder, settings
        self._here: Classifier | None = None

    def guesses(self, instructions: Sequence[Instruction]) -> Iterator[Guess]:
        if len(instructions) <= classifying.CHUNK_TEXTS:
            self._here = self._here or classifying.open_classifier(self._folder)
            return self._here.guesses(instructions)
        chunks = parts(instructions, classifying.CHUNK_TEXTS)
        packed = ((number, pickle.dumps(chunk)) for number, chunk in enumerate(chunks))
        arguments = {"folder": self._folder, "threads": max(1, int(self._settings.cpus))}
        done = spread(packed, _Classifying, arguments, self._settings)
        return (guess for chunk in _in_order(done) for guess in chunk)


class _Classifying(Worker):
    def __init__(self, folder: Path, threads: int) -> None:
        self._folder, self._threads = folder, threads
        self._classifier: Classifier | None = None

    def done(self, work: list[Instruction]) -> list[Guess]:
        if self._classifier is None:
            self._classifier = classifying.open_classifier(here(self._folder), workers=self._threads)
        return list(self._classifier.guesses(work))


class RayEncoder:
    """The counterpart of `embedding.Encoder`, on the cluster."""

    def __init__(self, folder: Path, settings: RaySettings) -> None:
        self._folder, self._settings = folder, settings
        self._here: Encoder | None = None

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if len(texts) <= ENCODED_TOGETHER:
            self._here = self._here or Encoder(self._folder)
            return self._here.vectors(texts)
        packed = ((number, pickle.dumps(part)) for number, part in enumerate(parts(texts, ENCODED_TOGETHER)))
        return np.concatenate(list(_in_order(spread(packed, _Encoding, {"folder": self._folder}, self._settings))))


class _Encoding(Worker):
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._encoder: Encoder | None = None

    def done(self, work: list[str]) -> NDArray[np.float32]:
        self._encoder = self._encoder or Encoder(here(self._folder))
        return self._encoder.vectors(work)


def spread_near_duplicates(rows: Sequence[tuple[str, str]], settings: RaySettings) -> list[NearDuplicate]:
    """The counterpart of `dedup.near_duplicates`: actors find which texts are alike, here is decided which stay."""
    if len(rows) < NEAR_ROWS:
        return near_duplicates(rows)
    with failures_told():
        texts = connect(settings).put([text for _, text in rows])
    starts = range(0, len(rows), NEAR_BLOCK)
    blocks = ((n, pickle.dumps(range(at, min(at + NEAR_BLOCK, len(rows))))) for n, at in enumerate(starts))
    found = _in_order(spread(blocks, _Comparing, {"texts": [texts]}, settings))
    return first_of_alike(rows, (alike for block in found for alike in block))


class _Comparing(Worker):
    def __init__(self, texts: list[Any]) -> None:
        # In a list, since Ray would fetch a bare reference for every actor while it is made.
        (self._reference,) = texts
        self._finder: AlikeFinder | None = None

    def done(self, work: range) -> list[Alike]:
        if self._finder is None:
            import ray

            self._finder = AlikeFinder(ray.get(self._reference))
        return [alike for position in work if (alike := self._finder.earlier(position)).positions]


def _in_order(done: Iterator[tuple[int, Any]]) -> Iterator[Any]:
    """Results by their numbers, those that came too early kept until it is their turn."""
    waiting: dict[int, Any] = {}
    turn = 0
    for number, result in done:
        waiting[number] = result
        while turn in waiting:
            yield waiting.pop(turn)
            turn += 1
