"""Training as a stage: examples in, a student's weights out (§3.4). The work is `tapir.training`'s."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from tapir.config import Model, RaySettings, Train
from tapir.errors import DataError
from tapir.store.rundir import write_json
from tapir.training import launch
from tapir.training.folder import Allowed
from tapir.training.needs import check_adapters, check_machine, names_modules
from tapir.training.resident import Resident
from tapir.training.result import StepLog
from tapir.types import Answer, Example, Instruction, Message, Receipt

LINK = "student.json"


def link_student(folder: Path, weights: Path, sha256: str) -> None:
    """Take a chat student as it is: the step's folder names the weights instead of holding a copy."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / LINK, {"weights": str(weights.resolve()), "sha256": sha256})


def weights_of(folder: Path) -> Path:
    """The folder that holds this student's weights."""
    link = folder / LINK
    if not folder.exists():
        receipt = folder.with_name(f"{folder.name}.receipt.json")
        raise DataError(f"{folder}: its weights were deleted; delete {receipt} to train this student again")
    return Path(json.loads(link.read_text(encoding="utf-8"))["weights"]) if link.exists() else folder


def easy_examples(instructions: Iterable[Instruction], answers: Mapping[str, Answer]) -> list[Example]:
    """All of D with the teacher's direct answers, on which student_0 is trained (§3.2)."""
    return [
        Example((*i.messages(), Message("assistant", answers[i.id].text)), i.id, i.task or "Others", hard=False)
        for i in instructions
        if i.id in answers
    ]


def check_needs(settings: Train, student: Model, start: Callable[[], Path]) -> None:
    """Refuse what this machine or student cannot do. `start`, the student's folder, may have to be fetched."""
    if settings.launcher != "ray":
        check_machine(settings)
    if names_modules(settings):
        check_adapters(start(), settings, _allowed(student))


def train(
    start: Path,
    examples: list[Example],
    folder: Path,
    settings: Train,
    *,
    student: Model,
    tokens: int | None = None,
    seed: int,
    trained: Callable[[StepLog], None],
    show: Callable[[str], None],
    receipt: Receipt,
    resident: Resident | None = None,
    ray: RaySettings | None = None,
) -> None:
    """Fine-tune `start` on the examples into `folder`; over-long rows are counted in the receipt.

    `student` says how the model is spelt and what its files may do. With `tokens` the set is passed over, in part, as
    often as it takes to train so many, whatever `epochs` says. `show` gets one example with its trained tokens marked,
    before the first step; `resident` may hold the weights of `start`, and holds those of `folder` afterwards.
    """
    if tokens is not None:
        epochs = _epochs_for(tokens, start, examples, settings, student.chat_template)
        settings = settings.model_copy(update={"epochs": epochs})
    result = launch.train(
        start,
        examples,
        folder,
        settings,
        seed=seed,
        template=student.chat_template,
        allowed=_allowed(student),
        progress=trained,
        show=show,
        log_path=folder.with_name(f"{folder.name}.log.jsonl"),
        resident=resident,
        ray=ray,
    )
    receipt.rows_in = len(examples)
    for reason, count in result.dropped.items():
        receipt.drop(reason, count)
    receipt.rows_out = len(examples) - sum(result.dropped.values())
    receipt.notes |= {
        "steps": result.steps,
        "trained_tokens": result.trained_tokens,
        "final_loss": result.final_loss,
        "trained_tokens_per_s": result.tokens_per_s,
        "cut": result.cut,
        "hard_share_of_rows": result.hard_rows,
        "hard_share_of_weight": result.hard_weight,
    }


def _allowed(student: Model) -> Allowed:
    return Allowed(remote_code=student.trust_remote_code, pickle=student.allow_pickle)


def _epochs_for(tokens: int, start: Path, examples: list[Example], settings: Train, template: str | None) -> float:
    from tapir.models.chat_template import ChatFormat, load_tokenizer
    from tapir.training.encode import encode_all

    chat = ChatFormat(load_tokenizer(start), template)
    once = encode_all(examples, chat, max_tokens=settings.max_tokens, too_long=settings.too_long).trained_tokens
    if not once:
        raise DataError(f"{start}: none of {len(examples)} examples has a token to train; raise train.max_tokens")
    return tokens / once
