"""The distilled task classifier at work: text in, a task type and its confidence out.

Owns the folder's form, the int8 engine beside the weights and batches without padding waste. Training it is
`training.encoder`'s; when its word is taken is `stages.classify`'s. Loads neither torch nor transformers where the
int8 engine is there.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tapir.errors import MissingExtra, ModelError
from tapir.models.local_rows import usable_cores
from tapir.models.students import name_every_token
from tapir.models.weights_hash import weights_hash
from tapir.parts import parts
from tapir.prompts.delimit import cut
from tapir.store.rundir import file_hash, fingerprint
from tapir.types import Instruction

SETTINGS = "tapir-classifier.json"
"""What the training says of its outcome; `max_tokens` and `labels` are read back."""
INT8 = "int8"
"""Folder of the CTranslate2 form inside the classifier's."""
BATCH_TOKENS = 256
"""As fast as any size with long texts, and half as fast again as 1,024 with short ones (docs/lab.md)."""
CHUNK_TEXTS = 4096
"""Texts sorted by length together; more would hold memory and win nothing."""
CHARS_A_TOKEN = 4

Logits = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Guess:
    """The most probable task type; `confidence` is its probability as the classifier sees it."""

    task: str
    confidence: float


class Engine(Protocol):
    """What computes logits. It is called from `workers` threads at once."""

    name: str
    workers: int

    def logits(self, rows: Sequence[list[int]]) -> Logits: ...

    def close(self) -> None: ...


class Classifier:
    """A trained classifier that is loaded and ready."""

    def __init__(self, folder: Path, engine: Engine) -> None:
        settings = read_settings(folder)
        self.labels: tuple[str, ...] = tuple(settings["labels"])
        self.engine = engine
        self._max_tokens = int(settings["max_tokens"])
        self._tokenizer = load_tokenizer(folder, self._max_tokens)

    def guesses(self, instructions: Iterable[Instruction]) -> Iterator[Guess]:
        """One guess an instruction, in order."""
        for chunk in parts(instructions, CHUNK_TEXTS):
            yield from self._guesses(self.encode(chunk))

    def encode(self, instructions: Iterable[Instruction]) -> list[list[int]]:
        texts = [classified_text(i, self._max_tokens) for i in instructions]
        return [e.ids for e in self._tokenizer.encode_batch(texts)]

    def _guesses(self, rows: list[list[int]]) -> list[Guess]:
        logits = np.empty((len(rows), len(self.labels)), dtype=np.float64)

        def compute(batch: list[int]) -> None:
            logits[batch] = self.engine.logits([rows[n] for n in batch])

        with ThreadPoolExecutor(self.engine.workers) as threads:
            for _ in threads.map(compute, batches([len(r) for r in rows])):
                pass  # an error of a worker is raised here
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares = odds / odds.sum(axis=1, keepdims=True)
        best = shares.argmax(axis=1)
        return [Guess(self.labels[at], float(shares[n, at])) for n, at in enumerate(best)]

    def close(self) -> None:
        self.engine.close()


def open_classifier(folder: Path, *, workers: int | None = None) -> Classifier:
    """The classifier of a folder on the engine that serves it best here; `workers` are by default all cores."""
    read_settings(folder)  # a folder of something else is told so before anything is loaded
    return Classifier(folder, Int8Engine(folder, workers) if engine_of(folder) == INT8 else TransformersEngine(folder))


def identity(folder: Path) -> str:
    """Weights, labels and engine: what its labels depend on. Goes into the fingerprint of steps that use it."""
    settings, engine = read_settings(folder), engine_of(folder)
    exported = file_hash(folder / INT8 / "model.bin") if engine == INT8 else ""
    return fingerprint(weights_hash(folder), engine, exported, settings["labels"], settings["max_tokens"])


def engine_of(folder: Path) -> str:
    """The int8 engine where it was made for these weights and there is no GPU; else `transformers`."""
    if not (folder / INT8 / "model.bin").exists() or importlib.util.find_spec("ctranslate2") is None:
        return "transformers"
    import ctranslate2

    return "transformers" if ctranslate2.get_cuda_device_count() else INT8


def read_settings(folder: Path) -> dict[str, Any]:
    path = folder / SETTINGS
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if not found["labels"] or not found["max_tokens"]:
            raise KeyError("labels, max_tokens")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{folder}: not a trained classifier ({path.name}: {error}); `tapir classifier train` makes one"
        ) from None
    return found


def classified_text(instruction: Instruction, max_tokens: int) -> str:
    """What a classifier reads: the instruction, then its context.

    What is asked for stands at the beginning or at the end of a long text, so it is the middle that is left out.
    """
    before = [instruction.system or "", *(m.content for m in instruction.history)]
    text = cut(instruction.text, CHARS_A_TOKEN * max_tokens)[0]
    return "\n".join([text, *filter(None, before)])


def load_tokenizer(folder: Path, max_tokens: int) -> Any:
    """The folder's tokenizer, with neither padding nor any truncation but ours."""
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise MissingExtra("a classifier needs `pip install 'tapir-distill[local]'`") from None
    if not (folder / "tokenizer.json").exists():
        raise ModelError(f"{folder}: there is no tokenizer.json in it; give a model with a fast tokenizer")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    return tokenizer


def batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Row numbers in batches of similar length, of about `BATCH_TOKENS` each; long ones first, so that the workers
    end together."""
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda n: (-lengths[n], n)):
        # The first row of a batch is its longest.
        if batch and (len(batch) + 1) * lengths[batch[0]] > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


class Int8Engine:
    """CTranslate2, a worker a core: small batches side by side are faster than all cores on one (docs/lab.md)."""

    name = INT8

    def __init__(self, folder: Path, workers: int | None = None) -> None:
        import ctranslate2
        from safetensors import safe_open

        self.workers = workers or usable_cores()
        self._encoder: Any = ctranslate2.Encoder(
            str(folder / INT8), device="cpu", compute_type="int8", inter_threads=self.workers, intra_threads=1
        )
        # The converter takes the encoder with its pooler; the last layer is a product of its own.
        with safe_open(str(folder / "model.safetensors"), framework="np") as weights:
            self._weight: Logits = weights.get_tensor("classifier.weight")
            self._bias: Logits = weights.get_tensor("classifier.bias")

    def logits(self, rows: Sequence[list[int]]) -> Logits:
        pooled = np.asarray(self._encoder.forward_batch(list(rows)).pooler_output)
        return pooled @ self._weight.T + self._bias

    def close(self) -> None:
        self._encoder.unload_model()


class TransformersEngine:
    """Any encoder that `transformers` knows, on a GPU where there is one."""

    name, workers = "transformers", 1

    def __init__(self, folder: Path) -> None:
        import torch
        from transformers import AutoModelForSequenceClassification

        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            model: Any = AutoModelForSequenceClassification.from_pretrained(
                str(folder), dtype=torch.float32, use_safetensors=True, trust_remote_code=False, local_files_only=True
            )
        except (OSError, ValueError) as error:
            raise ModelError(f"{folder}: its weights cannot be loaded ({error}); train the classifier again") from error
        self._model: Any = model.to(self._device).eval()

    def logits(self, rows: Sequence[list[int]]) -> Logits:
        import torch

        longest = max(map(len, rows))
        pad = self._model.config.pad_token_id or 0
        ids = torch.tensor([row + [pad] * (longest - len(row)) for row in rows], device=self._device)
        seen = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows], device=self._device)
        with torch.inference_mode():
            return self._model(input_ids=ids, attention_mask=seen).logits.float().cpu().numpy()

    def close(self) -> None:
        self._model = None


def export_int8(folder: Path) -> bool:
    """Make the int8 form beside the weights; False where the engine does not know the architecture."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if config["model_type"] != "bert" or importlib.util.find_spec("ctranslate2") is None:
        return False
    import ctranslate2

    converter = ctranslate2.converters.TransformersConverter(str(folder))
    try:
        converter.convert(str(folder / INT8), quantization="int8", force=True)
        name_every_token(folder / INT8 / "config.json")
    except (ValueError, OSError, AssertionError) as error:
        raise ModelError(f"{folder}: CTranslate2 cannot convert this encoder ({error})") from error
    return True
