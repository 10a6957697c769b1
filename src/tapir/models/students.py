"""From a folder of weights to a live local model: which engine, which identity, and the int8 copy that one needs."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Literal

from tapir.config import Model
from tapir.errors import MissingExtra, ModelError
from tapir.models.calls import BatchBackend
from tapir.models.weights_hash import weights_hash
from tapir.store.tables import sync_folder

CONVERTED = ".ct2-int8"
Engine = Literal["transformers", "ctranslate2", "vllm"]


def open_local(model: Model, folder: Path) -> BatchBackend:
    """The weights in `folder` on the engine that the recipe names, or the best that is installed."""
    engine = chosen_engine(model)
    identity = model.identity or identity_of(model, folder, engine)
    if engine == "ctranslate2":
        from tapir.models.local_ct2 import CTranslateModel

        return CTranslateModel(
            converted(folder),
            folder,
            identity=identity,
            batch_size=model.batch,
            template=model.chat_template,
            most=model.max_context,
            threads=model.threads,
        )
    if engine == "vllm":
        from tapir.models.local_vllm import VllmModel

        return VllmModel(folder, model, identity=identity)
    from tapir.models.local_hf import TransformersModel

    return TransformersModel(folder, model, identity=identity)


def identity_of(model: Model, folder: Path, engine: Engine) -> str:
    """Weights, engine, precision and template: what a reply depends on beside the request."""
    precision = "int8" if engine == "ctranslate2" else model.dtype
    template = model.chat_template or ""
    if template and (file := Path(template)).is_file():
        template = f"{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()[:8]}"
    # A prompt that was refused for its length is asked where there is room for it.
    room = f" {model.max_context} tokens" if model.max_context else ""
    return f"local {weights_hash(folder)[:16]} {engine} {precision} {template}{room}"


def served_identity(model: Model, weights_sha256: str) -> str:
    """Weights and name at the endpoint; not its URL, since other weights there would have another hash here."""
    dropped = f" without {','.join(sorted(model.drop_params))}" if model.drop_params else ""
    return model.identity or f"served {weights_sha256[:16]} {model.model}{dropped}"


def chosen_engine(model: Model, *, cuda: bool | None = None) -> Engine:
    """`auto` is vLLM or else transformers where there is CUDA, CTranslate2 or else transformers where there is none.

    `cuda` says whether the engine will have it, by default what this machine has.
    """
    if model.engine != "auto":
        if importlib.util.find_spec(model.engine) is None:
            raise MissingExtra(
                f"engine {model.engine} is not installed; `pip install {model.engine}` or use engine: auto"
            )
        return model.engine
    if cuda is None:
        import torch

        cuda = torch.cuda.is_available()
    if cuda:
        return "vllm" if importlib.util.find_spec("vllm") else "transformers"
    return "ctranslate2" if importlib.util.find_spec("ctranslate2") else "transformers"


def converted(folder: Path) -> Path:
    """The folder's int8 form for CTranslate2, made once beside the weights and named after them.

    In a process of its own: converting touches every weight, and memory once touched would stay with ours.
    """
    target = folder / f"{CONVERTED}-{weights_hash(folder)[:12]}"
    if target.exists():
        return target
    partial = folder / f"{CONVERTED}.{os.getpid()}.partial"
    command = [sys.executable, "-m", "ctranslate2.converters.transformers", "--model", str(folder), "--output_dir",
               str(partial), "--quantization", "int8", "--low_cpu_mem_usage", "--force"]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            said = (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]
            raise ModelError(
                f"{folder}: CTranslate2 cannot convert these weights ({said}); set engine: transformers for this model"
            )
        name_every_token(partial / "config.json")
        for outdated in set(folder.glob(f"{CONVERTED}-*")) - {target}:
            shutil.rmtree(outdated, ignore_errors=True)
        _publish(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def _publish(partial: Path, target: Path) -> None:
    sync_folder(partial)
    try:
        partial.rename(target)
    except OSError:
        # Another process may have converted the same weights meanwhile.
        if not target.exists():
            raise


def name_every_token(config: Path) -> None:
    """CTranslate2 refuses a null token, and many tokenizers (Qwen's) have no beginning of text; ours never uses it."""
    values = json.loads(config.read_text(encoding="utf-8"))
    for name in ("bos_token", "unk_token"):
        if name in values and values[name] is None:
            values[name] = values.get("eos_token") or ""
    config.write_text(json.dumps(values, indent=2), encoding="utf-8")
