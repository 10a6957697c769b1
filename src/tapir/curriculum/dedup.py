"""Duplicates among instructions: exact ones after normalisation, and near ones by ROUGE-L of 0.7 and above.

ROUGE-L is the F1 of the longest common subsequence (LCS) over words, so two texts of m and n words are
near duplicates when 20·LCS ≥ 7·(m + n). `RougeIndex` decides exactly that, as `naive_rouge_l` does, but
looks at few pairs: the LCS is no longer than the overlap of the two bags of words, and that overlap is
bounded by comparing bitmaps, one machine instruction for 64 words. `MinHashIndex` is for pools too large to
scan for each text; what it reports is exact, what it misses is measured in `benchmarks/rouge.py`.

What to do with a duplicate is `hygiene`'s and the stages' business.
"""

from __future__ import annotations

import functools
import importlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import LCSseq

from tapir.curriculum.words import normalised, words
from tapir.errors import DataError
from tapir.types import content_id

MINHASH_FROM = 200_000
"""Rows from which `near_duplicate_index` trades certainty for MinHash candidates."""

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
    candidates: Iterable[tuple[str, str]],
    against: Iterable[tuple[str, str]] | NearDuplicateIndex = (),
) -> list[NearDuplicate]:
    """Candidates that repeat a text of `against` or an earlier candidate that does not.

    An index given as `against` is extended by the candidates that pass.
    """
    index = near_duplicate_index(list(against)) if isinstance(against, Iterable) else against
    found: list[NearDuplicate] = []
    for id, text in candidates:
        match = index.match(text)
        if match is None:
            index.add(id, text)
        else:
            found.append(NearDuplicate(id, *match))
    return found


def near_duplicate_index(rows: Sequence[tuple[str, str]], *, expected: int = 0) -> NearDuplicateIndex:
    """These (id, text) rows, ready to be matched: exactly, or by MinHash where there are, or will be, very many."""
    index: NearDuplicateIndex = RougeIndex() if max(len(rows), expected) < MINHASH_FROM else MinHashIndex()
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

    def near(self, numbers: list[int], positions: Iterable[int]) -> list[tuple[str, float]]:
        """The near duplicates among `positions`, the most alike first, then the earliest."""
        query, m = self.code(numbers), len(numbers)
        found: list[tuple[float, int]] = []
        for position in positions:
            text = self.coded[position]
            total = m + len(text)
            lcs = LCSseq.similarity(query, text, score_cutoff=(7 * total + 19) // 20)
            if near_by_lcs(lcs, m, len(text)):
                found.append((-2 * lcs / total, position))
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


class MinHashIndex:
    """Near-duplicate search among millions: MinHash proposes, the LCS decides. It can miss, never invent."""

    def __init__(self, cut: Callable[[str], list[str]] = words, *, permutations: int = 128, bands: int = 32) -> None:
        # Compiled and without type stubs; only very large pools need it.
        rensa: Any = importlib.import_module("rensa")
        self._texts = _Texts(cut)
        self._permutations = permutations
        self._sketch = rensa.RMinHash
        self._buckets = _Buckets(bands)
        self._last: tuple[str, list[int], NDArray[np.uint32]] | None = None

    def __len__(self) -> int:
        return len(self._texts.ids)

    def add(self, id: str, text: str) -> None:
        numbers, keys = self._read(text)
        position = self._texts.append(id, numbers)
        if numbers:
            self._buckets.put(position, keys)

    def match(self, text: str) -> tuple[str, float] | None:
        """The (id, ROUGE-L) of the most alike text that was proposed and is a near duplicate."""
        return next(iter(self.matches(text)), None)

    def matches(self, text: str) -> list[tuple[str, float]]:
        numbers, keys = self._read(text)
        return self._texts.near(numbers, self._buckets.sharing(keys)) if numbers else []

    def _read(self, text: str) -> tuple[list[int], NDArray[np.uint32]]:
        """The text's words and band keys; a text that is matched is often added next."""
        if self._last is None or self._last[0] != text:
            numbers = self._texts.numbers(text)
            self._last = text, numbers, self._band_keys(numbers)
        return self._last[1], self._last[2]

    def _band_keys(self, numbers: list[int]) -> NDArray[np.uint32]:
        """A near duplicate shares 7/13 of the joint bag of words or more: bags are hashed, not shingles."""
        seen = Counter[int]()
        tokens: list[str] = []
        for number in numbers:
            tokens.append(f"{number}:{seen[number]}")
            seen[number] += 1
        sketch = self._sketch(num_perm=self._permutations, seed=17)
        sketch.update(tokens)
        digest = np.array(sketch.digest(), np.uint64).reshape(self._buckets.bands, -1)
        mixed = np.zeros(len(digest), np.uint64)
        for column in digest.T:
            mixed = (mixed ^ column) * np.uint64(0x9E3779B97F4A7C15)
        return (mixed >> np.uint64(32)).astype(np.uint32)


class _Buckets:
    """Positions by band key, in flat arrays of 12 bytes a band: rensa's own table takes several times as much."""

    def __init__(self, bands: int) -> None:
        self.bands = bands
        self._band = np.arange(bands)
        self._size = 0
        self._keys: NDArray[np.uint32] = np.zeros((1024, bands), np.uint32)
        self._before: NDArray[np.int32] = np.zeros((1024, bands), np.int32)
        """By position and band: the position put before it into the same bucket, or -1."""
        self._newest: NDArray[np.int32] = np.full((bands, 1024), -1, np.int32)

    def put(self, position: int, keys: NDArray[np.uint32]) -> None:
        if position >= len(self._keys):
            self._grow(position)
        self._keys[position] = keys
        self._link(position)
        self._size = position + 1

    def sharing(self, keys: NDArray[np.uint32]) -> list[int]:
        """Positions that have a band's key in common with these."""
        found: set[int] = set()
        bands = self._band
        at = self._newest[bands, keys & np.uint32(self._newest.shape[1] - 1)]
        while True:
            linked = at >= 0
            if not linked.any():
                return sorted(found)
            at, bands = at[linked], bands[linked]
            found.update(at[self._keys[at, bands] == keys[bands]].tolist())
            at = self._before[at, bands]

    def _link(self, position: int) -> None:
        bucket = self._keys[position] & np.uint32(self._newest.shape[1] - 1)
        self._before[position] = self._newest[self._band, bucket]
        self._newest[self._band, bucket] = position

    def _grow(self, position: int) -> None:
        """Twice the room, and buckets as many as positions, so that chains stay short."""
        room = max(2 * len(self._keys), 1 << position.bit_length())
        used = np.flatnonzero((self._keys[: self._size] != 0).any(axis=1))
        self._keys = np.concatenate([self._keys, np.zeros((room - len(self._keys), self.bands), np.uint32)])
        self._before = np.zeros((room, self.bands), np.int32)
        self._newest = np.full((self.bands, room), -1, np.int32)
        for other in used.tolist():
            self._link(other)
