"""Lines of the recipe that lead off this machine."""

from __future__ import annotations

from typing import Any

import pytest

from tapir.config import parse_recipe
from tapir.errors import RecipeError


def _recipe(**parts: Any) -> dict[str, Any]:
    scripted = {"kind": "scripted", "script": "builtin"}
    return {"models": {"teacher": scripted, "student": {"kind": "local", "model": "x"}}, **parts}


def test_training_on_ray_needs_the_executor():
    with pytest.raises(RecipeError, match="launcher: ray needs executor: ray"):
        parse_recipe(_recipe(train={"launcher": "ray"}))
    assert parse_recipe(_recipe(train={"launcher": "ray"}, executor="ray")).ray.training_workers == 1


def test_deepspeed_is_refused_on_ray_before_anything_runs():
    train = {"launcher": "ray", "accelerate_config": "deepspeed"}
    with pytest.raises(RecipeError, match="deepspeed does not train on Ray; take fsdp, or launcher: accelerate"):
        parse_recipe(_recipe(train=train, executor="ray"))


def test_a_store_carries_no_credentials():
    with pytest.raises(RecipeError, match="must not carry credentials"):
        parse_recipe(_recipe(store="s3://key:secret@bucket/runs"))
