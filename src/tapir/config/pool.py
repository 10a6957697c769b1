"""Where the instructions come from, and how they are labelled, balanced, grown and refined."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AliasChoices, Field, model_validator

from tapir.config.part import Part, Positive, Share
from tapir.config.training import Train

Column = Literal["instruction", "input", "system", "answer", "task"]


class Seeds(Part):
    """The seed pool D."""

    source: str = "builtin"
    """A file or folder (JSON, JSONL, CSV, Parquet), `hub:owner/name`, or `builtin` for the shipped pool."""
    revision: str | None = None
    """Hub revision."""
    split: str = "train"
    """Hub split."""
    format: Literal["auto", "alpaca", "messages", "sharegpt", "columns"] = "auto"
    """Row form; detected by default."""
    columns: dict[Column, str] = {}
    """For `columns`: which column is `instruction`, `input`, `system`, `answer`, `task`."""
    turns: Literal["first", "last", "each"] = "last"
    """Which user turn of a conversation becomes the instruction; what stands before is its context."""
    sample: Positive | None = None
    """Take a random subset of this many rows."""
    annotate: Literal["teacher", "keep"] = "teacher"
    """Answers by the teacher, or those that came with the pool."""
    max_chars: Positive = 20_000
    """Longer instructions are dropped and counted."""
    near_duplicates: bool = True
    """Drop near duplicates (ROUGE-L F1 of 0.7 and more, of the instruction and of its context) beside exact ones."""
    allow_code: bool = False
    """Run program checks in the sandbox; otherwise they are skipped and counted."""


class Classify(Part):
    """How task types are found."""

    by: Literal["teacher", "classifier", "keep"] = "teacher"
    """The teacher, a trained classifier with the teacher below its confidence, or the labels that came with rows."""
    classifier: str | None = None
    """Folder of a trained classifier."""
    confidence: Share = 0.8
    """Below it the teacher is asked."""
    small_pool: Annotated[int, Field(ge=0)] = 0
    """A pool of fewer instructions is labelled by the teacher alone, although there is a classifier."""
    retries: Annotated[int, Field(ge=0)] = 1
    """Further tries for a label that is not in the list."""

    @model_validator(mode="after")
    def _with_a_classifier(self) -> Classify:
        if self.by == "classifier" and self.classifier is None:
            raise ValueError("by: classifier needs `classifier`, a folder that `tapir classifier train` made")
        return self


class Decontaminate(Part):
    """Evaluation data must not be trained on."""

    enabled: bool = True
    """On by default."""
    against: tuple[str, ...] = ()
    """Beside the recipe's own evaluation sets: files of evaluation texts, names of public benchmarks, or `public` for
    all of them (`tapir data benchmarks` lists the names)."""
    waive: tuple[str, ...] = ()
    """Public benchmarks that are not at hand and may be missing, named one by one."""
    folder: str | None = None
    """Where benchmarks lie as NAME.jsonl, .json, .csv or .parquet; looked at before the hub's cache."""
    allow: tuple[str, ...] = ()
    """False positives: ids of rows, evaluation items as `set/id`, or a reviewed table of matches whose column `allow`
    is true where a match is fine."""


class Mix(Part):
    """What a round draws."""

    size: Positive | None = None
    """Rows a round; by default the largest that meets α and Pr(T) without repeating a row."""
    targets: dict[str, float] = {}
    """Pr(T) by task type; the rest share what is left evenly. Empty: the paper's."""


class Expand(Part):
    """New instructions from hard seeds."""

    per_round: Annotated[int, Field(ge=0)] = 4000
    """At most this many a round."""
    per_seed: Positive = 4
    """At most this many from one seed, over all rounds."""
    parents: Literal["seeds", "grown"] = Field(default="seeds", validation_alias=AliasChoices("from", "parents"))
    """Grow from hard seeds, or from all hard rows so far (recipe key `from`)."""
    max_tries: Positive = 4
    """Asks per wanted instruction before a type counts as exhausted."""
    check_difficulty: bool = False
    """Judge grown instructions with the current student; those not above δ go to the easy pool (ours)."""
    embedding: str | None = None
    """An encoder (catalogue name such as `minilm-l6-v2`, folder or hub id) that finds the same in other words."""
    embedding_above: Share = 0.9
    """Cosine similarity from which two instructions say the same."""


class Refine(Part):
    """Better answers by better questions."""

    easy: bool = False
    """Refine easy rows too (equation 4 writes ŷ for both)."""
    keep_better: bool = False
    """Keep the enhanced answer only where the judge prefers it to the direct one."""
    max_growth: Annotated[float, Field(gt=1)] = 4.0
    """A refined text longer than this many times the original falls back to it."""


class Refiner(Part):
    """A small refiner, fine-tuned on what refiner_annotator wrote (appendix C); `tapir refiner train` makes one."""

    model: str = "qwen2.5-coder-0.5b-instruct"
    """What is fine-tuned: a catalogue name, hub id or folder (the paper: Qwen1.5-1.8B-Chat)."""
    revision: str | None = None
    """Hub revision."""
    chat_template: str | None = None
    """`chatml`, `llama2`, `alpaca`, or a Jinja file; by default the model's own."""
    rows: Positive = 2000
    """At most so many instructions are annotated to train on."""
    held_out: Annotated[int, Field(ge=0)] = 50
    """So many more are kept apart, to measure the trained refiner against the in-context one."""
    train: Train = Train()
    """How it is trained."""
