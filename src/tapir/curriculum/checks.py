"""Machine checks that an instruction may carry: their forms, and whether an answer passes.

Owns the JSON forms of `docs/checks.md` and their scoring. Running a program is left to whoever has a
sandbox and passes it in; whether a failed answer may be trained on is decided by the stages.
"""

from __future__ import annotations

import functools
import json
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any, Literal, Self, cast

import regex
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from tapir.curriculum.final_answer import (
    chosen_option,
    fenced_blocks,
    final_number,
    json_value,
    normalised,
    short_answers,
)
from tapir.curriculum.format_constraints import Constraint, NonBlank, met, phrase_count
from tapir.errors import DataError
from tapir.types import canonical_json

PATTERN_TIMEOUT_S = 1.0
MAX_ANSWER_CHARS = 200_000
"""What lies beyond is not looked at: no answer of this kind is that long, and time is bounded."""

DIALECT = "https://json-schema.org/draft/2020-12/schema"
"""The one kind of JSON Schema that is evaluated here."""

Finite = Annotated[float, Field(allow_inf_nan=False)]
OptionLabel = Annotated[str, Field(pattern=r"^[A-Za-z0-9]{1,3}$")]


class _Check(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class NumberCheck(_Check):
    kind: Literal["number"]
    value: int | Finite
    tolerance: Annotated[int | Finite, Field(ge=0)] = 0


class ExactCheck(_Check):
    kind: Literal["exact"]
    answers: Annotated[tuple[NonBlank, ...], Field(min_length=1)]


class ContainsCheck(_Check):
    kind: Literal["contains"]
    all: tuple[NonBlank, ...] = ()
    any: tuple[NonBlank, ...] = ()
    none: tuple[NonBlank, ...] = ()

    @model_validator(mode="after")
    def _asks_for_something(self) -> Self:
        if not self.all and not self.any:
            raise ValueError("a contains check needs at least one phrase in all or any")
        return self


class ChoiceCheck(_Check):
    kind: Literal["choice"]
    answer: str
    options: Annotated[tuple[OptionLabel, ...], Field(min_length=2)] = ("A", "B", "C", "D")

    @model_validator(mode="after")
    def _answer_is_an_option(self) -> Self:
        if self.answer not in self.options or len({o.upper() for o in self.options}) < len(self.options):
            raise ValueError("answer must be one of options, and options must differ from each other")
        return self


class PatternCheck(_Check):
    kind: Literal["pattern"]
    pattern: Annotated[str, Field(min_length=1, max_length=2_000)]
    flags: Annotated[str, Field(pattern=r"^[ims]{0,3}$")] = ""
    full: bool = False

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            regex.compile(pattern)
        except regex.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        return pattern


class JsonCheck(_Check):
    kind: Literal["json"]
    json_schema: Annotated[dict[str, Any], Field(alias="schema")]

    @field_validator("json_schema")
    @classmethod
    def _is_a_schema(cls, schema: dict[str, Any]) -> dict[str, Any]:
        from jsonschema import SchemaError

        # Another dialect would be evaluated by this one's rules, which read some of its keywords differently.
        if schema.get("$schema", DIALECT) not in (DIALECT, f"{DIALECT}#"):
            raise ValueError(f"$schema {schema['$schema']!r} is not supported; leave it out, or give {DIALECT!r}")
        # Wherever a schema names its dialect, the library goes back to its own, which has no time limit.
        schema = {key: value for key, value in schema.items() if key != "$schema"}
        try:
            _json_schema_dialect().check_schema(schema)
        except (SchemaError, RecursionError) as error:
            raise ValueError(f"not a JSON schema: {getattr(error, 'message', 'nested too deep')}") from error
        _refuse_unsafe(schema)
        return schema


class FormatCheck(_Check):
    kind: Literal["format"]
    constraints: Annotated[tuple[Constraint, ...], Field(min_length=1)]


class ProgramCheck(_Check):
    kind: Literal["program"]
    language: Literal["python"] = "python"
    call: NonBlank
    output: str


Check = NumberCheck | ExactCheck | ContainsCheck | ChoiceCheck | PatternCheck | JsonCheck | FormatCheck | ProgramCheck
_CHECKS: TypeAdapter[Check] = TypeAdapter(Annotated[Check, Field(discriminator="kind")])


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The share met of what was asked; `skipped` says why a check could not be made (then nothing is known)."""

    passed: bool
    share: float
    skipped: str | None = None


@dataclass(frozen=True, slots=True)
class ProgramRun:
    """What a sandbox says: what was printed, whether it ended well, or why it could not run at all."""

    stdout: str = ""
    ok: bool = True
    skipped: str | None = None


RunProgram = Callable[[str, str], ProgramRun]
"""(language, source) → what happened; with limits, and never raising for what the source does."""


def parse_check(text: str) -> Check:
    """The check that this JSON is; DataError says what is wrong with it."""
    try:
        return _CHECKS.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the check"
        raise DataError(f"check {text[:120]!r}: {where}: {first['msg']}; see docs/checks.md") from error
    except (RecursionError, UnicodeEncodeError) as error:
        raise DataError(f"check {text[:120]!r} cannot be read as JSON ({error}); see docs/checks.md") from error


def read_check(value: Any) -> str | None:
    """A row's check in its one spelling, given as an object or as its JSON; None for none, DataError for a bad one."""
    try:
        given = json.loads(value) if isinstance(value, str) and value else value
        if given is None or given == "":
            return None
        spelled = canonical_json(_given(given))
    except (ValueError, TypeError, RecursionError) as error:
        raise DataError(f"check {str(value)[:120]!r} cannot be read as JSON ({error}); see docs/checks.md") from None
    parse_check(spelled)
    return spelled


def _given(check: Any) -> Any:
    """Without fields that are null: a column of objects, in Parquet, has every field of every row's check."""
    if not isinstance(check, dict):
        return check
    fields = {name: value for name, value in cast("dict[str, Any]", check).items() if value is not None}
    if isinstance(listed := fields.get("constraints"), list):
        fields["constraints"] = [_given(one) for one in cast("list[Any]", listed)]
    return fields


def score_check(check: Check, answer: str, run_program: RunProgram | None = None) -> CheckResult:
    """Whether the answer passes; never raises, whatever the answer is."""
    answer = answer[:MAX_ANSWER_CHARS]
    match check:
        case NumberCheck():
            return _result(_number_passes(check, answer))
        case ExactCheck():
            return _result(not short_answers(answer).isdisjoint(normalised(a) for a in check.answers))
        case ContainsCheck():
            return _result(_contains_passes(check, answer))
        case ChoiceCheck():
            return _result(chosen_option(answer, check.options) == check.answer)
        case PatternCheck():
            return _pattern_result(check, answer)
        case JsonCheck():
            return _json_result(check, answer)
        case FormatCheck():
            share = sum(met(c, answer) for c in check.constraints) / len(check.constraints)
            return CheckResult(share == 1, share)
        case ProgramCheck():
            return _program_result(check, answer, run_program)


def verified_score(result: CheckResult) -> float:
    """What a verified verdict scores: 10 if passed, 1 if failed, in between for a share of constraints."""
    if result.skipped is not None:
        raise DataError(f"a skipped check ({result.skipped}) has no score; let the judge decide instead")
    return 1 + 9 * result.share


def _result(passed: bool) -> CheckResult:
    return CheckResult(passed, float(passed))


def _number_passes(check: NumberCheck, answer: str) -> bool:
    found = final_number(answer)
    return found is not None and abs(found - Fraction(repr(check.value))) <= Fraction(repr(check.tolerance))


def _contains_passes(check: ContainsCheck, answer: str) -> bool:
    text = unicodedata.normalize("NFKC", answer)

    def there(phrase: str) -> bool:
        return phrase_count(text, unicodedata.normalize("NFKC", phrase)) > 0

    wanted = all(map(there, check.all)) and (not check.any or any(map(there, check.any)))
    return wanted and not any(map(there, check.none))


def _pattern_result(check: PatternCheck, answer: str) -> CheckResult:
    compiled = regex.compile(check.pattern, functools.reduce(lambda f, c: f | _FLAGS[c], check.flags, 0))
    look = compiled.fullmatch if check.full else compiled.search
    try:
        return _result(look(answer.strip(), timeout=PATTERN_TIMEOUT_S) is not None)
    except TimeoutError:
        return CheckResult(False, 0.0, skipped="pattern_timeout")


_FLAGS: dict[str, int] = {"i": int(regex.IGNORECASE), "m": int(regex.MULTILINE), "s": int(regex.DOTALL)}


def _json_result(check: JsonCheck, answer: str) -> CheckResult:
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    nothing: Registry[Any] = Registry()

    is_json, value = json_value(answer)
    if not is_json:
        return _result(False)
    # An empty registry knows no address, so a `$ref` cannot make this fetch anything.
    validator = _timed_dialect()(check.json_schema, registry=nothing)
    try:
        return _result(bool(validator.is_valid(value)))
    except TimeoutError:
        return CheckResult(False, 0.0, skipped="pattern_timeout")
    except Unresolvable:
        return CheckResult(False, 0.0, skipped="schema_ref_unresolved")
    except (RecursionError, OverflowError):
        return CheckResult(False, 0.0, skipped="schema_not_evaluable")


def _json_schema_dialect() -> Any:
    from jsonschema import Draft202012Validator

    return Draft202012Validator


@functools.cache
def _timed_dialect() -> Any:
    """JSON Schema with a time limit on `pattern`; the library's own has none."""
    from jsonschema import ValidationError as Mismatch
    from jsonschema import validators

    extend: Any = validators.extend  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]

    def pattern(validator: Any, wanted: str, instance: Any, _schema: Any) -> Any:
        if isinstance(instance, str) and not regex.search(wanted, instance, timeout=PATTERN_TIMEOUT_S):
            yield Mismatch("does not match its pattern")

    return extend(_json_schema_dialect(), {"pattern": pattern})


def _refuse_unsafe(schema: Any) -> None:
    """Some keywords have no place for a time limit, or lose it; an outside `$ref` would have to be fetched."""
    if isinstance(schema, dict):
        for key, value in cast("dict[str, Any]", schema).items():
            if key == "patternProperties":
                raise ValueError("patternProperties is not supported; use propertyNames with a pattern")
            if key == "$schema" and isinstance(value, str):
                raise ValueError("$schema inside the schema is not supported; give it at the top, or leave it out")
            if key in ("$ref", "$dynamicRef") and isinstance(value, str) and not value.startswith("#"):
                raise ValueError(f"{key} {value!r} lies outside the schema and nothing is fetched; use $defs")
            if key == "pattern" and isinstance(value, str):
                PatternCheck(kind="pattern", pattern=value)
            _refuse_unsafe(value)
    elif isinstance(schema, list):
        for item in cast("list[Any]", schema):
            _refuse_unsafe(item)


def _program_result(check: ProgramCheck, answer: str, run_program: RunProgram | None) -> CheckResult:
    if run_program is None:
        return CheckResult(False, 0.0, skipped="code_not_allowed")
    ran = run_program(check.language, f"{_code(check, answer)}\n\nprint({check.call})\n")
    if ran.skipped is not None:
        return CheckResult(False, 0.0, skipped=ran.skipped)
    expected = [line.rstrip() for line in check.output.strip().splitlines()]
    printed = [line.rstrip() for line in ran.stdout.strip().splitlines()]
    # The answer's own examples may print too; the call comes last.
    return _result(ran.ok and printed[max(0, len(printed) - len(expected)) :] == expected)


def _code(check: ProgramCheck, answer: str) -> str:
    """The block that defines what is called, else the last one, else the whole answer."""
    blocks = [text for language, text in fenced_blocks(answer) if language in ("", "python", "py", "python3")]
    name = check.call.split("(", 1)[0].split(".", 1)[0].strip()
    defining = [b for b in blocks if regex.search(rf"\b(?:def|class)\s+{regex.escape(name)}\b", b)]
    return (defining or blocks or [answer])[-1]
