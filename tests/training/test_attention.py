"""Packed examples do not see each other, and the saved model knows nothing of how that was done."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from training_rows import examples, settings
from transformers import (
    AutoModelForCausalLM,
    Lfm2Config,
    Lfm2ForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    TrainerCallback,
)

from tapir.errors import ModelError
from tapir.training.attention import SEGMENTED, attend_by_segment
from tapir.training.resident import Resident
from tapir.training.sft import train_round

POSITIONS = torch.tensor([[0, 1, 2, 0, 1, 2, 3]])


@pytest.mark.parametrize("segmented", [True, False])
def test_an_example_in_a_row_has_the_logits_it_has_alone(segmented: bool, student: Path):
    model = AutoModelForCausalLM.from_pretrained(student)
    assert not segmented or attend_by_segment(model)
    ids = torch.tensor([[5, 6, 7, 40, 41, 42, 43]])
    alone = AutoModelForCausalLM.from_pretrained(student)(ids[:, 3:]).logits
    together = model(ids, position_ids=POSITIONS, use_cache=False).logits[:, 3:]
    assert torch.allclose(together, alone, atol=1e-5)


def test_nothing_of_a_neighbour_reaches_an_example(student: Path):
    model = AutoModelForCausalLM.from_pretrained(student)
    attend_by_segment(model)
    seen = [
        model(torch.tensor([[first, 6, 7, 40, 41, 42, 43]]), position_ids=POSITIONS, use_cache=False).logits
        for first in (5, 99)
    ]
    assert torch.equal(seen[0][:, 3:], seen[1][:, 3:])
    assert not torch.equal(seen[0][:, :3], seen[1][:, :3])


def test_a_model_that_looks_back_a_window_only_keeps_its_own_attention():
    config = MistralConfig(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        sliding_window=4,
    )
    assert not attend_by_segment(MistralForCausalLM(config))


def test_the_trained_student_is_saved_with_a_kernel_that_everyone_has(student: Path, tmp_path: Path):
    resident = Resident()
    train_round(student, examples(4), tmp_path / "out", settings(packing=True), seed=1, resident=resident)
    kept = resident.take(tmp_path / "out")
    assert kept is not None
    assert kept.config._attn_implementation == "sdpa"
    assert SEGMENTED not in json.dumps(json.loads((tmp_path / "out" / "config.json").read_text()))


@pytest.fixture
def convolving(student: Path, tmp_path: Path) -> Path:
    """A student of which one layer in two is a convolution, which no position id ends."""
    folder = tmp_path / "lfm2"
    shutil.copytree(student, folder)
    torch.manual_seed(0)
    config = Lfm2Config(
        vocab_size=json.loads((student / "config.json").read_text())["vocab_size"],
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        layer_types=["conv", "full_attention"],
        initializer_range=0.2,
        eos_token_id=2,
    )
    Lfm2ForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_an_architecture_that_sees_across_packed_examples_is_refused(
    method: str, precision: str, convolving: Path, tmp_path: Path
):
    given = {"method": method, "precision": precision}
    with pytest.raises(ModelError, match=r"lfm2: this architecture lets .* set train\.packing: false"):
        train_round(convolving, examples(4), tmp_path / "out", settings(packing=True, **given), seed=1)
    assert train_round(convolving, examples(4), tmp_path / "out", settings(**given), seed=1).steps == 1


def test_looking_for_leaks_leaves_no_trace_in_the_training(
    student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    given = settings(packing=True, method="lora", lora={"dropout": 0.1})
    train_round(student, examples(6), tmp_path / "looked", given, seed=1)
    monkeypatch.setattr("tapir.training.sft.BorderCheck", lambda *_: TrainerCallback())
    train_round(student, examples(6), tmp_path / "not", given, seed=1)
    looked, unlooked = (load_file(tmp_path / name / "model.safetensors") for name in ("looked", "not"))
    assert all(torch.equal(tensor, unlooked[name]) for name, tensor in looked.items())
