"""When a refined instruction must not be used: it lost something, changed something, or answered (appendix C).

The refiner may add words and list markers; it may not touch what the instruction is about. A refusal is a fallback to
the original text, counted by reason. In doubt it refuses: the original is always a sound instruction.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from tapir.curriculum.languages import language_of
from tapir.curriculum.words import words

KEPT_WORDS = 0.5
"""Share of the original's content words that a refinement must still hold; an answer in its place holds few."""
FEWEST_WORDS = 12
"""Originals shorter than this may grow as if they had so many words: Table 11 turns 7 into 41."""

_CODE = re.compile(r"```[^\n]*\n(.*?)```|`([^`\n]+)`", re.DOTALL)
_LIST_MARKER = re.compile(r"^[ \t]*(?:\(?\d{1,2}[.):]|step \d+:?)\s+", re.IGNORECASE | re.MULTILINE)
_NUMBER = re.compile(r"\d+(?:[.,:/]\d+)*")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_NUMBER_WORDS = "two three four five six seven eight nine ten eleven twelve"
_SPELLED = {word: str(value) for value, word in enumerate(_NUMBER_WORDS.split(), start=2)}
_JUST_ONE = re.compile(
    r"\bone\s+(?:\w+\s+)?(?:sentence|word|line|paragraph|letter|number|name|example|reason|statement|step)\b", re.I
)
"""`one` is too common a word to be kept like a number; as a limit to an answer it is one."""
_OPTION = re.compile(r"(?<!\S)(?:\(([A-Ha-h])\)|([A-Ha-h])[).:])(?=[ \t\w])")
_NAME = re.compile(r"(?<![.!?:\n\"“(])(?<!^)[ ]([A-Z][\w'’-]*)")
_MENTIONS = re.compile(r"rewritten|refined instruction|original instruction|</?instruction>", re.IGNORECASE)
_TELLS = re.compile(
    r"\b(?:rewritten|refined|rephrased|reworded|reformulated)\s+(?:instruction|prompt|question|request|task)\b"
    r"|\boriginal\s+(?:instruction|prompt)\b|^\s*rewritten\s*:|</?instruction>",
    re.IGNORECASE,
)
_ANSWERING = (
    re.compile(r"^\s*(?:answer|solution|the (?:answer|result|solution) is|here(?: is|'s)|sure\b|certainly\b)", re.I),
    re.compile(r"\b(?:the|its)\s+(?:correct\w*\s+)?(?:answer|result|solution|sentence|option)\s+is\b", re.I),
)
_VERBS = (
    "add analy[sz]e answer apply arrange assess avoid be brainstorm build calculate categori[sz]e change check choose "
    "classify combine come compare complete compose compute conclude construct consider contrast convert correct "
    "create debate debug decide deduce define demonstrate derive describe design detail detect determine develop "
    "devise diagnose do discuss draft draw edit elaborate estimate evaluate examine expand explain explore express "
    "extract fill find fix form formulate generate give group guess help identify illustrate imagine implement "
    "improve include infer interpret invent justify keep label let list make match mention modify name offer "
    "optimi[sz]e order organi[sz]e outline paraphrase pick plan predict prepare present prove provide rank rate read "
    "recommend reason recall reformulate remove rename reorder rephrase replace report research respond restate "
    "reverse review revise rewrite say select share show simplify simulate solve sort specify spell start state "
    "suggest summari[sz]e tell test think transform translate try turn use verify work write"
)
_VERB = re.compile("|".join(_VERBS.split()))
_BEFORE_VERB = r"please|then|and|or|(?:task is|need|want you|asked) to|should|must|can|step by step"
_ASKS = re.compile(
    r"\?|(?:^|[.!?:;,\n*\-–—\"][ \t]*|\d[.)]?[ \t]*"
    rf"|\b(?:{_BEFORE_VERB})\s+)(?:{_VERB.pattern})\b",
    re.IGNORECASE,
)
_COMMON_WORDS = "what when where which whose that this these those with from have about please your some"
_COMMON = frozenset(_COMMON_WORDS.split())


def refusal(original: str, refined: str, *, max_growth: float = 4.0) -> str | None:
    """Why `refined` must not stand in for `original`; None where it may."""
    if not words(refined):
        return "empty"
    if _MENTIONS.search(refined):
        return "mentions_rewriting"
    if len(words(refined)) > max_growth * max(FEWEST_WORDS, len(words(original))):
        return "too_long"
    if any(pattern.search(refined) and not pattern.search(original) for pattern in _ANSWERING):
        return "answers"
    before, after = language_of(original), language_of(refined)
    # Before the rest: in another language, nearly every word of some languages would count as lost.
    if before is not None and after is not None and before != after:
        return "other_language"
    lost = _lost(original, refined)
    if (
        lost is None
        and before in (None, "en")
        and _ASKS.search(original)
        and not _ASKS.search(_added(original, refined))
    ):
        return "answers"
    return lost


def _added(original: str, refined: str) -> str:
    """What follows the original where it stands whole at the beginning, else all of the text."""
    before, after = _one_line(original), _one_line(refined)
    added = after.removeprefix(before).strip()
    return added if after.startswith(before) and words(added) else after


def mentions_rewriting(instruction: str, answer: str) -> bool:
    """Whether an answer speaks of a rewriting that whoever reads the original instruction knows nothing of."""
    return _TELLS.search(answer) is not None and _TELLS.search(instruction) is None


def _lost(original: str, refined: str) -> str | None:
    if any(code not in _one_line(refined) for code in _code(original)):
        return "lost_code"
    options = _options(refined)
    if any(not options.get(letter, "").startswith(wording) for letter, wording in _options(original).items()):
        return "lost_option"
    limits = {" ".join(limit.lower().split()) for limit in _JUST_ONE.findall(original)}
    if limits - {" ".join(limit.lower().split()) for limit in _JUST_ONE.findall(refined)}:
        return "lost_number"
    if not any(_numbers_kept(original, reading) for reading in _readings(refined)):
        return "lost_number"
    if _kept(original, refined) < KEPT_WORDS:
        return "lost_content"
    # Every German noun is capitalised: there it is no sign of a name.
    named = [] if language_of(original) == "de" else _NAME.findall(original)
    return "lost_name" if any(not _has_name(refined, name) for name in named if name != "I") else None


def _numbers_kept(original: str, refined: str) -> bool:
    """Each number as often as before, and each that was spelled out at all; more are allowed."""
    there = _digits(refined) + Counter(_spelled(refined))
    return not _digits(_LIST_MARKER.sub("", original)) - there and there.keys() >= set(_spelled(original))


def _digits(text: str) -> Counter[str]:
    return Counter(_NUMBER.findall(_THOUSANDS.sub("", text)))


def _spelled(text: str) -> list[str]:
    return [_SPELLED[word] for word in words(text) if word in _SPELLED]


def _readings(refined: str) -> Iterator[str]:
    """The text without list markers at line starts, then without those that lost their line break.

    Table 11 prints the list "1. 2x + 3y = 12", "2. 5x - 4y = 8" as "1. 2x + 3y = 122. 5x - 4y = 8".
    """
    yield _LIST_MARKER.sub("", refined)
    text, at, marker = refined, 0, 1
    while found := re.compile(rf"(?:(?<=\s)|^){marker}[.)]\s" if marker == 1 else rf"{marker}[.)]\s").search(text, at):
        text = f"{text[: found.start()]} {text[found.end() :]}"
        at, marker = found.start() + 1, marker + 1
    yield text


def _kept(original: str, refined: str) -> float:
    """Share of content words that are still there, up to their endings."""
    content = {w[:5] for w in words(original) if len(w) > 3 and w not in _COMMON and not _VERB.fullmatch(w)}
    if len(content) < 2:
        return 1.0
    return len(content & {w[:5] for w in words(refined)}) / len(content)


def _code(text: str) -> set[str]:
    return {_one_line(block or inline) for block, inline in _CODE.findall(text)}


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _options(text: str) -> dict[str, str]:
    """The wording of each lettered option; a single lettered item is no choice."""
    labels = list(_OPTION.finditer(text))
    ends = [*(label.start() for label in labels), len(text)][1:]
    found: dict[str, str] = {}
    for label, end in zip(labels, ends, strict=True):
        line = text[label.end() : end].partition("\n")[0]
        found[(label[1] or label[2]).upper()] = _one_line(line).rstrip(".,;").casefold()
    return found if {"A", "B"} <= found.keys() else {}


def _has_name(text: str, name: str) -> bool:
    bare = re.escape(re.sub(r"['’]s?$", "", name))
    # A single letter names something only as a capital; `a` is an article.
    return re.search(rf"(?<!\w){bare}(?!\w)" if len(name) == 1 else rf"(?i)(?<!\w){bare}", text) is not None
