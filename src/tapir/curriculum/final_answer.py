"""What an answer settles on: its final number, its option letter, its short answer, its JSON value.

Owns reading answers to checkable instructions. What the right answer would be is `curriculum.checks`'
business; reading a judge's reply is `prompts.verdict`'s.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

MAX_NUMBER_CHARS = 60
"""A longer run of digits is no answer to a question; converting it would only cost time."""

_MINUS = {0x2212: "-", 0x2013: "-", 0xFE63: "-", 0x2044: "/", 0x00A0: " ", 0x202F: " ", 0x2009: " "}
_NUMBER = re.compile(
    r"(?<![\w.])(?P<sign>[-+]?)\s?[$€£¥₹]?(?P<sign2>[-+]?)"
    r"(?P<body>[1-9]\d{0,2}(?:,\d{2,3}){0,9},\d{3}(?:\.\d+)?(?!\d)"
    r"|[1-9]\d{0,2}(?:[ '_]\d{3})+(?:\.\d+)?(?!\d)"
    r"|\d+,\d+(?![\d,])|\d+(?:\.\d+)?|\.\d+)"
    r"(?:[eE](?P<exponent>[-+]?\d{1,3})(?!\d))?"
    r"(?:\s?/\s?(?P<under>[1-9]\d*)(?![\d/])|[ ](?P<part>\d{1,4}/[1-9]\d{0,3})(?![\d/]))?"
)
_SIGNED = re.compile(r"(?:^|[=≈~<>:(\[{,+*/×÷·$|]|\b(?:is|are|be|equals))[ \t]*\Z", re.IGNORECASE)
"""What a sign with a space behind it comes after; after anything else it is a dash: "Total cost - $42"."""
_SHORT_UNIT = r"(?:[kcmdn]?[mglshLVWJ]|min|hrs?|mph|lbs?|oz|ft|st|nd|rd|th)(?:\^?[23])?"
_UNIT = (
    rf"(?:\s?\\?[%‰$€£¥₹]|\s?°\s?[CFK]?"
    rf"|(?:\s?{_SHORT_UNIT}|\s(?!(?i:[ap]m|bce?|ad|ce)\b)(?:square |cubic )?[^\W\d_]{{2,}})(?:(?: per |/)[^\W\d_]+)?)?"
)
_ONLY_NUMBER = re.compile(rf"[\s*`\"']*{_NUMBER.pattern}{_UNIT}[\s*`\"'.,;!?]*")
_STATED = re.compile(r"####|\\boxed\b|\b(?:final\s+)?(?:answer|result)\s*(?:is|:|=)", re.IGNORECASE)
_LIST_MARK = re.compile(r"(?<=\n)[ \t]*[-+*•][ \t]+(?=\S)")
_MIXED = re.compile(r"(?<=\d)(?=[¼½¾⅐-⅞]|\\[dt]?frac)")
_FRACTION = re.compile(r"\\[dt]?frac\s*\{([^{}]{1,40})\}\s*\{([^{}]{1,40})\}")
_LAST_STATED = 20
_SENTENCE_END = re.compile(r"\n|[.!?](?=\s|$)")
_FENCE = re.compile(r"[ \t]*(`{3,}|~{3,})[ \t]*([\w+-]*)")
_OUTER = " \t\r\n.,;:!?()[]{}<>*_`\"'«»“”‘’„…。，！？、"


def plain(text: str) -> str:
    """`text` with every script's digits and wide forms written as ASCII, and one kind of minus and space."""
    text = unicodedata.normalize("NFKC", text.translate(_MINUS)).translate(_MINUS)
    return "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in text)


def final_number(answer: str) -> Fraction | None:
    """The number that `answer` ends on, exactly; None if it holds none.

    What is stated outright ("the answer is", "####", a box) counts before an equals sign, and that before the
    last number of the text: "The answer is 42. Check: 42 / 7 = 6" says 42.
    """
    text = _readable(answer)
    for stated in reversed(list(_STATED.finditer(text))[-_LAST_STATED:]):
        number = _first_result(_to_sentence_end(text[stated.end() :]))
        if number is not None:
            return number
    if "=" in text:
        number = next(_numbers(text[text.rindex("=") + 1 :]), None)
        if number is not None:
            return number
    return next(_numbers(text, backwards=True), None)


def only_number(text: str) -> Fraction | None:
    """The number that all of `text` is, with its currency or unit; "10:30", "2x + 3" and "World War 2" are none."""
    match = _ONLY_NUMBER.fullmatch(_readable(text))
    return _value(match) if match else None


def _readable(text: str) -> str:
    # "2½" is two and a half, and would be 21/2 once the fraction is written out.
    text = _FRACTION.sub(r"\1/\2", plain(_MIXED.sub(" ", text))).replace("**", "")
    return _LIST_MARK.sub("", text).replace("\\$", "$").replace("\\(", " ")


def _to_sentence_end(rest: str) -> str:
    rest = rest.lstrip(" \t\r\n:*{")
    end = _SENTENCE_END.search(rest)
    return rest[: end.start()] if end else rest


def _first_result(segment: str) -> Fraction | None:
    """ "6 * 7 = 42" states 42; "42 (6 * 7)" states 42 as well."""
    result = next(_numbers(segment.rsplit("=", 1)[-1]), None)
    return result if result is not None else next(_numbers(segment), None)


def _numbers(text: str, backwards: bool = False) -> Iterator[Fraction]:
    found = list(_NUMBER.finditer(text)) if backwards else _NUMBER.finditer(text)
    for match in reversed(found) if isinstance(found, list) else found:
        value = _value(match)
        if value is not None:
            yield value


def _value(match: re.Match[str]) -> Fraction | None:
    if len(match[0]) > MAX_NUMBER_CHARS:
        return None
    body = match["body"]
    if re.fullmatch(r"\d+,\d+", body) and not re.fullmatch(r"[1-9]\d{0,2},\d{3}", body):
        body = body.replace(",", ".")
    value = Fraction(re.sub(r"[,' _]", "", body)) * Fraction(10) ** int(match["exponent"] or 0)
    if match["under"]:
        value /= int(match["under"])
    elif match["part"]:
        value += Fraction(match["part"])
    return -value if _is_negative(match) else value


def _is_negative(match: re.Match[str]) -> bool:
    at = match.start("sign")
    if match["sign"] and match.string[at + 1].isspace() and not _SIGNED.search(match.string[max(0, at - 20) : at]):
        return match["sign2"] == "-"
    return "-" in (match["sign"], match["sign2"])


def normalised(text: str) -> str:
    """Case, spacing, markdown and outer punctuation taken away; "C++" and "C#" keep their difference."""
    folded = " ".join(unicodedata.normalize("NFKC", text).replace("**", "").casefold().split())
    stripped = re.sub(r"^(?:[-+•] |#+ )", "", folded).strip(_OUTER)
    return stripped or folded


def short_answers(answer: str) -> set[str]:
    """What the answer may be, normalised: all of it, its last line, what follows its final "is"."""
    lines = [line for line in answer.splitlines() if line.strip()]
    found = [answer, lines[-1] if lines else ""]
    stated = list(re.finditer(r"\banswer\W{0,4}(?:is\b|:)", answer, re.IGNORECASE))
    stated += list(re.finditer(r"\bis\b:?", answer, re.IGNORECASE))[-1:]
    for match in stated[-3:]:
        rest = answer[match.end() :].lstrip(" *:\t\r\n")
        found += [rest, rest.split("\n", 1)[0], re.split(r"[.!](?:\s|$)", rest, maxsplit=1)[0]]
    return {normalised(text) for text in found if text.strip()}


def chosen_option(answer: str, options: Sequence[str]) -> str | None:
    """The one option label that the answer settles on; two different ones settle nothing."""
    text = re.sub(r"[*_`]+|\\boxed|[{}]", " ", plain(answer)).strip()
    # One space and one line end at a time: runs of them would make the patterns below try every split.
    text = re.sub(r"(?: ?\n)+ ?", "\n", re.sub(r"[^\S\n]+", " ", text))
    label = "|".join(sorted((re.escape(o) for o in options), key=len, reverse=True))
    stated = _stated_options(text, label)
    opened = {m[1].upper() for m in re.finditer(rf"^ ?[(\[]?({label})(?:[)\].:]| ?$)", text, re.I | re.M)}
    # Several options at line starts are the question's list, said again; one of them is a claim.
    found = stated | opened if len(opened) == 1 else stated or opened
    by_fold = {o.upper(): o for o in options}
    return by_fold[found.pop()] if len(found) == 1 else None


def _stated_options(text: str, label: str) -> set[str]:
    closed = r"\s*[)\]\"'.,;:]|\s*$"
    pattern = re.compile(
        rf"\b(?:answer|option|choice|choose|pick|select)\b(?:\s+(?:is|would be))?(?:\s+option)?\s*[:=]?"
        rf"\s*[(\[\"']?(?P<first>{label})(?![\w'])(?P<after>{closed})?"
        rf"(?:\s*(?:or|and|/|,)\s*[(\[]?(?P<second>{label})(?![\w'])(?P<closed>{closed})?)?",
        re.IGNORECASE | re.MULTILINE,
    )
    found: set[str] = set()
    for match in pattern.finditer(text):
        # In lower case and with words behind it, it is an article: "the answer is a dog", "(C), a mammal".
        second = match["second"] if match["closed"] is not None or not (match["second"] or "").islower() else None
        if match["first"].islower() and match["after"] is None and second is None:
            continue
        found.add(match["first"].upper())
        if second:
            found.add(second.upper())
    return found


def fenced_blocks(answer: str) -> list[tuple[str, str]]:
    """(language, text) of each fenced block; one that is never closed is none."""
    blocks: list[tuple[str, str]] = []
    fence, language, inside = "", "", list[str]()
    for line in answer.replace("\r\n", "\n").split("\n"):
        if fence:
            if line.strip() == fence:
                blocks.append((language, "".join(f"{kept}\n" for kept in inside)))
                fence = ""
            inside.append(line)
        elif opening := _FENCE.match(line):
            fence, language, inside = opening[1], opening[2].lower(), []
    return blocks


def json_value(answer: str) -> tuple[bool, Any]:
    """Whether the answer, or its only fenced block, is JSON, and its value; NaN and Infinity are not JSON."""
    candidates = [answer]
    blocks = fenced_blocks(answer)
    if len(blocks) == 1:
        candidates.append(blocks[0][1])
    for text in candidates:
        try:
            return True, json.loads(text, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            continue  # not JSON as it stands; an answer may be anything
    return False, None


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
