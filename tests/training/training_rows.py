"""Examples and settings that the training tests share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from tapir.config import Train
from tapir.models.chat_template import ChatFormat, load_tokenizer
from tapir.training.encode import UNTRAINED, Encoded, encode
from tapir.types import Example, Message


def example(
    number: int, *, hard: bool = False, weight: float = 1.0, difficulty: float | None = None, words: int = 1
) -> Example:
    return Example(
        messages=(
            Message("user", f"What is the sum of {number} and {'two ' * words}?"),
            Message("assistant", f"The answer is {number}, {'the sea ' * (number % 3)}."),
        ),
        instruction_id=f"id{number}",
        task="Math" if number % 2 else "Writing",
        hard=hard,
        weight=weight,
        difficulty=difficulty,
    )


def examples(count: int, *, weights: tuple[float, float] = (1.0, 1.0)) -> list[Example]:
    """Every third is hard; `weights` are of easy and hard ones."""
    return [example(n, hard=n % 3 == 0, weight=weights[n % 3 == 0], words=1 + n % 4) for n in range(count)]


def encoded(
    length: int, *, trained: int = 2, hard: bool = False, difficulty: float | None = None, task: str = "Math"
) -> Encoded:
    ids = tuple(range(10, 10 + length))
    return Encoded(ids, (*[UNTRAINED] * (length - trained), *ids[-trained:]), "x", task, hard, 1.0, difficulty)


def settings(**changes: Any) -> Train:
    base: dict[str, Any] = {
        "learning_rate": 1e-2,
        "epochs": 1,
        "batch": 4,
        "micro_batch": 2,
        "max_tokens": 128,
        "warmup": 0.0,
        "precision": "float32",
    }
    return Train.model_validate(base | changes)


def nll_by_hand(student: Path) -> tuple[float, float, int, int]:
    """Summed NLL and trained tokens of six easy and hard examples, one at a time, with full logits."""
    model = AutoModelForCausalLM.from_pretrained(student, dtype=torch.float32)
    chat = ChatFormat(load_tokenizer(student))
    nll, count = [0.0, 0.0], [0, 0]
    for given in examples(6):
        row = encode(given, chat)
        with torch.no_grad():
            log_p = model(torch.tensor([row.input_ids])).logits[0].double().log_softmax(-1)
        for place, label in enumerate(row.labels[1:]):
            if label != UNTRAINED:
                nll[given.hard] -= float(log_p[place, label])
                count[given.hard] += 1
    return nll[0], nll[1], count[0], count[1]
