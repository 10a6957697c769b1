"""Where a round is trained: one process, several, and the shipped configs for many GPUs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from accelerate import FullyShardedDataParallelPlugin
from training_rows import examples, nll_by_hand, settings
from transformers import Qwen2Config, Qwen2ForCausalLM

from tapir.config import RaySettings, Train
from tapir.errors import DataError, ModelError, RecipeError
from tapir.training.folder import Allowed
from tapir.training.launch import SHIPPED, Job, child_error, command, dry_start, idle_note, main, train
from tapir.training.result import StepLog


def test_two_processes_have_the_losses_and_gradients_of_one_on_the_same_global_batch(
    student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    one: list[StepLog] = []
    two: list[StepLog] = []
    shown: list[str] = []
    # Ten examples in steps of eight: the second step leaves one process without an example of its own.
    rows = examples(10, weights=(0.7, 0.3))
    train(student, rows, tmp_path / "one", settings(batch=8), seed=1, progress=one.append, show=shown.append)
    spread = settings(batch=8, launcher="accelerate")
    result = train(student, rows, tmp_path / "two", spread, seed=1, processes=2, progress=two.append, show=shown.append)
    assert len(shown) == 2
    assert shown[0] == shown[1]
    assert [s.loss for s in two] == pytest.approx([s.loss for s in one], rel=1e-5)
    assert [s.grad_norm for s in two] == pytest.approx([s.grad_norm for s in one], rel=1e-4)
    assert [(s.trained_tokens, s.hard is None) for s in two] == [(s.trained_tokens, s.hard is None) for s in one]
    assert (result.folder, result.steps) == (tmp_path / "two", 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_two_processes_with_lora_and_packing_have_the_weighted_loss_computed_by_hand(
    student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    easy, hard, easy_tokens, hard_tokens = nll_by_hand(student)
    steps: list[StepLog] = []
    given = settings(batch=6, method="lora", packing=True, launcher="accelerate")
    rows = examples(6, weights=(0.7, 0.3))
    train(student, rows, tmp_path / "out", given, seed=1, processes=2, progress=steps.append)
    assert steps[0].loss == pytest.approx((0.7 * easy + 0.3 * hard) / (easy_tokens + hard_tokens), rel=1e-5)
    assert (steps[0].hard, steps[0].easy) == pytest.approx((hard / hard_tokens, easy / easy_tokens), rel=1e-5)


@pytest.mark.parametrize("launcher", ["accelerate", "ray"])
def test_what_the_processes_would_refuse_starts_none(launcher: str, student: Path, tmp_path: Path):
    shown: list[str] = []
    given = settings(launcher=launcher, max_tokens=8)
    with pytest.raises(ModelError, match=r"4 of 4 examples .* longer than train\.max_tokens"):
        train(student, examples(4), tmp_path / "out", given, seed=1, show=shown.append)
    assert (shown, list(tmp_path.iterdir())) == ([], [])


def test_a_child_leaves_its_error_for_the_parent_to_raise(student: Path, tmp_path: Path):
    (tmp_path / "out").mkdir()
    Job(student, tmp_path / "out", tmp_path / "log", settings(), 1, None).write(tmp_path / "job", examples(2))
    with pytest.raises(DataError):
        main(tmp_path / "job")
    left = child_error(tmp_path / "job", 1)
    assert isinstance(left, DataError)
    assert "exists already" in str(left)


def test_a_child_that_died_without_a_word_is_reported_by_its_exit_code(tmp_path: Path):
    assert "exit code -9" in str(child_error(tmp_path, -9))


def test_a_job_is_read_as_it_was_written(tmp_path: Path):
    job = Job(
        tmp_path / "student",
        tmp_path / "out",
        tmp_path / "log",
        settings(packing=True),
        7,
        "chatml",
        Allowed(pickle=True),
    )
    job.write(tmp_path / "job", examples(3))
    assert Job.read(tmp_path / "job") == (job, examples(3))


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_config_passes_accelerates_own_checks_for_eight_gpus(name: str, tmp_path: Path):
    made = dry_start(Train(launcher="accelerate", accelerate_config=name), tmp_path)
    assert made["ACCELERATE_MIXED_PRECISION"] == "bf16"
    assert made["ACCELERATE_USE_FSDP" if name == "fsdp" else "ACCELERATE_USE_DEEPSPEED"] == "true"


SIZES: dict[str, dict[str, int]] = {
    "7B": {"num_hidden_layers": 28, "hidden_size": 3584, "intermediate_size": 18944, "num_attention_heads": 28,
           "num_key_value_heads": 4, "vocab_size": 152064},
    "14B": {"num_hidden_layers": 48, "hidden_size": 5120, "intermediate_size": 13824, "num_attention_heads": 40,
            "num_key_value_heads": 8, "vocab_size": 152064},
}  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
def test_the_fsdp_config_shards_every_layer_and_leaves_room_on_eight_gpus_of_80_gb(
    size: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name, value in dry_start(Train(launcher="accelerate", accelerate_config="fsdp"), tmp_path).items():
        monkeypatch.setenv(name, value)
    with torch.device("meta"):
        model = Qwen2ForCausalLM(Qwen2Config(**SIZES[size]))
    plugin = FullyShardedDataParallelPlugin()
    plugin.set_auto_wrap_policy(model)
    wrapped = plugin.auto_wrap_policy.keywords["transformer_layer_cls"]
    assert sum(type(module) in wrapped for module in model.modules()) == SIZES[size]["num_hidden_layers"]
    # Weights, gradients and both moments of AdamW in float32, over eight GPUs; the rest is for activations.
    assert sum(p.numel() for p in model.parameters()) * 16 / 8 < 0.5 * 80e9


def test_processes_without_an_example_are_told_in_one_line():
    train = Train(launcher="ray", batch=32, micro_batch=4)
    # 8 micro-batches a step for 64 processes.
    assert idle_note(train, RaySettings(training_workers=64)) == (
        "56 of 64 training processes have no example in any step (train.batch 32, train.micro_batch 4); raise "
        "train.batch, lower train.micro_batch, or start fewer"
    )
    assert idle_note(train, RaySettings(training_workers=8)) is None
    assert idle_note(train.model_copy(update={"batch": 256}), RaySettings(training_workers=64)) is None


def test_packed_examples_are_spread_over_as_many_processes_as_there_are_examples():
    packed = Train(launcher="ray", batch=32, micro_batch=4, packing=True)
    assert idle_note(packed, RaySettings(training_workers=32)) is None
    assert str(idle_note(packed, RaySettings(training_workers=33))).startswith("1 of 33")


def test_the_accelerate_config_tells_how_many_train():
    # The shipped ones are for eight.
    assert idle_note(Train(launcher="accelerate", accelerate_config="fsdp", batch=8), RaySettings()) is not None
    assert idle_note(Train(launcher="accelerate", accelerate_config="fsdp"), RaySettings()) is None
    assert idle_note(Train(batch=1), RaySettings(training_workers=64)) is None  # one process


def test_a_config_that_accelerate_refuses_is_named(tmp_path: Path):
    path = tmp_path / "odd.yaml"
    path.write_text("compute_environment: LOCAL_MACHINE\ndistributed_type: FSDP\nno_such_key: 1\n")
    with pytest.raises(RecipeError, match=r"odd\.yaml"):
        dry_start(Train(accelerate_config=str(path)), tmp_path)


def test_an_unknown_config_name_lists_the_shipped_ones(tmp_path: Path):
    with pytest.raises(RecipeError, match="fsdp, deepspeed"):
        command(Train(launcher="accelerate", accelerate_config="zero"), tmp_path)
