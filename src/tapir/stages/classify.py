"""Each instruction's task type (§3.3): by the teacher (Table 6's role), or by a distilled classifier where it is sure
and the teacher where it is not (footnote 3).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Protocol

from tapir.curriculum.hygiene import OffType
from tapir.errors import ModelError
from tapir.models.calls import Asks, Coming, Request, Sampling
from tapir.models.classifier import Guess
from tapir.parts import parts
from tapir.prompts.tasks import classify_messages, label_schema, read_label
from tapir.tasks import OTHERS, Taxonomy
from tapir.types import Instruction, Receipt


def classify(
    instructions: Iterable[Instruction],
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
    unsettled = 0
    for part in parts(instructions):
        labels = _ask(part, teacher, taxonomy, sampling, 0, receipt)
        for attempt in range(1, retries + 1):
            unknown = [i for i in part if labels.get(i.id) is None]
            if unknown:
                warm = replace(sampling, temperature=sampling.temperature or 0.7)
                labels |= _ask(unknown, teacher, taxonomy, warm, attempt, receipt)
        for instruction in part:
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


def keep_labels(instructions: Iterable[Instruction], taxonomy: Taxonomy, *, receipt: Receipt) -> Iterator[Instruction]:
    """The labels that came with the rows; a missing or unknown one becomes `Others`, counted in the notes."""
    unknown = 0
    for instruction in instructions:
        label = taxonomy.read_label(instruction.task or "")
        unknown += label is None
        receipt.rows_in += 1
        receipt.rows_out += 1
        yield replace(instruction, task=label or OTHERS)
    receipt.notes["unknown_label"] = unknown


class Guesses(Protocol):
    """A classifier as this stage sees it."""

    labels: tuple[str, ...]

    def guesses(self, instructions: Sequence[Instruction]) -> Iterator[Guess]: ...


AskTeacher = Callable[[list[Instruction], Receipt], Iterator[Instruction]]
"""The teacher's labels for these rows, in order, accounted for in a receipt of their own."""


def classify_with(
    instructions: Sequence[Instruction],
    classifier: Guesses,
    ask_teacher: AskTeacher | None,
    *,
    confidence: float,
    receipt: Receipt,
) -> Iterator[Instruction]:
    """Every instruction with the classifier's label at `confidence` and above, and with the teacher's below it.

    Without a teacher the classifier's word is taken everywhere. The notes say who labelled how many.
    """
    counts, unknown = Counter[str](), 0
    coming = classifier.guesses(instructions)
    for part in parts(instructions):
        guesses = list(islice(coming, len(part)))
        unsure = [i for i, g in zip(part, guesses, strict=True) if g.confidence < confidence]
        account = Receipt(receipt.stage)
        # A teacher with nothing to say is not even opened: its weights may be large.
        asked = {i.id: i.task for i in ask_teacher(unsure, account)} if ask_teacher and unsure else {}
        counts.update(classifier=len(part) - len(asked), teacher=len(asked), unsure=len(unsure))
        unknown += account.notes.get("unknown_label", 0)
        for instruction, guess in zip(part, guesses, strict=True):
            receipt.rows_in += 1
            receipt.rows_out += 1
            yield replace(instruction, task=asked.get(instruction.id) or guess.task)
    receipt.notes["labelled_by"] = {"classifier": counts["classifier"], "teacher": counts["teacher"]}
    receipt.notes["below_confidence"] = counts["unsure"]
    if counts["teacher"]:
        receipt.notes["unknown_label"] = unknown


def check_labels(classifier: Guesses, taxonomy: Taxonomy) -> None:
    """Refuse a classifier that would give labels which the run's taxonomy does not know."""
    strange = [label for label in classifier.labels if label not in taxonomy]
    if strange:
        raise ModelError(
            f"the classifier knows {', '.join(strange)}, which the taxonomy does not; train it on this taxonomy, or "
            "set `taxonomy` to the file beside its weights"
        )


def off_type(classifier: Guesses, confidence: float) -> OffType:
    """Whether the classifier is sure that an instruction is of another type than it says, one that it can tell."""

    def says(instruction: Instruction) -> bool:
        (guess,) = classifier.guesses([instruction])
        return (
            instruction.task in classifier.labels and guess.task != instruction.task and guess.confidence >= confidence
        )

    return says
