"""What every engine in this process does alike: requests to prompt tokens, generated tokens to a reply.

An engine's own business is the part between the two.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tapir.errors import ModelError
from tapir.models.calls import Reply, Request, Sampling, TokenLogprob
from tapir.models.chat_template import ChatFormat, load_tokenizer, stop_token_ids

if TYPE_CHECKING:
    import numpy as np
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Prompt:
    at: int
    """Place in the batch."""
    request: Request
    ids: list[int]


@dataclass(frozen=True, slots=True)
class Speech:
    """A model's way of reading and writing text: tokenizer, chat format, where it stops, how much it can hold."""

    tokenizer: PreTrainedTokenizerBase
    chat: ChatFormat
    stops: frozenset[int]
    window: int

    @classmethod
    def of(cls, folder: Path, template: str | None, most: int | None = None) -> Speech:
        """What lies in the folder; `most` is how much it may hold where that is less than it could."""
        tokenizer = load_tokenizer(folder)
        chat = ChatFormat(tokenizer, template)
        window = _json(folder / "config.json").get("max_position_embeddings") or 1 << 30
        declared = _json(folder / "generation_config.json").get("eos_token_id")
        return cls(tokenizer, chat, frozenset(stop_token_ids(chat, declared)), min(int(window), most or 1 << 30))

    def prompts(self, batch: Sequence[Request]) -> tuple[list[Prompt], dict[int, Reply]]:
        """The rows that can be asked, and replies for those that cannot: they cost themselves, not the run."""
        good: list[Prompt] = []
        bad: dict[int, Reply] = {}
        for at, request in enumerate(batch):
            try:
                ids = self.chat.prompt_ids(request.messages, request.prefill)
            except ModelError as error:
                bad[at] = Reply(problem="template_refused", text=str(error))
                continue
            if len(ids) + request.sampling.max_tokens > self.window:
                bad[at] = Reply(problem="prompt_too_long", prompt_tokens=len(ids))
            else:
                good.append(Prompt(at, request, ids))
        return good, bad

    def reply(self, prompt: Prompt, ids: Sequence[int], logprobs: Sequence[TokenLogprob] = ()) -> Reply:
        """What was generated, an ending token included, as a reply; text from a stop string on is cut off."""
        ended = bool(ids) and ids[-1] in self.stops
        text = str(self.tokenizer.decode(list(ids[:-1] if ended else ids), skip_special_tokens=True))
        for stop in prompt.request.sampling.stop:
            text, found, _ = text.partition(stop)
            ended = ended or bool(found)
        return Reply(
            text=text.strip(),
            finish_reason="stop" if ended else "length",
            prompt_tokens=len(prompt.ids),
            completion_tokens=len(ids),
            logprobs=tuple(logprobs),
        )

    def logprob(self, token: int, logits: np.ndarray[Any, Any], alternatives: int) -> TokenLogprob:
        """The token's own log probability and the likeliest alternatives, from its position's raw logits."""
        import numpy as np

        scores = logits.astype(np.float64).reshape(-1)
        scores -= scores.max()
        scores -= np.log(np.exp(scores).sum())
        # Equal scores are ordered by id, so that a list cut at `alternatives` is the same every time.
        best = np.argsort(-scores, kind="stable")[:alternatives]
        top = tuple((self._text(int(i)), float(scores[i])) for i in best)
        return TokenLogprob(self._text(token), float(scores[token]), top)

    def _text(self, token: int) -> str:
        return str(self.tokenizer.decode([token]))


def same_sampling(prompts: Sequence[Prompt]) -> list[list[Prompt]]:
    """Rows that can be generated together, in order of first appearance."""
    groups: dict[Sampling, list[Prompt]] = {}
    for prompt in prompts:
        groups.setdefault(prompt.request.sampling, []).append(prompt)
    return list(groups.values())


def usable_cores() -> int:
    """Cores this process may run on; a container's share is often smaller than the machine."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text("utf-8")) if path.exists() else {}
