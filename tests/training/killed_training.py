"""A training that dies by its own SIGKILL in the middle of its fifth step, for the resume test."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch
from training_rows import examples, settings

from tapir.training.result import StepLog
from tapir.training.sft import train_round


def die_at_5(step: StepLog) -> None:
    if step.step == 5:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    torch.set_num_threads(1)
    student, out = map(Path, sys.argv[1:])
    train_round(student, examples(12), out, settings(epochs=2, save_every=2), seed=1, progress=die_at_5)
