"""Every shipped recipe loads, and a mistake in one is a clear error."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tapir.cli import stage
from tapir.config import ROLES, Model, Models, Price, Recipe, Role, override, parse_recipe, table_of
from tapir.config.stages import refusal_of
from tapir.errors import RecipeError
from tapir.models.connection import identity_of, urls_of
from tapir.planning import describe, places
from tapir.wiring import SHIPPED, load_recipe, open_session

SMALLEST = {"models": {"teacher": {"kind": "scripted"}, "student": {"kind": "local", "model": "somewhere"}}}


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_recipe_loads(name: str):
    assert load_recipe(name).name == name or name == "openai-teacher"


def kept_by_a_run(recipe: Recipe, root: Path) -> Recipe:
    with open_session(recipe, root) as session:
        return load_recipe(session.run.recipe_path)


def who_plays(recipe: Recipe) -> list[object]:
    return [recipe.models.resolved(role) for role in ROLES]


@pytest.mark.parametrize("name", SHIPPED)
def test_a_run_keeps_a_shipped_recipe_as_it_is(name: str, tmp_path: Path):
    recipe = load_recipe(name, [f"ledger.path={tmp_path / 'ledger.sqlite'}"])
    kept = kept_by_a_run(recipe, tmp_path / "run")
    assert kept == recipe
    assert who_plays(kept) == who_plays(recipe)


def test_a_roles_value_that_equals_the_default_is_kept_by_the_run_and_told_by_the_dry_run(tmp_path: Path):
    teacher = {"kind": "scripted", "max_answer_tokens": 512, "batch_api": True, "structured": "schema", "top_p": 0.9}
    usual = {"max_answer_tokens": 1024, "batch_api": False, "structured": "auto", "top_p": 1.0}
    models = {**SMALLEST["models"], "teacher": teacher, "judge": {"same_as": "teacher", **usual}}
    recipe = parse_recipe({"models": models, "ledger": {"path": str(tmp_path / "ledger.sqlite")}})
    kept = kept_by_a_run(recipe, tmp_path / "run")
    assert kept.models.resolved("judge").model_dump(include=set(usual)) == usual
    assert who_plays(kept) == who_plays(recipe)
    told = parse_recipe(yaml.safe_load(describe(recipe)[0]))
    assert who_plays(told) == who_plays(recipe)


def test_the_paper_recipe_has_the_papers_settings():
    recipe = load_recipe("paper-llama2")
    assert [recipe.curriculum.alpha(r) for r in (1, 2, 3)] == [0.3, 0.5, 0.7]
    assert (recipe.train.learning_rate, recipe.train.epochs, recipe.train.batch) == (2e-5, 3, 32)
    assert (recipe.difficulty.delta, recipe.models.student.temperature) == (2, 0.5)


def test_alpha_stays_within_0_and_1():
    recipe = parse_recipe({**SMALLEST, "curriculum": {"rounds": 4, "alpha_start": 0.6, "alpha_step": 0.3}})
    assert [recipe.curriculum.alpha(r) for r in (1, 2, 3, 4)] == [0.6, 0.9, 1.0, 1.0]


def test_an_unknown_key_is_refused_with_the_near_name():
    with pytest.raises(RecipeError, match=r"judge\.sampels: unknown key; did you mean `samples`\?"):
        parse_recipe({**SMALLEST, "judge": {"sampels": 2}})


def test_several_votes_at_temperature_0_are_refused():
    with pytest.raises(RecipeError, match=r"judge\.samples above 1 needs models\.judge\.temperature above 0"):
        parse_recipe({**SMALLEST, "judge": {"samples": 3}})


def test_a_money_cap_without_prices_is_refused():
    teacher = {"kind": "openai", "base_url": "http://localhost:1/v1", "model": "m"}
    with pytest.raises(RecipeError, match=r"budget\.usd needs models\.teacher\.price_per_million"):
        parse_recipe({"models": {"teacher": teacher, "student": {"kind": "local"}}, "budget": {"usd": 5}})


SERVED = {"kind": "openai", "model": "m", "base_urls": ["http://localhost:1/v1", "http://localhost:2/v1"]}


@pytest.mark.parametrize(
    ("student", "student_0", "words"),
    [
        (SERVED, "as_is", r"name those that the endpoints serve in models\.student\.weights, or take kind: local"),
        ({**SERVED, "weights": "w"}, "train", "set student_0: as_is, or take kind: local"),
        ({"kind": "local", "model": "m", "weights": "w"}, "as_is", r"name them in models\.student\.model"),
        ({"kind": "scripted", "weights": "w"}, "as_is", r"name them in models\.student\.model"),
        ({"kind": "local", "model": "m", "identity": "x"}, "as_is", "one name for every student that the run trains"),
    ],
)
def test_endpoints_can_serve_no_student_that_the_run_makes(student: dict[str, object], student_0: str, words: str):
    models = {"teacher": {"kind": "scripted"}, "student": student}
    with pytest.raises(RecipeError, match=words):
        parse_recipe({"models": models, "student_0": student_0})


def test_only_a_student_has_weights_beside_an_endpoint():
    teacher = {"base_url": "http://localhost:1/v1", "model": "m", "weights": "w"}
    with pytest.raises(RecipeError, match=r"models\.teacher\.weights: only a student"):
        parse_recipe({"models": {**SMALLEST["models"], "teacher": teacher}})
    served = {"teacher": {"kind": "scripted"}, "student": {**SERVED, "weights": "w"}, "judge": {"same_as": "student"}}
    assert parse_recipe({"models": served, "student_0": "as_is"}).models.resolved("judge").model == "m"


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        ("verdict", r"budget\.per_stage: verdict: no such stage; did you mean `verdicts`\?"),
        ("nonsense", r"budget\.per_stage: nonsense: no such stage; known here: annotate, classify, .*, gold, chat"),
    ],
)
def test_a_cap_for_a_stage_that_there_is_not_is_refused(stage: str, words: str):
    with pytest.raises(RecipeError, match=words):
        parse_recipe({**SMALLEST, "budget": {"per_stage": {stage: {"calls": 1}}}})


def test_a_stage_is_capped_once():
    with pytest.raises(RecipeError, match="judge and verdicts are the same stage; give it once"):
        parse_recipe({**SMALLEST, "budget": {"per_stage": {"judge": {"calls": 1}, "verdicts": {"calls": 2}}}})


def test_every_stage_of_a_run_and_every_command_of_tapir_stage_can_be_capped():
    tables = {place.split("_", 2)[2] for place in places(1)} - {"student_1"}
    for name in tables | {command.name or command.callback.__name__ for command in stage.app.registered_commands}:
        assert refusal_of(name) is None
        assert table_of(name) in tables


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://user:pw@host/v1", "credentials"),
        ("http://169.254.1.2/v1", "link-local"),
        ("ftp://host", "http or https"),
    ],
)
def test_a_dangerous_url_is_refused(url: str, words: str):
    with pytest.raises(RecipeError, match=words):
        parse_recipe({"models": {"teacher": {"base_url": url}, "student": {"kind": "local"}}})


def test_roles_default_to_one_another_and_single_values_replace():
    models = {**SMALLEST["models"], "judge": {"same_as": "teacher", "temperature": 0.0}}
    resolved = parse_recipe({"models": models}).models
    assert resolved.resolved("evaluator").kind == "scripted"
    assert (resolved.resolved("evaluator").temperature, resolved.resolved("refiner").temperature) == (0.0, None)


A, B, OTHER = "http://localhost:1/v1", "http://localhost:2/v1", "http://other:1/v1"
OURS = {"base_urls": [A, B], "model": "big", "identity": "our-big", "price_per_million": {"prompt": 1, "completion": 2}}


def played(role: Role, teacher: dict[str, object], **roles: object) -> Model:
    models = {**SMALLEST["models"], "teacher": teacher, **roles}
    return parse_recipe({"models": models}).models.resolved(role)


def test_a_second_judge_elsewhere_has_neither_the_first_ones_urls_nor_its_place_in_the_ledger():
    stronger = {"same_as": "judge", "base_url": OTHER, "model": "stronger"}
    second = played("evaluator", OURS, evaluator=stronger)
    assert urls_of(second) == (OTHER,)
    assert identity_of(second) == f"{OTHER} stronger"
    assert identity_of(played("judge", OURS, evaluator=stronger)) == "our-big"
    balanced = {"same_as": "teacher", "base_urls": [A, B]}
    assert played("judge", {"base_url": OTHER, "model": "big"}, judge=balanced).base_url is None


@pytest.mark.parametrize(
    "own",
    [
        {"model": "stronger"},
        {"kind": "local"},
        {"base_url": OTHER},
        {"base_urls": [OTHER]},
        {"weights": "w"},
        {"revision": "v2"},
        {"script": "other.yaml"},
    ],
)
def test_identity_and_price_are_those_of_one_model_at_one_endpoint(own: dict[str, object]):
    teacher = Model.model_validate(OURS)
    models = Models(teacher=teacher, student=Model(kind="local"), judge=Model(same_as="teacher", **own))
    assert (models.resolved("judge").identity, models.resolved("judge").price_per_million) == (None, None)
    kept = models.model_copy(update={"judge": Model(same_as="teacher", temperature=0)}).resolved("judge")
    assert (kept.identity, kept.price_per_million) == ("our-big", teacher.price_per_million)
    given = Model(same_as="teacher", identity="own", price_per_million=Price(prompt=3, completion=4), **own)
    kept = models.model_copy(update={"judge": given}).resolved("judge")
    assert (kept.identity, kept.price_per_million) == ("own", given.price_per_million)


def test_a_money_cap_asks_for_the_price_of_another_model():
    models = {**SMALLEST["models"], "teacher": OURS, "evaluator": {"same_as": "judge", "model": "stronger"}}
    with pytest.raises(RecipeError, match=r"budget\.usd needs models\.evaluator\.price_per_million"):
        parse_recipe({"models": models, "budget": {"usd": 5}})


def test_set_reaches_into_mappings_and_lists():
    raw = {"train": {"epochs": 1}, "evaluate": [{"kind": "pairwise"}]}
    changed = override(raw, ["train.epochs=2", "evaluate.0.sample=5", "mix.size=7"])
    assert changed == {"train": {"epochs": 2}, "evaluate": [{"kind": "pairwise", "sample": 5}], "mix": {"size": 7}}
    assert raw["train"]["epochs"] == 1


def test_a_value_that_is_no_yaml_is_refused_with_its_assignment():
    with pytest.raises(RecipeError, match=r"--set 'seeds\.sample=\[1': not valid YAML: while parsing"):
        override({}, ["seeds.sample=[1"])


def test_a_date_is_text_and_other_words_that_yaml_turns_into_values_are_to_be_quoted(tmp_path: Path):
    path = tmp_path / "recipe.yaml"
    smallest = yaml.safe_dump(SMALLEST)
    path.write_text(f"name: 2026-11-21\n{smallest}", encoding="utf-8")
    assert load_recipe(path).name == "2026-11-21"
    assert load_recipe(path, ["name=2026-11-22"]).name == "2026-11-22"
    path.write_text(f"name: 2026\n{smallest}", encoding="utf-8")
    with pytest.raises(RecipeError, match=r"name: Input should be a valid string; put it in quotes"):
        load_recipe(path)


def test_every_field_of_the_recipe_is_described():
    todo, seen, bare = [Recipe], set(), []
    while todo:
        part = todo.pop()
        if part in seen:
            continue
        seen.add(part)
        for name, field in part.model_fields.items():
            kinds = [a for a in (field.annotation, *getattr(field.annotation, "__args__", ())) if isinstance(a, type)]
            inner = [k for k in kinds if hasattr(k, "model_fields")]
            todo += inner
            if not field.description and not inner:
                bare.append(f"{part.__name__}.{name}")
    assert bare == []
