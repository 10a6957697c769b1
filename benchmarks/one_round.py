"""One round of the small real student on the shipped pool: does its held-out loss fall, and does it answer and stop?

    python benchmarks/one_round.py [--student smollm2-135m-instruct] [--examples 64] [--held-out 64]

Trains by the quickstart's settings on instructions of the pool with their reference answers, drawn by a seed; the loss
is the mean NLL a token of the held-out instructions' reference answers, before and after. Then it asks the trained
student some held-out instructions through `transformers`, with the template it was trained on. Minutes on two cores.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from harness import heading

from tapir.config import Model, Seeds
from tapir.curriculum.comparison import paired_difference
from tapir.models.calls import Request, Sampling
from tapir.models.local_hf import TransformersModel, answer_nll
from tapir.models.resolve import resolve
from tapir.stages.seeds import read_source
from tapir.training.result import Pace
from tapir.training.sft import train_round
from tapir.types import Example, Message
from tapir.wiring import load_recipe

SEED, ASKED = 17, 8


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--student", default="smollm2-135m-instruct", help="A folder of weights or a catalogue name.")
    options.add_argument("--examples", type=int, default=64)
    options.add_argument("--held-out", type=int, default=64)
    chosen = options.parse_args()
    student = resolve(Model(kind="local", model=chosen.student))
    rows, held_out = pool("pool", chosen.examples), pool("held_out", chosen.held_out)
    before, tokens = nll(student, held_out)
    with tempfile.TemporaryDirectory() as folder:
        trained, pace = Path(folder) / "student_1", Pace()
        result = train_round(
            student,
            rows,
            trained,
            load_recipe("quickstart").train,
            seed=SEED,
            progress=lambda step: print(f"step {step.step} of {step.steps}: {pace.observe(step)}", file=sys.stderr),
        )
        after, _ = nll(trained, held_out)
        replies = answers(trained, held_out[:ASKED])
    what = f"{len(rows)} examples of the pool, {result.steps} steps, {result.trained_tokens} trained tokens"
    print(heading(f"One round of {student.name}", what))
    print("\n| held-out NLL a token | before | after |\n|---|---:|---:|")
    print(f"| {len(held_out)} reference answers, {tokens} tokens | {before[0]:.3f} | {after[0]:.3f} |")
    change = paired_difference(after[1], before[1], random.Random(SEED))
    if change is not None and change.low is not None and change.high is not None:
        interval = f"95 % CI {change.low:+.3f} to {change.high:+.3f}"
        print(f"\nMean change by instruction {change.value:+.3f} ({interval}).")
    ended = sum(reason == "stop" for _, reason in replies)
    print(
        f"{ended} of {len(replies)} greedy answers end by the trained end of turn within 64 tokens; the first ones:\n"
    )
    for row, (text, _) in list(zip(held_out, replies, strict=False))[:3]:
        print(f"- {row.messages[-2].content!r}: {text!r}")


def pool(split: str, count: int) -> list[Example]:
    """Rows of the shipped pool with their reference answers."""
    found = [row for _, row in read_source(Seeds(source="builtin"), split)]
    drawn = random.Random(SEED).sample(found, min(count, len(found)))
    return [
        Example(
            (Message("user", row["instruction"]), Message("assistant", str(row["reference"]))),
            f"{split}{number}",
            row["task"],
            hard=row["level"] == "hard",
        )
        for number, row in enumerate(drawn)
    ]


def nll(folder: Path, rows: list[Example]) -> tuple[tuple[float, dict[str, float]], int]:
    """Mean NLL a token over all answers, the same by row, and how many tokens there are."""
    found = answer_nll(folder, [(row.messages[:-1], row.answer) for row in rows], Model(kind="local", dtype="float32"))
    tokens = sum(count for _, count in found)
    by_row = {row.instruction_id: total / count for row, (total, count) in zip(rows, found, strict=True)}
    return (sum(total for total, _ in found) / tokens, by_row), tokens


def answers(folder: Path, rows: list[Example]) -> list[tuple[str, str]]:
    """Greedy answers with the reason each of them ended."""
    engine = TransformersModel(folder, Model(kind="local", dtype="float32"), identity="one round")
    replies = engine.generate([Request(row.messages[:-1], Sampling(max_tokens=64)) for row in rows])
    engine.close()
    return [(reply.text, reply.finish_reason) for reply in replies]


if __name__ == "__main__":
    main()
