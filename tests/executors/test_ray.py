"""On a local cluster of two nodes: the tables of one process, and no row lost with a worker or a node."""

from __future__ import annotations

import functools
import random
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from ray_nodes import Echo, two_nodes
from tiny import build_tiny_encoder, build_tiny_model, typed_questions
from training_rows import examples, settings
from whole_run import finish, prepare, start, tables

from tapir.config import RaySettings
from tapir.models.calls import Reply, Request, Sampling
from tapir.models.ledger import Ledger
from tapir.models.spread import SpreadCaller
from tapir.types import Instruction, Message

pytest.importorskip("ray", reason="needs the extra ray: pip install -e '.[ray]'")
pytestmark = [
    pytest.mark.ray,
    # One worker of pytest-xdist: the cluster is dear and shared.
    pytest.mark.xdist_group("ray"),
    # Ray's own, not ours to mend.
    pytest.mark.filterwarnings("default"),
]


@pytest.fixture(scope="module")
def cluster() -> Generator[Any]:
    with two_nodes() as nodes:
        yield nodes


@pytest.fixture
def joined(cluster: Any) -> Generator[RaySettings]:
    """Settings for this cluster; whoever connects in this process leaves it afterwards."""
    from tapir.executors.cluster import disconnect

    yield RaySettings(address=cluster.address, actors=2)
    disconnect()


def _requests(count: int) -> Iterator[Request]:
    for n in range(count):
        yield Request((Message("user", f"row {n % 90} " * (1 + n % 3)),), Sampling(), row=str(n))


def _backwards(request: Request) -> str:
    return request.messages[-1].content[::-1]


def test_a_whole_run_has_the_same_tables_on_ray(cluster: Any, tmp_path: Path) -> None:
    source = prepare(tmp_path, curriculum={"rounds": 1}, student_0="as_is")
    here = start(source, tmp_path / "here" / "tiny", tmp_path / "here.sqlite")
    finish(here)
    there = start(source, tmp_path / "there" / "tiny", tmp_path / "there.sqlite", "--set", "executor=ray",
                  "--set", f"ray.address={cluster.address}")  # fmt: skip
    finish(there)
    assert tables(tmp_path / "here" / "tiny") == tables(tmp_path / "there" / "tiny")


def test_two_ray_workers_train_what_two_processes_train(
    joined: RaySettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tapir.training.launch import train

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    student = build_tiny_model(tmp_path / "student")
    rows = examples(10, weights=(0.7, 0.3))
    steps: list[Any] = []
    train(student, rows, tmp_path / "here", settings(batch=8, launcher="accelerate"), seed=1, processes=2)
    two = joined.model_copy(update={"training_workers": 2, "cpus": 0.5})
    train(student, rows, tmp_path / "there", settings(batch=8, launcher="ray"), seed=1, ray=two, progress=steps.append)
    weights = [(tmp_path / where / "model.safetensors").read_bytes() for where in ("here", "there")]
    assert weights[0] == weights[1]
    assert [step.step for step in steps] == [1, 2]


def test_an_error_on_a_worker_is_the_same_error_here(joined: RaySettings, tmp_path: Path) -> None:
    from tapir.errors import ModelError
    from tapir.executors.cluster import here
    from tapir.executors.generation import RayBatches

    nowhere = RayBatches(functools.partial(here, tmp_path / "nowhere"), joined, identity="x", batch_size=4)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="a disk that all nodes share"):
        nowhere.generate(list(_requests(2)))


def test_weights_that_a_node_lacks_are_named_before_an_engine_starts(joined: RaySettings, tmp_path: Path) -> None:
    from tapir.errors import ModelError
    from tapir.executors.cluster import connect, failures_told, require_everywhere

    require_everywhere(connect(joined), tmp_path, joined)
    with pytest.raises(ModelError, match=r"nowhere is not on the node .* \(TAPIR_HOME, HF_HOME\)"), failures_told():
        require_everywhere(connect(joined), tmp_path / "nowhere", joined)


def test_a_pool_is_labelled_and_encoded_as_in_one_process(
    joined: RaySettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tapir.executors.pool import RayClassifier, RayEncoder
    from tapir.models import classifier as classifying
    from tapir.models.embedding import Encoder
    from tapir.stages.distil_classifier import Choices, train_classifier
    from tapir.tasks import load_taxonomy
    from tapir.training.encoder import EncoderSettings

    rows = [Instruction(text, task=task) for task, text in typed_questions(20)]
    base, folder = build_tiny_encoder(tmp_path / "base"), tmp_path / "classifier"
    quick = EncoderSettings(epochs=1, batch=8, max_tokens=32)
    train_classifier(base, rows, load_taxonomy(), folder, Choices(held_out=0.2), quick, say=lambda epoch, note: None)

    monkeypatch.setattr(classifying, "CHUNK_TEXTS", 16)
    here = list(classifying.open_classifier(folder).guesses(rows))
    there = list(RayClassifier(folder, joined).guesses(rows))
    assert there == here
    assert len({guess.confidence for guess in here}) > 16

    texts = [row.text for row in rows]
    monkeypatch.setattr("tapir.executors.pool.ENCODED_TOGETHER", 16)
    monkeypatch.setattr("tapir.models.embedding.BATCH", 16)
    assert (RayEncoder(base, joined).vectors(texts) == Encoder(base).vectors(texts)).all()


def test_near_duplicates_are_those_of_one_process(joined: RaySettings, monkeypatch: pytest.MonkeyPatch) -> None:
    from tapir.curriculum.dedup import near_duplicates
    from tapir.executors import pool

    rng = random.Random(5)
    bases = [[f"w{rng.randrange(300)}" for _ in range(10)] for _ in range(60)]
    # Each with one to four of ten words changed: on both sides of 7/10.
    edits = [[w if n >= rng.randint(1, 4) else f"x{rng.randrange(300)}" for n, w in enumerate(b)] for b in bases * 5]
    rng.shuffle(edits)
    rows = [(str(n), " ".join(text)) for n, text in enumerate(edits)]
    monkeypatch.setattr(pool, "NEAR_ROWS", 100)
    monkeypatch.setattr(pool, "NEAR_BLOCK", 30)
    found = pool.spread_near_duplicates(rows, joined)
    assert found == near_duplicates(rows)
    assert 50 < len(found) < 250


def test_no_row_is_lost_when_a_worker_and_then_a_node_die(joined: RaySettings, cluster: Any, tmp_path: Path) -> None:
    """Last in this module: it leaves one node of the two."""
    from tapir.executors.generation import RayBatches

    died = tmp_path / "died"
    backend = RayBatches(functools.partial(Echo, died), joined, identity="echo", batch_size=4)
    whole, removed = backend.generate_all, list[int]()

    def with_accident(batches: Any) -> Iterator[tuple[int, list[Reply]]]:
        for done, item in enumerate(whole(batches)):
            if done == 12:
                (node,) = cluster.worker_nodes
                cluster.remove_node(node, allow_graceful=False)
                removed.append(done)
            yield item

    backend.generate_all = with_accident  # type: ignore[method-assign]
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        caller = SpreadCaller(backend, ledger)
        rows = list(caller.run(_requests(300), stage="answer"))
    assert (died.exists(), removed) == (True, [12])
    assert [request.row for request, _ in rows] == [str(n) for n in range(300)]
    assert all(reply.text == _backwards(request) for request, reply in rows)
    # 90 different prompts of each of the lengths that they come in: twins are answered once.
    unique = len({request.messages for request, _ in rows})
    assert (caller.usage["answer"].calls, caller.usage["answer"].cached) == (unique, 300 - unique)
