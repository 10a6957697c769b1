"""How fast `tapir classify` names task types, against the engine alone and against ONNX Runtime.

    python benchmarks/classifier.py CLASSIFIER [--onnx] [--tokens 24 128] [--repeats 3]

CLASSIFIER is a folder that `tapir classifier train` made. The engine alone gets ready token ids of one length, in the
batch size that suits it best of those tried; `classify` gets texts of about that length and does all it does: reading
the instruction, tokens, sorting, batches, labels. Both run in one process, in turn, since the machine may be busy.
`--onnx` also exports the encoder to ONNX, quantises it (int8, dynamic) and runs it, with onnx, onnxscript and
onnxruntime installed beside this project; nothing in the project needs them.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from harness import heading

from tapir.config import Seeds
from tapir.models.classifier import Classifier, open_classifier
from tapir.models.local_rows import usable_cores
from tapir.stages.seeds import load_pool
from tapir.types import Instruction, Receipt

BATCHES = (8, 16, 32)
Rows = list[list[int]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("classifier", type=Path)
    parser.add_argument("--tokens", type=int, nargs="+", default=[24, 128])
    parser.add_argument("--work", type=int, default=12_000, help="tokens of one measurement")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--onnx", action="store_true")
    asked = parser.parse_args()
    opened = open_classifier(asked.classifier)
    onnx = onnx_engine(asked.classifier) if asked.onnx else {}
    print(heading("Classifier", f"instructions a second, median of {asked.repeats}, {opened.engine.name}"))
    print(f"\n{'tokens':>7}{'rows':>6}{'classify':>10}{'engine alone':>14}{'ratio':>7}  others")
    for tokens in asked.tokens:
        report(opened, tokens, asked.work // tokens, asked.repeats, onnx)


def report(opened: Classifier, tokens: int, count: int, repeats: int, onnx: dict[str, Any]) -> None:
    instructions = texts(opened, tokens, count)
    ids = opened.encode(instructions)
    tokens = round(np.mean([len(row) for row in ids]))
    bare = {f"engine {size}": threaded(opened.engine.logits, cut(equal(ids, tokens), size)) for size in BATCHES}
    others = {
        f"{name}, batches of {size}": threaded(run, cut(equal(ids, tokens), size), workers)
        for name, (run, workers) in onnx.items()
        for size in BATCHES
    }
    jobs: dict[str, Callable[[], Any]] = {"classify": lambda: list(opened.guesses(instructions)), **bare, **others}
    rates: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(repeats):
        for name, job in jobs.items():
            began = time.perf_counter()
            job()
            rates[name].append(count / (time.perf_counter() - began))
    middle = {name: median(found) for name, found in rates.items()}
    ours, alone = middle["classify"], max(middle[name] for name in bare)
    told = ", ".join(f"{name}: {middle[name]:.0f}" for name in others)
    print(f"{tokens:>7}{count:>6}{ours:>10.0f}{alone:>14.0f}{ours / alone:>7.2f}  {told}", flush=True)


def texts(opened: Classifier, tokens: int, count: int) -> list[Instruction]:
    """Instructions of the shipped pool, joined and cut to between half and one and a half times the length."""
    pool = load_pool(Seeds(near_duplicates=False), seed=0, receipt=Receipt("seeds")).instructions
    words = " ".join(i.text for i in pool).split()
    rng = random.Random(17)
    a_word = len(opened.encode([Instruction(" ".join(words[:200]))])[0]) / 200
    found: list[Instruction] = []
    for _ in range(count):
        length = max(2, round(tokens * rng.uniform(0.5, 1.5) / a_word))
        start = rng.randrange(len(words) - length)
        found.append(Instruction(" ".join(words[start : start + length])))
    return found


def equal(ids: Rows, tokens: int) -> Rows:
    """As many rows, all of one length: what an engine does best."""
    flat = [token for row in ids for token in row]
    return [(flat * 2)[n * tokens : (n + 1) * tokens] for n in range(len(ids))]


def cut(rows: Rows, size: int) -> list[Rows]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def threaded(run: Callable[[Rows], Any], some: list[Rows], workers: int | None = None) -> Callable[[], None]:
    def job() -> None:
        with ThreadPoolExecutor(workers or usable_cores()) as threads:
            list(threads.map(run, some))

    return job


def onnx_engine(folder: Path) -> dict[str, tuple[Callable[[Rows], Any], int]]:
    """ONNX Runtime with all cores on one batch, and with a core a batch."""
    import onnx
    import onnxruntime
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(str(folder), attn_implementation="eager").eval()

    class Encoder(torch.nn.Module):
        def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return model(input_ids=ids, attention_mask=mask).logits

    ids = torch.ones((2, 16), dtype=torch.int64)
    axes = {0: "rows", 1: "tokens"}
    with tempfile.TemporaryDirectory() as place:
        plain, small = f"{place}/model.onnx", f"{place}/int8.onnx"
        torch.onnx.export(Encoder(), (ids, ids), plain, dynamic_shapes=(axes, axes), input_names=["ids", "mask"])
        graph = onnx.load(plain)
        # The exporter's shapes of inner values trip the quantiser, which infers its own.
        graph.graph.ClearField("value_info")
        onnx.save(graph, plain)
        quantize_dynamic(plain, small, weight_type=QuantType.QInt8)
        found = {}
        for name, threads, workers in (("onnx all cores", usable_cores(), 1), ("onnx core a batch", 1, usable_cores())):
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads
            session = onnxruntime.InferenceSession(small, options, providers=["CPUExecutionProvider"])

            def run(rows: Rows, session: Any = session) -> Any:
                given = np.array(rows, dtype=np.int64)
                return session.run(None, {"ids": given, "mask": np.ones_like(given)})

            found[name] = (run, workers)
    return found


if __name__ == "__main__":
    main()
