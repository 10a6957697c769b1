"""Whom `tapir evaluate` evaluates, compares with, or lets judge: from what a user writes to settings of a model.

Owns the grammar. Opening models is `wiring`'s.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tapir.config import ROLES, Model, Recipe
from tapir.config.models import plain_url
from tapir.errors import DataError, RecipeError
from tapir.stages.train import weights_of
from tapir.store.rundir import RunDir, open_run
from tapir.wiring import load_recipe

_STUDENT = re.compile(r"(?P<run>.+):(?P<student>student_(?P<round>\d+))")
_ANSWER_FILES = (".json", ".jsonl", ".parquet")
ANSWER_TOKENS = 2048
"""Longest answer of a model without a recipe (§4.1, inference details)."""


@dataclass(frozen=True, slots=True)
class Who:
    """Somebody with answers: a model that can be asked, or a file of them."""

    name: str
    model: Model | None = None
    stored: Path | None = None
    run: RunDir | None = None


def read_who(text: str, recipe: Recipe | None = None, key_env: str | None = None) -> Who:
    """What one WHO stands for; `key_env` names the variable with the key of an endpoint given as a URL."""
    path = Path(text)
    if text.startswith(("http://", "https://")):
        return _endpoint(text, key_env)
    if found := _STUDENT.fullmatch(text):
        return _student(open_run(found["run"]), int(found["round"]))
    if path.suffix in _ANSWER_FILES and path.is_file():
        return Who(path.name.split(".")[0], stored=path)
    if RunDir(path).manifest_path.exists():
        run = open_run(path)
        return _student(run, _last_round(run))
    for role in ROLES:
        if text == role:
            if recipe is None:
                raise RecipeError(f"{text} is a role; say of which recipe with --recipe")
            return Who(role, recipe.models.resolved(role))
    folder = str(weights_of(path)) if path.is_dir() else text
    return Who(path.name, _local(folder, recipe))


def _endpoint(text: str, key_env: str | None) -> Who:
    url, sign, name = text.partition("#")
    if not sign or not name:
        raise RecipeError(f"{text}: write an endpoint as URL#MODEL, as in http://127.0.0.1:8000/v1#my-model")
    try:
        base_url = plain_url(url)
    except ValueError as error:
        raise RecipeError(f"{url}: {error}") from None
    model = Model(kind="openai", model=name, base_url=base_url, api_key_env=key_env, max_answer_tokens=ANSWER_TOKENS)
    return Who(name, model)


def _last_round(run: RunDir) -> int:
    rounds = [number for number in run.rounds() if _folder(run, number)]
    if not rounds:
        raise DataError(f"{run.root}: no student is trained yet; `tapir run` goes on with it")
    return max(rounds)


def _folder(run: RunDir, number: int) -> Path | None:
    """Where this round's student lies; None where there is none."""
    return next((p for p in run.root.glob(f"round_{number}/*_student_{number}") if p.is_dir()), None)


def _student(run: RunDir, number: int) -> Who:
    """A round's student, asked as its own run asks it, whatever recipe the judge comes from: with its template."""
    folder = _folder(run, number) if number in run.rounds() else None
    if folder is None:
        raise DataError(f"{run.root}: there is no student_{number}; `tapir status {run.root}` shows what is done")
    recipe = load_recipe(run.recipe_path)
    return Who(f"student_{number}", _local(str(weights_of(folder)), recipe), run=run)


def _local(folder: str, recipe: Recipe | None) -> Model:
    """Local weights, with the recipe's settings of its student (engine, template, sampling) where there is one."""
    student = None if recipe is None else recipe.models.resolved("student").on_this_machine()
    if student is None or student.kind != "local":
        return Model(kind="local", model=folder, max_answer_tokens=ANSWER_TOKENS)
    return student.model_copy(update={"model": folder, "revision": None, "identity": None})


def named(text: str, found: Sequence[Who], texts: Sequence[str]) -> str:
    """The name of the contender that `--against` means: by that name, or as it was given to --model."""
    for who, given in zip(found, texts, strict=True):
        if text == who.name or Path(text) == Path(given):
            return who.name
    raise RecipeError(f"--against {text}: none of the models is called so; name {' or '.join(w.name for w in found)}")


def distinct(found: Sequence[Who], texts: Sequence[str]) -> list[Who]:
    """Names that tell the contenders apart; where two share one, each is called what the user wrote."""
    names = [w.name for w in found]
    if len(set(texts)) < len(texts):
        raise RecipeError("the same model is given twice; give each once")
    return [
        w if names.count(w.name) == 1 else Who(text, w.model, w.stored, w.run)
        for w, text in zip(found, texts, strict=True)
    ]
