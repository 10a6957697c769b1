"""The texts that go with a published student and its data: what it is, from whom, how well, how to make it again.

Text only, from facts that are handed in. Whatever came from a model or a recipe is serialised, never pasted in raw.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml


@dataclass(frozen=True, slots=True)
class CardRound:
    """One round as trained."""

    round: int
    alpha: float
    examples: int
    hard_rows: float | None
    steps: int
    final_loss: float


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What a card says. `licences` names each part's (student, teacher, seed pool); None is said to be unknown."""

    name: str
    base_model: str
    teacher: str
    seed_pool: str
    licences: Mapping[str, str | None]
    rounds: Sequence[CardRound]
    evaluations: Sequence[str] = ()
    """Whole sentences with their intervals, as the report prints them."""
    recipe_yaml: str = ""
    version: str = ""
    commit: str | None = None
    tasks: Mapping[str, int] = field(default_factory=lambda: dict[str, int]())
    """Examples by task type."""
    hub_base_model: str | None = None
    """The base model's hub name, where it has one."""


def model_card(facts: CardFacts) -> str:
    """The model's README.md."""
    front: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": "text-generation", "tags": ["tapir"]}
    if facts.hub_base_model:
        front["base_model"] = facts.hub_base_model
    sections = [
        _front(front, facts),
        f"# {_inline(facts.name)}",
        f"{_inline(facts.base_model)}, distilled from {_inline(facts.teacher)} with "
        "[TAPIR](https://arxiv.org/abs/2405.13448): task-aware curriculum planning for instruction refinement.",
        "## Training\n\n" + _rounds(facts.rounds),
        "## Evaluation\n\n" + ("\n".join(f"- {_inline(line)}" for line in facts.evaluations) or "None was run."),
        _licences(facts),
        _again(facts),
    ]
    return "\n\n".join(sections) + "\n"


def data_card(facts: CardFacts, *, examples: int) -> str:
    """The dataset's README.md."""
    front: dict[str, Any] = {
        "task_categories": ["text-generation"],
        "tags": ["tapir", "instruction-tuning", "synthetic"],
        "configs": [{"config_name": "default", "data_files": "messages.jsonl"}],
    }
    tasks = sorted(facts.tasks.items(), key=lambda item: (-item[1], item[0]))
    sections = [
        _front(front, facts),
        f"# {_inline(facts.name)}: training data",
        f"{examples} conversations, of which the last answer was trained. Instructions come from "
        f"{_inline(facts.seed_pool)} and from {_inline(facts.teacher)}, which also wrote the answers: they may err.",
        "`messages.jsonl` is the whole (with task, weight, and whether the example was hard for the student); "
        "`sharegpt.json` and, as far as its form can hold them, `alpaca.json` are the same conversations for "
        "LLaMA-Factory (`dataset_info.json`) and others; `axolotl.yaml` holds axolotl's `datasets` part.",
        "## Tasks\n\n| task | examples |\n|---|---|\n" + "\n".join(f"| {_inline(t)} | {n} |" for t, n in tasks),
        _licences(facts),
        _again(facts),
    ]
    return "\n\n".join(sections) + "\n"


def _front(front: dict[str, Any], facts: CardFacts) -> str:
    known = {licence for licence in facts.licences.values() if licence}
    # The hub shows one licence; where the parts differ or one is unknown, none of them speaks for the whole.
    licence = known.pop().lower() if len(known) == 1 and None not in facts.licences.values() else "other"
    return "---\n" + yaml.safe_dump(front | {"license": licence}, sort_keys=False, allow_unicode=True) + "---"


def _inline(text: str) -> str:
    """One line that cannot end its place: no line breaks, cells, tags or code fences."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    for sign in "\\`|<>[]*_#":
        line = line.replace(sign, f"\\{sign}")
    return line


def _rounds(rounds: Sequence[CardRound]) -> str:
    head = "| round | α | examples | hard, realised | steps | last loss |\n|---|---|---|---|---|---|\n"
    return head + "\n".join(
        f"| {r.round} | {r.alpha:.2f} | {r.examples} | {'unknown' if r.hard_rows is None else f'{r.hard_rows:.1%}'} "
        f"| {r.steps} | {r.final_loss:.3f} |"
        for r in rounds
    )


def _licences(facts: CardFacts) -> str:
    lines = (f"- {_inline(part)}: {_inline(licence or 'unknown')}" for part, licence in facts.licences.items())
    return (
        "## Licences\n\n" + "\n".join(lines) + "\n\nTerms of the teacher may bind what is trained on its answers; "
        "check them before you publish or sell."
    )


def _again(facts: CardFacts) -> str:
    made = f"tapir {facts.version}" + (f", commit {facts.commit}" if facts.commit else "")
    # As JSON the recipe cannot close its own block, and YAML reads JSON.
    recipe = json.dumps(yaml.safe_load(facts.recipe_yaml), indent=1, ensure_ascii=True).replace("`", "\\u0060")
    opening = f"## How to make it again\n\nMade with {_inline(made)} from this recipe (`tapir run`):"
    return f"{opening}\n\n```json\n{recipe}\n```"
