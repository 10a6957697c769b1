"""Better answers by better questions (§3.3, appendix C): the teacher answers a refined text, the original is kept.

A refinement that breaks a guard falls back to the original text, counted. An enhanced answer that was cut, failed its
check or lost to the direct one is replaced by the direct answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from tapir.curriculum.refinement_guard import refusal
from tapir.models.calls import Asks, Coming, Request, Sampling
from tapir.prompts.tasks import read_instruction, refine_messages
from tapir.tasks import Taxonomy
from tapir.types import Answer, Instruction, Passes, Receipt, Refinement


def refine(
    instructions: list[Instruction],
    refiner: Asks,
    taxonomy: Taxonomy,
    sampling: Sampling,
    *,
    max_growth: float,
    receipt: Receipt,
) -> Iterator[Refinement]:
    """A refinement for every instruction, in order; the reason of a fallback is in the row and in the notes."""
    fallbacks = Counter[str]()
    asked = (Request(refine_messages(i, taxonomy[i.task or "Others"]), sampling, row=i.id) for i in instructions)
    requests = Coming(asked, len(instructions))
    replies = refiner.run(requests, stage=receipt.stage)
    for instruction, (_, reply) in zip(instructions, replies, strict=True):
        text = read_instruction(reply.text)
        reason = reply.problem or refusal(instruction.text, text, max_growth=max_growth)
        receipt.rows_in += 1
        receipt.rows_out += 1
        if reason:
            fallbacks[reason] += 1
        yield Refinement(instruction.id, instruction.text if reason else text, reason)
    receipt.notes["fallback"] = dict(sorted(fallbacks.items()))


def enhanced_answers(
    instructions: list[Instruction],
    refinements: Mapping[str, Refinement],
    direct: Mapping[str, Answer],
    teacher: Asks,
    sampling: Sampling,
    *,
    passes: Passes,
    round: int,
    receipt: Receipt,
) -> Iterator[Answer]:
    """ŷ for every instruction: the answer to its refined text, else its direct one, else the row is dropped."""
    requests = [Request(i.messages(refinements[i.id].text), sampling, row=i.id) for i in instructions]
    replies = {q.row: r for q, r in teacher.run(requests, stage=receipt.stage)}
    fallback: list[tuple[Instruction, str]] = []
    used = Counter[str]()
    for instruction in instructions:
        reply = replies[instruction.id]
        receipt.rows_in += 1
        reason = reply.problem or _wrong(instruction, reply.text, passes)
        if reason:
            fallback.append((instruction, reason))
            continue
        receipt.rows_out += 1
        yield Answer(
            instruction.id, "teacher", reply.text, "refined", round, 0, reply.finish_reason, reply.completion_tokens
        )
    unanswered = [i for i, _ in fallback if i.id not in direct]
    late = teacher.run((Request(i.messages(), sampling, row=i.id) for i in unanswered), stage=receipt.stage)
    asked = {q.row: r for q, r in late}
    for instruction, reason in fallback:
        known, reply = direct.get(instruction.id), asked.get(instruction.id)
        if known is None and reply is not None and not (reply.problem or _wrong(instruction, reply.text, passes)):
            known = Answer(instruction.id, "teacher", reply.text, finish_reason=reply.finish_reason)
        if known is None:
            receipt.drop(reason)
            continue
        used[reason] += 1
        receipt.rows_out += 1
        yield Answer(instruction.id, "teacher", known.text, "original", round, 0, known.finish_reason, known.tokens)
    receipt.notes["direct_answer_instead"] = dict(sorted(used.items()))


def _wrong(instruction: Instruction, text: str, passes: Passes) -> str | None:
    return "teacher_wrong" if passes(instruction, text) is False else None
