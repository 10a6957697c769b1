"""How well the student predicts given answers, through Ray Data: the same padded batches as in one process."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path

from tapir.config import Model, RaySettings
from tapir.executors.cluster import here
from tapir.executors.generation import Worker, spread
from tapir.models.local_hf import Pair, Scorer, scoring_batches


def answer_nll(folder: Path, pairs: Sequence[Pair], model: Model, settings: RaySettings) -> list[tuple[float, int]]:
    """The counterpart of `local_hf.answer_nll`, on the cluster."""
    batches, tokens = scoring_batches(folder, pairs, model)
    packed = ((number, pickle.dumps([pairs[n] for n in rows])) for number, rows in enumerate(batches))
    found: dict[int, float] = {}
    for number, sums in spread(packed, _Scoring, {"folder": folder, "model": model}, settings):
        found |= dict(zip(batches[number], sums, strict=True))
    return [(found[n], tokens[n]) for n in range(len(pairs))]


class _Scoring(Worker):
    def __init__(self, folder: Path, model: Model) -> None:
        self._folder, self._model = folder, model
        self._scorer: Scorer | None = None

    def done(self, work: list[Pair]) -> list[float]:
        self._scorer = self._scorer or Scorer(here(self._folder), self._model)
        return self._scorer.score(work)
