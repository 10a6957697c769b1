"""`tapir chat`: talk with a run's student, beside other students and the teacher if wanted.

Students run on the engine of the recipe and leave no trace; the teacher is asked through the run's ledger and within
its budget. Whatever a model says passes through `printable` before a terminal sees it.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tapir.cli.terminal import printable
from tapir.errors import RecipeError
from tapir.models.calls import Reply, Request
from tapir.steps.common import the_student
from tapir.store.rundir import RunDir, open_run
from tapir.trust import require_trust
from tapir.types import Message
from tapir.wiring import Session, load_recipe, open_tools

NARROW = 36
"""Columns of characters below which speakers stand one under the other."""
HELP = "an empty line or Ctrl-D ends, /new begins a new conversation"
Speak = Callable[[tuple[Message, ...]], Reply]


@dataclass
class Speaker:
    """One side of the conversation; each answers to what it has said itself."""

    name: str
    speak: Speak
    said: list[Message] = field(default_factory=lambda: list[Message]())

    def answer(self, text: str) -> str:
        """The reply to this turn, as it may be shown; one that failed is told and not gone on from."""
        asked = (*self.said, Message("user", text))
        reply = self.speak(asked)
        if reply.problem or not reply.text:
            return f"(no answer: {reply.problem or 'it said nothing'})"
        self.said = [*asked, Message("assistant", reply.text)]
        return reply.text

    def begin(self, system: str | None) -> None:
        self.said = [Message("system", system)] if system else []


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(chat)


def chat(
    path: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")],
    number: Annotated[int | None, typer.Option("--round", min=0, help="Which student; by default the last.")] = None,
    against: Annotated[str, typer.Option(help="Others beside it, as in student_0,teacher.")] = "",
    prompt: Annotated[str | None, typer.Option(help="One turn instead of a conversation, for scripts.")] = None,
    system: Annotated[str | None, typer.Option(help="A system message.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="With --prompt: replies by name, as JSON.")] = False,
    trust: Annotated[bool, typer.Option(help="Confirm that the recipe's hosts may get the keys it names.")] = False,
) -> None:
    """Talk with a run's student in the terminal, side by side with earlier ones or the teacher."""
    run = open_run(path)
    names = [f"student_{the_student(run, number)[0]}", *(n.strip() for n in against.split(",") if n.strip())]
    recipe = load_recipe(run.recipe_path)
    if "teacher" in names:
        require_trust(recipe, confirmed=trust)
    with open_tools(recipe, run.root) as session, _speakers(session, run, names) as speakers:
        for speaker in speakers:
            speaker.begin(system)
        if prompt is not None:
            replies = [(s.name, s.answer(prompt)) for s in speakers]
            print(json.dumps(dict(replies), ensure_ascii=True)) if as_json else show(replies)
            return
        print(f"{' | '.join(s.name for s in speakers)}: {HELP}", file=sys.stderr)
        for turn in turns(sys.stdin):
            if turn == "/new":
                for speaker in speakers:
                    speaker.begin(system)
                continue
            show([(s.name, s.answer(turn)) for s in speakers])


def turns(lines: Iterable[str]) -> Iterator[str]:
    """What the person types, until an empty line or the end."""
    source = iter(lines)
    while True:
        print("> ", end="", file=sys.stderr, flush=True)
        line = next(source, "").strip()
        if not line:
            return
        yield line


@contextmanager
def _speakers(session: Session, run: RunDir, names: Sequence[str]) -> Generator[list[Speaker]]:
    """All of them at once in memory: a conversation goes back and forth between them."""
    from tapir.models.students import chosen_engine, open_local

    opened: list[Callable[[], None]] = []
    speakers: list[Speaker] = []
    model = session.model("student").on_this_machine()
    if len({*names} - {"teacher"}) > 1 and chosen_engine(model) == "vllm":
        # vLLM takes a GPU for itself.
        model = model.model_copy(update={"engine": "transformers"})
    try:
        for name in dict.fromkeys(names):
            if name == "teacher":
                speakers.append(Speaker(name, _teacher(session)))
                continue
            found = re.fullmatch(r"student_(\d+)", name)
            if found is None:
                raise RecipeError(f"--against {name}: name students of the run (student_0) or the teacher")
            backend = open_local(model, the_student(run, int(found[1]))[1])
            opened.append(backend.close)
            sampling = session.sampling("student", "student")
            speakers.append(Speaker(name, lambda said, b=backend, s=sampling: b.generate([Request(said, s)])[0]))
        yield speakers
    finally:
        for close in opened:
            close()


def _teacher(session: Session) -> Speak:
    caller, sampling = session.caller("teacher"), session.sampling("teacher", "writing")

    def speak(said: tuple[Message, ...]) -> Reply:
        asked = [Request(said, sampling, row="chat")]
        return next(reply for _, reply in caller.run(asked, stage="chat", accept_truncated=True))

    return speak


def show(replies: Sequence[tuple[str, str]], console: Console | None = None) -> None:
    """Replies side by side where the terminal is wide enough, else one under the other."""
    console = console or Console(highlight=False)
    shown = [(name, printable(text).strip()) for name, text in replies]
    if not console.is_terminal or len(shown) == 1 or console.width // len(shown) < NARROW:
        for name, text in shown:
            console.print(Text(f"{name}: {text}\n" if len(shown) == 1 else f"{name}\n{text}\n"), soft_wrap=True)
        return
    table = Table(expand=True, box=None, padding=(0, 2, 1, 0))
    for name, _ in shown:
        table.add_column(name, ratio=1)
    # Text, not strings: brackets in a reply would be read as markup.
    table.add_row(*(Text(text) for _, text in shown))
    console.print(table)
