"""A fake model driven by a table of rules, public so that whole programs can be tried and tested offline.

A rule is a pattern on the last user message and the reply to it. A prompt that no rule knows is a loud error: a test
must notice when a prompt changes. Replies depend on nothing but the request.
"""

from __future__ import annotations

import hashlib
import importlib
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tapir.config import Model, read_yaml
from tapir.errors import DataError
from tapir.models.calls import Reply, Request, TokenLogprob

Scripted = Callable[[Request, "re.Match[str]"], "str | Reply"]
_TOKEN = re.compile(r"\s*\S+|\s+")


@dataclass(frozen=True, slots=True)
class Rule:
    """What to say to a user message in which `pattern` is found (dot matches newlines).

    `reply` is a text in which `{name}` and `{1}` stand for groups of the match, or a function. `probabilities` gives
    the first token's distribution where log probabilities are asked for.
    """

    pattern: str
    reply: str | Scripted
    probabilities: dict[str, float] = field(default_factory=lambda: dict[str, float]())


class ScriptedModel:
    """A `calls.BatchBackend`: the first rule whose pattern is found replies.

    `seen` holds what it was asked; in a run, where nobody looks, it `remembers` nothing.
    """

    def __init__(
        self, rules: Sequence[Rule], identity: str = "scripted", batch_size: int = 32, *, remembers: bool = True
    ) -> None:
        self._remembers = remembers
        self.identity = identity
        self.batch_size = batch_size
        self.seen: list[Request] = []
        self._rules = [(re.compile(rule.pattern, re.DOTALL), rule) for rule in rules]

    def generate(self, batch: Sequence[Request]) -> list[Reply]:
        return [self.reply(request) for request in batch]

    def reply(self, request: Request) -> Reply:
        """What the script says; `DataError` when it says nothing."""
        if self._remembers:
            self.seen.append(request)
        asked = next((m.content for m in reversed(request.messages) if m.role == "user"), "")
        for pattern, rule in self._rules:
            found = pattern.search(asked)
            if found:
                return _finished(request, _said(rule, request, found), rule)
        raise DataError(
            f"{self.identity} has no rule for this prompt (row {request.row or '?'}); add one that finds it: {asked!r}"
        )

    def close(self) -> None:
        """Nothing to release."""


def load_scripted(model: Model) -> ScriptedModel:
    """The model of a recipe's `kind: scripted`. Its identity holds the rules' content: a changed script is another."""
    script = model.script or "builtin"
    source = Path(__file__).with_name("scripted_rules.py") if script == "builtin" else Path(script)
    rules = load_rules(script)
    identity = model.identity or f"scripted {script} {hashlib.sha256(source.read_bytes()).hexdigest()[:12]}"
    return ScriptedModel(rules, identity, model.batch, remembers=False)


def load_rules(script: str) -> list[Rule]:
    """Rules of `builtin`, or of a YAML file: a list of `{pattern, reply, probabilities?}`."""
    if script == "builtin":
        return list(importlib.import_module("tapir.models.scripted_rules").RULES)
    path = Path(script)
    listed: Any = read_yaml(path)
    if not isinstance(listed, list):
        raise DataError(f"{path}: a script is a YAML list of rules, each with pattern and reply")
    rules: list[Any] = listed
    return [_rule(raw, f"{path}, rule {number}") for number, raw in enumerate(rules, 1)]


def _rule(raw: Any, place: str) -> Rule:
    try:
        rule = Rule(str(raw["pattern"]), str(raw["reply"]), dict(raw.get("probabilities", {})))
        re.compile(rule.pattern)
    except (KeyError, TypeError, AttributeError, ValueError, re.error) as error:
        raise DataError(f"{place}: needs a pattern (a regular expression) and a reply ({error})") from None
    return rule


def _said(rule: Rule, request: Request, found: re.Match[str]) -> Reply:
    if isinstance(rule.reply, str):
        return Reply(text=_filled(rule.reply, found))
    said = rule.reply(request, found)
    return Reply(text=said) if isinstance(said, str) else said


def _filled(template: str, found: re.Match[str]) -> str:
    """Only names of groups are filled in: replies are often JSON, whose braces must stand."""

    def group(slot: re.Match[str]) -> str:
        name = slot[1]
        known = (name.isdigit() and int(name) <= (found.re.groups)) or name in found.re.groupindex
        return (found[int(name) if name.isdigit() else name] or "") if known else slot[0]

    return re.sub(r"\{(\w+)\}", group, template)


def _finished(request: Request, reply: Reply, rule: Rule) -> Reply:
    """The reply cut and counted like a real one, where the rule has not done so. A word is a token."""
    if reply.completion_tokens:
        return reply
    tokens = _TOKEN.findall(reply.text)
    if len(tokens) > request.sampling.max_tokens:
        tokens = tokens[: request.sampling.max_tokens]
        reply = replace(reply, text="".join(tokens), finish_reason="length")
    logprobs = reply.logprobs
    if request.sampling.top_logprobs and not logprobs:
        logprobs = tuple(_logprob(token, rule if not at else None, request) for at, token in enumerate(tokens))
    asked = sum(len(_TOKEN.findall(m.content)) for m in request.messages)
    return replace(reply, prompt_tokens=asked, completion_tokens=len(tokens), logprobs=logprobs)


def _logprob(token: str, rule: Rule | None, request: Request) -> TokenLogprob:
    probabilities = (rule.probabilities if rule else {}) or {token: 1.0}
    ranked = sorted(probabilities.items(), key=lambda item: (-item[1], item[0]))
    top = tuple((t, math.log(p)) for t, p in ranked[: request.sampling.top_logprobs] if p > 0)
    return TokenLogprob(token, math.log(probabilities.get(token, 1e-9)), top)


def dice(*parts: str) -> float:
    """A number in [0, 1) that depends on the texts alone: chance for scripts."""
    digest = hashlib.sha256("\x1f".join(parts).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:7], "big") / 2**56
