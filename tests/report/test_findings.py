"""The page's first part: what its numbers claim."""

from types import SimpleNamespace
from typing import Any

from tapir.report.findings import by_task
from tapir.report.markup import render


def shown(gaps: list[float]) -> str:
    facts: Any = SimpleNamespace(held_out_gaps=dict(enumerate(gaps)), held_out={}, last_judged=1)
    return "".join(render(element) for element in by_task(facts))


def test_five_wins_of_five_are_not_certain():
    # Wilson of 5 of 5: from 5 / (5 + 1.96²) on.
    assert "100 % of 5 (57 to 100)" in shown([1.0] * 5)
    assert "50 % of 5 (17 to 83)" in shown([0.0] * 5)
    assert "100 % of 4<" in shown([1.0] * 4)
