"""What stands for a folder of weights in the ledger's keys.

Weights from the catalogue are known by the hash of the very file they were converted from, so that a recording made on
one machine is found on another; any other folder by a hash over everything in it that changes replies.
"""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path

SOURCE = "tapir-source.json"
"""Written beside converted weights: `{"name": …, "sha256": …}` of the file they come from."""
COUNTED = (
    "*.safetensors",
    "config.json",
    "generation_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "*.model",
    "chat_template*",
    "vocab*",
    "merges*",
    "*.py",
)
PICKLES = ("*.bin", "*.pt", "*.pth")
"""Counted where there is nothing safer, which is when they are loaded."""


def weights_hash(folder: Path) -> str:
    """SHA-256 of the source file, or over names and contents of weights, configuration, tokenizer, template, code."""
    source = folder / SOURCE
    if source.exists():
        return json.loads(source.read_text(encoding="utf-8"))["sha256"]
    digest = hashlib.sha256()
    counted = COUNTED if any(folder.glob("*.safetensors")) else (*COUNTED, *PICKLES)
    for path in sorted({p for pattern in counted for p in folder.glob(pattern) if p.is_file()}):
        state = path.stat()
        digest.update(path.name.encode() + b"\0" + _content(path, state.st_size, state.st_mtime_ns))
    return digest.hexdigest()


@functools.lru_cache(maxsize=256)
def _content(path: Path, size: int, mtime_ns: int) -> bytes:
    # A run asks often and a file of gigabytes takes seconds; size and time of change tell whether it is the same.
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
