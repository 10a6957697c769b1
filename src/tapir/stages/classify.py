"""The teacher names each instruction's task type (§3.3, Table 6's role)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tapir.models.calls import Asks, Coming, Request, Sampling
from tapir.prompts.tasks import classify_messages, label_schema, read_label
from tapir.tasks import OTHERS, Taxonomy
from tapir.types import Instruction, Receipt


def classify(
    instructions: list[Instruction],
    teacher: Asks,
    taxonomy: Taxonomy,
    sampling: Sampling,
    *,
    structured: bool,
    retries: int,
    receipt: Receipt,
) -> Iterator[Instruction]:
    """Every instruction with its label, in order; one that no reply settles becomes `Others`, counted in the notes."""
    if structured:
        sampling = replace(sampling, schema=label_schema(taxonomy))
    labels = _ask(instructions, teacher, taxonomy, sampling, 0, receipt)
    for attempt in range(1, retries + 1):
        unknown = [i for i in instructions if labels.get(i.id) is None]
        if unknown:
            warm = replace(sampling, temperature=sampling.temperature or 0.7)
            labels |= _ask(unknown, teacher, taxonomy, warm, attempt, receipt)
    unsettled = 0
    for instruction in instructions:
        label = labels.get(instruction.id)
        unsettled += label is None
        receipt.rows_in += 1
        receipt.rows_out += 1
        yield replace(instruction, task=label or OTHERS)
    receipt.notes["unknown_label"] = unsettled


def _ask(
    instructions: list[Instruction],
    teacher: Asks,
    taxonomy: Taxonomy,
    sampling: Sampling,
    sample: int,
    receipt: Receipt,
) -> dict[str, str | None]:
    asked = (Request(classify_messages(i, taxonomy), sampling, sample=sample, row=i.id) for i in instructions)
    requests = Coming(asked, len(instructions))
    replies = teacher.run(requests, stage=receipt.stage, accept_truncated=True)
    return {q.row: None if r.problem else read_label(r.text, taxonomy) for q, r in replies}


def keep_labels(instructions: list[Instruction], taxonomy: Taxonomy, *, receipt: Receipt) -> Iterator[Instruction]:
    """The labels that came with the rows; a missing or unknown one becomes `Others`, counted in the notes."""
    unknown = 0
    for instruction in instructions:
        label = taxonomy.read_label(instruction.task or "")
        unknown += label is None
        receipt.rows_in += 1
        receipt.rows_out += 1
        yield replace(instruction, task=label or OTHERS)
    receipt.notes["unknown_label"] = unknown
