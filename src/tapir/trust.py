"""A recipe pairs a host with a key's environment variable; the pair is confirmed once, by a person or `--trust`.

Without this, a recipe from the net could send your key to somebody else's server.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from tapir.config import ROLES, Model, Recipe
from tapir.errors import RecipeError
from tapir.store.rundir import write_json


def pairs(recipe: Recipe) -> list[tuple[str, str]]:
    """(host, variable) for every key or header that the recipe would send; a replay sends none."""
    if recipe.ledger.replay:
        return []
    return pairs_of(recipe.models.resolved(role) for role in ROLES)


def pairs_of(models: Iterable[Model]) -> list[tuple[str, str]]:
    """(host, variable) for every key or header that would be sent to these models."""
    found: set[tuple[str, str]] = set()
    for model in models:
        if model.kind != "openai":
            continue
        names = [model.api_key_env, *model.headers_env.values()]
        for url in (model.base_url, *model.base_urls):
            found |= {(urlsplit(url).netloc, name) for name in names if url and name}
    return sorted(found)


def require_trust(recipe: Recipe, *, confirmed: bool) -> None:
    """Ask once for each new pair, where there is somebody to ask; otherwise refuse, saying what to do."""
    require_trust_in(pairs(recipe), "this recipe", confirmed=confirmed)


def require_trust_in(wanted: Iterable[tuple[str, str]], who: str, *, confirmed: bool) -> None:
    """The same for pairs that come from elsewhere, such as an endpoint named on the command line."""
    path = _store()
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    new = [pair for pair in wanted if list(pair) not in known]
    if not new:
        return
    lines = ", ".join(f"${name} to {host}" for host, name in new)
    if not confirmed:
        if not sys.stdin.isatty():
            raise RecipeError(f"{who} would send {lines}; if that is right, say so once with --trust")
        if input(f"{who.capitalize()} will send {lines}. Is that right? [y/N] ").strip().lower() not in ("y", "yes"):
            raise RecipeError("not confirmed; nothing was sent")
    write_json(path, [*known, *(list(pair) for pair in new)])


def _store() -> Path:
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "tapir" / "trusted.json"
