"""The accelerator's memory, which one engine or training leaves to the next."""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager

from tapir.errors import ModelError


@contextmanager
def memory_told(remedy: str) -> Generator[None]:
    """A device without room for what is done here becomes an error that says what takes less."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        said = str(error).split(". ")
        raise ModelError(f"the device's memory is full ({'. '.join(said[:2]).rstrip('.')}); {remedy}") from error


def give_back() -> None:
    """Return to the device what is no longer used: torch keeps it for this process, and vLLM, which starts in another,
    would find the device full."""
    import torch

    # Trainers and engines have parts that point at each other; they go only once they are collected.
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
