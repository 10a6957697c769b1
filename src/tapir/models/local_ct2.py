"""Local weights through CTranslate2: int8 on CPUs, the quickest way to generate without a GPU.

Batches come canonical from the engine; here they are seeded from their content, so the same batch gives the same
replies. A beginning that all prompts share is read once, and the rest is generated in groups of similar length.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from tapir.models.calls import Reply, Request, Sampling
from tapir.models.local_rows import Prompt, Speech, same_sampling, usable_cores

SHARED_AT_LEAST = 24
"""Shorter common beginnings are not worth a call of their own."""
STEP_COST, ROW_COST = 12.0, 1.0
"""A decoding step, and each row in it, in units of one prompt token read (measured, docs/lab.md)."""
LOGIT_BYTES = 1 << 30
"""CTranslate2 computes logits for every prompt position; groups are cut so that they stay below this."""


class CTranslateModel:
    """A `calls.BatchBackend` on a converted folder."""

    def __init__(
        self,
        converted: Path,
        tokenizer_folder: Path,
        *,
        identity: str,
        batch_size: int,
        template: str | None = None,
        most: int | None = None,
        threads: int = 0,
    ) -> None:
        self.identity, self.batch_size = identity, batch_size
        self._converted, self._threads = converted, threads or usable_cores()
        self._generator: Any = self._load()
        self._speech = Speech.of(tokenizer_folder, template, most)
        self._row_bytes = 4 * len(self._speech.tokenizer)

    def _load(self) -> Any:
        import ctranslate2

        return ctranslate2.Generator(
            str(self._converted), device="cpu", compute_type="int8", intra_threads=self._threads
        )

    def _seed(self, seed: int) -> None:
        # CTranslate2 reads the seed once, when its worker thread first draws; so each seed needs a new generator.
        # It costs a quarter of a second for 135M parameters, about two for 1.5B, and nothing where nothing is drawn.
        import ctranslate2

        self._generator.unload_model()
        self._generator = None
        ctranslate2.set_random_seed(seed)
        self._generator = self._load()

    def generate(self, batch: Sequence[Request]) -> list[Reply]:
        """Replies in the batch's order; requests with other sampling are generated apart."""
        prompts, replies = self._speech.prompts(batch)
        for together in same_sampling(prompts):
            replies |= self._together(together)
        return [replies[at] for at in range(len(batch))]

    def _together(self, prompts: list[Prompt]) -> dict[int, Reply]:
        sampling = prompts[0].request.sampling
        if sampling.temperature > 0:
            digest = hashlib.sha256(repr([(p.ids, p.request.sample) for p in prompts]).encode()).digest()
            self._seed(int.from_bytes(digest[:4], "big"))
        prefix = shared_prefix([p.ids for p in prompts])
        options = self._options(sampling, prompts[0].ids[:prefix])
        most_rows = LOGIT_BYTES // self._row_bytes
        replies: dict[int, Reply] = {}
        ordered = sorted(prompts, key=lambda p: len(p.ids))
        lengths = [len(p.ids) - prefix for p in ordered]
        for start, stop in groups(lengths, sampling.max_tokens, most_rows, keep_logits=sampling.top_logprobs > 0):
            group = ordered[start:stop]
            tokens = [self._tokens(p.ids[prefix:]) for p in group]
            results = self._generator.generate_batch(tokens, **options)
            replies |= {p.at: self._reply(p, r, sampling) for p, r in zip(group, results, strict=True)}
        return replies

    def _tokens(self, ids: list[int]) -> list[str]:
        return list(self._speech.tokenizer.convert_ids_to_tokens(ids))

    def _options(self, sampling: Sampling, prefix: list[int]) -> dict[str, Any]:
        options: dict[str, Any] = {
            "max_length": sampling.max_tokens,
            "end_token": sorted(self._speech.stops),
            "include_prompt_in_result": False,
            "return_end_token": True,
            "sampling_topk": 1 if sampling.temperature == 0 else 0,
            "sampling_temperature": sampling.temperature or 1.0,
            "sampling_topp": sampling.top_p,
            "return_logits_vocab": sampling.top_logprobs > 0,
        }
        return options | ({"static_prompt": self._tokens(prefix), "cache_static_prompt": True} if prefix else {})

    def _reply(self, prompt: Prompt, result: Any, sampling: Sampling) -> Reply:
        import numpy as np

        ids: list[int] = list(result.sequences_ids[0])
        if not sampling.top_logprobs:
            return self._speech.reply(prompt, ids)
        # The list begins with the prompt positions that were fed one by one; what was generated is its end.
        logits = result.logits[0][-len(ids) :] if ids else []
        said = [(i, row) for i, row in zip(ids, logits, strict=True) if i not in self._speech.stops]
        logprobs = [self._speech.logprob(i, np.asarray(row), sampling.top_logprobs) for i, row in said]
        return self._speech.reply(prompt, ids, logprobs)

    def close(self) -> None:
        if self._generator is not None:
            self._generator.unload_model()
        self._generator = None


def shared_prefix(prompts: Sequence[list[int]]) -> int:
    """Length of the beginning that all prompts share, if it pays; each keeps a token of its own."""
    if len(prompts) < 2:
        return 0
    shortest, longest = min(prompts), max(prompts)
    most = min(map(len, prompts)) - 1
    # What the first and the last in sorted order share, all between them share too.
    length = next((n for n in range(most) if shortest[n] != longest[n]), most)
    return length if length >= SHARED_AT_LEAST else 0


def groups(lengths: Sequence[int], max_tokens: int, most_rows: int, *, keep_logits: bool) -> list[tuple[int, int]]:
    """Where to cut prompts, sorted by length, into groups that are generated together, for the least work.

    A group reads as many tokens at once as its shortest prompt has; what others have beyond is fed step by step, which
    is dear. Small groups avoid that and pay for more steps. `most_rows` bounds the logit rows held at once.
    """
    best: list[tuple[float, int]] = [(0.0, 0)]
    for stop in range(1, len(lengths) + 1):
        choices: list[tuple[float, int]] = []
        for start in range(stop):
            rows, least, most = stop - start, lengths[start], lengths[stop - 1]
            steps = most - least + max_tokens
            held = rows * max(least, steps if keep_logits else 0)
            if rows > 1 and held > most_rows:
                continue
            choices.append((best[start][0] + rows * least + steps * (STEP_COST + ROW_COST * rows), start))
        best.append(min(choices))
    cuts = [len(lengths)]
    while cuts[-1]:
        cuts.append(best[cuts[-1]][1])
    return list(pairwise(reversed(cuts)))
