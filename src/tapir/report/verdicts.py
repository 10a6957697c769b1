"""The page's part on the judge: how far its verdicts can be trusted. The numbers are `report.judge`'s."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from tapir.curriculum.trust import Interval, TrustReport, share_interval
from tapir.report.charts import figure, histogram
from tapir.report.facts import Facts
from tapir.report.findings import absent, canary_doubts
from tapir.report.judge import agreements, second_lines
from tapir.report.markup import Child, Element, el, foreign, table


def judge(facts: Facts) -> list[Element]:
    """How far the judge can be trusted: by its own verdicts, by canaries, by a second judge, by people."""
    if not facts.methods:
        return [absent("nothing has been judged")]
    methods = sorted({m for c in facts.methods.values() for m in c})
    parts = [el("p", sentence) for sentence in _sentences(facts)]
    by_method = [[name, *(f"{c[m]:,}" for m in methods)] for name, c in facts.methods.items()]
    parts.append(table(("verdicts", *methods), by_method, caption="Verdicts by method"))
    if not facts.judgements:
        said = "No verdict came from a judge: checks and identical answers settled all."
        return [*parts, el("p", said, class_="note")]
    parts += [*_pairs(facts), *_scores(facts), *_problems(facts), *_canaries(facts), *_people(facts)]
    return parts


def _sentences(facts: Facts) -> Iterator[str]:
    read = changed = 0
    for report in facts.judgements.values():
        if report.order_inconsistent is not None:
            read += report.scored
            changed += round(report.scored * report.order_inconsistent)
    if read:
        low, high = share_interval(changed / read, read) or (0.0, 1.0)
        yield (
            f"The judge changed its verdict with the order of the answers in {changed:,} of {read:,} judged pairs "
            f"({100 * changed / read:.0f} %, 95 % CI {100 * low:.0f} to {100 * high:.0f}). Every score is the mean "
            "over both orders."
        )
    yield from canary_doubts(facts)
    second = second_lines(facts.trust.second) if facts.trust.second is not None else ()
    for line in (*second, *facts.trust.outdated):
        yield f"{line[0].upper()}{line[1:]}."


def _pairs(facts: Facts) -> Iterator[Element]:
    head = ("", "pairs", "unscored", "changed with order", "first place helps by", "ties", "longer answer wins",
            "score and length gap correlate")  # fmt: skip
    data = [[name, *_cells(report)] for name, report in facts.judgements.items()]
    yield table(head, data, caption="Judged pairs")
    yield el(
        "p",
        "Under a number its 95 % interval. That longer answers win shows bias only as far as they are no better.",
        class_="note",
    )


def _cells(report: TrustReport) -> list[Child]:
    length = report.length
    return [
        f"{report.pairs:,}",
        _unscored(report),
        _share(report.order_inconsistent, report.order_inconsistent_interval),
        _points(report.order_shift, report.order_shift_interval),
        _share(report.ties, report.ties_interval),
        _share(length.longer_wins, length.longer_wins_interval),
        _points(length.correlation, length.correlation_interval),
    ]


def _unscored(report: TrustReport) -> Child:
    low, high = share_interval(report.unscored / report.pairs, report.pairs) or (0.0, 1.0)
    share = 100 * report.unscored / report.pairs
    return el("span", f"{report.unscored:,}", el("small", f"{share:.0f} %, {100 * low:.0f} to {100 * high:.0f}"))


def _share(value: float | None, interval: Interval | None) -> Child:
    if value is None:
        return "–"
    bounds = f"{100 * interval[0]:.0f} to {100 * interval[1]:.0f}" if interval else None
    return el("span", f"{100 * value:.0f} %", el("small", bounds) if bounds else None)


def _points(value: float | None, interval: Interval | None) -> Child:
    if value is None:
        return "–"
    bounds = f"{_signed(interval[0])} to {_signed(interval[1])}" if interval else None
    return el("span", _signed(value), el("small", bounds) if bounds else None)


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def _scores(facts: Facts) -> Iterator[Element]:
    name, first = next(iter(facts.judgements.items()))
    scores = {float(s): n for s, n in first.scores.items()}
    if scores:
        said = f"Scores that the judge gave in the {name}, both sides together"
        chart = histogram("Scores given", said, scores, width=1.0, threshold=None, axis="score, 1 to 10")
        yield figure(chart, said, ("score", "times"), [[f"{s:g}", f"{n:,}"] for s, n in sorted(scores.items())])


def _problems(facts: Facts) -> Iterator[Element]:
    problems = sum((Counter(r.problems) for r in facts.judgements.values()), Counter[str]())
    if problems:
        listed = [[foreign(p.replace("_", " "), 80), f"{n:,}"] for p, n in problems.most_common()]
        yield table(("reason", "verdicts"), listed, caption="Verdicts that could not be read")


def _canaries(facts: Facts) -> Iterator[Element]:
    rows: list[list[Child]] = []
    for name, report in facts.trust.canaries.items():
        for margin in (report.student, *report.canaries):
            who = "the student itself" if margin.author == name else margin.author.replace("_", " ")
            reaches = "reaches the student" if margin.author in report.reaching else ""
            value = _points(margin.value, margin.interval)
            rows.append([f"beside {name}", foreign(who, 60), value, f"{margin.pairs:,}", reaches])
    if rows:
        caption = "Null canaries: points that the judge puts an answer above student_0's"
        head = ("", "answer", "points", "pairs", "")
        yield table(head, rows, caption=caption)


def _people(facts: Facts) -> Iterator[Element]:
    gold = facts.trust.gold
    if gold is None:
        return
    rows: list[list[Child]] = []
    for name, estimate in agreements(gold):
        bounds = estimate.interval
        cell = "–" if bounds is None else f"{bounds[0]:.2f} to {bounds[1]:.2f}"
        rows.append([name, "–" if estimate.value is None else f"{estimate.value:.2f}", cell])
    caption = f"Agreement with human labels on {gold.pairs:,} pairs ({gold.unscored:,} more could not be read)"
    yield table(("", "value", "95 % CI"), rows, caption=caption)
