"""Parameters of a command that stand for several options: `how: Handover` becomes one option for each of its fields.

A group of options is a dataclass whose fields are annotated as a command's parameters are. Commands that share options
share the class, so that an option is written once and reaches the command under one name.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from typing import Annotated, Any, get_args, get_origin, get_type_hints


@dataclass(frozen=True, slots=True)
class Without:
    """In `Annotated[Group, Without("name")]`: fields that are no options of this command and keep their defaults."""

    names: tuple[str, ...]

    def __init__(self, *names: str) -> None:
        object.__setattr__(self, "names", names)


def unfolded(command: Callable[..., None]) -> Callable[..., None]:
    """The command as typer is to see it: its groups of options in the open, gathered again when it is called."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, tuple[type[Any], list[str]]] = {}
    options: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        group, left_out = _group(hints[name])
        if group is None:
            options.append(parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        found = _options(group, left_out)
        groups[name] = group, [option.name for option in found]
        options += found

    def called(**given: Any) -> None:
        gathered = {name: group(**{o: given.pop(o) for o in names}) for name, (group, names) in groups.items()}
        command(**given, **gathered)

    called.__name__, called.__doc__, called.__module__ = command.__name__, command.__doc__, command.__module__
    called.__annotations__ = {option.name: option.annotation for option in options}
    called.__signature__ = inspect.Signature(options)  # pyright: ignore[reportFunctionMemberAccess]
    return called


def _group(annotation: Any) -> tuple[type[Any] | None, tuple[str, ...]]:
    """The group that a parameter stands for, if it is one, and the fields that are left out."""
    plain, *extras = get_args(annotation) if get_origin(annotation) is Annotated else (annotation,)
    if not (isinstance(plain, type) and is_dataclass(plain)):
        return None, ()
    left_out = tuple(name for extra in extras if isinstance(extra, Without) for name in extra.names)
    unknown = set(left_out) - {f.name for f in fields(plain)}
    if unknown:
        raise TypeError(f"{plain.__name__} has no {', '.join(sorted(unknown))}")
    return plain, left_out


def _options(group: type[Any], left_out: tuple[str, ...]) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=_default(f), annotation=hints[f.name])
        for f in fields(group)
        if f.name not in left_out
    ]


def _default(field: Field[Any]) -> Any:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return inspect.Parameter.empty if field.default is MISSING else field.default
