"""Difficulties that need no judge, behind the same rows: answer loss, IFD, and the failure rate of a check.

Owns the arithmetic and the account of rows that have no value. Likelihoods come from whoever has the weights,
answers from the student; what is hard is `select`'s.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

from tapir.curriculum.checks import RunProgram, parse_check, score_check
from tapir.curriculum.difficulty import DECIMALS
from tapir.models.calls import Asks, Coming, Request, Sampling
from tapir.types import Answer, Difficulty, Instruction, Receipt

Likelihood = tuple[float, int]
"""Sum of negative log-likelihoods of an answer's tokens, and their number."""

NOTHING = Instruction("")
"""What an answer is unconditioned on: an empty turn, since a chat model has no likelihood outside its template."""


def by_loss(
    rows: Sequence[Instruction], likelihoods: Sequence[Likelihood], *, student: str, receipt: Receipt
) -> list[Difficulty]:
    """Mean negative log-likelihood a token of the teacher's answer under the student."""
    receipt.rows_in += len(rows)
    values = [_mean(likelihood) for likelihood in likelihoods]
    return _known(rows, values, "loss", student, receipt)


def by_ifd(
    rows: Sequence[Instruction],
    conditioned: Sequence[Likelihood],
    unconditioned: Sequence[Likelihood],
    *,
    student: str,
    receipt: Receipt,
) -> list[Difficulty]:
    """Instruction-following difficulty: loss of the answer given the instruction over its loss given nothing.

    Near 1, the instruction does not help the student to the answer.
    """
    receipt.rows_in += len(rows)
    values: list[float | None] = []
    for given, alone in zip(conditioned, unconditioned, strict=True):
        above, below = _mean(given), _mean(alone)
        values.append(above / below if above is not None and below else None)
    return _known(rows, values, "ifd", student, receipt)


def _mean(likelihood: Likelihood) -> float | None:
    nll, tokens = likelihood
    return nll / tokens if tokens and math.isfinite(nll) else None


def _known(
    rows: Sequence[Instruction], values: Sequence[float | None], kind: str, student: str, receipt: Receipt
) -> list[Difficulty]:
    found = [
        Difficulty(row.id, round(value, DECIMALS), "ifd" if kind == "ifd" else "loss", student, votes=0)
        for row, value in zip(rows, values, strict=True)
        if value is not None
    ]
    receipt.drop("no_likelihood", len(rows) - len(found))
    return found


def by_verifier(
    rows: Sequence[Instruction],
    answers: Mapping[str, Sequence[Answer]],
    *,
    student: str,
    run_program: RunProgram | None,
    receipt: Receipt,
) -> list[Difficulty]:
    """1 − the student's pass rate over its answers; a share of constraints met counts as that share."""
    found: list[Difficulty] = []
    for row in rows:
        receipt.rows_in += 1
        if row.check is None:
            receipt.drop("no_check")
            continue
        results = [score_check(parse_check(row.check), a.text, run_program) for a in answers.get(row.id, ())]
        reason = next((r.skipped for r in results if r.skipped), None if results else "no_answer")
        if reason is not None:
            receipt.drop(reason)
            continue
        failed = round(1 - fmean(r.share for r in results), DECIMALS)
        found.append(Difficulty(row.id, failed, "verifier", student, votes=len(results)))
    return found


def more_answers(
    rows: Sequence[Instruction], model: Asks, sampling: Sampling, samples: range, *, author: str, receipt: Receipt
) -> dict[str, list[Answer]]:
    """Further answers of the student, so that a pass rate is more than one throw; a failed call is left out."""
    found: dict[str, list[Answer]] = {row.id: [] for row in rows}
    for sample in samples:
        requests = Coming((Request(row.messages(), sampling, sample=sample, row=row.id) for row in rows), len(rows))
        replies = model.run(requests, stage=receipt.stage, accept_truncated=True, accept_empty=True)
        for row, (_, reply) in zip(rows, replies, strict=True):
            if reply.problem is None:
                found[row.id].append(Answer(row.id, author, reply.text, sample=sample))
    return found
