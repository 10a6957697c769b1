"""Better answers by better questions (§3.3, appendix C): the teacher answers a refined text, the original is kept.

A refinement that breaks a guard falls back to the original text, counted. An enhanced answer that was cut, is refused
(a failed check, evaluation text, talk of the rewriting) or is not better than the direct one (`better_of`) is replaced
by the direct answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from tapir.curriculum.refinement_guard import refusal
from tapir.models.calls import Asks, Coming, Request, Sampling
from tapir.prompts.tasks import read_instruction, refine_messages
from tapir.tasks import Task, Taxonomy
from tapir.types import Answer, Difficulty, Instruction, Message, Receipt, Refinement

RefusesAnswer = Callable[[Instruction, str], str | None]
"""Why an answer must not be trained on; None where it may."""

AsksFor = Callable[[Instruction, Task], tuple[Message, ...]]
"""The prompt that asks a refiner to rewrite an instruction."""


def refine(
    instructions: Sequence[Instruction],
    refiner: Asks,
    taxonomy: Taxonomy,
    sampling: Sampling,
    *,
    max_growth: float,
    receipt: Receipt,
    prompt: AsksFor = refine_messages,
) -> Iterator[Refinement]:
    """A refinement for every instruction, in order; the reason of a fallback is in the row and in the notes."""
    fallbacks = Counter[str]()
    asked = (Request(prompt(i, taxonomy[i.task or "Others"]), sampling, row=i.id) for i in instructions)
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
    instructions: Sequence[Instruction],
    refinements: Mapping[str, Refinement],
    direct: Mapping[str, Answer],
    teacher: Asks,
    sampling: Sampling,
    *,
    refuses: RefusesAnswer,
    round: int,
    receipt: Receipt,
) -> Iterator[Answer]:
    """ŷ for every instruction: the answer to its refined text, else its direct one, else the row is dropped."""
    requests = Coming(
        (Request(i.messages(refinements[i.id].text), sampling, row=i.id) for i in instructions), len(instructions)
    )
    fallback: list[tuple[Instruction, str]] = []
    used = Counter[str]()
    for instruction, (_, reply) in zip(instructions, teacher.run(requests, stage=receipt.stage), strict=True):
        receipt.rows_in += 1
        reason = reply.problem or refuses(instruction, reply.text)
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
        if known is None and reply is not None and not (reply.problem or refuses(instruction, reply.text)):
            known = Answer(instruction.id, "teacher", reply.text, finish_reason=reply.finish_reason)
        if known is None:
            receipt.drop(reason)
            continue
        used[reason] += 1
        receipt.rows_out += 1
        yield Answer(instruction.id, "teacher", known.text, "original", round, 0, known.finish_reason, known.tokens)
    receipt.notes["direct_answer_instead"] = dict(sorted(used.items()))


def better_of(
    answers: Iterable[Answer], direct: Mapping[str, Answer], found: Iterable[Difficulty], *, receipt: Receipt
) -> list[Answer]:
    """Each enhanced answer where the judge prefers it, else the direct one (Table 5's "Seed (RW)" against "Seed").

    `found` holds the direct answer's score minus the enhanced one's. Without a verdict nothing is known in favour of
    the enhanced answer, so the direct one stays; without a direct answer there is no choice.
    """
    gains = {d.instruction_id: -d.value for d in found}
    counts = Counter[str]()
    kept: list[Answer] = []
    for answer in answers:
        other = direct.get(answer.instruction_id)
        if answer.prompt == "original" or other is None:
            counts["no_choice"] += 1
            kept.append(answer)
            continue
        gain = gains.get(answer.instruction_id)
        counts["unscored" if gain is None else "better" if gain > 0 else "worse" if gain < 0 else "equal"] += 1
        kept.append(answer if gain is not None and gain > 0 else replace(other, prompt="original", round=answer.round))
    receipt.notes["enhanced_against_direct"] = dict(sorted(counts.items()))
    receipt.notes["mean_gain"] = round(fmean(gains.values()), 4) if gains else None
    return kept
