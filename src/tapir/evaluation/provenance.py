"""What a result file says about where its numbers come from, so that two of them can be told comparable or not.

Unknown is None, never a guess: a stored annotation file does not say with which prompt it was judged.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from tapir import __version__
from tapir.errors import DataError
from tapir.evaluation.rows import Row
from tapir.types import content_id


@dataclass(frozen=True, slots=True)
class Provenance:
    """Who judged what, when, with which prompt."""

    benchmark: str
    n: int
    missing: int
    questions: str
    """Stands for the set of questions, whatever their order: results with another one compare only in part."""
    judge: str | None
    """None where rules score; then there is no prompt either."""
    prompt_sha256: str | None
    """Of the judge's prompt."""
    model_sha256: str | None
    """Of the weights, where they were run here."""
    models: dict[str, str]
    """What answered here, by name: the engine and hash of weights, the endpoint and model, or a file's hash."""
    sampling: Row | None
    """How replies were drawn, where that was done here."""
    inputs: dict[str, str]
    """SHA-256 of each file read, by its option's name."""
    date: str
    """UTC, to the second."""
    tapir: str

    def to_json(self) -> Row:
        return asdict(self)


def stamp(
    benchmark: str, n: int, missing: int, questions: Iterable[str], inputs: Mapping[str, Path | None], *,
    judge: str | None = None, prompt: Path | None = None, model_sha256: str | None = None, sampling: Row | None = None,
    models: Mapping[str, str] | None = None, now: datetime | None = None,
) -> Provenance:  # fmt: skip
    """The provenance of a result that was made just now; an input that is None was not given."""
    return Provenance(
        benchmark=benchmark,
        n=n,
        missing=missing,
        questions=content_id(*sorted(set(questions))),
        judge=judge,
        prompt_sha256=None if prompt is None else sha256_of(prompt),
        model_sha256=model_sha256,
        models=dict(models or {}),
        sampling=sampling,
        inputs={name: sha256_of(path) for name, path in inputs.items() if path is not None},
        date=(now or datetime.now(UTC)).isoformat(timespec="seconds"),
        tapir=__version__,
    )


def sha256_of(path: Path) -> str:
    """Of a file's content as it lies there."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
