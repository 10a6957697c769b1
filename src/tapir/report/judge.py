"""The trust report: how far a run's judge can be trusted, from its own verdicts and from human labels.

Owns reading the run's tables and saying what was found; the numbers are `curriculum.trust`'s and `curriculum.canary`'s.
With a gold file the judge is asked, through the ledger: the first report pays for its verdicts, later ones do not.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from tapir.config import parse_recipe, read_yaml
from tapir.curriculum.canary import CanaryReport, canary_report
from tapir.curriculum.difficulty import difficulties
from tapir.curriculum.statistics import bootstrap_mean
from tapir.curriculum.trust import (
    BOOTSTRAP_ROUNDS,
    Estimate,
    GoldReport,
    Interval,
    TrustReport,
    same_winner,
    self_preference,
    share_interval,
    trust_report,
)
from tapir.errors import DataError, RecipeError
from tapir.report.marked import MarkedReport
from tapir.stages.rescore import Rescored
from tapir.store.rundir import RunDir, write_json
from tapir.store.tables import read_rows, write_rows
from tapir.types import Verdict

VERDICTS = "round_0/06_verdicts"
SECOND = "trust/second_judge.parquet"
"""Verdicts of a second judge on a sample of round 0's pairs; `tapir judge RUN` writes them."""
ABOUT = "trust/second_judge.json"
"""Which verdicts of the run's own judge these stand beside: no step makes them, so no receipt says it."""
AGREEMENT = "trust/gold.json"
"""The judge's agreement with human labels, as last measured, and of which judge it is."""
SEED = 17
HIGH_INCONSISTENCY = 0.3


@dataclass(frozen=True, slots=True)
class Section:
    """One judge on one student."""

    judge: str
    student: str
    against: str
    trust: TrustReport


@dataclass(frozen=True, slots=True)
class SecondJudge:
    """What a second judge says of pairs that the first has judged."""

    self_preference: Estimate
    same_winner: int
    pairs: int


@dataclass(frozen=True, slots=True)
class RunTrust:
    """Everything a run's own files say about its judges."""

    sections: list[Section]
    canaries: dict[str, CanaryReport]
    """By the student they were judged beside."""
    second: SecondJudge | None
    """None where no second judge has seen a sample."""
    rescored: list[Rescored]
    gold: GoldReport | None
    """None where nobody has given human labels."""
    outdated: list[str]
    """What was left out because the run has changed since, and how to make it again."""


def run_trust(run: RunDir) -> RunTrust:
    """Read the verdicts of round 0 and of every evaluation."""
    sections: list[Section] = []
    first = _verdicts(run, f"{VERDICTS}.parquet")
    teacher = answer_lengths(run.root / "round_0/03_teacher_answers.parquet")
    student_0 = answer_lengths(run.root / "round_0/05_student_answers.parquet")
    sections += _sections(first, student_0, teacher, "teacher")
    canaries: dict[str, CanaryReport] = {}
    rescored: list[Rescored] = []
    base = answer_lengths(run.root / "round_0/09_evaluation.answers.parquet")
    for number in run.rounds():
        place = f"round_{number}/{'06' if number else '09'}_evaluation"
        rescored += _table(run, f"{place}.rescored.parquet", Rescored)
        verdicts = _verdicts(run, f"{place}.verdicts.parquet")
        own = answer_lengths(run.root / f"{place}.answers.parquet")
        sections += _sections(verdicts, own, base, "student_0")
        if found := canary_report(verdicts, _verdicts(run, f"{place}.canaries.parquet"), SEED):
            canaries[found.student.author] = found
    old_second, old_gold = second_outdated(run), _agreement_outdated(run)
    second = None if old_second else _second(first, _verdicts(run, SECOND))
    gold = None if old_gold else read_agreement(run)
    return RunTrust(sections, canaries, second, rescored, gold, [line for line in (old_second, old_gold) if line])


def _second(first: list[Verdict], second: list[Verdict]) -> SecondJudge | None:
    if not second:
        return None
    own, other = difficulties(first), difficulties(second)
    same, both = same_winner(own, other)
    return SecondJudge(self_preference(own, other, random.Random(SEED), BOOTSTRAP_ROUNDS), same, both)


def _table(run: RunDir, name: str, row_type: type[Any], without: Sequence[str] = ()) -> list[Any]:
    path = run.root / name
    return list(read_rows(path, row_type, without=without)) if path.exists() else []


def _verdicts(run: RunDir, name: str) -> list[Verdict]:
    return _table(run, name, Verdict, without=("raw",))


def answer_lengths(path: Path) -> dict[str, int]:
    """Characters of each answer, by instruction; empty where the table is not there."""
    if not path.exists():
        return {}
    table = pq.read_table(path, columns=["instruction_id", "text"])
    lengths: Any = pc.utf8_length(table["text"])  # pyright: ignore[reportAttributeAccessIssue]
    return dict(zip(table["instruction_id"].to_pylist(), lengths.to_pylist(), strict=True))


def verdicts_mark(run: RunDir) -> str | None:
    """Stands for the verdicts of round 0 with the judge and the answers that they come from; None while unfinished."""
    receipt = run.step(VERDICTS, "").receipt()
    return None if receipt is None else str(receipt["fingerprint"])


def keep_second(run: RunDir, verdicts: Iterable[Verdict], mark: str) -> int:
    """Leave a second judge's verdicts in the run, with the mark of those that they stand beside."""
    count = write_rows(run.root / SECOND, Verdict, verdicts)
    write_json(run.root / ABOUT, {"verdicts": mark})
    return count


def second_outdated(run: RunDir) -> str | None:
    """Why the second judge's verdicts are not to be compared; None where they may be, or there are none."""
    if not (run.root / SECOND).exists():
        return None
    about = _plain(run.root / ABOUT, "`tapir judge`") if (run.root / ABOUT).exists() else {}
    if (mark := verdicts_mark(run)) is not None and about.get("verdicts") == mark:
        return None
    return "a second judge's verdicts are left out, as they may be on earlier answers: `tapir judge RUN` asks it again"


def keep_agreement(run: RunDir, gold: GoldReport) -> None:
    """Leave the agreement with human labels in the run, where the page finds it."""
    write_json(run.root / AGREEMENT, asdict(gold) | {"made_with": _judge_mark(run)})


def read_agreement(run: RunDir) -> GoldReport | None:
    """The agreement with human labels that the last `tapir report RUN --gold FILE` has found."""
    path = run.root / AGREEMENT
    if not path.exists():
        return None
    plain = _plain(path, "`tapir report --gold`")
    try:
        estimates = {name: _estimate(plain[name]) for name in ("accuracy", "kappa", "same_after_swap")}
        return GoldReport(int(plain["pairs"]), int(plain["unscored"]), **estimates)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); remove it, then `tapir report --gold` makes it") from None


def _agreement_outdated(run: RunDir) -> str | None:
    path = run.root / AGREEMENT
    if not path.exists() or _plain(path, "`tapir report --gold`").get("made_with") == _judge_mark(run):
        return None
    return (
        "the agreement with human labels is left out, as it may be an earlier judge's: "
        "`tapir report RUN --gold FILE` measures it again"
    )


def _judge_mark(run: RunDir) -> dict[str, Any]:
    """Stands for the judge: the one that the recipe names, as asked for the verdicts where there are any."""
    try:
        model = parse_recipe(read_yaml(run.recipe_path), where=str(run.recipe_path)).models.resolved("judge")
        named = model.model_dump(mode="json", include={"kind", "model", "base_url", "weights", "identity", "revision"})
    except RecipeError:
        named = None
    return {"judge": named, "verdicts": verdicts_mark(run)}


def _plain(path: Path, remedy: str) -> dict[str, Any]:
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
        return dict(found)
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); remove it, then {remedy} makes it") from None


def _estimate(plain: dict[str, Any]) -> Estimate:
    interval = plain["interval"]
    return Estimate(plain["value"], (float(interval[0]), float(interval[1])) if interval else None)


def _sections(
    verdicts: list[Verdict], student: dict[str, int], other: dict[str, int], against: str
) -> Iterator[Section]:
    judged = [v for v in verdicts if v.method not in ("verified", "identical")]
    lengths = {i: (student[i], other[i]) for i in student.keys() & other.keys()}
    for judge, name in sorted({(v.judge, v.student) for v in judged}):
        rows = [v for v in judged if (v.judge, v.student) == (judge, name)]
        yield Section(judge, name, against, trust_report(rows, lengths))


def trust_json(found: RunTrust, marked: MarkedReport | None = None) -> dict[str, Any]:
    """The whole trust report as data."""
    return {
        "sections": [_section_json(s) for s in found.sections],
        "canaries": {
            name: {**asdict(r), "reaching": r.reaching, "untold": r.untold} for name, r in found.canaries.items()
        },
        "second_judge": asdict(found.second) if found.second else None,
        "rescored": distributions(found.rescored),
        "gold": asdict(found.gold) if found.gold else None,
        "outdated": found.outdated,
        "marks": asdict(marked) if marked else None,
    }


def _section_json(section: Section) -> dict[str, Any]:
    plain = asdict(section)
    trust, length = section.trust, section.trust.length
    plain["trust"] |= {
        "order_inconsistent_interval": trust.order_inconsistent_interval,
        "ties_interval": trust.ties_interval,
    }
    plain["trust"]["length"]["longer_wins_interval"] = length.longer_wins_interval
    return plain


def trust_lines(found: RunTrust, marked: MarkedReport | None = None) -> Iterator[str]:
    """The trust report for a terminal."""
    if not found.sections:
        yield "no pair of this run was judged: its verdicts come from checks, or difficulty needs no judge"
    for section in found.sections:
        yield f"{section.judge} on {section.student} against {section.against}"
        yield from (f"  {line}" for line in _section_lines(section.trust))
    yield from canary_lines(found)
    if found.second is not None:
        yield from second_lines(found.second)
    yield from rescored_lines(found.rescored)
    if found.gold is not None:
        yield from gold_lines(found.gold)
    yield from found.outdated
    if marked is not None:
        people = "one person" if marked.people == 1 else f"{marked.people} people"
        yield f"marks of {people} on this run's own pairs, {marked.blind} of them made blind:"
        yield from gold_lines(marked.agreement)


def _section_lines(trust: TrustReport) -> Iterator[str]:
    reasons = ", ".join(f"{reason} in {count} verdicts" for reason, count in sorted(trust.problems.items()))
    unread = share(trust.unscored / trust.pairs, share_interval(trust.unscored / trust.pairs, trust.pairs))
    yield f"{trust.pairs} pairs judged, {trust.unscored} unscored, {unread}" + (f"; {reasons}" if reasons else "")
    if trust.order_inconsistent is not None:
        bad = "; do not lean on this judge alone" if trust.order_inconsistent > HIGH_INCONSISTENCY else ""
        said = share(trust.order_inconsistent, trust.order_inconsistent_interval)
        yield f"the order changes the verdict in {said} of pairs{bad}"
    if trust.order_shift is not None:
        yield (
            f"the gap grows by {points(trust.order_shift, trust.order_shift_interval)} points for the teacher's side "
            f"when it stands first; ties: {share(trust.ties, trust.ties_interval)}"
        )
    length = trust.length
    if length.longer_wins is not None:
        said = share(length.longer_wins, length.longer_wins_interval)
        yield f"the longer answer wins in {said} of {length.pairs} decided pairs"
    if length.correlation is not None:
        yield f"score gap and length gap correlate at {points(length.correlation, length.correlation_interval)}"
    if trust.scores:
        most = max(trust.scores.values())
        yield from (f"{score:>3} {'█' * round(30 * n / most)} {n}" for score, n in trust.scores.items())


def second_lines(second: SecondJudge) -> Iterator[str]:
    """How a second judge differs from the first."""
    if not second.pairs:
        yield "the second judge has scored none of the pairs that the first has"
        return
    said = share(second.same_winner / second.pairs, share_interval(second.same_winner / second.pairs, second.pairs))
    yield f"a second judge names the same winner in {said} of {second.pairs} pairs"
    preference = second.self_preference
    if preference.value is not None:
        noise = preference.interval is not None and preference.interval[0] <= 0 <= preference.interval[1]
        yield (
            f"self-preference: the judge puts the teacher {points(preference.value, preference.interval)} points "
            f"further above the student than the second judge does{'; inside the noise' if noise else ''}"
        )


def canary_lines(found: RunTrust) -> Iterator[str]:
    """What the judge makes of answers that say nothing."""
    for report in found.canaries.values():
        told = ", ".join(f"{c.author.removeprefix('canary_')} {c.value:+.1f}" for c in report.canaries)
        student = report.student
        bounds = f" ({student.low:+.1f} to {student.high:+.1f})" if student.interval else ""
        yield f"null canaries, points above student_0's answers: {told}; {student.author} {student.value:+.1f}{bounds}"
        if report.reaching:
            named = ", ".join(name.removeprefix("canary_") for name in report.reaching)
            pairs = min(c.pairs for c in report.canaries)
            yield (
                f"the judge can't be trusted here: answers that say nothing ({named}) reach {student.author} "
                f"within the interval of {pairs} prompts"
            )
        if report.untold:
            named = ", ".join(name.removeprefix("canary_") for name in report.untold)
            yield (
                f"whether they ({named}) reach {student.author} can't be told: the same gap on every prompt has no "
                "interval; set `judge.canary` higher"
            )


def distributions(rows: Iterable[Rescored]) -> list[dict[str, Any]]:
    """Share at zero, share above δ and mean, by round, group and kind; of the fixed sample alone."""
    groups: dict[tuple[int, str, str], list[Rescored]] = {}
    for row in rows:
        if row.sampled:
            groups.setdefault((row.round, row.group, row.kind), []).append(row)
    return [
        {
            "round": number, "group": group, "kind": kind, "rows": len(found),
            "zero": fmean(r.zero for r in found), "hard": fmean(r.hard for r in found),
            "mean": fmean(r.value for r in found),
            "mean_interval": bootstrap_mean([r.value for r in found], random.Random(SEED)) if len(found) > 1 else None,
        }
        for (number, group, kind), found in sorted(groups.items())
    ]  # fmt: skip


def rescored_lines(rows: Iterable[Rescored]) -> Iterator[str]:
    """Difficulty round by round (Figure 6: the share at zero grows)."""
    for d in distributions(rows):
        zero, hard = (share(d[name], share_interval(d[name], d["rows"])) for name in ("zero", "hard"))
        yield (
            f"student_{d['round']} on {d['rows']} {d['group'].replace('_', '-')} rows ({d['kind']}): at zero {zero}, "
            f"hard {hard}, mean {points(d['mean'], d['mean_interval'])}"
        )


def gold_lines(gold: GoldReport) -> Iterator[str]:
    """Agreement with human labels."""
    yield f"gold labels: {gold.pairs} pairs read, {gold.unscored} unscored"
    for name, estimate in agreements(gold):
        yield f"  {name}: {estimated(estimate)}"


def agreements(gold: GoldReport) -> tuple[tuple[str, Estimate], ...]:
    """The numbers of a gold report by their names."""
    return (
        ("accuracy", gold.accuracy), ("Cohen's kappa", gold.kappa), ("same after swapping", gold.same_after_swap)
    )  # fmt: skip


def estimated(estimate: Estimate) -> str:
    """A number with its interval, in words."""
    if estimate.value is None:
        return "unknown"
    low_high = f" (95 % CI {estimate.interval[0]:.2f} to {estimate.interval[1]:.2f})" if estimate.interval else ""
    return f"{estimate.value:.2f}{low_high}"


def points(value: float | None, interval: Interval | None = None) -> str:
    """A signed number of points with its interval."""
    if value is None:
        return "unknown"
    return f"{value:+.2f}" + (f" ({interval[0]:+.2f} to {interval[1]:+.2f})" if interval else "")


def share(value: float | None, interval: Interval | None = None) -> str:
    """A share in per cent with its interval."""
    if value is None:
        return "unknown"
    return f"{100 * value:.0f} %" + (f" ({100 * interval[0]:.0f} to {100 * interval[1]:.0f})" if interval else "")
