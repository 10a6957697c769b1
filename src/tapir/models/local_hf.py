"""Local weights through `transformers`: works everywhere, exact in full precision; also likelihoods of given answers.

Each row is sampled with a generator of its own, seeded from the request, so a row's reply does not depend on chance in
the rows beside it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tapir.config import Model
from tapir.models.calls import Reply, Request, Sampling, TokenLogprob
from tapir.models.device import give_back, memory_told
from tapir.models.local_rows import Prompt, Speech
from tapir.types import Message

LOGIT_BYTES = 1 << 29
"""Likelihoods take the logits of every position; a batch is cut so that they stay below this."""


def load_weights(folder: Path, model: Model, kept: Any = None) -> Any:
    """The model of a folder, ready to run; code and pickles in it are refused unless the recipe allows them.

    `kept`, the same weights in memory, is taken instead where it is what would be loaded, to the bit.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    # bfloat16 is slower than float32 on CPUs without AMX, and int8 is another engine's business.
    plain = "float32" if device == "cpu" else "bfloat16"
    dtype = plain if model.dtype in ("auto", "int8") else model.dtype
    wanted = getattr(torch, dtype)
    if kept is not None and (kept.dtype, kept.device.type, _kernel(kept)) == (wanted, device, "sdpa"):
        return kept.eval()
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        str(folder),
        dtype=wanted,
        trust_remote_code=model.trust_remote_code,
        # False would refuse safetensors, which trained students always are.
        use_safetensors=None if model.allow_pickle else True,
        local_files_only=True,
    )
    return loaded.to(device).eval()


def _kernel(loaded: Any) -> str:
    return str(loaded.config._attn_implementation)


@dataclass(slots=True)
class _Row:
    """One reply being generated."""

    prompt: Prompt
    chance: Any
    said: list[int] = field(default_factory=lambda: list[int]())
    logprobs: list[TokenLogprob] = field(default_factory=lambda: list[TokenLogprob]())
    done: bool = False

    def take(self, token: int, scores: Any, speech: Speech) -> None:
        sampling = self.prompt.request.sampling
        self.said.append(token)
        ended = token in speech.stops
        if sampling.top_logprobs and not ended:
            self.logprobs.append(speech.logprob(token, scores.numpy(), sampling.top_logprobs))
        self.done = ended or len(self.said) >= sampling.max_tokens


class TransformersModel:
    """A `calls.BatchBackend` on a folder of weights."""

    def __init__(self, folder: Path, model: Model, *, identity: str) -> None:
        self.identity, self.batch_size = identity, model.batch
        self._remedy = f"lower this model's `batch` (now {model.batch}), or have it served by vLLM"
        with memory_told(self._remedy):
            self._model: Any = load_weights(folder, model)
        self._speech = Speech.of(folder, model.chat_template, model.max_context)

    def generate(self, batch: Sequence[Request]) -> list[Reply]:
        """Replies in the batch's order; rows that are finished wait for the slowest."""
        import torch

        prompts, replies = self._speech.prompts(batch)
        rows = [_Row(p, _generator(p.request)) for p in prompts]
        if rows:
            with torch.inference_mode(), memory_told(self._remedy):
                self._speak(rows)
        replies |= {r.prompt.at: self._speech.reply(r.prompt, r.said, r.logprobs) for r in rows}
        return [replies[at] for at in range(len(batch))]

    def _speak(self, rows: list[_Row]) -> None:
        import torch

        step, mask = self._left_padded([r.prompt.ids for r in rows])
        cache: Any = None
        while not all(row.done for row in rows):
            positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -step.shape[1] :]
            # Only the last position's logits: those of a whole prompt would be gigabytes.
            out = self._model(
                input_ids=step,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            cache, scores = out.past_key_values, out.logits[:, -1].float().cpu()
            step = torch.zeros((len(rows), 1), dtype=torch.long)
            for at, row in enumerate(rows):
                if not row.done:
                    token = _draw(scores[at], row.prompt.request.sampling, row.chance)
                    row.take(token, scores[at], self._speech)
                    step[at, 0] = token
            step = step.to(self._model.device)
            mask = torch.cat([mask, torch.ones_like(step)], dim=1)

    def _left_padded(self, prompts: Sequence[list[int]]) -> tuple[Any, Any]:
        # On the left, so that every row's next token is predicted at the last position.
        import torch

        longest = max(map(len, prompts))
        ids = torch.tensor([[0] * (longest - len(p)) + p for p in prompts], device=self._model.device)
        mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=self._model.device)
        return ids, mask

    def close(self) -> None:
        self._model = None
        give_back()


def _generator(request: Request) -> Any:
    import torch

    digest = hashlib.sha256(request.address("").encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def _draw(scores: Any, sampling: Sampling, chance: Any) -> int:
    import torch

    if sampling.temperature == 0:
        return int(scores.argmax())
    shares = torch.softmax(scores / sampling.temperature, -1)
    if sampling.top_p == 1:
        return int(torch.multinomial(shares, 1, generator=chance))
    ranked, order = shares.sort(descending=True, stable=True)
    # The token that crosses `top_p` is kept: what comes before it is less than that.
    ranked[ranked.cumsum(-1) - ranked >= sampling.top_p] = 0
    return int(order[torch.multinomial(ranked, 1, generator=chance)])


Pair = tuple[tuple[Message, ...], str]
"""A conversation up to the answer, and the answer."""


class Scorer:
    """Likelihoods of given answers under the weights of a folder, loaded once."""

    def __init__(self, folder: Path, model: Model, *, kept: Any = None) -> None:
        self._model: Any = load_weights(folder, model, kept)
        self._speech = Speech.of(folder, model.chat_template)

    def score(self, pairs: Sequence[Pair]) -> list[float]:
        """Sums of negative log-likelihoods of the answers' tokens, ends included; one padded batch."""
        import torch

        with torch.inference_mode(), memory_told("end what else runs on it (nvidia-smi shows it)"):
            return _nll(self._model, [_spelled(self._speech, pair) for pair in pairs])


def scoring_batches(folder: Path, pairs: Sequence[Pair], model: Model) -> tuple[list[list[int]], list[int]]:
    """Which pairs are scored together, and the number of tokens of every answer. Loads no weights."""
    from transformers import AutoConfig

    speech = Speech.of(folder, model.chat_template)
    # Lengths alone are kept: the tokens of a million rows would not fit in memory.
    lengths = [(len(prompt), len(answer)) for prompt, answer in (_spelled(speech, pair) for pair in pairs)]
    config: Any = AutoConfig.from_pretrained(
        str(folder), local_files_only=True, trust_remote_code=model.trust_remote_code
    )
    most = LOGIT_BYTES // (4 * config.vocab_size)
    return list(_batches([p + a for p, a in lengths], most)), [a for _, a in lengths]


def answer_nll(folder: Path, pairs: Sequence[Pair], model: Model, *, kept: Any = None) -> list[tuple[float, int]]:
    """Sum of negative log-likelihoods of each answer's tokens (its end included) given its prompt, and their number.

    `kept` may be the folder's model, if it is in memory.
    """
    batches, tokens = scoring_batches(folder, pairs, model)
    scorer = Scorer(folder, model, kept=kept)
    found: dict[int, float] = {}
    for rows in batches:
        found |= dict(zip(rows, scorer.score([pairs[n] for n in rows]), strict=True))
    del scorer
    give_back()
    return [(found[n], tokens[n]) for n in range(len(pairs))]


def _spelled(speech: Speech, pair: Pair) -> tuple[list[int], list[int]]:
    return speech.chat.prompt_ids(pair[0]), speech.chat.answer_ids(pair[1])


def _batches(lengths: Sequence[int], most_positions: int) -> Iterator[list[int]]:
    """Rows of similar length together, padded positions bounded; a row that is too long by itself goes alone."""
    rows: list[int] = []
    for n in sorted(range(len(lengths)), key=lambda n: (lengths[n], n)):
        if rows and lengths[n] * (len(rows) + 1) > most_positions:
            yield rows
            rows = []
        rows.append(n)
    if rows:
        yield rows


def _nll(loaded: Any, rows: Sequence[tuple[list[int], list[int]]]) -> list[float]:
    import torch

    longest = max(len(prompt) + len(answer) for prompt, answer in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for at, (prompt, answer) in enumerate(rows):
        whole = torch.tensor([*prompt, *answer])
        ids[at, : len(whole)], mask[at, : len(whole)] = whole, 1
    logits = loaded(input_ids=ids.to(loaded.device), attention_mask=mask.to(loaded.device)).logits
    sums: list[float] = []
    for at, (prompt, answer) in enumerate(rows):
        # Position n predicts token n + 1.
        given = logits[at, len(prompt) - 1 : len(prompt) - 1 + len(answer)].float()
        loss = torch.nn.functional.cross_entropy(given, torch.tensor(answer, device=given.device), reduction="sum")
        sums.append(float(loss))
    return sums
