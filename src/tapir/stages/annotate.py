"""The teacher answers instructions directly (y of §3.2), and the student answers them too.

A bad reply costs its row, with the reason. A teacher's answer that fails the instruction's own check is asked again
and then given up: a wrong answer is never trained on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from tapir.models.calls import Asks, Coming, Reply, Request, Sampling
from tapir.parts import parts
from tapir.types import Answer, Dropped, Instruction, KeepDropped, Passes, Receipt, forget


def requests_for(instructions: Sequence[Instruction], sampling: Sampling, *, sample: int = 0) -> Coming:
    """One request an instruction, with its system turn and history."""
    return Coming((Request(i.messages(), sampling, sample=sample, row=i.id) for i in instructions), len(instructions))


def answer_of(reply: Reply, instruction_id: str, author: str, *, round: int = 0) -> Answer:
    return Answer(
        instruction_id=instruction_id,
        author=author,
        text=reply.text,
        round=round,
        finish_reason=reply.finish_reason,
        tokens=reply.completion_tokens,
    )


def answer_as_student(
    instructions: Sequence[Instruction], student: Asks, sampling: Sampling, *, author: str, round: int, receipt: Receipt
) -> Iterator[Answer]:
    """The student's answers as they are: empty and truncated ones are judged like any other."""
    for instruction, (_, reply) in zip(
        instructions,
        student.run(
            requests_for(instructions, sampling), stage=receipt.stage, accept_truncated=True, accept_empty=True
        ),
        strict=True,
    ):
        receipt.rows_in += 1
        if reply.problem:
            receipt.drop(reply.problem)
            continue
        receipt.rows_out += 1
        yield answer_of(reply, instruction.id, author, round=round)


def answer_as_teacher(
    instructions: Iterable[Instruction],
    teacher: Asks,
    sampling: Sampling,
    *,
    passes: Passes,
    receipt: Receipt,
    keep_wrong: bool = False,
    dropped: KeepDropped = forget,
) -> Iterator[Answer]:
    """The teacher's direct answers; a wrong one is asked once more, then dropped as `teacher_wrong`.

    With `keep_wrong` (held-out sets, which nobody trains on) the answer stays as it is.
    """
    for part in parts(instructions):
        yield from _answered(part, teacher, sampling, passes, receipt, keep_wrong, dropped)


def _answered(
    part: list[Instruction],
    teacher: Asks,
    sampling: Sampling,
    passes: Passes,
    receipt: Receipt,
    keep_wrong: bool,
    dropped: KeepDropped,
) -> Iterator[Answer]:
    again: list[Instruction] = []
    for instruction, (_, reply) in zip(
        part, teacher.run(requests_for(part, sampling), stage=receipt.stage), strict=True
    ):
        receipt.rows_in += 1
        if reply.problem:
            receipt.drop(reply.problem)
            dropped(Dropped(reply.problem, reply.text, instruction.id))
        elif not keep_wrong and passes(instruction, reply.text) is False:
            again.append(instruction)
        else:
            receipt.rows_out += 1
            yield answer_of(reply, instruction.id, "teacher")
    warm = replace(sampling, temperature=sampling.temperature or 0.7)
    for instruction, (_, reply) in zip(
        again, teacher.run(requests_for(again, warm, sample=1), stage=receipt.stage), strict=True
    ):
        if reply.problem or passes(instruction, reply.text) is False:
            receipt.drop(reply.problem or "teacher_wrong")
            dropped(Dropped(reply.problem or "teacher_wrong", reply.text, instruction.id))
        else:
            receipt.rows_out += 1
            yield answer_of(reply, instruction.id, "teacher")


def keep_answers(
    instructions: Iterable[Instruction],
    given: Mapping[str, Answer],
    *,
    passes: Passes,
    receipt: Receipt,
    dropped: KeepDropped = forget,
) -> Iterator[Answer]:
    """The answers that came with the pool; an instruction without one, or with a wrong one, is dropped."""
    for instruction in instructions:
        receipt.rows_in += 1
        answer = given.get(instruction.id)
        if answer is None:
            receipt.drop("no_answer")
            dropped(Dropped("no_answer", "", instruction.id))
        elif passes(instruction, answer.text) is False:
            receipt.drop("teacher_wrong")
            dropped(Dropped("teacher_wrong", answer.text, instruction.id))
        else:
            receipt.rows_out += 1
            yield replace(answer, author="teacher")
