"""What a person needs to know to make a run again: versions, commit, seeds, hashes. No key is in it."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from tapir import __version__
from tapir.config import Recipe
from tapir.store.rundir import fingerprint
from tapir.tasks import load_taxonomy


def manifest(recipe: Recipe, source: str) -> dict[str, Any]:
    """What a person needs to know to do this again. It holds names of key variables, never keys."""
    packages = (
        "torch",
        "transformers",
        "trl",
        "peft",
        "accelerate",
        "datasets",
        "ctranslate2",
        "vllm",
        "ray",
        "pyarrow",
    )
    return {
        "tapir": __version__,
        "recipe_source": source,
        "recipe_hash": fingerprint(recipe.model_dump(mode="json")),
        "seed": recipe.seed,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "packages": {name: version for name in packages if (version := _version(name))},
        "git_commit": _git_commit(),
        "prompts": _prompts(recipe),
        "task_types": len(load_taxonomy(Path(recipe.taxonomy) if recipe.taxonomy else None).tasks),
    }


def _prompts(recipe: Recipe) -> dict[str, str]:
    """Hash of every shipped prompt, and of the recipe's own judge prompt: which words the models were asked with."""
    texts = {p.name: p.read_text(encoding="utf-8") for p in resources.files("tapir.prompts").iterdir()
             if p.name.endswith(".txt")}  # fmt: skip
    if recipe.judge.template is not None and Path(recipe.judge.template).is_file():
        texts["judge.template"] = Path(recipe.judge.template).read_text(encoding="utf-8")
    return {name: fingerprint(text) for name, text in sorted(texts.items())}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """The commit of the checkout that this code runs from; None for an installed wheel."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return None
    found = subprocess.run(["git", "-C", str(here), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return found.stdout.strip() or None
