"""What one student did on each held-out instruction: the values that means and paired differences are made of.

Pure; the means of one student alone are `heldout`'s, comparisons of several the reports'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tapir.curriculum.checks import RunProgram, parse_check, score_check
from tapir.evaluation.heldout import Fit
from tapir.evaluation.pairwise import outcomes
from tapir.types import Answer, Instruction, Verdict

Metric = Literal["checks_passed", "win_rate", "nll_per_token"]


@dataclass(frozen=True, slots=True)
class Measured:
    """One value; shares and win rates are 0 to 100."""

    instruction_id: str
    metric: str
    value: float


def measured(
    instructions: Sequence[Instruction],
    own: Mapping[str, Answer],
    before: Mapping[str, Answer],
    verdicts: Sequence[Verdict],
    fit: Sequence[Fit],
    run_program: RunProgram | None = None,
) -> list[Measured]:
    """All values that these rows allow; `before` are student_0's answers.

    The win rate is by the verdicts where there are any, else by the checks alone: more of the check met wins.
    """
    mine, theirs = _shares(instructions, own, run_program), _shares(instructions, before, run_program)
    passed = {i: 100.0 if whole else 0.0 for i, (_, whole) in mine.items()}
    judged = {i: won for i, won in outcomes(verdicts).items() if won is not None}
    won = judged or {i: _win(mine[i][0], theirs[i][0]) for i in mine if i in theirs}
    found: dict[Metric, dict[str, float]] = {
        "checks_passed": passed,
        "win_rate": {i: 100 * win for i, win in won.items()},
        "nll_per_token": _likelihoods(fit),
    }
    return [Measured(i, metric, value) for metric, values in found.items() for i, value in sorted(values.items())]


def _likelihoods(fit: Sequence[Fit]) -> dict[str, float]:
    """Each answer's part of the figure over all tokens, scaled so that their mean is that figure.

    A rate by answer would let an answer of one letter count as much as a paragraph, and another number than
    `heldout`'s stand under the same name.
    """
    tokens = sum(f.tokens for f in fit)
    return {f.instruction_id: f.nll * len(fit) / tokens for f in fit}


def _shares(
    instructions: Sequence[Instruction], answers: Mapping[str, Answer], run_program: RunProgram | None
) -> dict[str, tuple[float, bool]]:
    """How much of its check each answer meets, and whether all; what cannot be checked here is left out."""
    found: dict[str, tuple[float, bool]] = {}
    for instruction in instructions:
        if instruction.check is None or instruction.id not in answers:
            continue
        result = score_check(parse_check(instruction.check), answers[instruction.id].text, run_program)
        if not result.skipped:
            found[instruction.id] = (result.share, result.passed)
    return found


def _win(mine: float, theirs: float) -> float:
    return 1.0 if mine > theirs else 0.0 if mine < theirs else 0.5
