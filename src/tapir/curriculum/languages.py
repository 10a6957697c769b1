"""Which language an answer is written in, by script or by common words: enough for a format constraint.

Not a language identifier: it tells the languages of our pool apart and says no where it sees too little.
"""

from __future__ import annotations

from typing import Literal, cast

import regex

Code = Literal["en", "fr", "es", "de", "it", "pt", "zh", "ja", "ru", "ar", "hi", "ko"]

SCRIPTS: dict[str, str] = {
    "zh": r"\p{Han}",
    "ja": r"[\p{Hiragana}\p{Katakana}\p{Han}ー]",
    "ru": r"\p{Cyrillic}",
    "ar": r"\p{Arabic}",
    "hi": r"\p{Devanagari}",
    "ko": r"\p{Hangul}",
}
COMMON: dict[str, str] = {
    "en": ("the and is are of to in it that was for with this on as be not you have from they we he she at by an my"),
    "fr": (
        "le la les des est et un une dans je tu il elle nous vous ils pour que qui ne pas sur avec du "
        "au ce cette son sa ses mon ma mes sont bonjour merci très plus mais ou où c'est d'un d'une "
        "l'on"
    ),
    "es": (
        "el la los las es y un una en que de por para con no se su del al lo como más pero yo está "
        "son muy hola gracias este esta mi tu nosotros ella él hay sus"
    ),
    "de": (
        "der die das und ist ein eine ich du er sie es wir nicht mit auf für von zu den dem im sind "
        "war auch sich als wie hallo danke sehr aber oder einen einer mein guten"
    ),
    "it": (
        "il lo la gli le è e un una che di per con non si del della nel sono io tu lui lei noi come "
        "più ma ciao grazie questo questa mio mia molto dei delle al ho ha"
    ),
    "pt": (
        "o a os as é e um uma que de do da dos das em no na por para com não se seu sua mais mas eu "
        "ele ela nós olá obrigado obrigada muito este esta são foi está meu minha ao"
    ),
}
_COMMON_SETS = {code: frozenset(words.split()) for code, words in COMMON.items()}
_MARKS = {
    code: regex.compile(marks)
    for code, marks in {"de": r"[ßäöü]", "es": r"[ñ¿¡]", "pt": r"[ãõ]", "fr": r"[œêûîçàù]", "it": r"[ìò]"}.items()
}
_LETTER, _LATIN, _KANA = (regex.compile(p) for p in (r"\p{L}", r"\p{Latin}", r"[\p{Hiragana}\p{Katakana}]"))
_IN_SCRIPT = {code: regex.compile(rf"(?=\p{{L}}){script}") for code, script in SCRIPTS.items()}
_WORD = regex.compile(r"\p{L}+(?:'\p{L}+)?")
_MIN_SCRIPT_SHARE = 0.6
CLEAR_HITS = 3


def is_written_in(text: str, code: Code) -> bool:
    """Whether most letters are of the language's script, or no other language has more of its common words here."""
    letters = _count(_LETTER, text)
    if not letters:
        return False
    if code in SCRIPTS:
        return _script_matches(text, code, letters)
    if _count(_LATIN, text) < _MIN_SCRIPT_SHARE * letters:
        return False
    hits = _hits(text.casefold())
    return hits[code] > 0 and hits[code] == max(hits.values())


def language_of(text: str) -> Code | None:
    """The language a text is clearly written in; None where it is too short to tell, or where two would fit."""
    # Plain ASCII holds none of the scripts: most texts need no look at any.
    if not text.isascii() and (letters := _count(_LETTER, text)):
        for code in SCRIPTS:
            if _script_matches(text, cast("Code", code), letters):
                return cast("Code", code)
    ranked = sorted(((count, code) for code, count in _hits(text.casefold()).items()), reverse=True)
    (most, best), (second, _) = ranked[:2]
    # Short words such as "a" or "come" are common in several languages: the first must lead clearly.
    return cast("Code", best) if most >= CLEAR_HITS and most >= 2 * second else None


def _count(pattern: regex.Pattern[str], text: str) -> int:
    return len(pattern.findall(text))


def _script_matches(text: str, code: Code, letters: int) -> bool:
    kana = _KANA.search(text) is not None
    if (code == "zh" and kana) or (code == "ja" and not kana):
        return False
    return _count(_IN_SCRIPT[code], text) >= _MIN_SCRIPT_SHARE * letters


def _hits(text: str) -> dict[str, int]:
    """Common words and telling letters of each language that has them."""
    tokens: list[str] = _WORD.findall(text.replace("’", "'"))
    bare = [part for token in tokens for part in ({token, *token.split("'")} if "'" in token else (token,))]
    found = {code: sum(map(words.__contains__, bare)) for code, words in _COMMON_SETS.items()}
    if not text.isascii():
        for code, marks in _MARKS.items():
            found[code] += _count(marks, text)
    return found
