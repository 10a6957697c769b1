"""A trained student that stays in memory between rounds, so that nobody reads back what was just written.

Owns which folder the model in memory stands for and how much memory it may take; whether memory and disk hold the
same weights is `training.weights`' to say. Free of torch: sessions that never train hold an empty one.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tapir.training.folder import fingerprint

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FREE_SHARE = 1 / 8
"""Of the memory that is free when a training ends; the rest belongs to teacher, judge and the student's engine."""


class Resident:
    """The student trained last. The next round takes it over, and likelihoods are reckoned with it."""

    def __init__(self, most_bytes: int | None = None) -> None:
        self._most_bytes = most_bytes
        self._mark: tuple[Path, str] | None = None
        self._model: PreTrainedModel | None = None

    def keep(self, folder: Path, model: PreTrainedModel) -> None:
        """Hold on to the model that was saved to `folder`, if there is room. On a GPU there never is: it moves off."""
        self.forget()
        if model.get_memory_footprint() <= self._room():
            self._mark, self._model = (folder.resolve(), fingerprint(folder)), model.to("cpu")  # pyright: ignore[reportArgumentType]

    def lend(self, folder: Path) -> PreTrainedModel | None:
        """The model of this folder, to look through and give back unchanged."""
        # The files are asked too: a folder that was written anew since is another student.
        known = self._mark is not None and self._mark[0] == folder.resolve() and self._mark[1] == fingerprint(folder)
        return self._model if known else None

    def take(self, folder: Path) -> PreTrainedModel | None:
        """The model of this folder for good: training changes it. Any other one is let go of."""
        model = self.lend(folder)
        self.forget()
        return model

    def forget(self) -> None:
        self._mark = self._model = None

    def _room(self) -> int:
        if self._most_bytes is not None:
            return self._most_bytes
        import psutil

        return int(psutil.virtual_memory().available * FREE_SHARE)
