"""Instructions that say the same in other words, by the vectors of an encoder (MiniLM, or any that pools by the mean).

`transformers` runs it; sentence-transformers would add its own pooling of the same kind and a large dependency. What
becomes of a repetition is `curriculum.hygiene`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

BATCH = 64
MAX_TOKENS = 256
"""What MiniLM was trained on; the rest of a longer text is not looked at."""


class Vectors(Protocol):
    """Unit vectors of texts, one a row."""

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]: ...


class EmbeddingIndex:
    """Texts by the direction of their vectors; a text repeats another at a cosine of `above` or more."""

    def __init__(self, encoder: Vectors, *, above: float) -> None:
        self._encoder, self._above = encoder, above
        self._known: list[NDArray[np.float32]] = []

    def add(self, texts: Sequence[str]) -> None:
        """Texts that later ones must not repeat."""
        if texts:
            self._known.append(self._encoder.vectors(texts))

    def repeats(self, text: str) -> bool:
        """Whether a text known so far says the same."""
        if not self._known:
            return False
        if len(self._known) > BATCH:
            # One text at a time is added while growing; joined, they are compared in one product.
            self._known = [np.concatenate(self._known)]
        (vector,) = self._encoder.vectors([text])
        return any(float((known @ vector).max()) >= self._above for known in self._known)


class Encoder:
    """An encoder in this process."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        loader: Any = AutoTokenizer
        encoder: Any = AutoModel
        self._tokenizer: Any = loader.from_pretrained(str(folder), local_files_only=True)
        self._encoder: Any = encoder.from_pretrained(str(folder), use_safetensors=True, local_files_only=True).eval()

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.concatenate([self._encoded(texts[at : at + BATCH]) for at in range(0, len(texts), BATCH)])

    def _encoded(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors: the mean of the last layer over a text's tokens."""
        import torch

        given = self._tokenizer(list(texts), padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
        with torch.no_grad():
            states = self._encoder(**given).last_hidden_state
        mask = given["attention_mask"].unsqueeze(-1)
        pooled = (states * mask).sum(1) / mask.sum(1).clamp(min=1)
        return torch.nn.functional.normalize(pooled, dim=-1).float().numpy()
