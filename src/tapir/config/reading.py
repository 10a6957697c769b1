"""From YAML to a checked recipe: problems in one line with their place, `--set`, and files."""

from __future__ import annotations

import difflib
import json
import re
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError

from tapir.config.part import Part
from tapir.config.recipe import Recipe
from tapir.errors import RecipeError


class _Values(yaml.SafeLoader):
    """YAML as recipes mean it: no value is a date, so `name: 2026-11-21` is a name."""


_Values.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in forms if tag != "tag:yaml.org,2002:timestamp"]
    for first, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def parse_recipe(raw: Any, *, where: str = "recipe") -> Recipe:
    """A checked recipe from plain data; every problem is one line with its place and, for a typo, the near name."""
    if not isinstance(raw, dict):
        raise RecipeError(f"{where}: a recipe is a YAML mapping; `tapir init` writes one to start from")
    try:
        return Recipe.model_validate(raw)
    except ValidationError as error:
        lines = [_problem(detail) for detail in error.errors()]
        raise RecipeError(f"{where}: " + "; ".join(lines)) from None


def _problem(detail: Any) -> str:
    place = ".".join(str(p) for p in detail["loc"])
    if detail["type"] != "extra_forbidden":
        # YAML reads `name: 2026` and `name: yes` as something else than what is written.
        quoted = detail["type"] == "string_type" and isinstance(detail["input"], bool | int | float)
        message = detail["msg"].removeprefix("Value error, ") + ("; put it in quotes" if quoted else "")
        return f"{place or 'recipe'}: {message}"
    known = _fields_at(detail["loc"][:-1])
    near = difflib.get_close_matches(str(detail["loc"][-1]), known, n=1)
    return f"{place}: unknown key" + (f"; did you mean `{near[0]}`?" if near else f"; known here: {', '.join(known)}")


def _fields_at(place: tuple[Any, ...]) -> list[str]:
    part: Any = Recipe
    for step in place:
        field = getattr(part, "model_fields", {}).get(step)
        if field is None:
            continue
        found = [a for a in (field.annotation, *get_args(field.annotation)) if isinstance(a, type)]
        part = next((a for a in found if issubclass(a, Part)), part)
    return sorted("from" if name == "parents" else name for name in part.model_fields)


def override(raw: dict[str, Any], assignments: tuple[str, ...] | list[str]) -> dict[str, Any]:
    """`raw` with `a.b=c` assignments applied; values are YAML, list items are addressed by number."""
    try:
        result: dict[str, Any] = json.loads(json.dumps(raw))
    except (TypeError, ValueError) as error:
        raise RecipeError(
            f"the recipe holds more than text, numbers, lists and mappings ({error}); put such a value in quotes"
        ) from None
    for assignment in assignments:
        path, sign, value = assignment.partition("=")
        if not sign or not re.fullmatch(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*", path):
            raise RecipeError(f"--set {assignment!r}: write it as part.key=value")
        _assign(result, path.split("."), _value(value, assignment), assignment)
    return result


def _value(text: str, assignment: str) -> Any:
    try:
        return yaml.load(text, _Values)
    except yaml.YAMLError as error:
        raise RecipeError(f"--set {assignment!r}: not valid YAML: {_one_line(error)}") from None


def rewritten(recipe: Recipe, *assignments: str) -> Recipe:
    """The recipe with `a.b=c` assignments applied, checked anew."""
    # Not without defaults: a role's value that equals the default still replaces the one it would take over.
    plain = recipe.model_dump(mode="json", exclude_unset=True)
    return parse_recipe(override(plain, assignments), where=recipe.name)


def _assign(target: Any, steps: list[str], value: Any, assignment: str) -> None:
    for step in steps[:-1]:
        if isinstance(target, list):
            target = target[_index(step, target, assignment)]
        else:
            if target.get(step) is None:
                target[step] = {}
            target = target[step]
        if not isinstance(target, dict | list):
            raise RecipeError(f"--set {assignment!r}: {step} is a single value, nothing can be set inside it")
    if isinstance(target, list):
        target[_index(steps[-1], target, assignment)] = value
    else:
        target[steps[-1]] = value


def _index(step: str, target: list[Any], assignment: str) -> int:
    if not step.isdigit() or int(step) >= len(target):
        raise RecipeError(f"--set {assignment!r}: {step} is not a position in a list of {len(target)}")
    return int(step)


def read_yaml(path: Path) -> Any:
    """The file's YAML, or one clear error."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Values)
    except FileNotFoundError:
        raise RecipeError(f"{path}: there is no such file; `tapir init` writes a recipe to start from") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read ({error})") from None
    except yaml.YAMLError as error:
        raise RecipeError(f"{path}: not valid YAML: {_one_line(error)}") from None


def _one_line(error: yaml.YAMLError) -> str:
    return " ".join(str(error).split())
