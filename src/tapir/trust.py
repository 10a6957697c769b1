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
    new = unconfirmed(wanted)
    if not new:
        return
    if not confirmed:
        if not sys.stdin.isatty():
            raise RecipeError(refusal(new, who))
        said = input(f"{who.capitalize()} will send {_told(new)}. Is that right? [y/N] ")
        if said.strip().lower() not in ("y", "yes"):
            raise RecipeError("not confirmed; nothing was sent")
    write_json(_store(), [*_known(), *(list(pair) for pair in new)])


def unconfirmed(wanted: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Those pairs that nobody has confirmed yet."""
    known = _known()
    return [pair for pair in wanted if list(pair) not in known]


def refusal(new: Iterable[tuple[str, str]], who: str) -> str:
    """What is said of unconfirmed pairs where nobody is asked."""
    return f"{who} would send {_told(new)}; if that is right, say so once with --trust"


def _told(found: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"${name} to {host}" for host, name in found)


def _known() -> list[list[str]]:
    path = _store()
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []


def _store() -> Path:
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "tapir" / "trusted.json"
