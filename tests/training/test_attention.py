"""Packed examples do not see each other, and the saved model knows nothing of how that was done."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from training_rows import examples, settings
from transformers import AutoModelForCausalLM, MistralConfig, MistralForCausalLM

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
