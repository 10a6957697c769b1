"""What the steps share: where things lie, reading tables, and the marks that say which settings a step depends on."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from tapir.config import HOW_IT_RUNS, Evaluation, Model, Role
from tapir.curriculum.checks import RunProgram, parse_check, score_check
from tapir.errors import DataError
from tapir.evaluation.benchmarks import benchmark_names, files_among, local_file
from tapir.models.resolve import own_folder
from tapir.stages import seeds as seeding
from tapir.stages.train import weights_of
from tapir.store.lookup import Keyed, Rows
from tapir.store.rundir import RunDir, Step, file_hash
from tapir.training.launch import idle_note
from tapir.types import Answer, Example, Instruction, Passes, Receipt
from tapir.wiring import Session

UNIMPORTANT = {"limits", "price_per_million", "api_key_env", "headers_env", "threads", "data_parallel",
               "tensor_parallel", "gpu_memory", "same_as"}  # fmt: skip
"""Settings of a model that cannot change its replies."""


START = "start"
"""Among a receipt's notes: the student's own folder of weights, which it was trained from, and its hash."""


def tell_of_idle_processes(session: Session) -> None:
    """Say before a training that it will keep fewer processes busy than it starts."""
    if note := idle_note(session.recipe.train, session.recipe.ray):
        session.progress.say(note)


def plain(part: Any) -> Any:
    """A part of the recipe as plain data, for a fingerprint."""
    return part.model_dump(mode="json")


def model_mark(session: Session, *roles: Role) -> list[Any]:
    """What of these roles' settings can change rows."""
    return [_mark(session.model(role)) for role in roles]


def _mark(model: Model) -> dict[str, Any]:
    # Served weights are the same at any address. A model that has none has the mark it had before there was the field.
    beside = {"base_url"} if model.weights else {"weights"}
    beside |= {"max_context"} if model.max_context is None else set()
    # Where nothing else names what several addresses serve, they are its name in the ledger, and here: in any order.
    urls = [] if model.weights or model.identity else sorted(model.base_urls)
    plain = model.model_dump(mode="json", exclude=UNIMPORTANT | beside | {"base_urls"})
    plain |= {"base_urls": urls} if urls else {}
    return plain | {name: _content(plain[name]) for name in ("chat_template", "script")}


def _content(named: str | None) -> str | None:
    """A file's content hash for its path: an edited file is another one. What ships with us is named, not a file."""
    return file_hash(Path(named)) if named and Path(named).is_file() else named


def student_mark(session: Session) -> dict[str, Any]:
    """What of the student's settings can change the weights that come of it; how it answers cannot."""
    student = session.model("student").on_this_machine()
    told = student.model_dump(include={"model", "revision", "chat_template", "trust_remote_code", "allow_pickle"})
    return told | {"chat_template": _content(student.chat_template)}


def start_mark(session: Session, place: str) -> list[str]:
    """Which weights lie in the student's own folder: others put there are another student.

    What comes from the catalogue or the hub stands for itself. On a machine that has not got the folder, which judges
    perhaps, the step's receipt tells what it started from.
    """
    student = session.model("student").on_this_machine()
    folder = own_folder(student)
    if folder is not None:
        return [session.weights_hash(folder)]
    noted = session.told_of(place).get("notes", {}).get(START, {})
    return [noted["sha256"]] if noted.get("folder") == student.model else []


def note_start(session: Session, receipt: Receipt, base: list[str]) -> None:
    """Keep what `start_mark` found."""
    if base:
        receipt.notes[START] = {"folder": session.model("student").on_this_machine().model, "sha256": base[0]}


def train_mark(session: Session) -> dict[str, Any]:
    """What of the training's settings can change its weights."""
    return session.recipe.train.model_dump(mode="json", exclude=HOW_IT_RUNS)


def held_out_mark(evaluations: Iterable[Evaluation]) -> list[Any]:
    """What of these evaluations decides which held-out instructions there are, and what is measured on them."""
    fields = {"kind", "prompts", "against", "sample"}
    return [e.model_dump(mode="json", include=fields) for e in evaluations if e.on_held_out]


def source_mark(source: str) -> Any:
    """Content hash of a file or folder; a hub name stands for itself, with its revision in the recipe."""
    path = Path(source)
    if source == "builtin":
        return seeding.builtin_hash()
    if path.is_file():
        return file_hash(path)
    if path.is_dir():
        return [file_hash(f) for f in sorted(path.iterdir()) if f.is_file()]
    return source


def contamination_mark(session: Session) -> list[Any]:
    """What of the recipe, and of the files it names, decides which texts count as contaminated."""
    recipe = session.recipe
    settings = recipe.decontaminate
    if not settings.enabled:
        return [False]
    copies = [local_file(name, settings.folder) for name in benchmark_names(settings.against, settings.waive)]
    files = [
        *(e.prompts for e in recipe.evaluate if e.kind != "choice"),
        *files_among(settings.against),
        *map(str, filter(None, copies)),
    ]
    return [plain(settings), [source_mark(f) for f in files], [source_mark(a) for a in settings.allow]]


def passes(instruction: Instruction, text: str, run_program: RunProgram | None = None) -> bool | None:
    """Whether a text passes the instruction's check; None where there is none, or it cannot be run here."""
    if instruction.check is None:
        return None
    result = score_check(parse_check(instruction.check), text, run_program)
    return None if result.skipped else result.passed


def passes_in(session: Session) -> Passes:
    """The same with the session's sandbox, where the recipe allows running code."""
    return functools.partial(passes, run_program=session.run_program)


def judge_mark(session: Session, role: Literal["judge", "evaluator"]) -> list[Any]:
    """What of the recipe can change this role's verdicts."""
    settings = session.recipe.judge
    asked = settings.model_dump(mode="json", exclude={"canary", "max_unscored"})
    mark: list[Any] = [asked | {"template": _content(settings.template)}, model_mark(session, role)]
    adaptive = [plain(session.recipe.difficulty)["delta"]] if settings.adaptive and role == "judge" else []
    return [*mark, *adaptive, *(["program checks run"] if session.run_program else [])]


def earlier(session: Session, place: str) -> Step:
    """A step that those given to this one depend on: to read from, not to depend on."""
    return session.run.step(place, "")


def instructions_of(step: Step) -> Rows[Instruction]:
    return Rows.of(step.table(), Instruction)


def answers_of(step: Step, name: str | None = None) -> Mapping[str, Answer]:
    return Keyed(Rows.of(step.table(name), Answer), "instruction_id")


def student_place(number: int) -> str:
    """Where student_`number` lies in a run."""
    return "round_0/04_student_0" if number == 0 else f"round_{number}/05_student_{number}"


def student_number(run: RunDir, number: int | None) -> int:
    """The round of a finished student of the run, by default of the last."""
    found = [n for n in run.rounds() if run.step(student_place(n), "").receipt() is not None]
    wanted = max(found, default=0) if number is None else number
    if wanted not in found:
        there = ", ".join(f"student_{n}" for n in found) or "none yet"
        raise DataError(f"{run.root}: student_{wanted} is not there (finished: {there}); `tapir run` makes it")
    return wanted


def the_student(run: RunDir, number: int | None) -> tuple[int, Path]:
    """A finished student of the run, by default the last: its round and its folder of weights."""
    wanted = student_number(run, number)
    return wanted, weights_of(run.step(student_place(wanted), "").folder)


def trained_examples(run: RunDir, number: int | None) -> list[Example]:
    """What a round was trained on; without a number all rounds' examples, each once, as the last of them had it."""
    rounds = run.rounds() if number is None else [number]
    steps = [run.step(f"round_{r}/04_mix", "") for r in rounds]
    done = [step for step in steps if step.receipt() is not None]
    if not done:
        which = "no round has a" if number is None else f"round {number} has no"
        raise DataError(f"{run.root}: {which} training set yet; rounds count from 1, and `tapir run` makes them")
    rows = (example for step in done for example in step.read(Example))
    return list({(row.instruction_id, row.answer): row for row in rows}.values())
