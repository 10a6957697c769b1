"""A student's folder as its files tell it: whether it can be trained from, what it is, where its generation stops.

Nothing here loads weights or needs torch; loading and saving are `training.weights`'.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from tapir.errors import ModelError
from tapir.models.weights_hash import PICKLES
from tapir.types import canonical_json, content_id


@dataclass(frozen=True, slots=True)
class Allowed:
    """What the weights one starts from may do on this machine, by the recipe's explicit word; by default nothing."""

    remote_code: bool = False
    """Run Python that lies beside the weights (`models.student.trust_remote_code`)."""
    pickle: bool = False
    """Load pickles, which can run code too (`models.student.allow_pickle`)."""


NOTHING = Allowed()


def check_folder(folder: Path, allowed: Allowed = NOTHING) -> None:
    """Refuse a folder that cannot be trained from, before anything costly happens."""
    if not (folder / "config.json").exists():
        raise ModelError(f"{folder}: there is no config.json; give a folder of weights (`tapir models pull` gets one)")
    if not weight_files(folder, allowed):
        raise ModelError(
            f"{folder}: there are no safetensors weights, and pickles are not loaded; convert them, or set "
            "models.student.allow_pickle: true if you trust where they come from"
        )


def weight_files(folder: Path, allowed: Allowed = NOTHING) -> list[Path]:
    """The files that hold the weights; pickles count only where they are allowed and there is nothing safer."""
    safe = sorted(folder.glob("*.safetensors"))
    return safe or sorted(path for pattern in PICKLES if allowed.pickle for path in folder.glob(pattern))


def fingerprint(folder: Path, allowed: Allowed = NOTHING) -> str:
    """Tells weights apart without reading them whole: training checks its checkpoints against it."""
    stats = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in weight_files(folder, allowed)]
    return content_id((folder / "config.json").read_text(encoding="utf-8"), canonical_json(stats))


def stop_ids(folder: Path) -> list[int]:
    """The tokens that generation stops on, by the folder's own files."""
    for name in ("generation_config.json", "config.json"):
        path = folder / name
        declared = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id") if path.exists() else None
        if declared is not None:
            return cast("list[int]", declared) if isinstance(declared, list) else [int(declared)]
    return []
