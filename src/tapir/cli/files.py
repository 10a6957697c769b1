"""Commands on files: select, check, and the scripted model as a server."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from tapir.curriculum.checks import RunProgram, parse_check, score_check
from tapir.curriculum.difficulty import pair_counts
from tapir.errors import DataError
from tapir.sandbox import run_program
from tapir.store.tables import from_plain, read_numbered
from tapir.types import Verdict

AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    for command in (select, check, serve_fake):
        app.command()(command)


def select(
    verdicts: Annotated[Path, typer.Argument(help="Verdicts, JSONL or Parquet.")],
    delta: Annotated[float, typer.Option(help="Hard above this.")] = 2.0,
    as_json: AsJson = False,
) -> None:
    """Count what a threshold would select from any verdict file."""
    counts = pair_counts(_verdicts(verdicts), delta)
    if as_json:
        print(json.dumps(counts))
        return
    for name, value in counts.items():
        print(f"{name:<20}{value}")


def _verdicts(path: Path) -> Any:
    known = {"instruction_id", "order", "student_score", "teacher_score"}
    for number, row in read_numbered(path):
        missing = known - row.keys()
        if missing:
            raise DataError(f"{path}:{number}: a verdict has no {', '.join(sorted(missing))}")
        fields = Verdict.__dataclass_fields__
        yield from_plain(Verdict, {k: v for k, v in row.items() if k in fields}, where=f"{path}:{number}")


def check(
    file: Annotated[Path, typer.Argument(help="Rows with `check` and `answer`.")],
    allow_code: Annotated[bool, typer.Option(help="Run program checks, in the sandbox; skipped otherwise.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run checks alone: how many answers pass. A row that can't be checked is counted by its reason."""
    sandbox = run_program if allow_code else None
    outcomes = Counter(_outcome(file, number, row, sandbox) for number, row in read_numbered(file))
    print(json.dumps(dict(outcomes)) if as_json else "\n".join(f"{k:<20}{n}" for k, n in sorted(outcomes.items())))


def _outcome(file: Path, number: int, row: dict[str, Any], sandbox: RunProgram | None) -> str:
    if not row.get("check"):
        return "no_check"
    if not isinstance(row.get("answer"), str):
        return "no_answer"
    spec = row["check"] if isinstance(row["check"], str) else json.dumps(row["check"])
    try:
        check = parse_check(spec)
    except DataError as error:
        print(f"{file}:{number}: {error}", file=sys.stderr)
        return "bad_check"
    result = score_check(check, row["answer"], sandbox)
    return result.skipped or ("passed" if result.passed else "failed")


def serve_fake(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8010,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    script: Annotated[str, typer.Option(help="Rules file (YAML), or builtin.")] = "builtin",
    latency_s: Annotated[float, typer.Option(min=0, help="Seconds before each reply.")] = 0.0,
    in_flight_cap: Annotated[int | None, typer.Option(min=1, help="Answer 429 above this many at once.")] = None,
    api_key: Annotated[str | None, typer.Option(help="Answer 401 to any other key.")] = None,
    model: Annotated[list[str], typer.Option(help="Answer 404 to any other model name; may be repeated.")] = [],  # noqa: B006
    fixed_tokens: Annotated[int | None, typer.Option(min=1, help="Always reply so many words.")] = None,
    faults: Annotated[str, typer.Option(help='Shares, as JSON: {"error_500": 0.1, "error_429": 0.02}.')] = "{}",
) -> None:
    """A scripted model behind a real HTTP server, for trying the tool and for tests."""
    from tapir.models.fake_server import Fake, read_faults, serve
    from tapir.models.scripted import ScriptedModel, load_rules

    fake = Fake(
        model=ScriptedModel(load_rules(script), remembers=False),
        latency_s=latency_s,
        faults=read_faults(faults),
        in_flight_cap=in_flight_cap,
        api_key=api_key,
        models=tuple(model),
        fixed_text=" ".join(["word"] * fixed_tokens) if fixed_tokens else None,
    )
    serve(fake, host=host, port=port)
