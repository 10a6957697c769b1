"""`tapir refiner …`: annotate, fine-tune, and measure a small refiner against the one it learnt from (appendix C)."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from tapir.config import Model, Role
from tapir.curriculum.statistics import wilson
from tapir.errors import DataError
from tapir.models.calls import Request, Sampling
from tapir.models.resolve import resolve
from tapir.prompts.tasks import plain_refine_messages, refine_messages
from tapir.stages import judge as judging
from tapir.stages import refine as refining
from tapir.stages import train as training
from tapir.stages.distil_refiner import chosen, refiner_examples, write_mark
from tapir.steps.rounds import MAX_REFINED_TOKENS
from tapir.store.tables import sync_folder, write_rows
from tapir.types import Instruction, Receipt, Refinement, Verdict
from tapir.wiring import Session

HELD_OUT = "held_out.jsonl"
STAGE = "refiner"


def train_refiner(session: Session, rows: Sequence[Instruction], out: Path, receipt: Receipt) -> dict[str, Any]:
    """A trained refiner in the folder `out`, which appears whole or not at all; returns what is written beside it.

    Killed and called again it goes on: annotations come from the ledger, training from its last checkpoint.
    """
    if out.exists():
        raise DataError(f"{out} exists already; delete it to train this refiner again")
    recipe, settings = session.recipe, session.recipe.refiner
    annotate, held_out = chosen(rows, settings.rows, settings.held_out, random.Random(recipe.seed))
    refinements = annotated(session, annotate, Receipt(STAGE))
    examples = refiner_examples(annotate, refinements, session.taxonomy, receipt)
    if not examples:
        raise DataError(
            f"none of {len(annotate)} annotations passed the guards ({_said(receipt.dropped)}); take a stronger "
            "models.refiner_annotator"
        )
    base = Model(kind="local", model=settings.model, revision=settings.revision, chat_template=settings.chat_template)
    start = resolve(base, progress=session.progress.fetching)
    session.close_models()
    partial = out.with_name(f".{out.name}.refiner")
    account = Receipt(STAGE)
    if not (partial / "model").exists():
        training.train(
            start,
            examples,
            partial / "model",
            settings.train,
            student=base,
            seed=recipe.seed,
            trained=session.progress.trained,
            show=session.progress.show,
            receipt=account,
        )
    told = {
        "base": settings.model,
        "base_hash": session.weights_hash(start),
        "annotator": session.model("refiner_annotator").model or session.model("refiner_annotator").kind,
        "annotated": len(annotate),
        "trained_on": len(examples),
        "refused": dict(sorted(receipt.dropped.items())),
        "held_out": len(held_out),
        "training": account.notes,
    }
    write_rows(partial / "model" / HELD_OUT, Instruction, held_out)
    write_mark(partial / "model", told)
    sync_folder(partial / "model")
    (partial / "model").rename(out)
    for left in partial.iterdir():
        left.unlink()
    partial.rmdir()
    return told


def annotated(session: Session, rows: list[Instruction], receipt: Receipt) -> dict[str, Refinement]:
    """The annotator's refinements, from the in-context examples and within the guards."""
    found = refining.refine(
        rows,
        session.caller("refiner_annotator"),
        session.taxonomy,
        _sampling(session, "refiner_annotator"),
        max_growth=session.recipe.refine.max_growth,
        receipt=receipt,
        prompt=refine_messages,
    )
    return {r.instruction_id: r for r in found}


def measure_refiner(session: Session, rows: list[Instruction]) -> dict[str, Any]:
    """How often the judge prefers the teacher's answer to the trained refiner's text over that to the in-context one's.

    The recipe's `refiner` is the trained one, its `refiner_annotator` the other; a text that a guard refused counts
    as the original, as it would in a run. Answers are judged on the original instruction.
    """
    accounts = Receipt(STAGE), Receipt(STAGE)
    other = annotated(session, rows, accounts[0])
    texts = refining.refine(
        rows,
        session.caller("refiner"),
        session.taxonomy,
        _sampling(session, "refiner"),
        max_growth=session.recipe.refine.max_growth,
        receipt=accounts[1],
        prompt=plain_refine_messages,
    )
    own = {r.instruction_id: r for r in texts}
    answers = [_answers(session, rows, refinements) for refinements in (own, other)]
    pairs = [
        judging.Pair(i, "trained_refiner", answers[0][i.id], answers[1][i.id])
        for i in rows
        if i.id in answers[0] and i.id in answers[1]
    ]
    # What cannot be read is part of the result here and stops nothing.
    plan = replace(session.judge_plan("judge"), max_pairs=None, max_unscored=1.0, adaptive_delta=None)
    verdicts = list(judging.judge(pairs, session.caller("judge"), plan, receipt=Receipt(STAGE)))
    return {
        "instructions": len(rows),
        "fallback_trained": accounts[1].notes["fallback"],
        "fallback_in_context": accounts[0].notes["fallback"],
        "same_text": sum(own[i.id].text == other[i.id].text for i in rows),
        **win_rate(verdicts),
    }


def win_rate(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Share of instructions on which the first side wins, ties as half, with its 95 % interval; unread ones apart."""
    gaps: dict[str, list[float]] = {}
    unread = {v.instruction_id for v in verdicts if not v.scored}
    for verdict in verdicts:
        # Half a verdict is none: the order that was read would decide.
        if verdict.instruction_id not in unread:
            gaps.setdefault(verdict.instruction_id, []).append(verdict.mfd)
    means = {i: -fmean(found) for i, found in sorted(gaps.items())}
    wins = [1.0 if gap > 0 else 0.0 if gap < 0 else 0.5 for gap in means.values()]
    if not wins:
        return {"win_rate": None, "n": 0, "unread": len(unread)}
    low, high = wilson(sum(wins), len(wins))
    return {"win_rate": fmean(wins), "low": low, "high": high, "n": len(wins), "unread": len(unread)}


def _answers(session: Session, rows: list[Instruction], refinements: Mapping[str, Refinement]) -> dict[str, str]:
    """The teacher's answers to refined texts."""
    sampling = session.sampling("teacher", "writing")
    requests = [Request(i.messages(refinements[i.id].text), sampling, row=i.id) for i in rows]
    replies = session.caller("teacher").run(requests, stage=STAGE)
    return {q.row: r.text for q, r in replies if not r.problem}


def _sampling(session: Session, role: Role) -> Sampling:
    return replace(session.sampling(role, "judging"), max_tokens=MAX_REFINED_TOKENS)


def _said(counts: Counter[str]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in counts.most_common())
