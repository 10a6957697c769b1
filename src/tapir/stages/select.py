"""Which seeds are hard for this student (§3.2, equation 2). Selection sees `Difficulty` rows only, of whatever kind."""

from __future__ import annotations

from collections.abc import Iterable

from tapir.config import Count, Quantile
from tapir.curriculum.difficulty import difficulties_of, select_hard, threshold, votes_by_pair
from tapir.types import Difficulty, Receipt, Verdict


def select(
    verdicts: Iterable[Verdict], delta: float | Quantile | Count, *, receipt: Receipt
) -> tuple[list[Difficulty], list[Difficulty]]:
    """All difficulties that the verdicts give, and those above δ."""
    votes = votes_by_pair(verdicts)
    found = difficulties_of(votes)
    receipt.rows_in += len(votes)
    receipt.drop("unscored", len(votes) - len(found))
    return select_rows(found, delta, receipt=receipt)


def select_rows(
    found: Iterable[Difficulty], delta: float | Quantile | Count, *, receipt: Receipt
) -> tuple[list[Difficulty], list[Difficulty]]:
    """The same from difficulties; δ is found within each kind, since kinds do not compare."""
    rows = sorted(found, key=lambda d: (d.instruction_id, d.student))
    hard: list[Difficulty] = []
    for kind in sorted({d.kind for d in rows}):
        of_kind = [d for d in rows if d.kind == kind]
        limit = threshold(of_kind, delta)
        receipt.notes[f"delta_{kind}"] = limit
        hard += select_hard(of_kind, limit)
    hard.sort(key=lambda d: (d.instruction_id, d.student))
    receipt.rows_out += len(hard)
    receipt.drop("not_hard", len(rows) - len(hard))
    return rows, hard
