"""Sets of prompts of one's own, with or without references and categories, from any of the usual JSON forms.

A seed pool is read by `stages.seeds`, which drops bad rows and counts them; here a row that cannot be read stops the
reading, since a benchmark on part of its rows is another benchmark.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from tapir.curriculum.checks import read_check
from tapir.errors import DataError
from tapir.evaluation.rows import Row, last_of_each, placed_rows, reply_field
from tapir.store.given import is_utf8
from tapir.types import Instruction, Message

_TEXT = ("instruction", "prompt", "question", "text")
_REFERENCE = ("reference", "output", "answer", "response", "completion")
_ROLES = {"system": "system", "user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant"}


@dataclass(frozen=True, slots=True)
class Prompt:
    """One instruction to answer; `reference` is somebody's answer to it, where the set has one."""

    instruction: Instruction
    category: str = "all"
    reference: str | None = None
    author: str | None = None
    """Whose the reference is, where the file says so."""


def read_prompts(path: Path) -> list[Prompt]:
    """Every prompt of a JSON, JSONL or Parquet file; of equal instructions the last row counts, with a warning."""
    return _read(path, lambda row: _REFERENCE)


def _read(path: Path, answer_in: Callable[[Row], Sequence[str]]) -> list[Prompt]:
    found = [_prompt(row, where, answer_in(row)) for where, row in _placed(path)]
    kept, dropped = last_of_each((p.instruction.id, p, True) for p in found)
    if dropped:
        warnings.warn(f"{path}: {dropped} duplicate prompts removed", stacklevel=2)
    return kept


def _placed(path: Path) -> list[tuple[str, Row]]:
    if path.suffix != ".parquet":
        return placed_rows(path)
    # Here, not above: scoring stored JSON needs no Arrow.
    from tapir.store.tables import read_numbered

    return [(f"{path}, row {number}", row) for number, row in read_numbered(path)]


def _prompt(row: Row, where: str, answer_in: Sequence[str]) -> Prompt:
    system, said = _conversation(row, where)
    if said and said[-1].role == "assistant":
        *said, reply = said
        reference: str | None = reply.content
    else:
        reference = _reference(row, answer_in)
    if not said or said[-1].role != "user" or not said[-1].content.strip():
        raise DataError(f"{where}: there is no user's turn to answer")
    try:
        check = read_check(row.get("check"))
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
    instruction = Instruction(
        said[-1].content,
        system=system,
        history=tuple(said[:-1]),
        check=check,
    )
    if not is_utf8([instruction.text, system, *(m.content for m in said)]):
        raise DataError(f"{where}: its text is not UTF-8 (half a character, \\ud800 to \\udfff); mend or remove it")
    author = row.get("generator")
    return Prompt(
        instruction, str(row.get("category") or row.get("task") or "all"), reference, str(author) if author else None
    )


def _conversation(row: Row, where: str) -> tuple[str | None, list[Message]]:
    """The system text, and what was said up to the answer."""
    said = _messages(row, "messages", where) or _messages(row, "conversations", where)
    if said:
        system = "\n".join(m.content for m in said if m.role == "system") or None
        return system, [m for m in said if m.role != "system"]
    if isinstance(row.get("turns"), list) and row["turns"]:
        text = str(row["turns"][0])
    else:
        name = next((n for n in _TEXT if isinstance(row.get(n), str)), None)
        if name is None:
            raise DataError(f"{where}: none of {', '.join(_TEXT)}, turns, messages; it has {', '.join(map(str, row))}")
        extra = str(row.get("input") or "").strip()
        text = f"{row[name].strip()}\n\n{extra}" if extra else str(row[name]).strip()
    system = row.get("system") or None
    if system is not None and not isinstance(system, str):
        raise DataError(f"{where}: `system` is {system!r}; it should be a text")
    return system, [*_messages(row, "history", where), Message("user", text)]


def _messages(row: Row, name: str, where: str) -> list[Message]:
    turns = row.get(name) or []
    if not isinstance(turns, list):
        raise DataError(f"{where}: `{name}` should be a list of turns, each with a role and its content")
    return [_message(turn, where) for turn in cast("list[Any]", turns)]


def _message(turn: Any, where: str) -> Message:
    if isinstance(turn, Message):
        return turn
    plain = cast("Row", turn if isinstance(turn, dict) else {})
    role, text = _ROLES.get(str(plain.get("role", plain.get("from")))), plain.get("content", plain.get("value"))
    if role is None or not isinstance(text, str):
        raise DataError(f"{where}: a turn needs a role (system, user, assistant) and its content")
    return Message(cast("Any", role), text)


def _reference(row: Row, names: Sequence[str]) -> str | None:
    value = next((row[n] for n in names if row.get(n)), None)
    if isinstance(value, list):
        value = cast("list[Any]", value)[0] if value else None
    return value if isinstance(value, str) else None


def read_answers(path: Path) -> dict[str, str]:
    """Answers by instruction id: a run's own tables, or rows that hold a prompt beside the answer to it."""
    rows = [row for _, row in _placed(path)]
    if all("instruction_id" in row and "text" in row for row in rows):
        return {str(row["instruction_id"]): str(row["text"]) for row in rows}
    prompts = _read(path, _answer_in)
    return {p.instruction.id: p.reference for p in prompts if p.reference is not None}


def _answer_in(row: Row) -> tuple[str, ...]:
    # A reply that is empty is missing; the right answer beside it must not take its place.
    name = reply_field(row)
    return (name,) if name else ("answer", "reference")
