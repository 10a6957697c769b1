"""The verifiable instructions of IFEval by their public ids, and whether a response follows one.

Owns the 25 checks and their arguments' types (our own code, the public rules). Which instructions a prompt has and
how they add up is `instruction_following`'s. Where the public rules use a statistical tokenizer or language detector,
ours are light: sentences and languages are told by rules, so single borderline responses can differ.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, cast

from tapir.curriculum.format_constraints import sentences
from tapir.errors import DataError
from tapir.evaluation.written_language import written_in

Arguments = Mapping[str, Any]
Check = Callable[[str, Arguments], bool | None]
"""(response, arguments) → followed or not; None where we cannot tell (a language that our rules do not know)."""


def _related(count: int, relation: str, bound: int) -> bool:
    if relation == "less than":
        return count < bound
    if relation == "at least":
        return count >= bound
    raise ValueError(f"relation {relation!r}; known are 'less than' and 'at least'")


def _existence(text: str, a: Arguments) -> bool:
    return all(re.search(re.escape(word), text, re.IGNORECASE) for word in a["keywords"])


def _frequency(text: str, a: Arguments) -> bool:
    found = re.findall(re.escape(a["keyword"].strip()), text, re.IGNORECASE)
    return _related(len(found), a["relation"], a["frequency"])


def _forbidden(text: str, a: Arguments) -> bool:
    return not any(re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE) for word in a["forbidden_words"])


def _letters(text: str, a: Arguments) -> bool:
    return _related(text.lower().count(a["letter"].lower()), a["let_relation"], a["let_frequency"])


def _language(text: str, a: Arguments) -> bool | None:
    return written_in(text, a["language"])


def _sentences(text: str, a: Arguments) -> bool:
    return _related(sentences(text), a["relation"], a["num_sentences"])


def _words(text: str, a: Arguments) -> bool:
    return _related(len(re.findall(r"\w+", text)), a["relation"], a["num_words"])


def _paragraphs(text: str, a: Arguments) -> bool:
    """Paragraphs between `***` dividers; an empty one is allowed at the ends only."""
    parts = [part.strip() for part in re.split(r"\s?\*\*\*\s?", text)]
    return all(parts[1:-1]) and sum(map(bool, parts)) == a["num_paragraphs"]


def _nth_paragraph(text: str, a: Arguments) -> bool:
    """The nth paragraph between blank lines opens with the word; the number of paragraphs must be right as well."""
    parts = [part.strip() for part in text.split("\n\n")]
    nth = a["nth_paragraph"]
    if nth > len(parts) or not parts[nth - 1] or sum(map(bool, parts)) != a["num_paragraphs"]:
        return False
    first = parts[nth - 1].split()[0].lstrip("'\"")
    return re.split(r"[.,?!'\"]", first)[0].lower() == a["first_word"].lower()


def _placeholders(text: str, a: Arguments) -> bool:
    return len(re.findall(r"\[.*?\]", text)) >= a["num_placeholders"]


_POSTSCRIPTS = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}


def _postscript(text: str, a: Arguments) -> bool:
    marker: str = a["postscript_marker"].strip()
    spelled = _POSTSCRIPTS.get(marker) or re.escape(marker.lower())
    return re.search(spelled, text.lower()) is not None


def _bullets(text: str, a: Arguments) -> bool:
    return len(re.findall(r"^\s*(?:\*[^*]|-).*$", text, re.MULTILINE)) == a["num_bullets"]


def _constrained(text: str, _a: Arguments) -> bool:
    return any(f"My answer is {choice}." in text for choice in ("yes", "no", "maybe"))


def _highlights(text: str, a: Arguments) -> bool:
    """`*so*` and `**so**`, blank ones not counted."""
    single = re.findall(r"\*[^\n*]*\*", text)
    double = re.findall(r"\*\*[^\n*]*\*\*", text)
    return sum(bool(found.strip("*").strip()) for found in (*single, *double)) >= a["num_highlights"]


def _sections(text: str, a: Arguments) -> bool:
    heads = re.findall(rf"\s?{re.escape(a['section_spliter'].strip())}\s?\d+\s?", text)
    return len(heads) >= a["num_sections"]


def _json(text: str, _a: Arguments) -> bool:
    bare = re.sub(r"^```(?:json)?", "", text.strip(), flags=re.IGNORECASE).removesuffix("```")
    try:
        json.loads(bare)
    except (ValueError, RecursionError):
        return False
    return True


def _title(text: str, _a: Arguments) -> bool:
    return any(found.strip("<>").strip() for found in re.findall(r"<<[^\n]+>>", text))


def _two_responses(text: str, _a: Arguments) -> bool:
    parts = [part.strip() for part in text.split("******")]
    filled = [part for part in parts if part]
    return all(parts[1:-1]) and len(filled) == 2 and filled[0] != filled[1]


def _repeat(text: str, a: Arguments) -> bool:
    return text.strip().lower().startswith(a["prompt_to_repeat"].strip().lower())


def _ends(text: str, a: Arguments) -> bool:
    return text.strip().strip('"').lower().endswith(a["end_phrase"].strip().lower())


def _quoted(text: str, _a: Arguments) -> bool:
    bare = text.strip()
    return len(bare) > 1 and bare[0] == bare[-1] == '"'


def _capital_words(text: str, a: Arguments) -> bool:
    words = re.findall(r"[^\W_]+(?:[-'’.&/][^\W_]+)*", text)
    return _related(sum(w.isupper() for w in words), a["capital_relation"], a["capital_frequency"])


def _upper(text: str, _a: Arguments) -> bool | None:
    return text.isupper() and written_in(text.lower(), "en")


def _lower(text: str, _a: Arguments) -> bool | None:
    return text.islower() and written_in(text, "en")


def _no_comma(text: str, _a: Arguments) -> bool:
    return "," not in text


CHECKS: dict[str, Check] = {
    "keywords:existence": _existence,
    "keywords:frequency": _frequency,
    "keywords:forbidden_words": _forbidden,
    "keywords:letter_frequency": _letters,
    "language:response_language": _language,
    "length_constraints:number_sentences": _sentences,
    "length_constraints:number_paragraphs": _paragraphs,
    "length_constraints:number_words": _words,
    "length_constraints:nth_paragraph_first_word": _nth_paragraph,
    "detectable_content:number_placeholders": _placeholders,
    "detectable_content:postscript": _postscript,
    "detectable_format:number_bullet_lists": _bullets,
    "detectable_format:constrained_response": _constrained,
    "detectable_format:number_highlighted_sections": _highlights,
    "detectable_format:multiple_sections": _sections,
    "detectable_format:json_format": _json,
    "detectable_format:title": _title,
    "combination:two_responses": _two_responses,
    "combination:repeat_prompt": _repeat,
    "startend:end_checker": _ends,
    "startend:quotation": _quoted,
    "change_case:capital_word_frequency": _capital_words,
    "change_case:english_capital": _upper,
    "change_case:english_lowercase": _lower,
    "punctuation:no_comma": _no_comma,
}

NEEDS: dict[str, tuple[str, ...]] = {
    "keywords:existence": ("keywords",),
    "keywords:frequency": ("keyword", "relation", "frequency"),
    "keywords:forbidden_words": ("forbidden_words",),
    "keywords:letter_frequency": ("letter", "let_relation", "let_frequency"),
    "language:response_language": ("language",),
    "length_constraints:number_sentences": ("relation", "num_sentences"),
    "length_constraints:number_paragraphs": ("num_paragraphs",),
    "length_constraints:number_words": ("relation", "num_words"),
    "length_constraints:nth_paragraph_first_word": ("nth_paragraph", "num_paragraphs", "first_word"),
    "detectable_content:number_placeholders": ("num_placeholders",),
    "detectable_content:postscript": ("postscript_marker",),
    "detectable_format:number_bullet_lists": ("num_bullets",),
    "detectable_format:number_highlighted_sections": ("num_highlights",),
    "detectable_format:multiple_sections": ("section_spliter", "num_sections"),
    "combination:repeat_prompt": ("prompt_to_repeat",),
    "startend:end_checker": ("end_phrase",),
    "change_case:capital_word_frequency": ("capital_relation", "capital_frequency"),
}
"""The arguments that an id cannot do without."""


def read_argument(name: str, value: Any, where: str) -> Any:
    """The argument as its check takes it: a whole float, which pandas makes of numbers, as an int."""
    if name.endswith("relation"):
        wanted, fits = "'less than' or 'at least'", value in ("less than", "at least")
    elif name in ("keywords", "forbidden_words"):
        wanted, fits = "a list of texts", isinstance(value, list) and _texts(cast("list[Any]", value))
    elif name.startswith("num_") or name.endswith("frequency") or name == "nth_paragraph":
        value = int(value) if isinstance(value, float) and value.is_integer() else value
        least = 1 if name == "nth_paragraph" else 0
        wanted, fits = f"a whole number from {least} on", type(value) is int and value >= least
    else:
        wanted, fits = "a text", isinstance(value, str)
    if not fits:
        raise DataError(f"{where}: {name} is {value!r}; it should be {wanted}")
    return value


def _texts(values: list[Any]) -> bool:
    return all(isinstance(v, str) for v in values)
