"""How answers are compared, what makes a seed hard, and how a round is measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePath
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from tapir.config.part import Part, Positive, Share


class JudgeSettings(Part):
    """How verdicts are obtained."""

    samples: Positive = 1
    """Votes per order; above 1 the judge's temperature must be above 0."""
    retries: Annotated[int, Field(ge=0)] = 2
    """Further tries for a verdict that cannot be read."""
    max_unscored: Share = 0.1
    """Share of unscored pairs above which the stage stops."""
    verified: Literal["instead", "also"] = "instead"
    """Where an instruction carries a check: score by the check alone, or ask the judge too."""
    max_pairs: Positive | None = None
    """Judge at most this many pairs a stage (drawn by seed); verified pairs do not count. Others stay unscored."""
    adaptive: bool = False
    """Spend further votes only where they can change the selection (ours)."""
    template: str | None = None
    """Your own prompt file."""
    max_answer_chars: Positive = 8_000
    """Longer answers are cut for the judge, with a mark."""
    canary: Annotated[int, Field(ge=0)] = 4
    """Held-out prompts on which an empty, a constant and a copied answer are judged beside each student's; 0: none."""

    @model_validator(mode="after")
    def _a_pilot_has_two_votes(self) -> JudgeSettings:
        if self.adaptive and self.samples < 2:
            raise ValueError("adaptive saves votes beyond the first; set samples to 2 or more (3 is usual)")
        return self


class Quantile(Part):
    quantile: Share
    """Keep what lies above this quantile."""


class Count(Part):
    count: Positive
    """Keep this many, the hardest first."""


class DifficultySettings(Part):
    """What makes a seed hard."""

    kind: Literal["mfd", "ifd", "loss", "verifier"] = "mfd"
    """Judged gap (the paper), conditioned loss ratio, answer loss, or failure rate of the check."""
    delta: float | Quantile | Count = 2.0
    """Hard when the value is above it (§4.1); or by quantile or count."""
    rescore: Literal["off", "measure", "move"] = "off"
    """Judge again with each student: only look, or move what is mastered to the easy pool."""
    rescore_sample: Positive = 200
    """Rows judged again."""
    answers: Positive = 4
    """For `verifier`: how many answers of the student the check is run on."""

    @field_validator("rescore", mode="before")
    @classmethod
    def _off_is_a_word(cls, value: Any) -> Any:
        # YAML reads a bare `off` as false.
        return "off" if value is False else value

    @model_validator(mode="after")
    def _on_one_scale(self) -> DifficultySettings:
        if self.kind in ("ifd", "verifier") and isinstance(self.delta, float) and self.delta >= 1:
            raise ValueError(
                f"{self.kind} lies between 0 and 1, so delta: {self.delta:g} keeps nothing; set delta, for instance "
                "{quantile: 0.8}"
            )
        if self.kind != "mfd" and self.rescore != "off":
            raise ValueError("rescore judges again, so it needs kind: mfd")
        return self


ON_FILES = ("alpaca", "following", "exact")
"""Benchmarks on files of their own."""


class Evaluation(Part):
    """One evaluation of every round."""

    kind: Literal["pairwise", "held_out_fit", "verified", "graded", "alpaca", "following", "exact", "choice"]
    """On held-out instructions: win rate by the evaluator, NLL on the teacher's answers, share of checks passed, grade
    of 1 to 10 by the evaluator. On files of their own: AlpacaEval 2.0, IFEval-like instructions, exact answers. And
    multiple choice through lm-eval."""
    prompts: str = "builtin"
    """JSONL of held-out instructions, or `builtin`; for alpaca, following and exact the benchmark's own file."""
    against: Literal["student_0", "teacher"] = "student_0"
    """For pairwise: whose answers each student's are compared with; list it twice for both."""
    sample: Positive | None = None
    """Use at most this many prompts."""
    repeats: Positive = 1
    """For graded and alpaca: how often the judge is asked; the mean counts."""
    judge_prompt: str | None = None
    """For graded and alpaca: a judge's prompt file of your own."""
    tasks: dict[str, Annotated[int, Field(ge=0)]] = {}
    """For choice: lm-eval tasks with their shots; by default the leaderboard's four."""
    task_files: str | None = None
    """For choice: a folder of lm-eval task files that need no network."""

    @property
    def on_held_out(self) -> bool:
        """Whether its prompts are held-out instructions, which the teacher answers too."""
        return self.kind in ("pairwise", "held_out_fit", "verified", "graded")

    @model_validator(mode="after")
    def _has_its_file(self) -> Evaluation:
        if self.kind in ON_FILES and self.prompts == "builtin":
            raise ValueError(f"{self.kind} needs `prompts`: the benchmark's own file")
        return self


def file_names(evaluate: Sequence[Evaluation]) -> list[str | None]:
    """What tells each evaluation's results from another's of its kind: its file's name; None where there is no other.

    A ValueError where results would still have one name: the later would take the earlier's place.
    """
    kinds = Counter(e.kind for e in evaluate)
    for kind, remedy in (("graded", "leave one"), ("choice", "name all tasks in one")):
        if kinds[kind] > 1:
            raise ValueError(f"evaluate has {kind} {kinds[kind]} times, whose results would have one name; {remedy}")
    names = [
        PurePath(e.prompts.removesuffix(".gz")).stem if e.kind in ON_FILES and kinds[e.kind] > 1 else None
        for e in evaluate
    ]
    for (kind, name), times in Counter((e.kind, n) for e, n in zip(evaluate, names, strict=True) if n).items():
        if times > 1:
            raise ValueError(
                f"evaluate has {kind} {times} times on a file named {name}; results are told apart by the file's name: "
                "leave one, or rename its file"
            )
    return names
