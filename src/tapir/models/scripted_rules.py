"""The rules of `script: builtin`: a teacher and judge that know this program's prompts and answer without a model.

Deterministic, and just plausible enough that a whole run goes through: labels by key words, scores by length, new
instructions put together from parts. What a real model would say is another matter.
"""

from __future__ import annotations

import math
import re

from tapir.models.calls import Reply, Request, TokenLogprob
from tapir.models.scripted import Rule, dice

KEY_WORDS = {
    "Math": r"\d|sum|number|how many",
    "Code Generation": r"function|program|script",
    "Code Debug": r"bug|fix|error",
    "Reasoning": r"\bif\b|order|why",
    "Writing": r"write|story|letter",
    "Grammar": r"sentence|grammar",
    "History": r"king|war|century",
}
THINGS = "bridge garden harbour lantern market mountain orchard railway river school theatre village window winter"
QUALITIES = "age colour cost height history length noise price purpose shape size speed strength weight"
PEOPLE = "a baker, a child, a doctor, an engineer, a farmer, a gardener, a nurse, a painter, a pilot, a sailor"


def _pick(words: str, *key: str, separator: str = " ") -> str:
    listed = words.split(separator)
    return listed[int(dice(*key) * len(listed))]


def _label(request: Request, found: re.Match[str]) -> str:
    text = found["text"].lower()
    label = next((name for name, words in KEY_WORDS.items() if re.search(words, text)), "Others")
    return f"Its words point to this type.\nType: {label}"


def _new_instruction(request: Request, found: re.Match[str]) -> str:
    """About as long as the example, of other words for every sample."""
    key = (found["text"], str(request.sample))
    parts: list[str] = []
    while len(" ".join(parts).split()) < len(found["text"].split()):
        at = str(len(parts))
        thing, other = (_pick(THINGS, at, which, *key) for which in ("thing", "other"))
        quality, who = _pick(QUALITIES, at, *key), _pick(PEOPLE, at, *key, separator=", ")
        parts.append(f"Tell {who} how the {quality} of the {thing} and of the {other} differ.")
    return " ".join(parts)


def _refined(request: Request, found: re.Match[str]) -> str:
    return f"{found['text']} Give the reasons first, then the result on its own line."


def _scores(request: Request, found: re.Match[str]) -> str:
    first, second = (min(9, 2 + len(found[name].split()) // 4) for name in ("first", "second"))
    lines = f"Score of the Assistant 1: {first}\nScore of the Assistant 2: {second}"
    if request.prefill:
        return lines.removeprefix(request.prefill)
    return f"Evaluation evidence: the longer answer says more.\n{lines}"


def _preferred(request: Request, found: re.Match[str]) -> Reply:
    """The longer answer, the surer the longer: token probabilities as AlpacaEval's judge is asked for them."""
    first, second = (len(found[name].split()) for name in ("first", "second"))
    share = (1 + first) / (2 + first + second)
    top = (("m", math.log(share)), ("M", math.log(1 - share)))
    token, logprob = max(top, key=lambda item: item[1])
    return Reply(token, prompt_tokens=1, completion_tokens=1, logprobs=(TokenLogprob(token, logprob, top),))


def _grade(request: Request, found: re.Match[str]) -> str:
    """By length; a warm judge wavers by a point from sample to sample."""
    grade = min(9, 2 + len(found["graded"].split()) // 4)
    wavers = request.sampling.temperature > 0 and dice("grade", found["graded"], str(request.sample)) < 0.5
    return f"It says enough, or not.\nRating: [[{grade + 1 if wavers else grade}]]"


def _answer(request: Request, found: re.Match[str]) -> str:
    """Some of the prompt's own words in an order of their own; another sample gives another order."""
    words = re.findall(r"\w+", found[0])[:200] or ["nothing"]
    length = 8 + int(24 * dice("length", found[0], str(request.sample)))
    picks = (words[int(dice(str(at), found[0], str(request.sample)) * len(words))] for at in range(length))
    return " ".join(picks).capitalize() + "."


_LAST = r".*<{0}>\n(?P<{1}>.*?)\n</{0}>"

RULES: list[Rule] = [
    Rule(r"\AName the one task type" + _LAST.format("instruction", "text"), _label),
    Rule(r"\AInvent one new instruction" + _LAST.format("example", "text"), _new_instruction),
    Rule(r"\ARewrite the last instruction" + _LAST.format("instruction", "text"), _refined),
    Rule(r"\ACompare two assistants" + _LAST.format("answer_1", "first") + _LAST.format("answer_2", "second"), _scores),
    Rule(
        r"\ABelow are an instruction and two" + _LAST.format("answer_1", "first") + _LAST.format("answer_2", "second"),
        _preferred,
    ),
    Rule(r"\ABelow is a conversation.*<answer_\d>\n(?P<graded>.*?)\n</answer_\d>", _grade),
    Rule(r"\A.*\Z", _answer),
]
