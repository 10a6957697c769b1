"""The judge's prompt: Table 8's contract (reasons first, then a score of 1 to 10 for each assistant) in our own words.

Owns how a pair is shown to the judge. The rubric stands first and never changes, so that engines can reuse it; the
last line is ours too, so that the last thing the judge reads is no answer. Reading the reply is `prompts.verdict`'s.
"""

from __future__ import annotations

import functools
import re
from importlib import resources
from pathlib import Path
from typing import Literal, NamedTuple

from tapir.errors import RecipeError
from tapir.prompts.delimit import cut, fill, neutralise
from tapir.types import Instruction, Message, canonical_json

SCORE_OPENING = "Score of the Assistant 1:"
"""How a scores-only reply begins: engines that continue a given opening are spared everything before the score."""

Form = Literal["text", "schema", "scores_only"]
"""What the reply is asked for as: reasons and two lines, a JSON object, or two lines alone."""
SHIPPED: dict[Form, str] = {"text": "judge.txt", "schema": "judge_schema.txt", "scores_only": "judge_scores_only.txt"}

EMPTY = "(this answer is empty)"


class JudgePrompt(NamedTuple):
    messages: tuple[Message, ...]
    cut: bool
    """Something was too long for the judge and is shown in part."""


def judge_messages(
    instruction: Instruction | str,
    first: str,
    second: str,
    *,
    form: Form = "text",
    template: str | None = None,
    max_answer_chars: int = 8_000,
) -> JudgePrompt:
    """Ask for a verdict on two answers. `template` is the text of a user's own template file."""
    shown = _conversation(instruction) if isinstance(instruction, Instruction) else instruction
    parts = [cut(text, max_answer_chars) for text in (shown, first, second)]
    asked, answer_1, answer_2 = (neutralise(text) for text, _ in parts)
    system, user = _parts(template) if template is not None else _shipped(form)
    fields = {"instruction": asked, "answer_1": answer_1.strip() or EMPTY, "answer_2": answer_2.strip() or EMPTY}
    messages = (Message("system", system), Message("user", fill(user, **fields)))
    return JudgePrompt(messages[0 if system else 1 :], any(was_cut for _, was_cut in parts))


def read_template(path: Path) -> str:
    """A user's own template file, found out to be one before anything is paid."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"judge.template: {path} cannot be read ({error})") from None
    judge_messages("", "", "", template=text)
    return text


@functools.cache
def score_schema() -> str:
    """JSON schema of a reply, for endpoints that can be held to one; reasons come first there as well."""
    score = {"type": "number", "minimum": 1, "maximum": 10}
    properties = {"explanation": {"type": "string"}, "score_1": score, "score_2": score}
    # A constrained reply follows the order of the properties: their names sort so that reasons come before scores.
    return canonical_json(
        {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    )


def _conversation(instruction: Instruction) -> str:
    """The instruction with the context it was asked in."""
    system = [f"(system) {instruction.system}"] if instruction.system else []
    history = [f"({m.role}) {m.content}" for m in instruction.history]
    return "\n".join([*system, *history, instruction.text])


@functools.cache
def _shipped(form: Form) -> tuple[str, str]:
    return _parts((resources.files("tapir.prompts") / SHIPPED[form]).read_text(encoding="utf-8"))


def _parts(template: str) -> tuple[str, str]:
    """System and user text; both are split off before anything is filled in."""
    found = re.fullmatch(r"(?:### system\n(.*?)\n)?### user\n(.*)", template.strip().replace("\r\n", "\n"), re.DOTALL)
    if found is None:
        raise RecipeError("judge.template: a prompt file has a `### system` part (may be absent) and a `### user` part")
    return (found[1] or "").strip(), found[2].strip()
