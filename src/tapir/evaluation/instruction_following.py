"""Verifiable instruction following of the IFEval kind: a file with instruction ids and arguments in, accuracies out.

Owns the file form, strict and loose reading, and the sums. The single checks are `instruction_checks`'.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from tapir.errors import DataError
from tapir.evaluation.instruction_checks import CHECKS, NEEDS, read_argument
from tapir.evaluation.rows import (
    Estimate,
    Row,
    clustered_mean,
    field,
    last_of_each,
    placed_rows,
    read_rows,
    share_estimate,
)


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt and the instructions in it that can be checked: (id, arguments)."""

    key: str
    text: str
    instructions: tuple[tuple[str, Mapping[str, Any]], ...]


@dataclass(frozen=True, slots=True)
class Followed:
    """What one response followed, instruction by instruction; None where we cannot tell."""

    key: str
    ids: tuple[str, ...]
    strict: tuple[bool | None, ...]
    loose: tuple[bool | None, ...]


@dataclass(frozen=True, slots=True)
class FollowingScore:
    """Accuracies in percent. A prompt is followed when all its instructions are."""

    prompt_strict: Estimate
    prompt_loose: Estimate
    instruction_strict: Estimate
    instruction_loose: Estimate
    by_instruction: dict[str, Estimate | None]
    """Strict, by instruction id."""
    missing: int
    untold: int
    """Instructions that we cannot check (a language our rules do not know); they and their prompts count nowhere."""

    def to_json(self) -> Row:
        return {
            "prompt_strict": self.prompt_strict.to_json(), "prompt_loose": self.prompt_loose.to_json(),
            "instruction_strict": self.instruction_strict.to_json(),
            "instruction_loose": self.instruction_loose.to_json(),
            "by_instruction": {k: v.to_json() if v else None for k, v in self.by_instruction.items()},
            "n": self.prompt_strict.n, "missing": self.missing, "untold": self.untold,
        }  # fmt: skip


def read_prompts(path: Path) -> list[Prompt]:
    """Rows of the public form: `prompt`, `instruction_id_list` and `kwargs`, one set of arguments an instruction."""
    return [_prompt(row, number, where) for number, (where, row) in enumerate(placed_rows(path))]


def _prompt(row: Row, number: int, where: str) -> Prompt:
    text, ids, sets = (field(row, name, where) for name in ("prompt", "instruction_id_list", "kwargs"))
    if not isinstance(text, str):
        raise DataError(f"{where}: `prompt` is {text!r}; it should be a text")
    if not isinstance(ids, list) or not isinstance(sets, list) or not ids:
        raise DataError(f"{where}: `instruction_id_list` and `kwargs` should be lists, with at least one instruction")
    names, given = cast("list[Any]", ids), cast("list[Any]", sets)
    if len(names) != len(given):
        raise DataError(f"{where}: there are {len(names)} instruction ids but {len(given)} sets of arguments")
    instructions = tuple((n, _arguments(n, g, where)) for n, g in zip(names, given, strict=True))
    return Prompt(str(row.get("key", number)), text, instructions)


def _arguments(name: Any, given: Any, where: str) -> dict[str, Any]:
    """What the check needs: some copies of the set carry every argument of every id, null where it is another's."""
    if not isinstance(name, str) or name not in CHECKS:
        raise DataError(f"{where}: no check is known for {name!r}; known are {', '.join(CHECKS)}")
    if given is not None and not isinstance(given, dict):
        raise DataError(f"{where}: the arguments of {name} are {given!r}; they should be an object, or null for none")
    found = cast("Row", given or {})
    needed = NEEDS.get(name, ())
    lacking = [a for a in needed if found.get(a) is None]
    if lacking:
        raise DataError(f"{where}: {name} needs {', '.join(lacking)}")
    return {a: read_argument(a, found[a], where) for a in needed}


def read_responses(path: Path) -> dict[str, str]:
    """Responses by the exact text of their prompt; the last of several counts, with a warning."""
    keyed = [(str(field(row, "prompt", path)), str(field(row, "response", path))) for row in read_rows(path)]
    kept, dropped = last_of_each((prompt, (prompt, response), True) for prompt, response in keyed)
    if dropped:
        warnings.warn(f"{path}: {dropped} duplicate responses removed", stacklevel=2)
    return dict(kept)


def follow(prompt: Prompt, response: str) -> Followed:
    """Check one response, strictly and loosely."""
    ids = tuple(name for name, _ in prompt.instructions)
    strict = tuple(_follows(name, arguments, response) for name, arguments in prompt.instructions)
    variants = loose_variants(response)
    loose = tuple(_any([_follows(name, arguments, v) for v in variants]) for name, arguments in prompt.instructions)
    return Followed(prompt.key, ids, strict, loose)


def loose_variants(response: str) -> list[str]:
    """The response, and it without its first line, its last, or both (an opening, a closing remark), each also without
    asterisks: the public loose reading."""
    lines = response.split("\n")
    cut = [response, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    return [*cut, *(text.replace("*", "") for text in cut)]


def _follows(name: str, arguments: Mapping[str, Any], response: str) -> bool | None:
    told = CHECKS[name](response, arguments)
    # An empty response follows nothing, also not "no commas"; what cannot be told of any response stays untold.
    return told if told is None or response.strip() else False


def _any(results: Sequence[bool | None]) -> bool | None:
    if True in results:
        return True
    return None if None in results else False


def _all(results: Sequence[bool | None]) -> bool | None:
    # First of all: counted only where another instruction fails, such prompts could but lower the share.
    return None if None in results else all(results)


def score_responses(prompts: Sequence[Prompt], responses: Mapping[str, str]) -> FollowingScore:
    """Accuracies over the prompts that have a response; the others are missing, not failed."""
    found = [follow(p, responses[p.text]) for p in prompts if p.text in responses]
    missing = len(prompts) - len(found)
    if not found:
        raise DataError(
            f"none of {len(prompts)} prompts has a response; responses are matched by the prompt's exact text"
        )
    prompt_strict, instruction_strict = _accuracies([f.strict for f in found], missing)
    prompt_loose, instruction_loose = _accuracies([f.loose for f in found], missing)
    if prompt_strict is None or prompt_loose is None or instruction_strict is None or instruction_loose is None:
        raise DataError(f"each of {len(found)} prompts asks for a language that our rules do not know; add others")
    outcomes: dict[str, list[bool]] = {}
    for name, result in ((n, r) for f in found for n, r in zip(f.ids, f.strict, strict=True)):
        outcomes.setdefault(name, []).extend([] if result is None else [result])
    by_instruction = {name: share_estimate(sum(r), len(r)) for name, r in sorted(outcomes.items())}
    untold = sum(r is None for f in found for r in f.strict)
    return FollowingScore(
        prompt_strict, prompt_loose, instruction_strict, instruction_loose, by_instruction, missing, untold
    )


def _accuracies(results: Sequence[Sequence[bool | None]], missing: int) -> tuple[Estimate | None, Estimate | None]:
    """By prompt (Wilson), and by instruction with an interval that keeps a prompt's instructions together."""
    prompts = [told for told in map(_all, results) if told is not None]
    clusters = {i: [float(r) for r in row if r is not None] for i, row in enumerate(results)}
    return share_estimate(sum(prompts), len(prompts), missing), clustered_mean(clusters, scale=100, bounds=(0, 1))
