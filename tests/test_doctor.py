"""`tapir doctor` looks at the training as training itself would, and shows what is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_endpoint import fake, serving
from whole_run import prepare

from tapir.config import Model
from tapir.doctor import Finding, examine
from tapir.wiring import load_recipe


def findings(folder: Path, **parts: Any) -> list[Finding]:
    found = examine(load_recipe(prepare(folder, **parts)))
    return [f for f in found if f.what.startswith(("training p", "accelerate config"))]


def test_an_example_is_shown_with_its_trained_tokens(tmp_path: Path):
    (found,) = findings(tmp_path)
    assert found.ok, found.remedy
    assert found.what.endswith("trained tokens in 24 of 24 examples")
    assert found.preview is not None
    assert found.preview.marked().endswith("assistant\n⟦Here is an answer.<|im_end|>⟧")


def test_a_base_model_without_a_template_is_a_problem_with_its_remedy(tmp_path: Path):
    prepare(tmp_path)
    (tmp_path / "student" / "chat_template.jinja").unlink()
    (found,) = findings(tmp_path)
    assert not found.ok
    assert "chat_template: chatml" in found.remedy


def test_a_generation_that_stops_elsewhere_is_a_problem(tmp_path: Path):
    prepare(tmp_path)
    config = tmp_path / "student" / "generation_config.json"
    config.write_text(config.read_text().replace('"eos_token_id": 2', '"eos_token_id": 0'))
    assert "generation stops on [0]" in findings(tmp_path)[0].remedy


def test_a_judges_template_that_cannot_be_read_is_a_problem(tmp_path: Path):
    judge = {"template": str(tmp_path / "judge.txt")}
    (missing,) = (f for f in examine(load_recipe(prepare(tmp_path, judge=judge))) if f.what.startswith("judge.t"))
    assert "No such file" in missing.remedy


def test_what_later_steps_read_is_looked_at(tmp_path: Path):
    (tmp_path / "prompt.txt").write_text("Which is better?", encoding="utf-8")
    asked = {"prompts": str(tmp_path / "held_out.jsonl"), "judge_prompt": str(tmp_path / "prompt.txt")}
    evaluate = [{"kind": "alpaca", **asked}, {"kind": "graded", **asked}]
    found = examine(load_recipe(prepare(tmp_path, mix={"targets": {"Maths": 0.3}}, evaluate=evaluate)))
    problems = {f.what: f.remedy for f in found if not f.ok and ("prompt" in f.what or f.what == "task types")}
    alpaca, graded = (f"judge_prompt {tmp_path / 'prompt.txt'} of {kind}" for kind in ("alpaca", "graded"))
    assert list(problems) == ["task types", alpaca, graded]
    assert "'Maths' is not a task type of the taxonomy" in problems["task types"]
    assert "has no {instruction}" in problems[alpaca]
    assert "a prompt template has a `### system` part" in problems[graded]
    fine = examine(load_recipe(prepare(tmp_path)))
    assert [f.what for f in fine if f.what.startswith("task types")] == ["task types: 32"]
    gone = examine(load_recipe(prepare(tmp_path, taxonomy=str(tmp_path / "gone.yaml"))))
    assert ["gone.yaml: not a task taxonomy" in f.remedy for f in gone if not f.ok] == [True]


def test_weights_that_are_not_here_yet_are_no_problem(tmp_path: Path):
    plain = yaml.safe_load(prepare(tmp_path).read_text())["models"]
    models = plain | {"student": plain["student"] | {"model": "gemma-3-270m"}}
    (found,) = findings(tmp_path, models=models)
    assert found.ok
    assert "not here yet" in found.what


def test_a_config_that_ray_cannot_train_by_is_a_problem(tmp_path: Path):
    train = {"launcher": "ray", "accelerate_config": "fsdp", "max_tokens": 256}
    assert findings(tmp_path, train=train, executor="ray", ray={"gpus": 1})[0].ok
    found = findings(tmp_path, train=train, executor="ray")[0]
    assert not found.ok
    assert "shards over GPUs only; set ray.gpus: 1" in found.remedy
    assert "neither a file nor one of fsdp" in findings(
        tmp_path, train=train | {"accelerate_config": "fsdq"}, executor="ray"
    )[0].remedy  # fmt: skip


@pytest.mark.parametrize(
    ("train", "remedy"),
    [
        ({"attention": "flash_attention_2"}, "pip install flash-attn"),
        ({"method": "qlora"}, "take lora on this machine"),
        ({"report_to": ["ledgerboard"]}, "no tracker that transformers knows"),
        ({"launcher": "accelerate", "accelerate_config": "deepspeed"}, "pip install deepspeed"),
        ({"method": "lora", "lora": {"target": ["foo"]}}, "take all-linear, or among"),
    ],
)
def test_what_a_training_lacks_is_found_before_it(train: dict[str, Any], remedy: str, tmp_path: Path):
    found = examine(load_recipe(prepare(tmp_path, train={"max_tokens": 256, **train})))
    assert [remedy in f.remedy for f in found if not f.ok] == [True]


def test_more_processes_than_a_step_has_examples_for_are_told(tmp_path: Path):
    train = {"launcher": "ray", "batch": 32, "max_tokens": 256}
    found = findings(tmp_path, train=train, executor="ray", ray={"training_workers": 64})[0]
    assert found.ok  # slow, not wrong
    assert found.what.startswith("training processes: 56 of 64 training processes have no example in any step")


def test_an_accelerate_config_is_started_dry(tmp_path: Path):
    train = {"launcher": "accelerate", "accelerate_config": "fsdp", "max_tokens": 256}
    found = findings(tmp_path, train=train)
    assert found[0].ok
    assert "accelerate takes it" in found[0].what


def test_every_address_of_a_model_is_asked(tmp_path: Path):
    with serving(fake()) as good, serving(fake(models=("other",))) as wrong:
        recipe = load_recipe(prepare(tmp_path))
        teacher = Model(model="fake", base_urls=(good, wrong))
        models = recipe.models.model_copy(update={"teacher": teacher, "judge": Model(same_as="teacher")})
        found = examine(recipe.model_copy(update={"models": models}))
    asked = {f.what.split(" at ")[1]: (f.ok, f.remedy) for f in found if f.what.startswith("teacher: ")}
    assert asked[f"{good}: answers (stop)"] == (True, "")
    assert not asked[wrong][0]
    assert "answered 404" in asked[wrong][1]
    (advice,) = [f for f in found if f.what.startswith("teacher.identity: not set")]
    assert advice.ok
