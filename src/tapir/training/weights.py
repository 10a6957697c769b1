"""A student's weights in and out: loading for training, merging adapters, saving, and what must lie beside them.

Safetensors only, never code from the folder, unless the recipe allows it; saved are safetensors always.
"""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import warnings
from collections.abc import Generator
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from tapir.config import Train
from tapir.errors import ModelError
from tapir.models.chat_template import ChatFormat
from tapir.training.attention import SEGMENTED
from tapir.training.folder import NOTHING, Allowed
from tapir.training.trainer import MixTrainer

ADAPTERS = "adapters"


def same_as_saved(trainer: MixTrainer, settings: Train) -> bool:
    """Whether the model in memory, merged, has the weights that are saved: one process, and nothing rounded."""
    whole = settings.method == "full" or (settings.method == "lora" and not uses_bf16(settings))
    return whole and trainer.accelerator.num_processes == 1


def uses_bf16(settings: Train) -> bool:
    if settings.precision == "auto":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    return settings.precision == "bfloat16"


def has_liger() -> bool:
    return importlib.util.find_spec("liger_kernel") is not None


def attention(settings: Train) -> str:
    """The kernel that the settings come to on this machine."""
    if settings.attention != "auto":
        return settings.attention
    # It computes in half precision only.
    flash = uses_bf16(settings) and torch.cuda.is_available() and importlib.util.find_spec("flash_attn") is not None
    return "flash_attention_2" if flash else "sdpa"


def load(folder: Path, settings: Train, allowed: Allowed = NOTHING) -> PreTrainedModel:
    """The model to train. Full training keeps its weights in float32 and lets bf16 be the arithmetic's only:

    at small learning rates a step is less than bf16 can tell apart, and it would be lost.
    """
    quantised: Any = None
    if settings.method == "qlora":
        quantised = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
    half = uses_bf16(settings) and settings.method != "full"
    dtype = torch.bfloat16 if half else torch.float32
    return _read(folder, dtype, allowed, kernel=attention(settings), quantised=quantised)


def _read(
    folder: Path, dtype: torch.dtype, allowed: Allowed, *, kernel: str = "sdpa", quantised: Any = None
) -> PreTrainedModel:
    try:
        return AutoModelForCausalLM.from_pretrained(
            str(folder),
            dtype=dtype,
            attn_implementation=kernel,
            quantization_config=quantised,
            # None takes safetensors where there are any; False would refuse the students that training saves.
            use_safetensors=None if allowed.pickle else True,
            trust_remote_code=allowed.remote_code,
            local_files_only=True,
        )
    except (OSError, ValueError, ImportError, SafetensorError) as error:
        raise ModelError(
            f"{folder}: its weights cannot be loaded ({error}); check config.json, or get its files again"
        ) from error


def set_stop(model: PreTrainedModel, chat: ChatFormat) -> None:
    """Let the saved generation config stop on the token that ends a trained answer, beside what it stopped on."""
    config: Any = model.generation_config
    found: Any = config.eos_token_id
    known: list[int] = found if isinstance(found, list) else [found] if isinstance(found, int) else []
    if chat.end_of_turn_id not in known:
        config.eos_token_id = [chat.end_of_turn_id, *known]
    try:
        config.validate(strict=True)
    except ValueError:
        # Published ones have a temperature without `do_sample`. As they are they may be saved; changed, they may not,
        # which would be found out when the training is over.
        config.do_sample = True
        _check_generation(config)


def _check_generation(config: Any) -> None:
    try:
        config.validate(strict=True)
    except ValueError as error:
        raise ModelError(f"the student's generation_config.json cannot be saved again ({error}); correct it") from error


def save(
    trainer: MixTrainer, base: Path, target: Path, settings: Train, chat: ChatFormat, allowed: Allowed = NOTHING
) -> str | None:
    """Write the trained student to `target`, whole and merged; returns the name of the adapters' folder if kept.

    In float32 whatever the arithmetic was: the next round starts from these weights, and bf16 would round off what
    this one and those before it taught. All processes call this; one writes.
    """
    adapters = target / ADAPTERS
    if settings.method == "full":
        trainer.save_model(str(target))
    elif same_as_saved(trainer, settings):
        if settings.keep_adapters:
            trainer.save_model(str(adapters))
        plain_model(trainer).save_pretrained(str(target))
    else:
        # Sharded, bf16 or 4-bit weights cannot be merged in place without loss: the base is read again in float32.
        trainer.save_model(str(adapters))
        if trainer.is_world_process_zero():
            _merge_from_disk(base, adapters, chat, allowed).save_pretrained(str(target))
            if not settings.keep_adapters:
                shutil.rmtree(adapters)
    if trainer.is_world_process_zero():
        _complete(target, chat)
    trainer.accelerator.wait_for_everyone()
    return ADAPTERS if settings.method != "full" and settings.keep_adapters else None


def plain_model(trainer: MixTrainer) -> PreTrainedModel:
    """The trained model as it was before training dressed it: merged, unwrapped, with the forward of its class."""
    model: Any = trainer.accelerator.unwrap_model(trainer.model)
    if isinstance(model, PeftModel):
        model = model.merge_and_unload()
        trainer.model = model
    # TRL puts its fused head on the instance, accelerate its autocast; a next round would put another on top, or none
    # at all where it finds the model prepared.
    for name in ("forward", "_original_forward", "_is_accelerate_prepared"):
        vars(model).pop(name, None)
    if model.config._attn_implementation == SEGMENTED:
        model.set_attn_implementation("sdpa")
    return model


def _merge_from_disk(base: Path, adapters: Path, chat: ChatFormat, allowed: Allowed) -> PreTrainedModel:
    # Under ZeRO-3 every process would have to take part in reading weights, and only one of them is here.
    unset_hf_deepspeed_config()
    model = _read(base, torch.float32, allowed)
    set_stop(model, chat)
    with old_names_allowed():
        merged: Any = PeftModel.from_pretrained(model, str(adapters)).merge_and_unload()
    return merged


@contextlib.contextmanager
def old_names_allowed() -> Generator[None]:
    """Silence peft's use of a name that `transformers` deprecated: nothing a user could mend."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing. is deprecated", category=FutureWarning)
        yield


def _complete(target: Path, chat: ChatFormat) -> None:
    # The template that was trained lies beside the weights, so that every server spells prompts the same way.
    chat.tokenizer.chat_template = chat.source
    chat.tokenizer.save_pretrained(str(target))
    for pickled in target.rglob("training_args.bin"):
        pickled.unlink()
