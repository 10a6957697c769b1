"""Task types in a run: who labels, by the recipe, and what the labels depend on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tapir.models.classifier import identity
from tapir.stages import classify as classifying
from tapir.steps.common import model_mark, plain, source_mark
from tapir.types import Instruction, Receipt
from tapir.wiring import Session

MAX_LABEL_TOKENS = 80


def labelled(session: Session, instructions: Sequence[Instruction], receipt: Receipt) -> Iterator[Instruction]:
    """Every instruction with its task type, as the recipe wants it."""
    settings = session.recipe.classify
    if settings.by == "keep":
        return classifying.keep_labels(instructions, session.taxonomy, receipt=receipt)
    if session.classifier is None or len(instructions) < settings.small_pool:
        receipt.notes["labelled_by"] = {"teacher": len(instructions)}
        return by_teacher(session, instructions, receipt)
    return classifying.classify_with(
        instructions,
        session.classifier,
        lambda rows, account: by_teacher(session, rows, account),
        confidence=settings.confidence,
        receipt=receipt,
    )


def by_teacher(session: Session, instructions: Sequence[Instruction], receipt: Receipt) -> Iterator[Instruction]:
    """The teacher's labels."""
    return classifying.classify(
        instructions,
        session.caller("teacher"),
        session.taxonomy,
        replace(session.sampling("teacher", "judging"), max_tokens=MAX_LABEL_TOKENS),
        structured=session.model("teacher").structured == "schema",
        retries=session.recipe.classify.retries,
        receipt=receipt,
    )


def label_mark(session: Session) -> list[Any]:
    """What the labels of this recipe depend on; a classifier that was trained again makes them stale."""
    recipe = session.recipe
    return [
        plain(recipe.classify),
        recipe.taxonomy and source_mark(recipe.taxonomy),
        model_mark(session, "teacher"),
        *classifier_mark(session),
    ]


def classifier_mark(session: Session) -> list[str]:
    """The identity of the classifier that labels; nothing where none does."""
    settings = session.recipe.classify
    return [identity(Path(settings.classifier))] if settings.by == "classifier" and settings.classifier else []
