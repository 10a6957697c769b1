"""Held-out results of one student: checks passed, win rate against student_0, judged score, fit to the teacher.

Pure functions on rows; every number has its interval, and a difference inside the noise is called so.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from tapir.curriculum.checks import RunProgram, parse_check, score_check
from tapir.curriculum.comparison import Difference
from tapir.curriculum.statistics import bootstrap_mean, bootstrap_ratio, paired_p_value, wilson
from tapir.evaluation.pairwise import outcomes
from tapir.types import Answer, Instruction, Order, Result, Verdict


@dataclass(frozen=True, slots=True)
class Fit:
    """How well a student predicts one teacher answer: the sum of negative log-likelihoods over its tokens."""

    instruction_id: str
    student: str
    nll: float
    tokens: int


def fits(name: str, pairs: Sequence[tuple[Instruction, str]], scores: Sequence[tuple[float, int]]) -> list[Fit]:
    """Rows from what the engine measured, in the same order."""
    return [Fit(i.id, name, nll, tokens) for (i, _), (nll, tokens) in zip(pairs, scores, strict=True) if tokens]


def results(
    name: str,
    instructions: Sequence[Instruction],
    answers: Mapping[str, Answer],
    verdicts: Sequence[Verdict],
    fit: Sequence[Fit],
    fit_before: Sequence[Fit],
    *,
    seed: int,
    run_program: RunProgram | None = None,
) -> list[Result]:
    """All results that these rows allow; what was not measured is not there."""
    rng = random.Random(seed)
    found = [
        _checks_passed(name, instructions, answers, run_program),
        *_comparison(name, verdicts, rng),
        *_fit(name, fit, fit_before, rng),
    ]
    return [r for r in found if r is not None]


def _checks_passed(
    name: str,
    instructions: Sequence[Instruction],
    answers: Mapping[str, Answer],
    run_program: RunProgram | None,
) -> Result | None:
    outcomes: list[bool] = []
    missing = 0
    for instruction in instructions:
        if instruction.check is None:
            continue
        answer = answers.get(instruction.id)
        if answer is None:
            missing += 1
            continue
        result = score_check(parse_check(instruction.check), answer.text, run_program)
        if result.skipped:
            missing += 1
        else:
            outcomes.append(result.passed)
    if not outcomes:
        return None
    share = 100 * fmean(outcomes)
    low, high = (100 * bound for bound in wilson(sum(outcomes), len(outcomes)))
    sentence = f"{name} passes {share:.1f} % of {len(outcomes)} held-out checks (95 % CI {low:.1f} to {high:.1f})"
    return Result(name, "checks_passed", share, len(outcomes), low, high, missing, None, sentence)


def against_teacher(name: str, verdicts: Sequence[Verdict], *, seed: int) -> list[Result]:
    """Win rate over the teacher's own answers, where the recipe asks for it."""
    rate = _win_rate("teacher_win_rate", name, "teacher", verdicts, random.Random(seed))
    return [rate] if rate else []


def _comparison(name: str, verdicts: Sequence[Verdict], rng: random.Random) -> list[Result]:
    """Win rate and mean scores from verdicts in which student_0 stands in the teacher's place."""
    rate = _win_rate("win_rate", name, "student_0", verdicts, rng)
    if rate is None:
        return []
    made = [rate]
    scores = judged_scores(verdicts)
    read = [pair for pair in scores.values() if pair is not None]
    if read:
        mine, theirs = fmean(s for s, _ in read), fmean(t for _, t in read)
        missing = len(scores) - len(read)
        made.append(Result(name, "judge_score", mine, len(read), missing=missing, against="student_0"))
        made.append(Result("student_0", "judge_score", theirs, len(read), missing=missing, against=name))
    return made


def judged_scores(verdicts: Iterable[Verdict]) -> dict[str, tuple[float, float] | None]:
    """By instruction: the judge's mean score of each side over both orders, the student's first.

    None without equally many readable votes in each order: the place of an answer would decide.
    """
    votes: dict[str, dict[Order, list[tuple[float, float]]]] = {}
    for v in verdicts:
        if v.method not in ("verified", "identical"):
            orders = votes.setdefault(v.instruction_id, {"student_first": [], "teacher_first": []})
            if v.student_score is not None and v.teacher_score is not None:
                orders[v.order].append((v.student_score, v.teacher_score))
    return {i: _means(orders["student_first"], orders["teacher_first"]) for i, orders in sorted(votes.items())}


def _means(first: Sequence[tuple[float, float]], second: Sequence[tuple[float, float]]) -> tuple[float, float] | None:
    if not first or len(first) != len(second):
        return None
    both = [*first, *second]
    return fmean(s for s, _ in both), fmean(t for _, t in both)


def _win_rate(metric: str, name: str, against: str, verdicts: Sequence[Verdict], rng: random.Random) -> Result | None:
    found = outcomes(verdicts)
    wins = [o for o in found.values() if o is not None]
    if not wins:
        return None
    rate = 100 * fmean(wins)
    # Of equal outcomes a bootstrap has nothing to draw from; it would call three wins of three certain.
    certain = len(set(wins)) == 1
    bounds = wilson(sum(wins), len(wins)) if certain else bootstrap_mean(wins, rng)
    low, high = (100 * bound for bound in bounds)
    noise = "" if low > 50 or high < 50 else "; a difference inside the noise"
    verb = "beats" if rate > 50 else "ties with" if rate == 50 else "falls behind"
    sentence = (
        f"{name} {verb} {_SAID.get(against, against)}: win rate {rate:.1f} % on {len(wins)} prompts "
        f"(95 % CI {low:.1f} to {high:.1f}{noise})"
    )
    return Result(name, metric, rate, len(wins), low, high, len(found) - len(wins), against, sentence)


_SAID = {"teacher": "the teacher"}


def change_per_token(now: Sequence[Fit], before: Sequence[Fit], rng: random.Random) -> Difference | None:
    """The change of the negative log-likelihood per token over the answers that both have, paired by answer.

    Over all tokens together, like the two figures that it lies between; an answer of one letter weighs little.
    """
    mine, theirs = ({f.instruction_id: f for f in found} for found in (now, before))
    paired = [(f, theirs[i]) for i, f in mine.items() if i in theirs]
    if not paired:
        return None
    tokens = [f.tokens for f, _ in paired]
    # A model with another tokenizer makes another number of tokens of the same answers.
    share = sum(tokens) / sum(b.tokens for _, b in paired)
    gaps = [f.nll - share * b.nll for f, b in paired]
    low = high = p = None
    if len(gaps) > 1:
        low, high = bootstrap_ratio(gaps, tokens, rng)
        p = paired_p_value(gaps, rng)
    return Difference(sum(gaps) / sum(tokens), len(gaps), low, high, p, unpaired=len(mine.keys() ^ theirs.keys()))


def _fit(name: str, fit: Sequence[Fit], before: Sequence[Fit], rng: random.Random) -> list[Result]:
    if not fit:
        return []
    value = sum(f.nll for f in fit) / sum(f.tokens for f in fit)
    found = [Result(name, "nll_per_token", value, len(fit))]
    change = change_per_token(fit, before, rng)
    if change is None:
        return found
    certain = "one answer, too few for an interval"
    if change.low is not None:
        certain = f"95 % CI {change.low:+.3f} to {change.high:+.3f}"
    noise = "; a difference inside the noise" if change.noise else ""
    sentence = (
        f"{name}'s negative log-likelihood per token on the teacher's held-out answers changes by {change.value:+.3f} "
        f"against student_0 ({certain}{noise})"
    )
    missing = len(fit) - change.n
    changed = Result(
        name, "nll_change", change.value, change.n, change.low, change.high, missing, "student_0", sentence
    )
    return [*found, changed]
