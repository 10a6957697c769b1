"""Score lines: where a judge's reply states scores, and which pair of them is final.

Owns the forms a score line comes in (Table 8's contract, in many spellings). `prompts.verdict` turns the pair into a
verdict; `prompts.delimit` uses the same eye to make look-alikes in answers harmless.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from dataclasses import dataclass

MIN_SCORE, MAX_SCORE = 1.0, 10.0


@dataclass(frozen=True, slots=True)
class Mark:
    """One score line: which assistant, what it says, and where the number (or what stands for it) begins."""

    assistant: int
    start: int
    digit: int
    """Where the assistant's number stands."""
    value: float | None
    value_start: int
    end: int
    problem: str | None = None


# What a reply says outside its thinking, with one spelling for digits, signs and line ends. Every replacement has
# the length of what it replaces, so that positions in the cleaned text are positions in the reply.

THINKING = re.compile(r"<(think|thinking|reasoning)\b[^<>]*>.*?(?:</\1\s*>|\Z)", re.IGNORECASE | re.DOTALL)
THINKING_END = re.compile(r"</(?:think|thinking|reasoning)\s*>", re.IGNORECASE)
_SIGNS = {
    **dict.fromkeys("*`\xa0\u200b\u200c\u200d\u200e\u200f\u2060\ufeff", " "),
    **dict.fromkeys("\r\x85\u2028\u2029\x0b\x0c", "\n"),
    **dict.fromkeys("‐‑‒–—−", "-"),
    "\u066b": ".", "\u2019": "'", "\u3010": "[", "\u3011": "]", "\u301c": "-",
}  # fmt: skip


def clean(text: str) -> str:
    """`text` without thinking, in ASCII signs and digits where it has others; of the same length."""
    text = THINKING.sub(lambda m: "\n" * len(m[0]), text)
    ends = list(THINKING_END.finditer(text))
    if ends:  # chat templates put the opening tag into the prompt, so that only the closing one is in the reply
        text = "\n" * ends[-1].end() + text[ends[-1].end() :]
    return plain_signs(text)


def plain_signs(text: str) -> str:
    """`text` in ASCII signs and digits where it has others; of the same length."""
    return "".join(map(_sign, text))


@functools.lru_cache(maxsize=4096)
def _sign(char: str) -> str:
    if char in _SIGNS:
        return _SIGNS[char]
    if char.isdecimal():
        return str(unicodedata.decimal(char))
    if "\uff01" <= char <= "\uff5e":
        return chr(ord(char) - 0xFEE0)
    return char


# A score line. The word "score" or "rating" may stand before or after the assistant; without it the value must be a
# number with nothing but a mark or the line's end behind it ("Assistant 1: 3 examples" is prose).
_WORD = r"(?:(?:final|overall|total)[ ]{1,3})?(?:scores?|ratings?)"
_LABEL = re.compile(
    r"(?:^|(?<=[,;|:.()\[\]/>]))[ \t]{0,8}(?:(?:>|\#{1,6}|[-+•|]|\d{1,2}[.)]|and|[(\[\"'])[ \t]{0,4}){0,4}_{0,2}"
    rf"(?P<before>(?:the[ ]{{1,3}})?{_WORD}[ \t_]{{0,3}}(?:of|for|:)?[ \t]{{0,3}}(?:the[ ]{{1,3}})?)?"
    r"[\[(\"']?(?:AI[ ]{1,3})?assistant[ \t_]{0,3}\#?(?P<assistant>[12])(?!\d)[\])\"]?"
    rf"(?:[ ]?'s)?[ \t]{{0,3}}(?P<after>{_WORD})?[ \t_]{{0,4}}[\])\"']?[ \t]{{0,4}}(?P<sep>[:=|]|->|→|-)?",
    re.IGNORECASE | re.MULTILINE,
)
_OPENING = re.compile(r"[ \t]*(?:\n[ \t]*){0,3}(?:</?[a-z_]{1,12}>|\\boxed|[\[({<\"'|$_:]|[ \t])*", re.IGNORECASE)
_VALUE = re.compile(
    r"(?P<sign>[-+])?(?P<number>\d+(?:\.\d+|,\d{1,2}(?!\d)|,\d{3,})?)"
    r"(?:[ \t]*[\])}>\"'$_]+)?"
    r"(?:[ \t(\[]*(?:(?:points?|stars?|marks?)[ \t(\[]*)?"
    r"(?:/|(?:out[ ])?of(?:[ ](?:the|a(?:[ ]possible)?))?|von|sur|de)[ \t]*(?P<scale>\d+(?:\.\d+)?))?",
    re.IGNORECASE,
)
_RANGE = re.compile(
    r"[ \t\])>\"'_$]*(?:-|~|to|or|and|through|bis|\.\.+|…|±|/|&)[ \t\[(<\"'_$]*\d|[ \t]*(?:-|~|to|or)[ \t]*$",
    re.IGNORECASE | re.MULTILINE,
)
_GLUED = re.compile(r"[ \t]*(?:[\d.,]*\d|[+=→%]|->)|[^\W_]|[²³½¼¾⅓⅔⁄°^]", re.IGNORECASE)
"""What makes the number a part of something else: a longer number, a sum, a change, a share."""
_BETWEEN = re.compile(r"(?:between|from)\b[^\n]{0,20}?\d", re.IGNORECASE)
_NO_NUMBER = re.compile(r"(?:n\s?/\s?a|n\.a\.?|na|none|nan|null|unknown|undefined|inf|\?|-)(?![^\W_])", re.IGNORECASE)
_NUMBER_ENDS = re.compile(r"[ \t]*(?:$|[.,;:|)\]\-–(<&%]|and\b|points?\b|vs\b)", re.IGNORECASE | re.MULTILINE)


def score_lines(cleaned: str) -> list[Mark]:
    """Every score line of a cleaned text, in order."""
    marks = (_mark(cleaned, label) for label in _LABEL.finditer(cleaned))
    return [mark for mark in marks if mark is not None]


def _mark(text: str, label: re.Match[str]) -> Mark | None:
    named = bool(label["before"] or label["after"])
    if not label["sep"] and not named:
        return None
    opening = _OPENING.match(text, label.end())
    at = opening.end() if opening else label.end()
    if opening and "\n" in opening[0] and not (named and text[at : at + 1].isdigit()):
        return None  # an empty line: the score is missing, which is not the same as unreadable
    value, problem, end = score_at(text, at)
    if not named and problem != "range":
        plain = _NO_NUMBER.match(text, at) if problem == "not_a_number" else _NUMBER_ENDS.match(text, end)
        if plain is None:
            return None
    if not label["sep"] and (problem is not None or not re.compile(r"[ \t.]*$", re.M).match(text, end)):
        return None
    if at >= len(text) and not (opening and opening[0].strip()):
        return None
    digit = label.start("assistant")
    return Mark(int(label["assistant"]), label.start(), digit, value, at, max(end, label.end()), problem)


def score_at(text: str, at: int) -> tuple[float | None, str | None, int]:
    """The score that stands at `at`, as (score, None, end) or (None, problem, end)."""
    found = _VALUE.match(text, at)
    if found is None:
        problem = "range" if _BETWEEN.match(text, at) else "not_a_number"
        return None, problem, at
    end = found.end()
    if found["scale"] is not None and float(found["scale"]) != MAX_SCORE:
        return None, "out_of_range", end
    if _RANGE.match(text, end):
        return None, "range", end
    if glued := _GLUED.match(text, end):
        return None, ("out_of_range" if glued[0].endswith("%") else "not_a_number"), end
    if re.match(r",\d{3}", re.sub(r"^\d+", "", found["number"])):
        return None, "out_of_range", end
    score = float(found["number"].replace(",", "."))
    if found["sign"] == "-" or not MIN_SCORE <= score <= MAX_SCORE:
        return None, "out_of_range", end
    return score, None, end


def final_pair(cleaned: str) -> tuple[Mark, Mark] | str:
    """The marks of the last pair, Assistant 1's first, or why there is no such pair.

    Score lines with no prose between them belong together. The last such group decides; a single line finishes
    the single line before it. A lone line that differs from the pair before it leaves a doubt.
    """
    groups = _grouped(cleaned, score_lines(cleaned))
    if not groups:
        return "no_rating"
    last = groups[-1]
    before = groups[-2] if len(groups) > 1 else {}
    if len(last) == 1 and len(before) == 1 and last.keys() != before.keys():
        last = {**before, **last}
    elif len(last) == 1 and len(before) == 2:
        [(assistant, marks)] = last.items()
        if not _agree([*before[assistant], *marks]):
            return "contradictory"
        last = before
    if len(last) == 1:
        return "one_score"
    if not all(_agree(marks) for marks in last.values()):
        return "contradictory"
    pair = last[1][-1], last[2][-1]
    problem = next((mark.problem for mark in pair if mark.problem), None)
    return problem or pair


def _agree(marks: list[Mark]) -> bool:
    return len({(mark.value, mark.problem) for mark in marks}) == 1


def _grouped(text: str, marks: list[Mark]) -> list[dict[int, list[Mark]]]:
    """Runs of score lines, by assistant; what follows a score on its own line is a remark, not prose between."""
    groups: list[dict[int, list[Mark]]] = []
    end = -1
    for mark in marks:
        line_end = text.find("\n", end, mark.start) if end >= 0 else -1
        between = text[line_end : mark.start] if line_end >= 0 else ""
        if not groups or re.search(r"[^\W_]", between):
            groups.append({})
        groups[-1].setdefault(mark.assistant, []).append(mark)
        end = mark.end
    return groups


def has_explanation(text: str) -> bool:
    """Whether words come before the scores, beyond the heading that announces them."""
    said = re.sub(r"evaluation(?:\s+evidence)?|explanation|assistant|scores?", "", text, flags=re.IGNORECASE)
    return len(re.findall(r"[^\W\d_]{2,}|[\u3040-\u9fff]", said)) >= 3
