"""Verdicts on pairs of answers, in both orders (§3.2, §D.2): by check where an instruction carries one, else by judge.

An unreadable verdict is asked again, then left unscored with its reason and raw text. Whose answer counts as
`student` is the caller's choice: in an evaluation the `teacher` side is the model compared with. Which pairs deserve
further votes is decided in `curriculum.adaptive`.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from tapir.config import Count, Quantile
from tapir.curriculum.adaptive import (
    Noise,
    jaccard,
    needs_another_look,
    overlap_of_a_repeat,
    pooled_noise,
    savings,
)
from tapir.curriculum.checks import RunProgram, parse_check, score_check, verified_score
from tapir.curriculum.difficulty import PairVotes, difficulties, select_hard, threshold, votes_by_pair
from tapir.errors import DataError
from tapir.models.calls import Asks, Coming, Reply, Request, Sampling
from tapir.parts import parts
from tapir.prompts.judge import SCORE_OPENING, Form, judge_messages, score_schema
from tapir.prompts.verdict import read_soft_verdict, read_verdict, read_verdict_json
from tapir.types import Instruction, Order, Receipt, Verdict

ORDERS: tuple[Order, Order] = ("student_first", "teacher_first")
RETRY_TEMPERATURE = 0.7
"""A judge at temperature 0 would say the same unreadable thing again."""
Asking = Literal["text", "schema", "soft"]
Key = tuple[str, str]
"""(instruction, student): several students may be judged on one instruction."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to one instruction; `student` names the author of the first."""

    instruction: Instruction
    student: str
    student_text: str
    teacher_text: str

    @property
    def key(self) -> Key:
        return self.instruction.id, self.student


@dataclass(frozen=True, slots=True)
class JudgePlan:
    """How the judge is asked."""

    asking: Asking
    sampling: Sampling
    prefill: bool
    """The engine can be given the opening of the reply."""
    samples: int = 1
    retries: int = 2
    max_unscored: float = 0.1
    max_pairs: int | None = None
    verified: Literal["instead", "also"] = "instead"
    template: str | None = None
    max_answer_chars: int = 8_000
    name: str = "judge"
    seed: int = 17
    adaptive_delta: float | Quantile | Count | None = None
    """Spend votes beyond the first only on pairs that could still cross this δ; None: `samples` votes for all."""
    run_program: RunProgram | None = None
    """The sandbox for program checks; without one they are skipped and counted, and the judge decides."""


@dataclass
class _Account:
    """What became of the pairs so far."""

    counts: Counter[str] = field(default_factory=lambda: Counter[str]())
    skipped: Counter[str] = field(default_factory=lambda: Counter[str]())
    problems: Counter[str] = field(default_factory=lambda: Counter[str]())

    def add(self, settled: Mapping[Key, list[Verdict]], judged: Mapping[Key, list[Verdict]], cut: int) -> None:
        self.counts.update(found[0].method for found in settled.values())
        self.counts["judged"] += len(judged)
        self.counts["unscored"] += sum(1 for found in judged.values() if not all(v.scored for v in found))
        self.counts["cut"] += cut
        self.problems.update(str(v.problem) for found in judged.values() for v in found if not v.scored)

    @property
    def notes(self) -> dict[str, Any]:
        names = {name: self.counts[name] for name in ("verified", "identical", "judged", "unscored")}
        skipped = dict(sorted(self.skipped.items()))
        return {**names, "answers_cut_for_judge": self.counts["cut"], "checks_skipped": skipped}

    def refuse(self, stage: str, most: float) -> None:
        """Stop where more than this share of the judged pairs could not be read."""
        unread, asked = self.counts["unscored"], self.counts["judged"]
        if asked and unread / asked > most:
            reasons = ", ".join(f"{reason} {count}" for reason, count in self.problems.most_common())
            raise DataError(
                f"{stage}: {unread} of {asked} judged pairs have no readable verdict, more than "
                f"judge.max_unscored = {most:g} ({reasons}); look at them with `tapir show`, then "
                "use a stronger judge, another judge.template, or raise judge.max_unscored"
            )


def judge(pairs: Iterable[Pair], model: Asks, plan: JudgePlan, *, receipt: Receipt) -> Iterator[Verdict]:
    """All verdicts, ordered as the pairs are. More than `max_unscored` of the judged pairs unread stops the stage."""
    account = _Account()
    # A choice among all pairs needs them all at once; otherwise memory holds one part of them.
    whole = plan.max_pairs is not None or plan.adaptive_delta is not None
    for part in [list(pairs)] if whole else parts(pairs):
        receipt.rows_in += len(part)
        settled = {p.key: v for p in part if (v := _without_judge(p, plan, account.skipped)) is not None}
        asked = _within_limit([p for p in part if _needs_judge(settled.get(p.key), plan)], plan)
        votes = _Votes(model, plan, receipt)
        if plan.adaptive_delta is None:
            votes.ask(asked, range(plan.samples))
        elif asked:
            _judge_adaptively(asked, votes, plan.adaptive_delta)
        judged = {p.key: votes.of(p) for p in asked}
        account.add(settled, judged, len(votes.cut))
        account.refuse(receipt.stage, plan.max_unscored)
        for pair in part:
            verdicts = [*settled.get(pair.key, []), *judged.get(pair.key, [])]
            if not verdicts:
                receipt.drop("over_max_pairs")
                continue
            receipt.rows_out += 1
            yield from verdicts
    receipt.notes |= account.notes


def _needs_judge(settled: list[Verdict] | None, plan: JudgePlan) -> bool:
    return settled is None or (settled[0].method == "verified" and plan.verified == "also")


def _within_limit(pairs: list[Pair], plan: JudgePlan) -> list[Pair]:
    if plan.max_pairs is None or len(pairs) <= plan.max_pairs:
        return pairs
    ordered = sorted(pairs, key=lambda p: p.key)
    kept = {p.key for p in random.Random(plan.seed).sample(ordered, plan.max_pairs)}
    return [p for p in pairs if p.key in kept]


def _without_judge(pair: Pair, plan: JudgePlan, skipped: Counter[str]) -> list[Verdict] | None:
    """Verdicts by check, or for identical answers; None where the judge is needed."""
    if pair.instruction.check is not None:
        check = parse_check(pair.instruction.check)
        results = [score_check(check, text, plan.run_program) for text in (pair.student_text, pair.teacher_text)]
        reason = next((r.skipped for r in results if r.skipped), None)
        if reason is None:
            student, teacher = (verified_score(r) for r in results)
            return _both_orders(pair, "verified", student, teacher)
        skipped[reason] += 1
    if pair.student_text == pair.teacher_text:
        # The scores are a convention: only their difference, 0, means something.
        return _both_orders(pair, "identical", 5.5, 5.5)
    return None


def _both_orders(pair: Pair, method: Literal["verified", "identical"], student: float, teacher: float) -> list[Verdict]:
    return [
        Verdict(pair.instruction.id, order, student, teacher, student=pair.student, judge=method, method=method)
        for order in ORDERS
    ]


@dataclass
class _Votes:
    """The judge's votes so far, each asked for again while it cannot be read."""

    model: Asks
    plan: JudgePlan
    receipt: Receipt
    found: dict[tuple[Key, Order], dict[int, Verdict]] = field(default_factory=lambda: {})
    cut: set[Key] = field(default_factory=lambda: set[Key]())
    """Pairs of which the judge saw only a part."""

    def ask(self, pairs: list[Pair], votes: range) -> None:
        """These votes on these pairs in both orders; the unreadable ones again with a fresh sample."""
        wanted: list[tuple[Pair, Order, int]] = [(p, order, vote) for p in pairs for order in ORDERS for vote in votes]
        for attempt in range(self.plan.retries + 1):
            missing = [w for w in wanted if not self._is_read(*w)]
            if not missing:
                return
            # Made as they are asked: a million prompts hold two answers each.
            requests = Coming((self._request(*w, attempt) for w in missing), len(missing))
            replies = self.model.run(requests, stage=self.receipt.stage, accept_truncated=True)
            for (pair, order, vote), (_, reply) in zip(missing, replies, strict=True):
                self.found.setdefault((pair.key, order), {})[vote] = _read(reply, pair, order, vote, self.plan)

    def of(self, pair: Pair) -> list[Verdict]:
        return [verdict for order in ORDERS for _, verdict in sorted(self.found[pair.key, order].items())]

    def _is_read(self, pair: Pair, order: Order, vote: int) -> bool:
        verdict = self.found.get((pair.key, order), {}).get(vote)
        return verdict is not None and verdict.scored

    def _request(self, pair: Pair, order: Order, vote: int, attempt: int) -> Request:
        request, was_cut = _request(pair, order, vote + attempt * self.plan.samples, self.plan, fresh=attempt > 0)
        if was_cut:
            self.cut.add(pair.key)
        return request


def _judge_adaptively(pairs: list[Pair], votes: _Votes, delta: float | Quantile | Count) -> None:
    """A fully judged pilot, one vote an order for the others, then further ones only where δ is within reach (ours)."""
    full = votes.plan.samples
    pilot = random.Random(votes.plan.seed).sample(pairs, min(len(pairs), max(20, min(200, len(pairs) // 10))))
    in_pilot = {p.key for p in pilot}
    votes.ask(pilot, range(full))
    votes.ask([p for p in pairs if p.key not in in_pilot], range(1))
    noise = pooled_noise(_by_name(pilot, votes).values())
    named = {_name(p): p for p in pairs}
    while True:
        seen = _by_name(pairs, votes)
        limit = _limit(pairs, votes, delta)
        again = needs_another_look(seen, limit, noise, max_votes=full)
        if not again:
            break
        for asked in range(1, full):
            rows = [named[n] for n in again if len(seen[n].student_first) == asked]
            votes.ask(rows, range(asked, asked + 1))
    told = savings(seen, full)
    complete = {n: v for n, v in _by_name(pilot, votes).items() if len(v.student_first) == full and v.scored}
    votes.receipt.notes["adaptive"] = {
        "pilot_pairs": len(pilot), "votes": told.calls, "votes_of_full_judging": told.full_calls,
        "votes_saved": told.full_calls - told.calls, "share": round(told.share, 4), "delta": limit,
        "pilot_overlap_with_full": _pilot_overlap(complete, limit, noise, full),
        "pilot_overlap_of_full_with_its_repeat": round(
            overlap_of_a_repeat(complete, limit, noise, random.Random(votes.plan.seed)), 4
        ),
    }  # fmt: skip


def _name(pair: Pair) -> str:
    return "\t".join(pair.key)


def _by_name(pairs: list[Pair], votes: _Votes) -> dict[str, PairVotes]:
    # A pair with an unread vote is the retries' business: asked for more, it would be named for ever.
    read = [p for p in pairs if all(v.scored for v in votes.of(p))]
    found = votes_by_pair(v for p in read for v in votes.of(p))
    return {_name(p): found[p.key] for p in read}


def _limit(pairs: list[Pair], votes: _Votes, delta: float | Quantile | Count) -> float:
    return threshold(difficulties(v for p in pairs for v in votes.of(p)), delta)


def _pilot_overlap(complete: dict[str, PairVotes], delta: float, noise: Noise, full: int) -> float:
    """Jaccard overlap of the hard sets, full judging and adaptive judging, replayed on the pilot's own votes."""
    seen = {name: _first(votes, 1) for name, votes in complete.items()}
    while again := needs_another_look(seen, delta, noise, max_votes=full):
        for name in again:
            seen[name] = _first(complete[name], len(seen[name].student_first) + 1)
    return jaccard(_hard(complete, delta), _hard(seen, delta))


def _first(votes: PairVotes, count: int) -> PairVotes:
    part = PairVotes(votes.kind)
    part.student_first, part.teacher_first = votes.student_first[:count], votes.teacher_first[:count]
    return part


def _hard(pairs: dict[str, PairVotes], delta: float) -> set[str]:
    rows = (
        Verdict(name, order, 0.0, gap)
        for name, votes in pairs.items()
        for order, gaps in zip(ORDERS, (votes.student_first, votes.teacher_first), strict=True)
        for gap in gaps
    )
    return {d.instruction_id for d in select_hard(difficulties(rows), delta)}


def _request(pair: Pair, order: Order, sample: int, plan: JudgePlan, *, fresh: bool) -> tuple[Request, bool]:
    first, second = pair.student_text, pair.teacher_text
    if order == "teacher_first":
        first, second = second, first
    messages, was_cut = judge_messages(
        pair.instruction,
        first,
        second,
        form=form_of(plan),
        template=plan.template,
        max_answer_chars=plan.max_answer_chars,
    )
    sampling = plan.sampling
    if plan.asking == "schema":
        sampling = replace(sampling, schema=score_schema())
    if fresh and sampling.temperature == 0:
        sampling = replace(sampling, temperature=RETRY_TEMPERATURE)
    return Request(messages, sampling, sample=sample, prefill=_opening(plan), row=pair.instruction.id), was_cut


def form_of(plan: JudgePlan) -> Form:
    """What the judge is asked to reply with."""
    return "scores_only" if plan.asking == "soft" else plan.asking


def _opening(plan: JudgePlan) -> str:
    """What the reply is made to begin with; a template of the user's own may ask for another form."""
    return SCORE_OPENING if plan.asking == "soft" and plan.prefill else ""


def _read(reply: Reply, pair: Pair, order: Order, vote: int, plan: JudgePlan) -> Verdict:
    row_id = pair.instruction.id
    if reply.problem:
        verdict = Verdict(row_id, order, problem=reply.problem, raw=reply.text, method=plan.asking)
    elif plan.asking == "soft" and reply.logprobs:
        verdict = read_soft_verdict(reply.text, reply.logprobs, order, row_id, opening=_opening(plan))
    elif plan.asking == "schema":
        verdict = read_verdict_json(reply.text, order, row_id)
    else:
        verdict = replace(read_verdict(_opening(plan) + reply.text, order, row_id), raw=reply.text)
    return replace(verdict, student=pair.student, judge=plan.name, vote=vote)
