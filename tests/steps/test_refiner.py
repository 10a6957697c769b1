"""A small refiner trained on what a scripted annotator wrote, served, and measured against it."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny import build_tiny_model
from whole_run import recipe as tiny_recipe
from whole_run import write_pool

from tapir.config import Model
from tapir.errors import DataError
from tapir.models.calls import Reply, Request
from tapir.stages.distil_refiner import MARK, chosen, refiner_examples, trained_refiner
from tapir.stages.seeds import load_pool
from tapir.steps.refiner import HELD_OUT, measure_refiner, train_refiner, win_rate
from tapir.steps.rounds import refined
from tapir.store.tables import read_rows
from tapir.tasks import load_taxonomy
from tapir.types import Instruction, Receipt, Refinement, Verdict
from tapir.wiring import Session, load_recipe, open_tools

pytestmark = pytest.mark.xdist_group("refiner")

TRAIN = {"epochs": 1, "batch": 4, "micro_batch": 4, "max_tokens": 512, "method": "lora"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("refiner")
    build_tiny_model(folder / "student")
    write_pool(folder / "pool.jsonl", first=0, count=9)
    refiner = {"model": str(folder / "student"), "held_out": 3, "rows": 5, "train": TRAIN}
    raw = tiny_recipe(folder, refiner=refiner, evaluate=[], ledger={"path": str(folder / "ledger.sqlite")})
    (folder / "recipe.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    return folder


def instructions(place: Path) -> list[Instruction]:
    settings = load_recipe(place / "recipe.yaml").seeds
    return load_pool(settings, seed=0, receipt=Receipt("seeds")).instructions


@pytest.fixture(scope="module")
def trained(place: Path) -> tuple[Path, dict[str, Any]]:
    with open_tools(load_recipe(place / "recipe.yaml"), place / "tools") as session:
        told = train_refiner(session, instructions(place), place / "refiner", Receipt("refiner"))
    return place / "refiner", told


def serving(place: Path, folder: Path) -> Any:
    local = ["models.refiner.kind=local", f"models.refiner.model={folder}", "models.refiner.engine=transformers"]
    tokens = ["models.refiner.max_answer_tokens=12"]
    return open_tools(load_recipe(place / "recipe.yaml", [*local, *tokens]), place / "tools")


def test_it_is_trained_on_the_annotations_and_remembers_what_was_held_out(trained: tuple[Path, dict[str, Any]]):
    folder, told = trained
    assert (told["annotated"], told["trained_on"], told["held_out"]) == (5, 5, 3)
    assert {"model.safetensors", MARK, HELD_OUT} <= {p.name for p in folder.iterdir()}
    assert len(list(read_rows(folder / HELD_OUT, Instruction))) == 3
    assert not list(folder.parent.glob(".refiner*"))


def test_a_trained_refiner_is_asked_without_examples(place: Path, trained: tuple[Path, dict[str, Any]]):
    seen: list[Request] = []

    class Echo:
        def run(self, requests: Any, **_: Any) -> Any:
            for request in requests:
                seen.append(request)
                yield request, Reply("What is asked?")

    with serving(place, trained[0]) as session:
        served: Session = session
        served.caller = lambda role: Echo()  # type: ignore[method-assign]
        list(refined(served, instructions(place)[:1], Receipt("refined")))
    (request,) = seen
    assert "Rewritten:" not in request.messages[-1].content
    assert request.messages[-1].content.startswith("Rewrite this instruction so that it asks for")


def test_it_serves_as_the_recipes_refiner_within_the_guards(place: Path, trained: tuple[Path, dict[str, Any]]):
    rows, receipt = instructions(place)[:2], Receipt("refined")
    with serving(place, trained[0]) as session:
        found = list(refined(session, rows, receipt))
    # An untrained tiny model writes no sound rewriting: the guards must catch it.
    assert [(r.text == i.text, bool(r.fallback)) for r, i in zip(found, rows, strict=True)] == [(True, True)] * 2


def test_it_is_measured_against_the_refiner_it_learnt_from(place: Path, trained: tuple[Path, dict[str, Any]]):
    rows = list(read_rows(trained[0] / HELD_OUT, Instruction))
    with serving(place, trained[0]) as session:
        found = measure_refiner(session, rows)
    assert (found["instructions"], found["n"] + found["unread"]) == (3, 3)
    assert (found["same_text"], found["fallback_in_context"]) == (0, {})
    assert sum(found["fallback_trained"].values()) == 3
    assert found["low"] <= found["win_rate"] <= found["high"]


def test_a_refiner_is_not_trained_over_another(place: Path, trained: tuple[Path, dict[str, Any]]):
    with (
        open_tools(load_recipe(place / "recipe.yaml"), place / "tools") as session,
        pytest.raises(DataError, match="exists already; delete it"),
    ):
        train_refiner(session, instructions(place), trained[0], Receipt("refiner"))


def test_annotations_that_a_guard_refused_are_not_trained_on():
    rows = [Instruction("Name 3 kings.", task="History"), Instruction("Sort 5 boats.", task="Reasoning")]
    told = {
        rows[0].id: Refinement(rows[0].id, "Name 3 kings. Say why."),
        rows[1].id: Refinement(rows[1].id, rows[1].text, "lost_number"),
    }
    receipt = Receipt("refiner")
    (example,) = refiner_examples(rows, told, load_taxonomy(), receipt)
    assert (example.answer, example.task) == ("Name 3 kings. Say why.", "History")
    assert "<instruction>\nName 3 kings.\n</instruction>" in example.messages[-2].content
    assert receipt.dropped == {"lost_number": 1}
    receipt.check()


def test_of_a_small_pool_half_at_most_is_held_out():
    rows = [Instruction(f"row {n}") for n in range(6)]
    annotate, held_out = chosen(rows, 100, 50, random.Random(1))
    assert (len(annotate), len(held_out)) == (3, 3)
    assert not {i.id for i in annotate} & {i.id for i in held_out}


def test_only_a_marked_folder_is_a_trained_refiner(tmp_path: Path):
    model = Model(kind="local", model=str(tmp_path))
    assert trained_refiner(model) is None
    (tmp_path / MARK).write_text(json.dumps({}))
    assert trained_refiner(model) == tmp_path
    assert trained_refiner(Model(kind="openai", model=str(tmp_path))) is None


def test_a_pair_with_one_unread_order_takes_no_part_in_the_win_rate():
    verdicts = [
        Verdict("a", "student_first", 8, 6),
        Verdict("a", "teacher_first", 7, 6),
        Verdict("b", "student_first", 5, 5),
        Verdict("b", "teacher_first", 5, 5),
        Verdict("c", "student_first", 9, 1),
        Verdict("c", "teacher_first", problem="no_rating"),
    ]
    found = win_rate(verdicts)
    assert (found["win_rate"], found["n"], found["unread"]) == (0.75, 2, 1)
    assert win_rate([])["win_rate"] is None


def test_three_wins_of_three_are_no_certainty():
    found = win_rate([Verdict(n, "student_first", 8, 6) for n in "abc"])
    assert (found["win_rate"], found["low"], found["high"]) == (1.0, pytest.approx(0.4385, abs=1e-4), 1.0)
