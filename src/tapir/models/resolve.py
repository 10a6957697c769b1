"""From what a recipe calls a local model to a folder of weights: a catalogue name, a folder, or a hub id."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

from tapir.config import Model
from tapir.errors import MissingExtra, ModelError
from tapir.models.catalogue import Progress, catalogue, pull, quiet
from tapir.models.weights_hash import PICKLES

SAFE = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")


def own_folder(model: Model) -> Path | None:
    """The folder that a recipe names and whose content is its owner's; None for what the catalogue or the hub has."""
    path = Path(model.model)
    return path if model.model not in catalogue() and path.is_dir() else None


def resolve(model: Model, *, progress: Progress = quiet) -> Path:
    """The model's folder; a catalogue entry or hub model is fetched if it is not here."""
    if not model.model:
        raise ModelError("a local model needs `model`: a catalogue name, a folder of weights, or a hub id")
    if model.model in catalogue():
        return pull(model.model, progress=progress)
    path = Path(model.model)
    if not path.is_dir():
        if path.exists() or model.model.startswith((".", "/", "~")):
            raise ModelError(f"{model.model}: not a folder of weights; `tapir models list` shows what can be fetched")
        path = _from_hub(model)
    _refuse_dangerous(path, model)
    for file in sorted(path.glob("*.safetensors")):
        _refuse_broken(file)
    _refuse_missing(path)
    return path


def _from_hub(model: Model) -> Path:
    if not importlib.util.find_spec("huggingface_hub"):
        raise MissingExtra("fetching a hub model needs `pip install 'tapir-distill[local]'`")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    patterns = [*SAFE, *(PICKLES if model.allow_pickle else ()), *(("*.py",) if model.trust_remote_code else ())]
    try:
        return Path(snapshot_download(model.model, revision=model.revision, allow_patterns=patterns))
    except (OSError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
        raise ModelError(
            f"{model.model}: neither a catalogue name nor a folder, and the hub does not deliver it "
            f"({type(error).__name__}); check the name, the network and HF_TOKEN"
        ) from error


def _refuse_dangerous(folder: Path, model: Model) -> None:
    """Pickles and code that comes with weights can do anything; they need the recipe's explicit word."""
    if not (folder / "config.json").exists():
        raise ModelError(f"{folder}: there is no config.json in it; give the folder of a model")
    safe = any(folder.glob("*.safetensors"))
    if not safe and not (model.allow_pickle and any(p for pattern in PICKLES for p in folder.glob(pattern))):
        raise ModelError(
            f"{folder}: it has no safetensors weights; convert them, or set `allow_pickle: true` if you trust where "
            "they come from"
        )
    if '"auto_map"' in (folder / "config.json").read_text(encoding="utf-8") and not model.trust_remote_code:
        raise ModelError(
            f"{folder}: its weights come with Python code of their own; read it, then set `trust_remote_code: true`"
        )


def _refuse_broken(file: Path) -> None:
    """A file cut short by a copy or a download that ended early, seen by its header alone.

    Read here and not by the safetensors package, which the core does without.
    """
    size = file.stat().st_size
    with file.open("rb") as source:
        length = int.from_bytes(source.read(8), "little")
        try:
            header: dict[str, Any] = json.loads(source.read(min(length, size)))
            header.pop("__metadata__", None)
            wanted = 8 + length + max((tensor["data_offsets"][1] for tensor in header.values()), default=0)
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise ModelError(f"{file}: this is no safetensors file; get it again") from error
    if wanted != size:
        raise ModelError(f"{file}: it has {size:,} bytes where its header tells of {wanted:,}; get it again")


def _refuse_missing(folder: Path) -> None:
    """Weights in several files, some of which are not there."""
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return
    try:
        wanted: set[str] = set(json.loads(index.read_bytes())["weight_map"].values())
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise ModelError(f"{index}: this is no index of weights; get it again") from error
    if missing := sorted(name for name in wanted if not (folder / name).exists()):
        raise ModelError(f"{folder}: {len(missing)} of {len(wanted)} files of weights are missing: get {missing[0]} …")
