"""Finds evaluation texts in training texts: shared 13-grams, short items as a whole, and near duplicates.

All three compare words without case, punctuation, typography or spacing. N-grams are kept as 64-bit hashes with the
number of their item, 12 bytes each, and every hit is verified word by word, so a collision is never reported.
Loading evaluation sets, and what becomes of a row that is hit, are the stages' business.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tapir.curriculum.dedup import RougeIndex
from tapir.curriculum.words import folded_words, word_spans

NGRAM = 13
"""Words that must not be shared in a row; the length commonly used since GPT-3."""

SHORTEST = 3
"""Ours. Items of fewer words ("Yes.", "Thank you!") stand in innocent texts; they count only as the whole text."""

TURN = ":turn"
"""Ours. In the id of a turn of a conversation. "Can you help me?" and "Now say it in French." stand in innocent texts:
a turn of fewer than `NGRAM` words counts only as the whole text."""

Kind = Literal["ngram", "whole_text", "near_duplicate"]
Item = tuple[str, str, str]

_BASE = 0x9E3779B97F4A7C15


@dataclass(frozen=True, slots=True)
class Hit:
    """One evaluation item that a text repeats, with both texts at hand for a person to judge."""

    set_name: str
    item_id: str
    kind: Kind
    span: tuple[int, int]
    """Where in the text: start and end character of the longest run of words that the item has too."""
    matched_text: str
    item_text: str
    score: float
    """Words of the run for `ngram` and `whole_text`, ROUGE-L for `near_duplicate`."""


class ContaminationIndex:
    """Evaluation items, ready to be looked for.

    `allow` names what is fine: a row by its id, an item as `set/id`, or one match as `row set/id`.
    """

    def __init__(self, items: Iterable[Item], *, allow: Iterable[str] = (), ngram: int = NGRAM) -> None:
        self._ngram = ngram
        self._allow = frozenset(allow)
        self._items: list[Item] = []
        self._near = RougeIndex(folded_words)
        gathered: dict[int, list[tuple[NDArray[np.uint64], int]]] = {}
        for item in items:
            if f"{item[0]}/{item[1]}" in self._allow:
                continue
            number = len(self._items)
            self._items.append(item)
            found = folded_words(item[2])
            if len(found) >= self._least(item):
                self._near.add(str(number), item[2])
            hashes = _word_hashes(found)
            if len(hashes):
                length = min(ngram, len(hashes))
                gathered.setdefault(length, []).append((np.unique(_gram_hashes(hashes, length)), number))
        self._grams = {length: _Grams(parts) for length, parts in sorted(gathered.items())}

    def __len__(self) -> int:
        return len(self._items)

    def _least(self, item: Item) -> int:
        """Words that an item must have to be found inside a text."""
        return self._ngram if TURN in item[1] else 0

    def hits(self, text: str, row_id: str | None = None) -> list[Hit]:
        """Every item that `text` repeats, once each: runs of words in the items' order, then near duplicates."""
        if row_id is not None and row_id in self._allow:
            return []
        hits = self._hits(text)
        return [hit for hit in hits if f"{row_id} {hit.set_name}/{hit.item_id}" not in self._allow]

    def _hits(self, text: str) -> list[Hit]:
        found = folded_words(text)
        spans = word_spans(text)
        runs = [self._run(number, found, spans, text) for number in self._suspects(found)]
        hits = [hit for hit in runs if hit is not None]
        seen = {(hit.set_name, hit.item_id) for hit in hits}
        for number, score in self._near.matches(text):
            set_name, item_id, item_text = self._items[int(number)]
            if (set_name, item_id) not in seen:
                start, end = _longest_run(found, folded_words(item_text))
                span = _char_span(spans, start, end)
                hits.append(Hit(set_name, item_id, "near_duplicate", span, text[slice(*span)], item_text, score))
        return hits

    def _suspects(self, found: list[str]) -> list[int]:
        hashes = _word_hashes(found)
        numbers: set[int] = set()
        for length, grams in self._grams.items():
            if length <= len(hashes):
                numbers.update(grams.items_with(_gram_hashes(hashes, length)))
        return sorted(numbers)

    def _run(self, number: int, found: list[str], spans: list[tuple[int, int]], text: str) -> Hit | None:
        """The longest run of words that text and item share, if it is long enough."""
        set_name, item_id, item_text = self._items[number]
        wanted = folded_words(item_text)
        if len(wanted) < max(SHORTEST, self._least(self._items[number])) and wanted != found:
            return None
        start, end = _longest_run(found, wanted)
        if end - start < min(self._ngram, len(wanted)):
            return None
        kind: Kind = "ngram" if len(wanted) >= self._ngram else "whole_text"
        span = _char_span(spans, start, end)
        return Hit(set_name, item_id, kind, span, text[slice(*span)], item_text, float(end - start))


class _Grams:
    """Hashes of the n-grams of one length, sorted, each with the number of an item that holds it."""

    def __init__(self, parts: list[tuple[NDArray[np.uint64], int]]) -> None:
        hashes = np.concatenate([part for part, _ in parts])
        items = np.repeat(np.array([number for _, number in parts], np.uint32), [len(part) for part, _ in parts])
        order = np.argsort(hashes, kind="stable")
        self._hashes, self._items = hashes[order], items[order]

    def items_with(self, hashes: NDArray[np.uint64]) -> Iterator[int]:
        first = np.searchsorted(self._hashes, hashes, side="left")
        last = np.searchsorted(self._hashes, hashes, side="right")
        for i in np.flatnonzero(last > first):
            yield from self._items[first[i] : last[i]].tolist()


def _word_hashes(found: list[str]) -> NDArray[np.uint64]:
    return np.fromiter(map(_word_hash, found), np.uint64, len(found))


@functools.lru_cache(maxsize=1 << 17)
def _word_hash(word: str) -> int:
    # Not Python's own hash, which differs between processes: an index may be sent to another one.
    digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def _gram_hashes(hashes: NDArray[np.uint64], length: int) -> NDArray[np.uint64]:
    """A hash for each run of `length` words: a polynomial modulo 2^64, the same wherever the run stands."""
    total = np.zeros(len(hashes) - length + 1, np.uint64)
    for k in range(length):
        total = total * np.uint64(_BASE) + hashes[k : len(hashes) - length + 1 + k]
    return total


def _longest_run(found: list[str], wanted: list[str]) -> tuple[int, int]:
    """Where in `found` the longest run of consecutive words stands that `wanted` has too, the first if several."""
    places: dict[str, list[int]] = {}
    for j, word in enumerate(wanted):
        places.setdefault(word, []).append(j)
    best_start = best_end = 0
    ending: dict[int, int] = {}
    for i, word in enumerate(found):
        ending = {j: ending.get(j - 1, 0) + 1 for j in places.get(word, ())}
        longest = max(ending.values(), default=0)
        if longest > best_end - best_start:
            best_start, best_end = i + 1 - longest, i + 1
    return best_start, best_end


def _char_span(spans: list[tuple[int, int]], start: int, end: int) -> tuple[int, int]:
    return (spans[start][0], spans[end - 1][1]) if end > start else (0, 0)
