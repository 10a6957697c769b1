"""Reading a seed pool: any of the public forms into `Instruction` rows, bad rows counted by reason.

An unreadable file is one clear error; a bad row costs that row. Whoever wants to show what was dropped is handed each
such row at once (`dropped`), so that a pool of which little is left does not lie in memory twice.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any, Literal, cast

from tapir.config import Decontaminate, Seeds
from tapir.curriculum.checks import read_check
from tapir.curriculum.contamination import NGRAM, TURN, Item
from tapir.curriculum.dedup import FindRepeated, near_duplicates, repeated_instructions
from tapir.curriculum.words import words
from tapir.errors import DataError, MissingExtra
from tapir.evaluation.benchmarks import benchmark_names, files_among, load_benchmark
from tapir.store.given import ENDINGS, Row, Unreadable, is_utf8, mended, numbered
from tapir.types import (
    MOST_DROPPED_CHARS,
    Dropped,
    Instruction,
    KeepDropped,
    Message,
    Receipt,
    Seed,
    canonical_json,
    content_id,
    forget,
)

Form = Literal["alpaca", "messages", "sharegpt", "columns"]
Located = tuple[str, Row | Unreadable]
"""Where a row stood, and the row."""

FORM_ROWS = 50
"""Rows whose keys are looked at to tell the form."""
TEXTS = ("instruction", "prompt", "question", "text")
"""Columns that may be the instruction where none is named, the first that is there."""
NEEDED: dict[Form, tuple[str, ...]] = {
    "alpaca": ("instruction",), "columns": TEXTS, "messages": ("messages",), "sharegpt": ("conversations",),
}  # fmt: skip


@dataclass(slots=True)
class Pool:
    """What a source held: instructions, the answers that came with them, and what was wrong with the rest."""

    instructions: list[Instruction] = field(default_factory=lambda: list[Instruction]())
    answers: dict[str, str] = field(default_factory=lambda: dict[str, str]())
    problems: list[tuple[str, str]] = field(default_factory=lambda: list[tuple[str, str]]())
    where: list[str] = field(default_factory=lambda: list[str]())
    """Where each instruction stood, in their order."""

    def seeds(self, labelled: Iterable[Instruction]) -> Iterator[Seed]:
        """These instructions of the pool with the answers that came with them."""
        for i in labelled:
            yield Seed(**{f.name: getattr(i, f.name) for f in fields(Instruction)}, answer=self.answers.get(i.id))


def load_pool(
    settings: Seeds, *, seed: int, receipt: Receipt, split: str = "pool", dropped: KeepDropped = forget
) -> Pool:
    """The instructions of a source, exact duplicates removed, a random subset if one is asked for."""
    pool, seen = Pool(), set[str]()
    rows = list(read_source(settings, split))
    form = form_of(settings, rows)
    if settings.sample is not None and settings.sample < len(rows):
        kept = set(random.Random(seed).sample(range(len(rows)), settings.sample))
        rows = [row for number, row in enumerate(rows) if number in kept]
    for where, row in rows:
        for instruction, answer in _instructions(where, row, form, settings, pool, receipt, dropped):
            if instruction.id in seen:
                receipt.drop("exact_duplicate")
                dropped(Dropped("exact_duplicate", instruction.text, instruction.id, where, repeats=instruction.id))
                continue
            seen.add(instruction.id)
            pool.instructions.append(instruction)
            pool.where.append(where)
            if answer:
                pool.answers[instruction.id] = answer
    if not pool.instructions:
        reasons = ", ".join(f"{n} {reason}" for reason, n in receipt.dropped.items()) or "it holds no rows"
        remedy = "save it as UTF-8" if receipt.dropped["not_utf8"] else "check `seeds.format`"
        raise DataError(f"{settings.source}: no usable instruction in it ({reasons}); {remedy}")
    receipt.rows_out = len(pool.instructions)
    return pool


def _instructions(
    where: str, row: Row | Unreadable, form: Form, settings: Seeds, pool: Pool, receipt: Receipt, dropped: KeepDropped
) -> Iterator[tuple[Instruction, str | None]]:
    receipt.rows_in += 1
    if isinstance(row, Unreadable):
        problem: str | None = row.reason
        found: list[tuple[Instruction, str | None]] = []
    else:
        found, problem = _READERS[form](row, settings)
        if found and max(len(i.text) for i, _ in found) > settings.max_chars:
            found, problem = [], "too_long"
        # JSON can hold half a character, which no table can.
        if not all(_in_utf8(i, answer) for i, answer in found):
            found, problem = [], "not_utf8"
    if problem:
        receipt.drop(problem)
        pool.problems.append((where, problem))
        dropped(Dropped(problem, said_by(row), where=where))
    receipt.made += max(0, len(found) - 1)
    yield from found


def _in_utf8(i: Instruction, answer: str | None) -> bool:
    return all(is_utf8(text) for text in (i.text, i.system, i.task, i.check, answer, *(m.content for m in i.history)))


def said_by(row: Row | Unreadable) -> str:
    """The beginning of a bad row as plain text; empty where nothing could be read."""
    if isinstance(row, Unreadable):
        return said_by(row.row) if row.row is not None else ""
    short = {k: v[:MOST_DROPPED_CHARS] if isinstance(v, str) else v for k, v in row.items()}
    return mended(json.dumps(short, ensure_ascii=False, default=str))


def read_source(settings: Seeds, split: str = "pool") -> Iterator[Located]:
    """Every row of the source with its place."""
    if settings.source == "builtin":
        yield from _builtin(split)
    elif settings.source.startswith("hub:"):
        yield from _hub(settings)
    else:
        path = Path(settings.source)
        files = sorted(f for f in path.iterdir() if f.suffix in ENDINGS) if path.is_dir() else [path]
        if not files:
            raise DataError(f"{path}: no .json, .jsonl, .csv or .parquet file in it")
        for file in files:
            if not file.exists():
                raise DataError(
                    f"{file}: there is no such file; `seeds.source` names a file, a folder or hub:owner/name"
                )
            if file.suffix not in ENDINGS:
                raise DataError(
                    f"{file}: cannot read {file.suffix or 'a file without an ending'}; use {', '.join(ENDINGS)}"
                )
            yield from ((f"{file.name}:{number}", row) for number, row in numbered(file))


def _builtin(split: str) -> Iterator[Located]:
    folder = resources.files("tapir.data") / "pool"
    for file in sorted(folder.iterdir(), key=lambda f: f.name):
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            row = json.loads(line)
            if row["split"] == split:
                yield f"{file.name}:{number}", row


def _hub(settings: Seeds) -> Iterator[Located]:
    try:
        import datasets  # pyright: ignore[reportMissingTypeStubs]
    except ImportError:
        raise MissingExtra("reading a hub data set needs `pip install 'tapir-distill[local]'`") from None
    name = settings.source.removeprefix("hub:")
    try:
        rows = cast("Any", datasets).load_dataset(
            name, split=settings.split, revision=settings.revision, streaming=True
        )
        for number, row in enumerate(rows, 1):
            yield f"{name}:{number}", dict(row)
    except (OSError, ValueError) as error:
        raise DataError(f"hub:{name}: cannot be loaded ({error})") from error


def form_of(settings: Seeds, rows: list[Located]) -> Form:
    """The rows' form: as the settings say, else by the keys of the first ones; its columns must be there."""
    if not rows:
        raise DataError(f"{settings.source}: it is empty; give a file or folder with instructions in it")
    keys = dict.fromkeys(str(key) for row in islice(_readable(rows), FORM_ROWS) for key in row)
    form = settings.format if settings.format != "auto" else _form_by(keys, settings)
    if keys:
        _check_columns(form, settings, rows, keys)
    return form


def _form_by(keys: Collection[str], settings: Seeds) -> Form:
    if "messages" in keys:
        return "messages"
    if "conversations" in keys:
        return "sharegpt"
    if "instruction" in keys and not settings.columns:
        return "alpaca"
    # Without a key there is nothing to tell it by; what is wrong with every row is the reader's to say.
    if settings.columns or not keys or any(name in keys for name in TEXTS):
        return "columns"
    raise DataError(
        f"{settings.source}: cannot tell its form from the keys {', '.join(keys)}; name its columns, as in "
        "`--set seeds.columns.instruction=NAME`, or set seeds.format"
    )


def _check_columns(form: Form, settings: Seeds, rows: list[Located], keys: Iterable[str]) -> None:
    """Refuse columns that no row has: every row would be without them."""
    named = settings.columns if form == "columns" else {}
    wanted: dict[str, tuple[str, ...]] = {f"seeds.columns.{field}": (column,) for field, column in named.items()}
    if "instruction" not in named:
        wanted["seeds.columns.instruction" if form == "columns" else "seeds.format"] = NEEDED[form]
    for setting, columns in wanted.items():
        if not any(column in row for row in _readable(rows) for column in columns):
            missing = " or ".join(f"`{column}`" for column in columns)
            raise DataError(f"{settings.source}: no column {missing}; it has {', '.join(keys)}; set {setting} to fit")


def _readable(rows: Iterable[Located]) -> Iterator[Row]:
    return (row for _, row in rows if not isinstance(row, Unreadable))


Found = tuple[list[tuple[Instruction, str | None]], str | None]


def _alpaca(row: Row, settings: Seeds) -> Found:
    return _single(row, {"answer": "output", "text": "instruction"}, settings)


def _columns(row: Row, settings: Seeds) -> Found:
    names = {"text": next((k for k in TEXTS if k in row), "instruction")}
    answer = next((k for k in ("answer", "output", "response", "completion") if k in row), "answer")
    renamed = {("text" if k == "instruction" else str(k)): v for k, v in settings.columns.items()}
    return _single(row, {**names, "answer": answer, **renamed}, settings)


def _single(row: Row, names: dict[str, str], settings: Seeds) -> Found:
    text, extra = row.get(names["text"]), row.get(names.get("input", "input"))
    system, answer = row.get(names.get("system", "system")), row.get(names["answer"])
    task = row.get(names.get("task", "task"))
    if not isinstance(text, str) or not isinstance(extra, str | None) or not isinstance(system, str | None):
        return [], "not_a_string"
    if not text.strip():
        return [], "empty"
    earlier, problem = _said(_turns_of(row.get("history")), "role", "content")
    if problem:
        return [], problem
    try:
        check = read_check(row.get("check"))
    except DataError:
        return [], "bad_check"
    whole = f"{text.strip()}\n\n{extra.strip()}" if extra and extra.strip() else text.strip()
    instruction = Instruction(
        whole,
        system=system or None,
        history=tuple(earlier),
        task=task if isinstance(task, str) else None,
        check=check,
    )
    return [(instruction, answer if isinstance(answer, str) else None)], None


def _turns_of(history: Any) -> list[Any]:
    """The turns before an instruction, as our own files hold them; pairs of texts, which others write, are not read."""
    turns = cast("list[Any]", history) if isinstance(history, list) else []
    return turns if all(isinstance(turn, dict) for turn in turns) else []


_SPEAKERS = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}


def _messages(row: Row, settings: Seeds) -> Found:
    return _conversation(row.get("messages"), "role", "content", settings)


def _sharegpt(row: Row, settings: Seeds) -> Found:
    return _conversation(row.get("conversations"), "from", "value", settings)


def _conversation(turns: Any, role_key: str, text_key: str, settings: Seeds) -> Found:
    if not isinstance(turns, list) or not turns:
        return [], "empty"
    said, problem = _said(cast("list[Any]", turns), role_key, text_key)
    if problem:
        return [], problem
    system = "\n".join(m.content for m in said if m.role == "system") or None
    spoken = [m for m in said if m.role != "system"]
    asked = [n for n, m in enumerate(spoken) if m.role == "user" and m.content.strip()]
    if not asked:
        return [], "no_user_turn"
    chosen = {"first": asked[:1], "last": asked[-1:], "each": asked}[settings.turns]
    return [_turn(spoken, n, system) for n in chosen], None


def _said(turns: list[Any], role_key: str, text_key: str) -> tuple[list[Message], str | None]:
    said: list[Message] = []
    for turn in turns:
        role = _SPEAKERS.get(str(turn.get(role_key))) if isinstance(turn, dict) else None
        if role is None or not isinstance(turn.get(text_key), str):
            return [], "unknown_speaker" if role is None else "not_a_string"
        said.append(Message(cast("Any", role), turn[text_key]))
    return said, None


def _turn(spoken: list[Message], number: int, system: str | None) -> tuple[Instruction, str | None]:
    after = spoken[number + 1] if number + 1 < len(spoken) else None
    answer = after.content if after and after.role == "assistant" else None
    return Instruction(spoken[number].content, system=system, history=tuple(spoken[:number])), answer


_READERS = {"alpaca": _alpaca, "columns": _columns, "messages": _messages, "sharegpt": _sharegpt}


def builtin_hash() -> str:
    """Content hash of the shipped pool."""
    rows = [*_builtin("pool"), *_builtin("held_out")]
    return content_id(*(f"{where} {canonical_json(row)}" for where, row in rows))


def without_near_duplicates(
    pool: Pool, receipt: Receipt, dropped: KeepDropped = forget, find: FindRepeated = near_duplicates
) -> list[Instruction]:
    """The first of each group of near duplicates (ROUGE-L F1 of 0.7 and more), the others counted."""
    repeated = {d.id: d.of for d in repeated_instructions(pool.instructions, find)}
    if repeated:
        receipt.drop("near_duplicate", len(repeated))
    for i, where in zip(pool.instructions, pool.where, strict=True):
        if i.id in repeated:
            dropped(Dropped("near_duplicate", i.text, i.id, where, repeats=repeated[i.id]))
    return [i for i in pool.instructions if i.id not in repeated]


def contaminated(pool: Pool, hits: Mapping[str, str]) -> Iterator[Dropped]:
    """Rows of the pool that repeat an evaluation item (by their id), for whoever keeps them."""
    for i, where in zip(pool.instructions, pool.where, strict=True):
        if i.id in hits:
            yield Dropped("contaminated", i.text, i.id, where, repeats=hits[i.id])


def load_evaluation(settings: Seeds, *, seed: int) -> Pool:
    """All instructions of an evaluation set: a row that cannot be used is an error with its place.

    Left out, it could be trained on with nobody the wiser, and the rest would be another set.
    """
    pool = load_pool(settings, seed=seed, receipt=Receipt("held_out"), split="held_out")
    if pool.problems:
        where, reason = pool.problems[0]
        more = f", and {len(pool.problems) - 1} more" if len(pool.problems) > 1 else ""
        raise DataError(
            f"{settings.source}: a row of this evaluation set cannot be used: {where} ({reason}){more}; "
            "mend or remove it, since a text that is not read here can be trained on unseen"
        )
    return pool


def evaluation_texts(own: Iterable[str], settings: Decontaminate) -> list[Item]:
    """(set, item, text) of a recipe's own evaluation sets, and of what it names beside them.

    An item is a user's turn, or a reference answer long enough to be told from a phrase.
    """
    found: list[Item] = []
    for source in dict.fromkeys([*own, *files_among(settings.against)]):
        # A text that is too long to train on can be trained on in part.
        pool = load_evaluation(Seeds(source=source, max_chars=sys.maxsize, near_duplicates=False), seed=0)
        found += [item for i in pool.instructions for item in _turn_items(source, i)]
        long = {i: text for i, text in pool.answers.items() if len(words(text)) >= NGRAM}
        found += [(source, f"{i}:answer", text) for i, text in long.items()]
    for name in benchmark_names(settings.against, settings.waive):
        found += load_benchmark(name, settings.folder)
    return found


def _turn_items(source: str, instruction: Instruction) -> Iterator[Item]:
    """Every user's turn; the only one under the row's own id."""
    said = [*(m.content for m in instruction.history if m.role == "user"), instruction.text]
    for number, text in enumerate(said, 1):
        yield source, instruction.id if len(said) == 1 else f"{instruction.id}{TURN}{number}", text
