"""Local weights through vLLM, where there is CUDA. Each request is seeded from its own content.

Not exercised by the default suite: it needs a GPU.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tapir.config import Model
from tapir.errors import ModelError
from tapir.models.calls import Reply, Request, TokenLogprob
from tapir.models.device import give_back
from tapir.models.local_rows import Speech

MOST_LOGPROBS = 20
"""vLLM refuses more alternatives than its engine was started for; APIs give as many."""


LEAST_BATCH = 256
"""vLLM batches by itself: a whole window may be handed over."""


def batch_size(model: Model) -> int:
    return max(model.batch, LEAST_BATCH) * model.data_parallel


def engine_options(model: Model) -> dict[str, Any]:
    """How an engine is started, whoever starts it."""
    given = {"max_model_len": model.max_context, "gpu_memory_utilization": model.gpu_memory}
    return {
        "dtype": "auto" if model.dtype == "int8" else model.dtype,
        "trust_remote_code": model.trust_remote_code,
        "enable_prefix_caching": True,
        "max_logprobs": MOST_LOGPROBS,
        "seed": 0,
        "tensor_parallel_size": model.tensor_parallel,
        **{name: value for name, value in given.items() if value is not None},
    }


def sampling(request: Request, stops: frozenset[int]) -> dict[str, Any]:
    """vLLM's parameters for one request, seeded from all that could change its reply."""
    asked = request.sampling
    digest = hashlib.sha256(request.address("").encode()).digest()
    chosen: dict[str, Any] = {
        "temperature": asked.temperature,
        "top_p": asked.top_p,
        "max_tokens": asked.max_tokens,
        "stop_token_ids": sorted(stops),
        "seed": int.from_bytes(digest[:4], "big"),
    }
    if asked.stop:
        chosen["stop"] = list(asked.stop)
    if asked.top_logprobs:
        chosen["logprobs"] = min(asked.top_logprobs, MOST_LOGPROBS)
    return chosen


class VllmModel:
    """A `calls.BatchBackend`."""

    def __init__(self, folder: Path, model: Model, *, identity: str) -> None:
        import vllm  # pyright: ignore[reportMissingImports]

        self.identity, self.batch_size = identity, batch_size(model)
        self._vllm: Any = vllm
        self._speech = Speech.of(folder, model.chat_template, model.max_context)
        options = {"model": str(folder), **engine_options(model)}
        try:
            self._engine = _One(options) if model.data_parallel == 1 else _Several(options, model.data_parallel)
        except (ValueError, RuntimeError) as error:
            raise ModelError(
                f"{folder}: vLLM does not start ({error}). Where it lacks room, lower this model's max_context, change "
                "its gpu_memory, or set tensor_parallel"
            ) from error

    def generate(self, batch: Sequence[Request]) -> list[Reply]:
        """Replies in the batch's order."""
        prompts, replies = self._speech.prompts(batch)
        if prompts:
            results = self._engine.results([(p.ids, self._parameters(p.request)) for p in prompts])
            replies |= {p.at: self._reply(result) for p, result in zip(prompts, results, strict=True)}
        return [replies[at] for at in range(len(batch))]

    def _parameters(self, request: Request) -> Any:
        return self._vllm.SamplingParams(**sampling(request, self._speech.stops))

    def _reply(self, result: Any) -> Reply:
        said = result.outputs[0]
        steps: list[dict[int, Any]] = said.logprobs or []
        spoken = zip(said.token_ids, steps, strict=False)
        logprobs = tuple(_logprob(token, step) for token, step in spoken if token not in self._speech.stops)
        return Reply(
            text=said.text.strip(),
            finish_reason="length" if said.finish_reason == "length" else "stop",
            prompt_tokens=len(result.prompt_token_ids),
            completion_tokens=len(said.token_ids),
            logprobs=logprobs,
        )

    def close(self) -> None:
        self._engine.close()
        give_back()


class _One:
    """One engine, in this process."""

    def __init__(self, options: dict[str, Any]) -> None:
        import vllm  # pyright: ignore[reportMissingImports]

        self._llm: Any = vllm.LLM(**options)

    def results(self, asked: Sequence[tuple[list[int], Any]]) -> list[Any]:
        prompts = [{"prompt_token_ids": ids} for ids, _ in asked]
        return self._llm.generate(prompts, [parameters for _, parameters in asked], use_tqdm=False)

    def close(self) -> None:
        self._llm = None


class _Several:
    """Several engines, each on its own GPU; vLLM starts them and shares the requests out.

    `vllm.LLM` refuses more than one in a process, its asynchronous form does not.
    """

    def __init__(self, options: dict[str, Any], engines: int) -> None:
        import vllm  # pyright: ignore[reportMissingImports]
        from vllm.v1.engine.async_llm import AsyncLLM  # pyright: ignore[reportMissingImports]

        self._vllm: Any = vllm
        self._loop = asyncio.new_event_loop()
        self._made = 0
        kind: Any = AsyncLLM
        self._llm: Any = self._loop.run_until_complete(self._start(kind, options | {"data_parallel_size": engines}))

    async def _start(self, kind: Any, options: dict[str, Any]) -> Any:
        return kind.from_engine_args(self._vllm.AsyncEngineArgs(**options))

    def results(self, asked: Sequence[tuple[list[int], Any]]) -> list[Any]:
        return self._loop.run_until_complete(self._all(asked))

    async def _all(self, asked: Sequence[tuple[list[int], Any]]) -> list[Any]:
        return list(await asyncio.gather(*(self._result(ids, parameters) for ids, parameters in asked)))

    async def _result(self, ids: list[int], parameters: Any) -> Any:
        self._made += 1
        prompt = {"prompt_token_ids": ids}
        # Each output holds all that was said so far.
        return [said async for said in self._llm.generate(prompt, parameters, request_id=str(self._made))][-1]

    def close(self) -> None:
        self._llm.shutdown()
        self._llm = None
        self._loop.close()


def _logprob(token: int, step: dict[int, Any]) -> TokenLogprob:
    ranked = sorted(step.values(), key=lambda v: -float(v.logprob))
    top = tuple((str(v.decoded_token), float(v.logprob)) for v in ranked)
    return TokenLogprob(str(step[token].decoded_token), float(step[token].logprob), top)
