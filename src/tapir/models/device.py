"""The accelerator's memory, which one engine or training leaves to the next."""

from __future__ import annotations

import gc


def give_back() -> None:
    """Return to the device what is no longer used: torch keeps it for this process, and vLLM, which starts in another,
    would find the device full."""
    import torch

    # Trainers and engines have parts that point at each other; they go only once they are collected.
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
