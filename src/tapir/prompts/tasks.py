"""The prompts of classification, expansion and refinement (the roles of Table 6, Table 7 and appendix C; the words
are ours), and the reading of their replies. What stays the same in a prompt stands first, so that engines can reuse
it; what comes from data stands last, between neutralised delimiters.
"""

from __future__ import annotations

import functools
import json
import re
from importlib import resources
from pathlib import Path

import yaml

from tapir.errors import DataError
from tapir.prompts.delimit import fill, neutralise
from tapir.tasks import Task, Taxonomy
from tapir.types import Instruction, Message, canonical_json


def read_template(name: str, path: Path | None = None) -> tuple[str, str]:
    """System and user text of a template file (`### system`, `### user`)."""
    source = path or resources.files("tapir.prompts") / f"{name}.txt"
    try:
        text = source.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{source}: the prompt template cannot be read ({error})") from None
    match = re.fullmatch(r"### system\n(.*?)\n### user\n(.*)", text.strip(), re.DOTALL)
    if match is None:
        raise DataError(f"{source}: a prompt template has a `### system` part and then a `### user` part")
    return match[1], match[2]


@functools.cache
def _template(name: str) -> tuple[str, str]:
    return read_template(name)


def _messages(name: str, **fields: str) -> tuple[Message, ...]:
    system, user = _template(name)
    return Message("system", system), Message("user", fill(user, **fields))


def shown(instruction: Instruction) -> str:
    """The instruction with its context, as a text that is safe between our delimiters."""
    before = [f"[{m.role}] {m.content}" for m in instruction.history]
    system = [f"[system] {instruction.system}"] if instruction.system else []
    return neutralise("\n".join([*system, *before, instruction.text]))


def classify_messages(instruction: Instruction, taxonomy: Taxonomy) -> tuple[Message, ...]:
    """Ask for a reason, then one type of the taxonomy."""
    types = "\n".join(f"- {t.name}: {t.definition}" for t in taxonomy.tasks)
    return _messages("classify", types=types, instruction=shown(instruction))


def label_schema(taxonomy: Taxonomy) -> str:
    """JSON schema of a label, for endpoints that can be held to one."""
    properties = {"reason": {"type": "string"}, "type": {"type": "string", "enum": list(taxonomy.names)}}
    return canonical_json(
        {"type": "object", "properties": properties, "required": ["reason", "type"], "additionalProperties": False}
    )


_LABEL_LINE = re.compile(r"^[\s*_#>-]*(?:task\s+)?type[\s*_]*[::][\s*_`'\"\[<]*(.+?)[\s*_`'\"\]>.]*$", re.I | re.M)


def read_label(text: str, taxonomy: Taxonomy) -> str | None:
    """The task type a reply settles on; None if it names none of the list, or several."""
    if text.lstrip().startswith("{"):
        try:
            return taxonomy.read_label(str(json.loads(text).get("type", "")))
        except (json.JSONDecodeError, AttributeError):
            return None
    lines = _LABEL_LINE.findall(text)
    if lines:
        said = re.split(r"[:(—–]", lines[-1])[0]
        return taxonomy.read_label(said) or taxonomy.read_label(lines[-1])
    last = text.strip().splitlines()[-1] if text.strip() else ""
    return taxonomy.read_label(last.strip(" .*`'\"-"))


def expand_messages(parent: Instruction, task: Task) -> tuple[Message, ...]:
    """Ask for a new instruction like `parent`."""
    return _messages("expand", task=task.name, definition=task.definition, instruction=shown(parent))


_FRAME = re.compile(
    r"^\s*(?:</?(?:example|instruction)>|(?:new|created|rewritten|refined)?\s*instruction\s*:)\s*", re.I
)
_END = re.compile(r"\s*</(?:example|instruction)>.*$", re.I | re.S)


def read_instruction(text: str) -> str:
    """The instruction in a reply, without frame, heading or surrounding quotes."""
    body = _END.sub("", text.strip())
    while (shorter := _FRAME.sub("", body)) != body:
        body = shorter
    body = body.strip()
    if len(body) > 1 and body[0] == body[-1] == '"' and '"' not in body[1:-1]:
        body = body[1:-1].strip()
    return body


@functools.cache
def refinement_examples(path: Path | None = None) -> dict[str, tuple[tuple[str, str], ...]]:
    """In-context examples by task type: (original, refined)."""
    source = path or resources.files("tapir.data") / "refinements.yaml"
    try:
        raw = yaml.safe_load(source.read_text(encoding="utf-8"))
        return {task: tuple((p["original"], p["refined"]) for p in pairs) for task, pairs in raw.items()}
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{source}: not a file of refinement examples ({error})") from error


def refine_messages(instruction: Instruction, task: Task) -> tuple[Message, ...]:
    """Ask for a rewriting of `instruction` that draws an answer in the style of its task type."""
    pairs = refinement_examples().get(task.name, ())
    examples = "\n".join(f"<instruction>\n{before}\n</instruction>\nRewritten:\n{after}\n" for before, after in pairs)
    return _messages("refine", style=task.style, examples=examples, instruction=shown(instruction))


def plain_refine_messages(instruction: Instruction, task: Task) -> tuple[Message, ...]:
    """The same for a refiner that was fine-tuned on such pairs: without examples, as it was trained (appendix C)."""
    return _messages("refine_plain", style=task.style, instruction=shown(instruction))
