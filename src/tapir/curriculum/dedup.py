"""Duplicates among instructions: exact ones after normalisation, and near ones by ROUGE-L of 0.7 and above.

ROUGE-L is the F1 of the longest common subsequence (LCS) over words, so two texts of m and n words are
near duplicates when 20·LCS ≥ 7·(m + n). `RougeIndex` decides exactly that, as `naive_rouge_l` does, but
looks at few pairs: the LCS is no longer than the overlap of the two bags of words, and that overlap is
bounded by comparing bitmaps, one machine instruction for 64 words. `PrefixIndex` is for pools too large to
scan for each text: it decides the same and looks only at texts that share a rare word.

What to do with a duplicate is `hygiene`'s and the stages' business.
"""

from __future__ import annotations

import functools
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import LCSseq

from tapir.curriculum.words import normalised, words
from tapir.errors import DataError
from tapir.types import Instruction, content_id

SPREAD_FROM = 1_000
"""Rows of one context from which `repeated_instructions` uses the way to find them that it was given."""
PREFIX_FROM = 200_000
"""Rows from which `near_duplicate_index` looks for shared rare words instead of scanning all bitmaps."""

MOST_ALIKE = 32
"""Earlier texts that `AlikeFinder` names; a row that has as many is looked at again by `first_of_alike`."""

_PREFIX_BITS = 1024
"""Width of the bitmaps of `PrefixIndex`, one width for texts of every length."""
_NARROWEST = 64
"""Bits for texts of fewer than 16 words, twice as many for twice the words. Half as many save a fifth of the
time on natural text, a quarter saturate and let everything through: this leaves room for odd texts."""


@dataclass(frozen=True, slots=True)
class NearDuplicate:
    id: str
    of: str
    """The text it repeats: the most alike, the earliest among equals."""
    score: float


class NearDuplicateIndex(Protocol):
    """Texts that later ones must not repeat."""

    def add(self, id: str, text: str) -> None: ...

    def match(self, text: str) -> tuple[str, float] | None: ...

    def matches(self, text: str) -> list[tuple[str, float]]: ...


def naive_rouge_l(a: str, b: str) -> float:
    """ROUGE-L by the textbook, quadratic in length: the reference that the indexes are tested against."""
    left, right = words(a), words(b)
    row = [0] * (len(right) + 1)
    for x in left:
        diagonal = 0
        for j, y in enumerate(right, start=1):
            diagonal, row[j] = row[j], diagonal + 1 if x == y else max(row[j], row[j - 1])
    return 2 * row[-1] / (len(left) + len(right)) if left and right else 0.0


def near_by_lcs(lcs: int, m: int, n: int) -> bool:
    """ROUGE-L of at least 0.7, in whole numbers. Texts without a word are near nothing."""
    return lcs > 0 and 20 * lcs >= 7 * (m + n)


def exact_duplicates(rows: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """(id, id of the first row that says the same) for every row that repeats an earlier one."""
    index = ExactIndex()
    found: list[tuple[str, str]] = []
    for id, text in rows:
        first = index.match(text)
        if first is None:
            index.add(id, text)
        else:
            found.append((id, first))
    return found


def near_duplicates(
    candidates: Sequence[tuple[str, str]],
    against: Sequence[tuple[str, str]] | NearDuplicateIndex = (),
) -> list[NearDuplicate]:
    """Candidates that repeat a text of `against` or an earlier candidate that does not.

    An index given as `against` is extended by the candidates that pass.
    """
    if isinstance(against, Sequence):
        index = near_duplicate_index(against, expected=len(against) + len(candidates))
    else:
        index = against
    found: list[NearDuplicate] = []
    for id, text in candidates:
        match = index.match(text)
        if match is None:
            index.add(id, text)
        else:
            found.append(NearDuplicate(id, *match))
    return found


FindRepeated = Callable[[Sequence[tuple[str, str]]], list[NearDuplicate]]
"""(id, text) rows in, those of them that repeat an earlier one out."""


def repeated_instructions(
    instructions: Sequence[Instruction], find: FindRepeated = near_duplicates
) -> list[NearDuplicate]:
    """Instructions that nearly repeat an earlier one of the same context: system text and earlier turns, word by word.

    Joined, a system prompt that all rows share would make them all alike; and histories are long and seldom repeated.
    """
    by_context: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    for i in instructions:
        context = tuple(normalised(said) for said in (i.system or "", *(m.content for m in i.history)))
        by_context.setdefault(context, []).append((i.id, i.text))
    # What spreads the work over a cluster is for many rows.
    return [d for rows in by_context.values() for d in (find if len(rows) > SPREAD_FROM else near_duplicates)(rows)]


@dataclass(frozen=True, slots=True)
class Alike:
    """A text, by its place among others, and the earlier ones that it is a near duplicate of, the most alike first."""

    position: int
    positions: list[int]
    scores: list[float]
    whole: bool = True
    """False where there are more than these: of many texts from one mould, each is like all before it."""


class AlikeFinder:
    """Which earlier texts a text is like, whether or not those stay: what can be found out in any order, anywhere."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts
        self._index = PrefixIndex()

    def earlier(self, position: int) -> Alike:
        for known in range(len(self._index), position):
            self._index.add(str(known), self._texts[known])
        found = self._index.matches(self._texts[position], before=position, at_most=MOST_ALIKE)
        return Alike(position, [int(id) for id, _ in found], [score for _, score in found], len(found) < MOST_ALIKE)


def first_of_alike(rows: Sequence[tuple[str, str]], found: Iterable[Alike]) -> list[NearDuplicate]:
    """What `near_duplicates(rows)` says, from what `AlikeFinder` found about each row that is like another, in order.

    A row that repeats only rows which are dropped themselves stays. Where more are alike than were named, the row is
    compared with all that stay, here.
    """
    dropped = dict[int, NearDuplicate]()
    kept, read = PrefixIndex(), 0
    for alike in found:
        id, text = rows[alike.position]
        if alike.whole:
            stay = [(p, s) for p, s in zip(alike.positions, alike.scores, strict=True) if p not in dropped]
            match = (rows[stay[0][0]][0], stay[0][1]) if stay else None
        else:
            for position in range(read, alike.position):
                if position not in dropped:
                    kept.add(*rows[position])
            read = alike.position
            match = kept.match(text)
        if match is not None:
            dropped[alike.position] = NearDuplicate(id, *match)
    return list(dropped.values())


def near_duplicate_index(rows: Sequence[tuple[str, str]], *, expected: int = 0) -> NearDuplicateIndex:
    """These (id, text) rows, ready to be matched: in the way that suits how many there are, or will be."""
    index: NearDuplicateIndex = RougeIndex() if max(len(rows), expected) < PREFIX_FROM else PrefixIndex()
    for id, text in rows:
        index.add(id, text)
    return index


class ExactIndex:
    """Texts up to case, spacing, compatibility forms and outer punctuation."""

    def __init__(self) -> None:
        self._ids: dict[str, str] = {}

    def add(self, id: str, text: str) -> None:
        self._ids.setdefault(content_id(normalised(text)), id)

    def match(self, text: str) -> str | None:
        return self._ids.get(content_id(normalised(text)))


class _Texts:
    """Texts as strings in which each character stands for a word: the form a compiled LCS reads fastest."""

    def __init__(self, cut: Callable[[str], list[str]]) -> None:
        self._cut = cut
        self._vocabulary: dict[str, int] = {}
        self.ids: list[str] = []
        self.coded: list[str] = []

    def numbers(self, text: str) -> list[int]:
        vocabulary = self._vocabulary
        return [vocabulary.setdefault(word, len(vocabulary)) for word in self._cut(text)]

    def append(self, id: str, numbers: list[int]) -> int:
        self.ids.append(id)
        self.coded.append(self.code(numbers))
        return len(self.ids) - 1

    def code(self, numbers: list[int]) -> str:
        try:
            return "".join(map(chr, numbers))
        except ValueError as error:
            raise DataError(
                "the texts hold more than 1.1 million different words, more than this index can number; "
                "look for near duplicates in parts"
            ) from error

    def near(self, numbers: list[int], positions: Iterable[int], at_most: int | None = None) -> list[tuple[str, float]]:
        """The near duplicates among `positions`, the most alike first, then the earliest; the first `at_most` found."""
        query, m = self.code(numbers), len(numbers)
        found: list[tuple[float, int]] = []
        for position in positions:
            text = self.coded[position]
            total = m + len(text)
            lcs = LCSseq.similarity(query, text, score_cutoff=(7 * total + 19) // 20)
            if near_by_lcs(lcs, m, len(text)):
                found.append((-2 * lcs / total, position))
                if len(found) == at_most:
                    break
        return [(self.ids[position], -score) for score, position in sorted(found)]


class RougeIndex:
    """Exact near-duplicate search; a match costs about a nanosecond for each text and 64 bits of its bitmap."""

    def __init__(self, cut: Callable[[str], list[str]] = words) -> None:
        self._texts = _Texts(cut)
        self._bands: dict[int, _Band] = {}

    def __len__(self) -> int:
        return len(self._texts.ids)

    def add(self, id: str, text: str) -> None:
        numbers = self._texts.numbers(text)
        position = self._texts.append(id, numbers)
        if numbers:
            number = _band_of(len(numbers))
            band = self._bands.setdefault(number, _Band(number))
            band.append(position, len(numbers), _bitmap(numbers, band.width))

    def match(self, text: str) -> tuple[str, float] | None:
        """The (id, ROUGE-L) of the most alike text, if it is a near duplicate; the earliest among equals."""
        return next(iter(self.matches(text)), None)

    def matches(self, text: str) -> list[tuple[str, float]]:
        """Every near duplicate of `text`, the most alike first."""
        numbers = self._texts.numbers(text)
        if not numbers:
            return []
        m = len(numbers)
        # From 20·min(m, n) ≥ 7·(m + n): lengths may differ by a factor of 13/7 at most.
        near = range(_band_of(-(-7 * m // 13)), _band_of(13 * m // 7) + 1)
        bands = [self._bands[number] for number in near if number in self._bands]
        widest = _bitmap(numbers, max((band.width for band in bands), default=64))
        return self._texts.near(numbers, [p for band in bands for p in band.candidates(m, widest)])


class _Band:
    """Bitmaps of texts whose lengths are within a factor of two, one column a text.

    A bit is set when an odd number of the text's words fall on it, so two bitmaps differ in no more bits than
    there are words in one text and not in the other. For a near duplicate those are at most 3/10 of m + n.
    """

    def __init__(self, number: int) -> None:
        self.width = _NARROWEST << number
        self._longest = (16 << number) - 1
        self._size = 0
        self._bits: NDArray[np.uint64] = np.zeros((self.width // 64, 64), np.uint64)
        self._lengths: NDArray[np.int32] = np.zeros(64, np.int32)
        self._positions: NDArray[np.int64] = np.zeros(64, np.int64)

    def append(self, position: int, length: int, bitmap: NDArray[np.uint64]) -> None:
        if self._size == len(self._lengths):
            self._bits = np.concatenate([self._bits, np.zeros_like(self._bits)], axis=1)
            self._lengths = np.concatenate([self._lengths, np.zeros_like(self._lengths)])
            self._positions = np.concatenate([self._positions, np.zeros_like(self._positions)])
        self._bits[:, self._size] = bitmap
        self._lengths[self._size] = length
        self._positions[self._size] = position
        self._size += 1

    def candidates(self, m: int, bitmap: NDArray[np.uint64]) -> list[int]:
        """Positions of all texts that the bounds on length and overlap do not rule out."""
        # A wider bitmap folds to this width: parity is kept, since one width divides the other.
        query = np.bitwise_xor.reduce(bitmap.reshape(-1, self.width // 64), axis=0)
        differing = np.bitwise_count(self._bits[0, : self._size] ^ query[0]).astype(np.int16)
        for row, mask in zip(self._bits[1:, : self._size], query[1:], strict=True):
            differing += np.bitwise_count(row ^ mask)
        fits = differing <= _allowed(m, self._longest)[self._lengths[: self._size]]
        return self._positions[: self._size][fits].tolist()


def _band_of(length: int) -> int:
    return max(0, length.bit_length() - 4)


@functools.lru_cache(maxsize=4096)
def _allowed(m: int, longest: int) -> NDArray[np.int16]:
    """By a text's length n: how many words may stand in one of the two only; -1 where no overlap is enough."""
    n = np.arange(longest + 1)
    words_apart = 3 * (m + n) // 10
    return np.where(np.abs(m - n) <= words_apart, words_apart, -1).astype(np.int16)


def _bitmap(numbers: list[int], width: int) -> NDArray[np.uint64]:
    """Parity bitmap of a bag of words; the second `the` counts as another word than the first."""
    bits, seen = 0, Counter[int]()
    for number in numbers:
        bits ^= 1 << ((number + 40503 * seen[number]) % width)
        seen[number] += 1
    return np.frombuffer(bits.to_bytes(width // 8, "little"), np.uint64)


@dataclass(frozen=True, slots=True)
class _Read:
    """A text as `PrefixIndex` sees it."""

    numbers: list[int]
    rarest: list[int]
    reach: list[int]
    """How many words a near duplicate may have for each of them to be among the words that both must share."""
    bitmap: NDArray[np.uint64]


class PrefixIndex:
    """Exact near-duplicate search among millions, by the rarest words.

    Two bags of m and n words that have t words in common must share k of the rarest m − t + k of the one and the rarest
    n − t + k of the other, whatever fixed order says which words are rare: here words met later count as rarer, which
    is fixed as texts come and near enough. In a near duplicate t is at least 7/20·(m + n), and k is 2: one rare word
    many texts share by chance, two hardly any. So a word that i rarer ones of its text come before counts only towards
    texts of at most (13·m − 20·i + 20)/7 words, its reach, and for two texts each must be within the other's. Common
    words, which would propose every text, are never looked up.
    """

    def __init__(self, cut: Callable[[str], list[str]] = words) -> None:
        self._texts = _Texts(cut)
        self._with_word: dict[int, tuple[array[int], array[int]]] = {}
        """Positions of the texts that have this word among their rarest, and its reach in each."""
        self._lengths: NDArray[np.int32] = np.zeros(1024, np.int32)
        self._bits: NDArray[np.uint64] = np.zeros((_PREFIX_BITS // 64, 1024), np.uint64)
        self._last = "", _Read([], [], [], np.zeros(_PREFIX_BITS // 64, np.uint64))

    def __len__(self) -> int:
        return len(self._texts.ids)

    def add(self, id: str, text: str) -> None:
        read = self._read(text)
        position = self._texts.append(id, read.numbers)
        if position >= len(self._lengths):
            self._lengths = np.concatenate([self._lengths, np.zeros_like(self._lengths)])
            self._bits = np.concatenate([self._bits, np.zeros_like(self._bits)], axis=1)
        self._lengths[position] = len(read.numbers)
        self._bits[:, position] = read.bitmap
        for word, reach in zip(read.rarest, read.reach, strict=True):
            positions, reaches = self._with_word.setdefault(word, (array("i"), array("i")))
            positions.append(position)
            reaches.append(reach)

    def match(self, text: str) -> tuple[str, float] | None:
        """The (id, ROUGE-L) of the most alike text, if it is a near duplicate; the earliest among equals."""
        return next(iter(self.matches(text)), None)

    def matches(self, text: str, *, before: int | None = None, at_most: int | None = None) -> list[tuple[str, float]]:
        """Every near duplicate of `text`, the most alike first; of the first `before` texts, and so many, if given."""
        read = self._read(text)
        if not read.numbers:
            return []
        candidates = [p for p in self._candidates(read) if before is None or p < before]
        return self._texts.near(read.numbers, candidates, at_most)

    def _read(self, text: str) -> _Read:
        """A text that is matched is often added next: it is read once."""
        if self._last[0] != text:
            numbers = self._texts.numbers(text)
            rarest = _rarest(numbers)
            reach = [(13 * len(numbers) - 20 * before + 20) // 7 for before in range(len(rarest))]
            self._last = text, _Read(numbers, rarest, reach, _bitmap(numbers, _PREFIX_BITS))
        return self._last[1]

    def _candidates(self, read: _Read) -> list[int]:
        """Positions with a rare word in common that the bounds on length and overlap do not rule out."""
        known = [
            (self._with_word[w], own) for w, own in zip(read.rarest, read.reach, strict=True) if w in self._with_word
        ]
        if not known:
            return []
        m = len(read.numbers)
        reach = np.concatenate([np.frombuffer(theirs, np.int32) for (_, theirs), _ in known])
        within = np.flatnonzero(reach >= m)
        found = np.concatenate([np.frombuffer(positions, np.int32) for (positions, _), _ in known])[within]
        longest = np.repeat([own for _, own in known], [len(positions) for (positions, _), _ in known])[within]
        found = np.sort(found[self._lengths[found] <= longest])
        if m > 1:
            # A near duplicate of a single word is that word; of more, it shares two.
            found = found[1:][found[1:] == found[:-1]]
        apart = 3 * (m + self._lengths[found]) // 10
        for bits, mask in zip(self._bits, read.bitmap, strict=True):
            if not len(found):
                break
            # What may still differ shrinks from one word of the bitmaps to the next.
            apart = apart - np.bitwise_count(bits[found] ^ mask)
            found, apart = found[apart >= 0], apart[apart >= 0]
        return sorted(set(found.tolist()))


def _rarest(numbers: list[int]) -> list[int]:
    """The words that a near duplicate must share two of; the second `the` is a rarer word than the first."""
    seen: dict[int, int] = {}
    bag: list[int] = []
    for number in numbers:
        count = seen.get(number, 0)
        seen[number] = count + 1
        bag.append((number << 32) | count)
    bag.sort(reverse=True)
    return bag[: len(bag) - -(-7 * len(bag) // 13) + 2]
