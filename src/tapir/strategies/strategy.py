"""What a strategy is: how it sets the recipe up, what it asks the teacher, and how it trains.

Owns the frame and the shape that most strategies have, one set trained once. How many rows each gets, how often it is
trained and how it is measured is `tapir.ablation`'s; the steps themselves are `tapir.steps`'.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Literal

from tapir import steps
from tapir.config import Recipe, rewritten
from tapir.pipeline import Ground
from tapir.stages import train as training
from tapir.steps.common import answers_of, instructions_of, note_start, start_mark, student_mark
from tapir.store.rundir import Step
from tapir.types import Answer, Difficulty, Example, Instruction, Message, Receipt
from tapir.wiring import Session

Start = Literal["base", "student_0"]


class Strategy(ABC):
    """One way to a better student. Its objects hold no state: all of it is in the run directory."""

    name: ClassVar[str]
    says: ClassVar[str]
    """What it is, in a few words."""
    starts_from: ClassVar[Start]
    """The student as it came, or the one fine-tuned on D (§3.2)."""
    thousands: ClassVar[int]
    """Rows it is given, as in Table 5; a strategy that is not in it takes those of the one it is to be held against."""

    def answers_by(self, recipe: Recipe) -> str:
        """Whose answers it trains on, in words."""
        return direct_answers_by(recipe)

    @abstractmethod
    def arrange(self, recipe: Recipe, rows: int) -> Recipe:
        """The recipe for so many rows; round 0's parts of it must stay as they are."""

    @abstractmethod
    def gather(self, session: Session, ground: Ground) -> Sequence[Step]:
        """Everything that it asks of the teacher, as steps; asked again, they are passed over."""

    @abstractmethod
    def train(self, session: Session, ground: Ground) -> tuple[int, Step]:
        """The number of its last round, and that round's student."""

    def start(self, session: Session, ground: Ground) -> Step:
        """The student that its training starts from."""
        return ground.student if self.starts_from == "student_0" else _base_student(session)


class OneSet(Strategy):
    """A strategy that is a choice of rows, trained once."""

    version: ClassVar[int] = 1
    """Raised when what `choose` gives changes."""

    def arrange(self, recipe: Recipe, rows: int) -> Recipe:
        return rewritten(recipe, "curriculum.rounds=1", "curriculum.alphas=[1.0]", f"mix.size={rows}")

    def gather(self, session: Session, ground: Ground) -> Sequence[Step]:
        return ()

    @abstractmethod
    def choose(self, session: Session, ground: Ground, gathered: Sequence[Step], rng: random.Random) -> list[Example]:
        """At most `mix.size` rows; chance comes from `rng`, which follows the training seed."""

    def train(self, session: Session, ground: Ground) -> tuple[int, Step]:
        gathered = self.gather(session, ground)
        seed = session.recipe.rounds_seed

        def work(step: Step, receipt: Receipt) -> None:
            rows = self.choose(session, ground, gathered, random.Random(f"{seed}:{self.name}"))
            # What was there to choose from is the strategy's own; the account is of what it took.
            receipt.made = receipt.rows_out = step.write(Example, sorted(rows, key=lambda e: e.instruction_id))

        settings = [self.name, self.version, session.recipe.mix.size, seed, session.recipe.ablate.pool_answers]
        after = [ground.seeds, ground.pool, ground.answers, ground.hard, *gathered]
        examples = session.step("round_1/04_mix", work, version=1, settings=settings, after=after)
        return 1, steps.train(session, 1, self.start(session, ground), examples)


def _base_student(session: Session) -> Step:
    """The student as it came, as a step that names its weights."""

    place = "round_0/11_base"
    base = start_mark(session, place)

    def work(step: Step, receipt: Receipt) -> None:
        weights = session.student_weights()
        note_start(session, receipt, base)
        training.link_student(step.folder, weights, session.weights_hash(weights))

    return session.step(place, work, version=1, settings=[student_mark(session), *base])


def direct_answers_by(recipe: Recipe) -> str:
    """Whose the direct answers are: the teacher's, or those that came with the pool."""
    return "teacher" if recipe.seeds.annotate == "teacher" else "pool"


def annotated(ground: Ground) -> tuple[list[Instruction], Mapping[str, Answer]]:
    """The seeds that have an answer to train on, and these answers."""
    answers = answers_of(ground.answers)
    return [i for i in instructions_of(ground.pool) if i.id in answers], answers


def hard_seeds(ground: Ground) -> list[Instruction]:
    """D_S."""
    hard = {d.instruction_id for d in ground.hard.read(Difficulty)}
    return [i for i in annotated(ground)[0] if i.id in hard]


def drawn(rows: Iterable[Instruction], size: int | None, rng: random.Random) -> list[Instruction]:
    """At most so many rows, evenly at random, whatever order they come in."""
    ordered = sorted(rows, key=lambda i: i.id)
    return ordered if size is None or size >= len(ordered) else rng.sample(ordered, size)


def examples(rows: Iterable[Instruction], answers: Mapping[str, Answer], hard: Iterable[str] = ()) -> list[Example]:
    """These rows with their answers; `hard` are the ids that count as hard."""
    known = set(hard)
    return [
        Example((*i.messages(), Message("assistant", answers[i.id].text)), i.id, i.task or "Others", i.id in known)
        for i in rows
    ]
