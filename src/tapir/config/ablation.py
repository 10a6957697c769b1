"""What `tapir ablate` compares, and on how much data."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from tapir.config.part import Part, Positive

Form = Literal["rows", "tokens"]


class Ablate(Part):
    """Which strategies are trained beside each other, how often, and on how much."""

    variants: tuple[str, ...] = ("full", "single_round", "direct_expansion", "seed_refined", "seed", "pool")
    """Strategies by name: Table 5's six, or any that `tapir.strategies` knows."""
    forms: tuple[Form, ...] = ("rows",)
    """`rows`: the row counts of Table 5 in proportion, `train.epochs` over each; `tokens`: the same sets, each passed
    over until `tokens` are trained."""
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (1,)
    """Training seeds: what the rounds draw and how they train. Round 0 and what the teacher writes are shared."""
    rows: Positive | None = None
    """Rows of a 70K variant; by default what lets `pool` (52K) take all of D."""
    at_least: Positive = 1
    """No variant gets fewer rows, where it has them (ours: a small pool's 11K would be too few to learn from)."""
    tokens: Positive | None = None
    """Trained tokens of each variant in the form `tokens`; by default as many as student_0 was trained on."""
    pool_answers: Literal["teacher", "original"] = "teacher"
    """Whose answers `pool` trains on: the teacher's, as every other variant does, or those that came with the pool."""
    sweep: dict[str, tuple[int | float | str | bool, ...]] = {}
    """Recipe keys and the values to try, as a grid: `{difficulty.delta: [1, 2, 3]}`."""
    keep_students: bool = False
    """Keep the trained weights; otherwise they are deleted once evaluated, and tables and logs stay."""

    @field_validator("variants", "seeds", "forms")
    @classmethod
    def _named_once(cls, given: tuple[str | int, ...]) -> tuple[str | int, ...]:
        if len(set(given)) != len(given):
            raise ValueError("names one of them twice")
        return given
