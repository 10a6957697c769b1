"""What vLLM is started with, without starting it: it needs a GPU."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tiny import build_tiny_tokenizer

from tapir.config import Model
from tapir.errors import ModelError
from tapir.models.local_rows import Speech
from tapir.models.local_vllm import VllmModel, engine_options
from tapir.models.students import identity_of
from tapir.steps.common import _mark

PLAIN = Model(kind="local", model="x", engine="vllm")
FITTED = Model(kind="local", model="x", engine="vllm", tensor_parallel=2, gpu_memory=0.8, max_context=48)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    build_tiny_tokenizer(tmp_path)
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 64}')
    return tmp_path


def test_an_engine_is_fitted_to_the_gpus_as_the_recipe_says():
    assert {"max_model_len", "gpu_memory_utilization"} & engine_options(PLAIN).keys() == set()
    asked = engine_options(FITTED)
    told = (asked["tensor_parallel_size"], asked["gpu_memory_utilization"], asked["max_model_len"])
    assert told == (2, 0.8, 48)


def test_a_prompt_is_refused_by_the_smaller_of_both_windows(folder: Path):
    assert [Speech.of(folder, None, most).window for most in (None, 48, 1000)] == [64, 48, 64]


def test_only_what_can_change_replies_makes_another_model(folder: Path):
    other = PLAIN.model_copy(update={"tensor_parallel": 8, "gpu_memory": 0.5})
    assert (_mark(other), identity_of(other, folder, "vllm")) == (_mark(PLAIN), identity_of(PLAIN, folder, "vllm"))
    assert "max_context" not in _mark(PLAIN)
    assert _mark(FITTED) != _mark(PLAIN)
    assert identity_of(FITTED, folder, "vllm") != identity_of(PLAIN, folder, "vllm")


def test_an_engine_that_does_not_start_says_what_to_change(folder: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(**_: Any) -> None:
        raise ValueError("the model's max seq len (131072) is larger than the KV cache has room for")

    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(LLM=refuse))  # type: ignore[arg-type]
    with pytest.raises(
        ModelError, match=r"vLLM does not start \(the model's max seq len .*\)\. .* lower .* max_context"
    ):
        VllmModel(folder, PLAIN, identity="x")
