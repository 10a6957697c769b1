"""The page shows how hard grown rows are beside seeds, and what rewriting instructions gained."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable

from tapir.report.balance import by_family, enhanced_scores, grown_and_enhanced, measured
from tapir.report.facts import Facts
from tapir.store.rundir import RunDir
from tapir.types import Difficulty, Verdict

Invent = Callable[..., RunDir]


def said(facts: Facts) -> str:
    return " ".join("".join(part.itertext()) for part in grown_and_enhanced(facts) if isinstance(part, ET.Element))


def test_families_sum_the_shares_of_their_types():
    family = {"Math": "numbers", "Writing": "words", "Grammar": "words"}
    assert by_family({"Math": 0.5, "Writing": 0.25, "Grammar": 0.125, "Odd": 0.125}, family) == {
        "numbers": 0.5,
        "words": 0.375,
        "Odd": 0.125,
    }


def test_without_either_option_the_section_says_so(finished_run: RunDir):
    assert measured(Facts(finished_run)) == []
    assert "neither expand.check_difficulty nor refine.keep_better" in said(Facts(finished_run))


def test_grown_rows_stand_beside_all_and_hard_seeds(invent: Invent):
    run = invent(rounds=1)
    rows = [Difficulty(f"g{n}", value, student="student_0") for n, value in enumerate((0.0, 3.0, 4.0, 1.0))]
    run.step("round_1/01_expanded", "").write(Difficulty, rows, "difficulty")
    grown = measured(Facts(run))[-1]
    # δ is 2: two of the four are above it.
    assert (grown.what, len(grown.values), grown.hard) == ("grown in round 1, student_0", 4, 2)
    assert "+2.00" in said(Facts(run))


def test_the_gain_of_enhanced_answers_is_told_over_pairs_that_both_orders_read(invent: Invent):
    run = invent(rounds=1)
    verdicts = [
        Verdict("a", order, enhanced, direct, student="enhanced")
        for order, enhanced, direct in (("student_first", 8.0, 6.0), ("teacher_first", 7.0, 5.0))
    ]
    verdicts += [
        Verdict("b", "student_first", 5.0, 6.0, student="enhanced"),
        Verdict("b", "teacher_first", 5.0, 6.0, student="enhanced"),
        Verdict("c", "student_first", 9.0, 1.0, student="enhanced"),
        Verdict("c", "teacher_first", problem="no_rating", student="enhanced"),
    ]
    run.step("round_1/03_enhanced_answers", "").write(Verdict, verdicts, "verdicts")
    assert enhanced_scores(Facts(run), 1) == ({"a": 7.5, "b": 5.0}, {"a": 5.5, "b": 6.0})
    assert "Seed (RW) has 0.50 more points on average than Seed on 2 rewritten instructions" in said(Facts(run))
