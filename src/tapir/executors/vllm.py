"""The student's answers through `ray.data.llm`: vLLM on the cluster's GPUs, which batches by itself.

Prompts are made and replies read here, as for every engine of ours; each request carries a seed of its own content.
Exercised by the default suite as far as rows go: the engine needs a GPU.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from tapir.config import Model, RaySettings
from tapir.executors.cluster import actors, connect, failures_told, here, require_everywhere
from tapir.models import local_vllm
from tapir.models.calls import Reply, Request
from tapir.models.local_rows import Prompt, Speech

BLOCK_ROWS = 1024

Row = dict[str, Any]


class RayVllm:
    """A `calls.SpreadBackend`."""

    def __init__(self, folder: Path, model: Model, settings: RaySettings, *, identity: str) -> None:
        self.identity, self.batch_size = identity, local_vllm.batch_size(model)
        self._folder, self._model, self._settings = here(folder), model, settings
        self._speech = Speech.of(folder, model.chat_template, model.max_context)

    def generate(self, batch: Sequence[Request]) -> list[Reply]:
        return next(replies for _, replies in self.generate_all([batch]))

    def generate_all(self, batches: Iterable[Sequence[Request]]) -> Iterator[tuple[int, list[Reply]]]:
        """Each batch's number with its replies, once its last row is there."""
        desk = Desk(self._speech)
        rows = (row for number, batch in enumerate(batches) for row in desk.rows(number, batch))
        first = next(rows, None)
        if first is not None:
            with failures_told():
                for row in self._answered(chain([first], rows)):
                    yield from desk.take(row)
        yield from desk.refused()

    def _answered(self, rows: Iterator[Row]) -> Iterator[Row]:
        ray = connect(self._settings)
        import ray.data as data
        from ray.data.llm import build_processor

        blocks: list[Any] = []
        while block := list(islice(rows, BLOCK_ROWS)):
            blocks.append(ray.put(pa.Table.from_pylist(block)))
        context: Any = data.DataContext.get_current()
        context.enable_progress_bars = context.print_on_execution_start = False
        # vLLM would take the name of a folder that is not there for a model of the hub.
        require_everywhere(ray, self._folder, self._settings)
        process: Any = build_processor(self.engine_config(actors(ray, self._settings)))
        yield from process(data.from_arrow_refs(blocks)).iter_rows()

    def engine_config(self, engines: int) -> Any:
        """What `ray.data.llm` is told: an engine a GPU, prompts as tokens, tokens back."""
        from ray.data.llm import vLLMEngineProcessorConfig

        kind: Any = vLLMEngineProcessorConfig
        return kind(
            model_source=str(self._folder),
            engine_kwargs=local_vllm.engine_options(self._model),
            concurrency=engines,
            batch_size=self.batch_size,
            chat_template_stage=False,
            tokenize_stage=False,
            detokenize_stage=False,
        )

    def close(self) -> None:
        """Nothing to release: engines end with their stage."""


class Desk:
    """Requests to rows and rows back to whole batches."""

    def __init__(self, speech: Speech) -> None:
        self._speech = speech
        self._sizes: dict[int, int] = {}
        self._replies: dict[int, dict[int, Reply]] = {}

    def rows(self, number: int, batch: Sequence[Request]) -> Iterator[Row]:
        """A row for every request that can be asked; the others have their reply already."""
        prompts, refused = self._speech.prompts(batch)
        self._sizes[number] = len(batch)
        self._replies[number] = dict(refused)
        for prompt in prompts:
            yield {
                "number": number,
                "at": prompt.at,
                "request": pickle.dumps(prompt.request),
                "tokenized_prompt": prompt.ids,
                "sampling_params": local_vllm.sampling(prompt.request, self._speech.stops),
            }

    def take(self, row: Row) -> Iterator[tuple[int, list[Reply]]]:
        """One answered row; the batch that it completes, if it does."""
        number, request = int(row["number"]), pickle.loads(row["request"])
        prompt = Prompt(int(row["at"]), request, [0] * int(row["num_input_tokens"]))
        self._replies[number][prompt.at] = self._speech.reply(prompt, [int(n) for n in row["generated_tokens"]])
        if len(self._replies[number]) == self._sizes[number]:
            yield self._whole(number)

    def refused(self) -> Iterator[tuple[int, list[Reply]]]:
        """Batches of which no row could be asked."""
        for number in [n for n, replies in self._replies.items() if len(replies) == self._sizes[n]]:
            yield self._whole(number)

    def _whole(self, number: int) -> tuple[int, list[Reply]]:
        replies = self._replies.pop(number)
        return number, [replies[at] for at in range(self._sizes.pop(number))]
