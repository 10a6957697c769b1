"""How long near-duplicate search by ROUGE-L takes, by scanning bitmaps and by shared rare words.

    python benchmarks/rouge.py --candidates 20000 --pool 50000 --words 12 200

Texts are made here from a Zipf vocabulary with a tenth of the candidates edited from the pool, so nothing is
downloaded and everybody gets the same ones; `--texts FILE` takes one text a line instead. `--check N` compares N
candidates with a plain scan of all pairs; both indexes must find the same.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rapidfuzz.distance import LCSseq

from tapir.curriculum.dedup import NearDuplicateIndex, PrefixIndex, RougeIndex, near_by_lcs
from tapir.curriculum.words import words

Rows = list[tuple[str, str]]


@dataclass(frozen=True)
class Timing:
    index: str
    build_s: float
    match_s: float
    found: set[str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=2_000)
    parser.add_argument("--pool", type=int, default=5_000)
    parser.add_argument("--words", type=int, nargs="+", default=[12, 200], help="mean words of a text")
    parser.add_argument("--texts", type=Path, help="a file with one text a line, instead of made ones")
    parser.add_argument("--check", type=int, default=0, help="candidates to compare with a scan of all pairs")
    asked = parser.parse_args()
    print(
        f"commit {commit()}, {platform.machine()}, {os.cpu_count()} cores, one used, Python {platform.python_version()}"
    )
    print(" words candidates     pool index     build s  match s   found")
    for length in asked.words:
        pool, candidates = read_rows(asked.texts, asked) if asked.texts else made_rows(asked, length)
        exact = measure("bitmaps", RougeIndex, pool, candidates)
        rare = measure("rare", PrefixIndex, pool, candidates)
        for timing in (exact, rare):
            show(length, timing, len(pool), len(candidates))
        if rare.found != exact.found:
            sys.exit("the two indexes decide differently: this is a bug")
        if asked.check:
            check(pool, candidates[: asked.check], exact)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory {peak_mb:.0f} MB, texts included")


def measure(name: str, make: Callable[[], NearDuplicateIndex], pool: Rows, candidates: Rows) -> Timing:
    start = time.perf_counter()
    index = make()
    for id, text in pool:
        index.add(id, text)
    built = time.perf_counter()
    found = {id for id, text in candidates if index.match(text)}
    return Timing(name, built - start, time.perf_counter() - built, found)


def show(length: int, timing: Timing, pool: int, candidates: int) -> None:
    print(
        f"{length:>6} {candidates:>10} {pool:>8} {timing.index:<8} {timing.build_s:8.1f} {timing.match_s:8.1f} "
        f"{len(timing.found):>7}"
    )


def check(pool: Rows, candidates: Rows, exact: Timing) -> None:
    """Every pair by the compiled LCS without any pruning: the same decisions, and its time."""
    start = time.perf_counter()
    cut = [words(text) for _, text in pool]
    for id, text in candidates:
        query = words(text)
        near = any(near_by_lcs(LCSseq.similarity(query, other), len(query), len(other)) for other in cut)
        if near != (id in exact.found):
            sys.exit(f"candidate {id} is decided otherwise than by a scan of all pairs: this is a bug")
    took = time.perf_counter() - start
    print(f"       {len(candidates)} candidates agree with a scan of all pairs, which took {took:.1f} s for them")


def made_rows(asked: argparse.Namespace, length: int) -> tuple[Rows, Rows]:
    rng = random.Random(17)
    vocabulary = [f"w{i}" for i in range(30_000)]
    weights = [1 / (rank + 3) for rank in range(len(vocabulary))]
    cumulative = [sum(weights[:1])]
    for weight in weights[1:]:
        cumulative.append(cumulative[-1] + weight)

    def some(count: int) -> list[str]:
        return rng.choices(vocabulary, cum_weights=cumulative, k=count)

    pool = [some(max(1, round(length * rng.uniform(0.6, 1.4)))) for _ in range(asked.pool)]
    candidates: list[list[str]] = []
    for _ in range(asked.candidates):
        if rng.random() < 0.1:
            share = rng.uniform(0, 0.5)
            candidates.append([some(1)[0] if rng.random() < share else word for word in rng.choice(pool)])
        else:
            candidates.append(some(max(1, round(length * rng.uniform(0.6, 1.4)))))
    return numbered("p", pool), numbered("c", candidates)


def numbered(prefix: str, texts: list[list[str]]) -> Rows:
    return [(f"{prefix}{i}", " ".join(tokens)) for i, tokens in enumerate(texts)]


def read_rows(path: Path, asked: argparse.Namespace) -> tuple[Rows, Rows]:
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    random.Random(17).shuffle(lines)
    rows = [(str(i), line) for i, line in enumerate(lines)]
    return rows[: asked.pool], rows[asked.pool : asked.pool + asked.candidates]


def commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    main()
