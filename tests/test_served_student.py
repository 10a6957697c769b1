"""A student that endpoints serve: they answer for student_0, and trained students are made and answer here."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from fake_endpoint import fake, serving
from tiny import build_tiny_model
from whole_run import prepare

from tapir.cli.evaluate.who import read_who
from tapir.config import Recipe
from tapir.doctor import examine
from tapir.models.fake_server import Fake
from tapir.models.ledger import Ledger
from tapir.models.scripted import ScriptedModel, load_rules
from tapir.models.weights_hash import weights_hash
from tapir.pipeline import run
from tapir.planning import describe
from tapir.steps.common import answers_of, model_mark
from tapir.store.rundir import RunDir
from tapir.wiring import load_recipe, open_session

pytestmark = pytest.mark.xdist_group("served")

SEEDS, HELD_OUT = 24, 8


def server() -> Fake:
    return Fake(ScriptedModel(load_rules("builtin")))


def recipe(folder: Path, *urls: str, **settings: Any) -> Recipe:
    """A round of the tiny run, its student served at these addresses."""
    student = {"kind": "openai", "model": "fake", "base_urls": list(urls), "weights": str(folder / "student"),
               "engine": "transformers", "batch": 8, "max_answer_tokens": 12, "temperature": 0.5}  # fmt: skip
    path = prepare(folder, student_0="as_is", curriculum={"rounds": 1}, ledger={"path": str(folder / "calls.sqlite")})
    return load_recipe(path, [f"models.student={ {**student, **settings} }"])


def asked(*servers: Fake) -> int:
    return sum(one.counts["requests"] for one in servers)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[int]]:
    """A folder with a run that was stopped once, and what each of two servers was asked, part by part."""
    folder, one, two = tmp_path_factory.mktemp("served"), server(), server()
    counts: list[int] = []
    with serving(one) as a, serving(two) as b:
        loaded = recipe(folder, a, b)
        run(loaded, folder / "run", until="student_answers")
        counts += [asked(one), asked(two)]
        run(loaded, folder / "run")
        counts.append(asked(one, two))
    return folder, counts


def test_both_endpoints_answer_for_student_0(whole: tuple[Path, list[int]]):
    _, (one, two, _) = whole
    assert one + two == SEEDS
    assert min(one, two) >= 8


def test_a_run_that_goes_on_asks_them_for_what_is_missing_only(whole: tuple[Path, list[int]]):
    _, (one, two, in_all) = whole
    assert in_all - one - two == HELD_OUT


def test_a_trained_student_answers_from_its_own_weights(whole: tuple[Path, list[int]]):
    folder, _ = whole
    with Ledger(folder / "calls.sqlite") as ledger:
        made = {e.identity: e.stage for e in ledger.entries() if not e.identity.startswith("scripted")}
    served = f"served {weights_hash(folder / 'student')[:16]} fake"
    (local,) = made.keys() - {served}
    assert local.startswith(f"local {weights_hash(folder / 'run/round_1/05_student_1')[:16]} transformers")
    first, last = (
        answers_of(RunDir(folder / "run").step(place, ""), "answers")
        for place in ("round_0/09_evaluation", "round_1/06_evaluation")
    )
    assert len(first) == len(last) == HELD_OUT
    assert all(first[i].text != last[i].text for i in first)
    fits = RunDir(folder / "run").step("round_0/09_evaluation", "").table("fit")
    assert fits.exists()  # student_0's likelihoods come from the weights here


def test_its_trained_students_are_evaluated_with_the_recipes_settings(whole: tuple[Path, list[int]]):
    found = read_who(f"{whole[0] / 'run'}:student_1").model
    assert found is not None
    assert (found.kind, found.engine, found.max_answer_tokens) == ("local", "transformers", 12)
    assert found.model.endswith("05_student_1")


def test_the_same_weights_at_another_address_are_asked_nothing_again(whole: tuple[Path, list[int]]):
    folder, _ = whole
    elsewhere = server()
    with serving(elsewhere) as url:
        run(recipe(folder, url), folder / "run")
        again = run(recipe(folder, url), folder / "again", until="student_answers")
    assert asked(elsewhere) == 0
    assert again.receipts()["round_0/05_student_answers"]["cached_calls"] == SEEDS


def test_other_weights_at_the_same_address_are_another_model(tmp_path: Path):
    found = []
    for seed in (0, 1):
        shutil.rmtree(tmp_path / "student", ignore_errors=True)
        build_tiny_model(tmp_path / "student", seed=seed)
        with open_session(recipe(tmp_path, "http://127.0.0.1:9/v1"), tmp_path / "run") as session:
            found.append(session.student(tmp_path / "student").identity)
    assert found[0] != found[1]


def test_a_given_identity_is_the_served_weights_and_no_trained_ones(tmp_path: Path):
    loaded = recipe(tmp_path, "http://127.0.0.1:9/v1", identity="ours")
    trained = build_tiny_model(tmp_path / "trained", seed=1)
    with open_session(loaded, tmp_path / "run") as session:
        assert session.student(tmp_path / "student").identity == "ours"
        assert session.student(trained).identity.startswith("local ")


def test_a_model_without_weights_has_the_mark_it_always_had(tmp_path: Path):
    with open_session(load_recipe(prepare(tmp_path / "a")), tmp_path / "run") as session:
        assert all("weights" not in mark for mark in model_mark(session, "teacher", "student"))
    marks = []
    for url in ("http://127.0.0.1:9/v1", "http://127.0.0.1:8/v1"):
        loaded = recipe(tmp_path / "b", base_url=url)
        with open_session(loaded, tmp_path / url[-4]) as session:
            marks.append(model_mark(session, "student"))
    assert marks[0] == marks[1]


def test_doctor_and_dry_run_know_of_endpoints_and_weights(tmp_path: Path):
    with serving(fake()) as url:
        loaded = recipe(tmp_path, url)
        found = {f.what: f for f in examine(loaded)}
    assert found[f"student: fake at {url}: answers (stop)"].ok
    assert found[f"student: {tmp_path / 'student'}: {tmp_path / 'student'}"].ok
    assert any(what.startswith("training preflight: ") and f.ok for what, f in found.items())


def test_the_dry_run_prices_what_endpoints_answer_and_not_what_trained_students_do(tmp_path: Path):
    loaded = recipe(tmp_path, "http://127.0.0.1:9/v1", price_per_million={"prompt": 0, "completion": 1e6})
    bounds = {line[:26].strip(): line.split() for line in describe(loaded)}
    calls_and_usd = {what: (bounds[what][-4], bounds[what][-1]) for what in ("student's answers", "student's held-out")}
    # 12 tokens a reply, a dollar each; of both students' answers to the held-out set the first one's cost something.
    assert calls_and_usd["student's answers"] == (str(SEEDS), f"{SEEDS * 12:.2f}")
    assert calls_and_usd["student's held-out"] == (str(2 * HELD_OUT), f"{HELD_OUT * 12:.2f}")
