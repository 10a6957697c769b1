from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from fake_endpoint import serving
from whole_run import prepare

from tapir.errors import BudgetReached, RecipeError, ReplayMiss
from tapir.models.budget import Ration, Spend, handed_out
from tapir.models.fake_server import Fake, Faults
from tapir.models.ledger import Ledger
from tapir.models.ledger_files import export
from tapir.models.scripted import ScriptedModel, load_rules
from tapir.pipeline import run
from tapir.stages.annotate import requests_for
from tapir.store.rundir import RunDir
from tapir.trust import pairs
from tapir.wiring import load_recipe, open_session

INSTRUCTIONS = 24


def endpoint(url: str, **settings: object) -> str:
    return (
        f"models.teacher={ {'kind': 'openai', 'base_url': url, 'model': 'fake', 'max_answer_tokens': 32, **settings} }"
    )


def server(faults: Faults | None = None) -> Fake:
    return Fake(ScriptedModel(load_rules("builtin")), faults=faults or Faults())


def answers_of(run_dir: RunDir) -> list[tuple[str, str]]:
    from tapir.store.tables import read_rows
    from tapir.types import Answer

    rows = read_rows(run_dir.root / "round_0/03_teacher_answers.parquet", Answer)
    return [(a.instruction_id, a.text) for a in rows]


def test_the_batch_api_gives_the_rows_that_single_calls_give(tmp_path: Path):
    recipe = prepare(tmp_path / "files")
    found = {}
    for batched in (True, False):
        fake = server()
        with serving(fake) as url:
            # One identity, or the two would be different endpoints to the ledger's eye.
            sets = [endpoint(url, batch_api=batched, identity="fake"), f"ledger.path={tmp_path / str(batched)}.sqlite"]
            loaded = load_recipe(recipe, sets)
            found[batched] = answers_of(run(loaded, tmp_path / f"run-{batched}", until="teacher_answers"))
            assert (fake.counts["requests"] == 0) is batched
    assert len(found[True]) > 0
    assert found[True] == found[False]


def test_receipts_count_further_tries_and_what_they_may_have_cost(tmp_path: Path):
    recipe = prepare(tmp_path / "files")
    price = {"prompt": 1.0, "completion": 1.0}
    with serving(server(Faults(error_500=0.4))) as url:
        sets = [endpoint(url, price_per_million=price), f"ledger.path={tmp_path / 'ledger.sqlite'}"]
        receipts = run(load_recipe(recipe, sets), tmp_path / "run", until="teacher_answers").receipts()
    account = receipts["round_0/03_teacher_answers"]
    assert account["retried_calls"] > 0
    assert account["cost_usd"] > 0


def test_roles_at_one_endpoint_share_one_throttle(tmp_path: Path):
    with serving(server()) as url:
        sets = [endpoint(url), "models.judge={same_as: teacher, temperature: 0.3}", "judge.samples=2"]
        recipe = load_recipe(prepare(tmp_path / "files"), [*sets, f"ledger.path={tmp_path / 'ledger.sqlite'}"])
        with open_session(recipe, tmp_path / "run") as session:
            judge_model = session.model("judge").model_copy(update={"headers_env": {"X-Team": "HOME"}})
            teacher = session.caller("teacher")
            other = session._open("another caller", lambda: session._backend(judge_model), judge_model)
            assert teacher.throttle is other.throttle


def test_two_settings_of_limits_for_one_endpoint_are_refused(tmp_path: Path):
    path = prepare(tmp_path / "files")
    judge = "models.judge={same_as: teacher, limits: {in_flight: 3}}"
    with pytest.raises(RecipeError, match=r"models.judge.limits differ from models.teacher.limits"):
        load_recipe(path, [endpoint("http://127.0.0.1:9/v1"), judge])


@pytest.mark.parametrize("url", ["ftp://example.com/v1", "http://user:pw@example.com/v1", "http://169.254.169.254/v1"])
def test_every_one_of_several_urls_is_checked_as_a_single_one_is(tmp_path: Path, url: str):
    with pytest.raises(RecipeError, match="base_urls"):
        load_recipe(prepare(tmp_path / "files"), [f"models.teacher.base_urls=['http://127.0.0.1:9/v1', '{url}']"])


def test_runs_of_one_name_share_the_ledger_but_not_the_budget(tmp_path: Path):
    recipe = prepare(tmp_path / "files")
    with serving(server()) as url:
        ledger = f"ledger.path={tmp_path / 'ledger.sqlite'}"
        cap = f"budget.calls={INSTRUCTIONS + 2}"
        no_labels = "classify.by=keep"
        first = load_recipe(recipe, [endpoint(url), ledger, cap, no_labels])
        run(first, tmp_path / "a/run", until="teacher_answers")
        warm = "models.teacher.temperature=0.9"  # other calls, as many
        second = load_recipe(recipe, [endpoint(url), ledger, cap, no_labels, warm])
        run(second, tmp_path / "b/run", until="teacher_answers")
        with pytest.raises(BudgetReached):
            run(second.model_copy(update={"seed": 3}), tmp_path / "b/run")


def test_a_runs_identity_stays_when_it_goes_on(tmp_path: Path):
    recipe = load_recipe(prepare(tmp_path / "files"), [f"ledger.path={tmp_path / 'ledger.sqlite'}"])
    seen = []
    for _ in range(2):
        with open_session(recipe, tmp_path / "run") as session:
            seen.append(session.run_id)
    assert seen[0] == seen[1]
    with open_session(recipe, tmp_path / "elsewhere/run") as session:
        assert session.run_id != seen[0]


def test_other_fields_of_the_body_are_other_calls(tmp_path: Path):
    fake, recipe = server(), prepare(tmp_path / "files")
    with serving(fake) as url:
        for fields, asked in (({}, INSTRUCTIONS), ({"top_k": 5}, INSTRUCTIONS), ({"top_k": 5}, 0)):
            sets = [endpoint(url, extra_body=fields), f"ledger.path={tmp_path / 'ledger.sqlite'}"]
            before = fake.counts["requests"]
            run(load_recipe(recipe, sets), tmp_path / f"run-{len(fields)}", until="classified")
            assert fake.counts["requests"] - before == asked


def test_another_recipe_does_not_replace_what_a_run_has(tmp_path: Path):
    recipe, ledger = prepare(tmp_path / "files"), f"ledger.path={tmp_path / 'ledger.sqlite'}"
    there = run(load_recipe(recipe, [ledger]), tmp_path / "run", until="seeds")
    before = there.recipe_path.read_text(), there.receipts()
    with pytest.raises(RecipeError, match="holds a run of `tiny`, and this recipe is `other`; give another --out"):
        run(load_recipe(recipe, [ledger, "name=other", "seeds.sample=3"]), tmp_path / "run", until="seeds")
    assert (there.recipe_path.read_text(), there.receipts()) == before
    run(load_recipe(recipe, [ledger, "seeds.sample=3"]), tmp_path / "run", until="seeds")
    assert there.receipts()["round_0/01_seeds"]["rows_out"] == 3


@pytest.mark.parametrize("executor", ["ray", "local"])
def test_an_unknown_accelerate_config_is_refused_before_a_call_is_paid(tmp_path: Path, executor: str):
    launcher = {"ray": "ray", "local": "accelerate"}[executor]
    sets = [f"executor={executor}", f"train.launcher={launcher}", "train.accelerate_config=fsdq"]
    recipe = load_recipe(prepare(tmp_path / "files"), [*sets, f"ledger.path={tmp_path / 'ledger.sqlite'}"])
    with pytest.raises(RecipeError, match="'fsdq' is neither a file nor one of fsdp, deepspeed"):
        run(recipe, tmp_path / "run")
    assert not (tmp_path / "ledger.sqlite").exists()


def test_a_run_called_from_elsewhere_does_not_start_another_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    elsewhere.mkdir()
    source = prepare(home)
    monkeypatch.chdir(home)
    run(load_recipe(source), home / "run", until="teacher_answers")
    monkeypatch.chdir(elsewhere)
    with pytest.raises(
        RecipeError, match=rf"start it in {home}, or give --set ledger.path={home}/.tapir/ledger.sqlite"
    ):
        run(load_recipe(source), home / "run", until="teacher_answers")
    assert not list(elsewhere.iterdir())
    named = load_recipe(source, [f"ledger.path={home}/.tapir/ledger.sqlite"])
    run(named, home / "run", until="teacher_answers")
    # The whole project copied, its ledger too: that one is gone on with.
    monkeypatch.chdir(home)
    run(load_recipe(source), home / "run", until="teacher_answers")
    shutil.copytree(home, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    run(load_recipe(source), tmp_path / "copy/run", until="teacher_answers")


def test_a_run_puts_back_what_its_killed_writer_had_handed_out_and_nobody_elses(tmp_path: Path):
    recipe = load_recipe(prepare(tmp_path / "files"), [f"ledger.path={tmp_path / 'ledger.sqlite'}"])
    own, ration = str((tmp_path / "run").resolve()), Ration("r")
    with Ledger(tmp_path / "ledger.sqlite") as ledger, ledger.transaction() as db:
        for writer, calls in [(own, 1), (f"{own}-2", 2)]:
            ration.reserve(db, handed_out(writer, "student_answers"), [Spend(calls)])
    with open_session(recipe, tmp_path / "run") as session, session.ledger.reading() as db:
        assert session.writer == own
        assert ration.spent(db) == Spend(2)


def test_the_progress_hears_how_many_calls_are_to_come(tmp_path: Path):
    from tapir.progress import Progress

    class Hears(Progress):
        expected = 0

        def expect(self, calls: int) -> None:
            self.expected += calls

    recipe = load_recipe(prepare(tmp_path / "files"), [f"ledger.path={tmp_path / 'ledger.sqlite'}"])
    with open_session(recipe, tmp_path / "run", progress=(hears := Hears())) as session:
        from tapir.types import Instruction

        rows = [Instruction(f"question {n}") for n in range(7)]
        list(session.caller("teacher").run(requests_for(rows, session.sampling("teacher", "writing")), stage="answer"))
        assert hears.expected == 7


def test_a_replay_needs_neither_endpoint_nor_key_nor_trust(tmp_path: Path, monkeypatch):
    recipe = prepare(tmp_path / "files")
    monkeypatch.setenv("TAPIR_TEST_KEY", "sk-anything")
    with serving(server()) as url:
        paid = [endpoint(url, api_key_env="TAPIR_TEST_KEY"), f"ledger.path={tmp_path / 'ledger.sqlite'}"]
        first = run(load_recipe(recipe, paid), tmp_path / "paid", until="teacher_answers")
    monkeypatch.delenv("TAPIR_TEST_KEY")
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        export(ledger, tmp_path / "calls.jsonl.gz")
    kept = {"replay": True, "recordings": [str(tmp_path / "calls.jsonl.gz")], "path": str(tmp_path / "none.sqlite")}
    replayed = load_recipe(recipe, [paid[0], f"ledger={kept}"])
    assert pairs(replayed) == []
    assert answers_of(run(replayed, tmp_path / "again", until="teacher_answers")) == answers_of(first)
    with pytest.raises(ReplayMiss, match=r"stage \S+, row [0-9a-f]{16}: .*none.sqlite holds no call"):
        run(replayed, tmp_path / "again")


def test_replay_may_be_said_in_one_word(tmp_path: Path):
    assert load_recipe(prepare(tmp_path / "files"), ["ledger=replay"]).ledger.replay
