"""The student's answers through Ray Data: canonical batches go out, actors that hold the engine answer them.

A batch is the unit of work and is never split or joined, so it is answered as in one process; a batch that was under
way on a worker or node that is lost is answered again. Order and account are `models.spread`'s.
"""

from __future__ import annotations

import pickle
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from tapir.config import Model, RaySettings
from tapir.errors import TapirError
from tapir.executors.cluster import actors, connect, failures_told, here
from tapir.executors.vllm import RayVllm
from tapir.models.calls import BatchBackend, Reply, Request, SpreadBackend
from tapir.models.students import chosen_engine, converted, identity_of, open_local

BLOCKS_OF_A_SIZE = 256
"""After so many blocks each holds one batch more: few batches spread well, and a million make thousands of tasks."""


class RayBatches:
    """A `calls.SpreadBackend` on a cluster; `open_engine` is called once in every actor."""

    def __init__(
        self, open_engine: Callable[[], BatchBackend], settings: RaySettings, *, identity: str, batch_size: int
    ) -> None:
        self.identity, self.batch_size = identity, batch_size
        self._open, self._settings = open_engine, settings

    def generate(self, batch: Sequence[Request]) -> list[Reply]:
        return next(replies for _, replies in self.generate_all([batch]))

    def generate_all(self, batches: Iterable[Sequence[Request]]) -> Iterator[tuple[int, list[Reply]]]:
        """Each batch's number with its replies, as they are finished. The input is read to its end first."""
        packed = ((number, pickle.dumps(list(batch))) for number, batch in enumerate(batches))
        yield from spread(packed, _Answering, {"open_engine": self._open}, self._settings)

    def close(self) -> None:
        """Nothing to release: actors end with their stage."""


def spread(
    packed: Iterator[tuple[int, bytes]], worker: type, arguments: dict[str, Any], settings: RaySettings
) -> Iterator[tuple[int, Any]]:
    """Numbered work through actors of `worker`, which turn one packed piece into one packed result."""
    first = next(packed, None)
    if first is None:
        return
    ray = connect(settings)
    with failures_told():
        for table in _worked(ray, _blocks(first, packed), worker, arguments, settings):
            for number, raw in zip(table["number"].to_pylist(), table["work"].to_pylist(), strict=True):
                result = pickle.loads(raw)
                if isinstance(result, TapirError):
                    raise result
                yield number, result


def _worked(
    ray: Any, tables: Iterator[Any], worker: type, arguments: dict[str, Any], settings: RaySettings
) -> Iterator[Any]:
    """The tables of packed work as the actors give them back."""
    import ray.data as data

    # Shared memory, spilled to disk where it runs full, and on the driver's node: no loss of another loses it.
    blocks = [ray.put(table) for table in tables]
    context: Any = data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    pool = data.ActorPoolStrategy(size=min(actors(ray, settings), len(blocks)))
    done: Any = data.from_arrow_refs(blocks).map_batches(
        worker,
        batch_size=1,
        batch_format="pyarrow",
        compute=pool,
        fn_constructor_kwargs=arguments,
        num_cpus=settings.cpus,
        num_gpus=settings.gpus or None,
    )
    yield from done.iter_batches(batch_size=None, batch_format="pyarrow")


def _blocks(first: tuple[int, bytes], others: Iterator[tuple[int, bytes]]) -> Iterator[Any]:
    block, made = [first], 0
    for piece in others:
        if len(block) > made // BLOCKS_OF_A_SIZE:
            yield _table(block)
            block, made = [], made + 1
        block.append(piece)
    yield _table(block)


def _table(rows: list[tuple[int, bytes]]) -> Any:
    # Pickled, not columns: what goes to and fro is ours on both sides, and the rows' types need no Arrow twins.
    return pa.table({"number": [n for n, _ in rows], "work": pa.array([raw for _, raw in rows], pa.large_binary())})


class Worker(ABC):
    """One actor: a piece of work in, its result out, under the same number.

    An error of ours is a result too: raised, it would arrive at the driver as text in an error of Ray's. So that this
    holds for loading, what a worker loads, it loads for its first piece, once.
    """

    def __call__(self, table: Any) -> Any:
        results = [pickle.dumps(self._tried(pickle.loads(raw))) for raw in table["work"].to_pylist()]
        return pa.table({"number": table["number"], "work": pa.array(results, pa.large_binary())})

    def _tried(self, work: Any) -> Any:
        try:
            return self.done(work)
        except TapirError as error:
            return error

    @abstractmethod
    def done(self, work: Any) -> Any:
        """The result of one piece."""


class _Answering(Worker):
    def __init__(self, open_engine: Callable[[], BatchBackend]) -> None:
        self._open = open_engine
        self._engine: BatchBackend | None = None

    def done(self, work: list[Request]) -> list[Reply]:
        self._engine = self._engine or self._open()
        return self._engine.generate(work)


def open_on_ray(model: Model, folder: Path, settings: RaySettings) -> SpreadBackend:
    """The student in `folder`, generated with on the cluster; the counterpart of `students.open_local`."""
    engine = chosen_engine(model, cuda=settings.gpus > 0)
    if engine == "ctranslate2":
        # Once, before many actors find that it is missing.
        converted(folder)
    identity = model.identity or identity_of(model, folder, engine)
    if engine == "vllm":
        return RayVllm(folder, model, settings, identity=identity)
    fixed = model.model_copy(update={"engine": engine, "threads": model.threads or max(1, int(settings.cpus))})
    return RayBatches(partial(_open, fixed, folder), settings, identity=identity, batch_size=model.batch)


def _open(model: Model, folder: Path) -> BatchBackend:
    return open_local(model, here(folder))
