"""What a training needs beside its data: packages and hardware where it runs, and places for its adapters.

`tapir doctor`, a run before it spends anything, and every training ask the same. What tokens must hold is
`training.preflight`'s.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tapir.config import Lora, Train
from tapir.errors import MissingExtra, ModelError, RecipeError
from tapir.training.folder import NOTHING, Allowed
from tapir.training.trackers import check_trackers

if TYPE_CHECKING:
    from peft import LoraConfig


def check_machine(settings: Train) -> None:
    """Refuse what cannot be trained on this machine, by what it lacks."""
    if settings.method == "qlora" and not (_has_gpu() and _has("bitsandbytes")):
        raise MissingExtra("train.method: qlora needs an NVIDIA GPU and bitsandbytes; take lora on this machine")
    if settings.attention == "flash_attention_2" and not _has_flash():
        raise MissingExtra(
            "train.attention: flash_attention_2 needs an NVIDIA GPU and its package (pip install flash-attn); take "
            "auto, which uses it where it is"
        )
    if settings.attention == "flash_attention_2" and settings.precision == "float32":
        raise RecipeError("train.attention: flash_attention_2 is for half precision only; take train.precision: auto")
    shards = settings.launcher == "accelerate" and settings.accelerate_config == "deepspeed"
    if shards and not _has("deepspeed"):
        raise MissingExtra("train.accelerate_config: deepspeed needs its package: pip install deepspeed")
    if settings.report_to:
        check_trackers(settings.report_to)


def _has(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _has_flash() -> bool:
    from transformers.utils.import_utils import is_flash_attn_2_available

    # What `transformers` would load, which may be a kernel from the hub.
    return is_flash_attn_2_available(kernels_fallback_ok=True)


def names_modules(settings: Train) -> bool:
    """Whether adapters go to modules of certain names, which a student may lack."""
    return settings.method != "full" and settings.lora.target != "all-linear"


def check_adapters(student: Path, settings: Train, allowed: Allowed = NOTHING) -> None:
    """Refuse adapters that this student has no place for. Costs its structure, not its weights."""
    if not names_modules(settings):
        return
    import torch
    from peft import inject_adapter_in_model

    model = _structure(student, allowed)
    layers = {name.rpartition(".")[2] for name, part in model.named_modules() if isinstance(part, torch.nn.Linear)}
    try:
        with torch.device("meta"):
            inject_adapter_in_model(lora_config(settings.lora), model)
    except (ValueError, re.error) as error:
        target = settings.lora.target
        raise RecipeError(
            f"train.lora.target: {target if isinstance(target, str) else ', '.join(target)} names no module of "
            f"{student.name} that takes adapters; take all-linear, or among {', '.join(sorted(layers))}"
        ) from error


def _structure(student: Path, allowed: Allowed) -> Any:
    """The student's modules, without their weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    code = allowed.remote_code
    try:
        config = AutoConfig.from_pretrained(str(student), trust_remote_code=code, local_files_only=True)
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, trust_remote_code=code)
    except (OSError, ValueError, ImportError) as error:
        raise ModelError(f"{student}: its configuration cannot be loaded ({error}); check config.json") from error


def lora_config(lora: Lora) -> LoraConfig:
    """The recipe's adapters, in peft's words."""
    from peft import LoraConfig

    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target if isinstance(lora.target, str) else list(lora.target),
        task_type="CAUSAL_LM",
    )
