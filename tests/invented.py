"""A run directory made of invented rows, written through the store as a real run writes it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tapir.curriculum.difficulty import difficulties, select_hard
from tapir.evaluation import heldout
from tapir.stages.rescore import Rescored
from tapir.store.rundir import RunDir, Step, write_json, write_text
from tapir.tasks import load_taxonomy
from tapir.training.result import StepLog, write_log
from tapir.types import Answer, Difficulty, Dropped, Example, Instruction, Message, Receipt, Rejection, Result, Verdict

TASKS = load_taxonomy().names
DELTA = 2.0
RECIPE: dict[str, Any] = {
    "name": "invented",
    "models": {
        "teacher": {"kind": "openai", "model": "big-model", "base_url": "https://llm.example.com/v1"},
        "student": {"kind": "local", "model": "small-model"},
    },
    "difficulty": {"delta": DELTA},
    "evaluate": [{"kind": "pairwise"}, {"kind": "held_out_fit"}, {"kind": "verified"}],
}


@dataclass
class Invented:
    """Writes steps in the order of a run and stops after `until`; `words` go into every text of models and data."""

    root: Path
    seeds: int = 300
    held_out: int = 120
    rounds: int = 3
    until: str | None = None
    words: str = ""
    tasks: list[str] = field(default_factory=lambda: list(TASKS))
    rng: random.Random = field(default_factory=lambda: random.Random(5))
    stopped: bool = False

    def build(self) -> RunDir:
        recipe = {**RECIPE, "curriculum": {"rounds": self.rounds}}
        write_text(self.root / "recipe.yaml", yaml.safe_dump(recipe, sort_keys=False))
        manifest = {"tapir": "0.1.0", "recipe_source": "mine.yaml", "seed": 17, "packages": {"torch": "2.13"}}
        write_json(self.root / "manifest.json", {**manifest, "git_commit": None})
        self._round_0()
        for number in range(1, self.rounds + 1):
            self._round(number)
        return RunDir(self.root)

    def _step(self, place: str, write: Callable[[Step, Receipt], None]) -> None:
        if self.stopped:
            return
        step = RunDir(self.root).step(place, "0123456789abcdef")
        number = len(list(self.root.rglob("*.receipt.json")))
        receipt = Receipt(step.stage, calls=40 * number, cached_calls=number, prompt_tokens=9_000 * number)
        receipt.completion_tokens, receipt.cost_usd, receipt.seconds = 2_500 * number, 0.05 * number, 7.5 * number
        write(step, receipt)
        step.finish(receipt)
        self.stopped = step.stage == self.until

    def _round_0(self) -> None:
        weights = [9 if t in ("Math", "Creative Writing", "Brainstorming") else 1 for t in self.tasks]
        tasks = self.rng.choices(self.tasks, weights, k=self.seeds)
        self.pool = [Instruction(f"Question {n} {self.words}", task=t) for n, t in enumerate(tasks)]
        self.tests = [
            Instruction(
                f"Held-out question {n} {self.words}",
                task=self.tasks[n % 9 % len(self.tasks)],
                system=None if n else "Be brief.",
            )
            for n in range(self.held_out)
        ]
        self._step("round_0/01_seeds", self._gather)
        self._step("round_0/02_classified", lambda s, r: self._hand_on(s, r, self.pool))
        self._step("round_0/03_teacher_answers", lambda s, r: self._hand_on(s, r, self._answers(self.pool, "teacher")))
        self._step("round_0/04_student_0", lambda s, r: self._train(s, r, self.seeds))
        self._step(
            "round_0/05_student_answers", lambda s, r: self._hand_on(s, r, self._answers(self.pool, "student_0"))
        )
        self.verdicts = [v for i in self.pool for v in self._judged(i, "student_0", 1.7)]
        self._step("round_0/06_verdicts", self._write_verdicts)
        self.scored = sorted(difficulties(self.verdicts), key=lambda d: d.instruction_id)
        self.hard = select_hard(self.scored, DELTA)
        self._step("round_0/07_hard", self._select)
        self._step("round_0/08_held_out", self._hold_out)
        self._step("round_0/09_evaluation", lambda s, r: self._evaluate(s, r, 0))

    def _round(self, number: int) -> None:
        grown = [
            Instruction(
                f"Grown {number}.{n} {self.words}",
                task=self.tasks[n % len(self.tasks)],
                origin="expanded",
                round=number,
            )
            for n in range(self.seeds // 4)
        ]
        self._step(f"round_{number}/01_expanded", lambda s, r: self._grow(s, r, grown))
        self._step(f"round_{number}/04_mix", lambda s, r: self._mix(s, r, grown, number))
        self._step(f"round_{number}/05_student_{number}", lambda s, r: self._train(s, r, self.seeds // 2))
        self._step(f"round_{number}/06_evaluation", lambda s, r: self._evaluate(s, r, number))

    def _hand_on(self, step: Step, receipt: Receipt, rows: list[Any], name: str | None = None, **dropped: int) -> None:
        step.write(type(rows[0]), rows, name)
        receipt.rows_out = len(rows)
        receipt.rows_in = len(rows) + sum(dropped.values())
        receipt.dropped = Counter(dropped)

    def _gather(self, step: Step, receipt: Receipt) -> None:
        """Seven rows say what the first one says; two repeat an evaluation item; one was not even JSON."""
        first = self.pool[0]
        rows = [Dropped("exact_duplicate", first.text, first.id, f"pool.jsonl:{n}", first.id) for n in range(2, 9)]
        rows += [Dropped("contaminated", f"Item {n} {self.words}", "c" * 15 + str(n), f"pool.jsonl:{n}", f"gsm8k/{n}")
                 for n in (9, 10)]  # fmt: skip
        rows.append(Dropped("broken_json", "", where="pool.jsonl:11"))
        step.write(Dropped, rows, "dropped")
        self._hand_on(step, receipt, self.pool, **Counter(r.reason for r in rows))

    def _answers(self, rows: list[Instruction], author: str) -> list[Answer]:
        return [
            Answer(i.id, author, f"{author} says {i.text[-40:]} " + "so " * self.rng.randrange(40), round=0)
            for i in rows
        ]

    def _judged(self, i: Instruction, student: str, gap: float) -> list[Verdict]:
        """A verdict in each order; in one pair of thirty the second cannot be read."""
        drawn = self.rng.gauss(gap, 2)
        pair: list[Verdict] = []
        for order, lean in (("student_first", 0.5), ("teacher_first", -0.5)):
            student_score = max(1.0, min(10.0, float(round(7 - drawn / 2 + lean))))
            teacher_score = max(1.0, min(10.0, float(round(7 + drawn / 2))))
            pair.append(Verdict(i.id, order, student_score, teacher_score, student=student))  # type: ignore[arg-type]
        if self.rng.random() < 1 / 30:
            pair[1] = Verdict(i.id, "teacher_first", problem="no_rating", student=student, raw=self.words)
        return pair

    def _write_verdicts(self, step: Step, receipt: Receipt) -> None:
        step.write(Verdict, self.verdicts)
        receipt.rows_in = receipt.rows_out = self.seeds

    def _select(self, step: Step, receipt: Receipt) -> None:
        step.write(Difficulty, self.scored, "all")
        step.write(Difficulty, self.hard)
        receipt.rows_in, receipt.rows_out = self.seeds, len(self.hard)
        receipt.drop("unscored", self.seeds - len(self.scored))
        receipt.drop("not_hard", len(self.scored) - len(self.hard))
        receipt.notes["delta_mfd"] = DELTA

    def _hold_out(self, step: Step, receipt: Receipt) -> None:
        step.write(Answer, self._answers(self.tests, "teacher"), "answers")
        self._hand_on(step, receipt, self.tests)

    def _grow(self, step: Step, receipt: Receipt, grown: list[Instruction]) -> None:
        step.write(Rejection, [Rejection(self.words or "x", "Math", grown[0].id, "near_duplicate")], "rejected")
        step.write(Instruction, grown)
        receipt.made, receipt.rows_out = len(grown) + 1, len(grown)
        receipt.drop("near_duplicate")

    def _mix(self, step: Step, receipt: Receipt, grown: list[Instruction], number: int) -> None:
        rows = [*grown, *self.pool[: len(grown) * 2]]
        examples = [
            Example(
                (*i.messages(), Message("assistant", "Yes.")), i.id, i.task or "Others", hard=i.origin == "expanded"
            )
            for i in rows
        ]
        self._hand_on(step, receipt, examples, undrawn_easy=20)
        share = round(sum(e.hard for e in examples) / len(examples), 4)
        receipt.notes |= {"alpha": 0.3, "hard_share_of_rows": share, "unmet": {"Math": 3} if number == 1 else {}}

    def _train(self, step: Step, receipt: Receipt, rows: int) -> None:
        receipt.rows_in = receipt.rows_out = rows
        log = [
            StepLog(
                step=n,
                steps=90,
                loss=2 / n**0.3,
                grad_norm=1.0,
                learning_rate=1e-5,
                trained_tokens=500,
                seconds=float(n),
                hard=2.2 / n**0.3 + self.rng.random() / 8 if "student_0" not in step.place else None,
                easy=1.9 / n**0.3 + self.rng.random() / 8,
                by_task={"Math": 2.3 / n**0.3, "Roleplay": 2.0 / n**0.2},
            )
            for n in range(1, 91)
        ]
        write_log(step.folder.with_name(f"{step.folder.name}.log.jsonl"), log)

    def _evaluate(self, step: Step, receipt: Receipt, number: int) -> None:
        name = f"student_{number}"
        own = self._answers(self.tests, name)
        verdicts = [v for i in self.tests for v in self._judged(i, name, 0.3 - 0.6 * number)] if number else []
        fits = [heldout.Fit(i.id, name, 40 - 2 * number + self.rng.random(), 20) for i in self.tests]
        if number == 0:
            self.baseline = fits
        before = self.baseline if number else []
        answers = {a.instruction_id: a for a in own}
        found = heldout.results(name, self.tests, answers, verdicts, fits, before, seed=1)
        canaries = [v for i in self.tests[:4] for v in self._null_answers(i)] if number else []
        step.write(Verdict, canaries, "canaries")
        step.write(Rescored, self._rescored(number), "rescored")
        found.append(Result(name, "checks_passed", 30.0 + 6 * number, 90, 22.0 + 6 * number, 40.0 + 6 * number))
        step.write(Answer, own, "answers")
        step.write(Verdict, verdicts, "verdicts")
        step.write(heldout.Fit, fits, "fit")
        self._hand_on(step, receipt, found)

    def _null_answers(self, i: Instruction) -> list[Verdict]:
        """Verdicts of a judge that sees through answers which say nothing."""
        return [
            Verdict(i.id, order, 1.0, 7.0, student=f"canary_{name}", judge="evaluator")
            for name in ("empty", "constant", "copied")
            for order in ("student_first", "teacher_first")
        ]

    def _rescored(self, number: int) -> list[Rescored]:
        """A fixed sample whose gaps shrink by a point a round on seeds, and by half a point on held-out rows."""
        rows: list[Rescored] = []
        for group, pool, step in (("trained", self.pool, 1.0), ("held_out", self.tests, 0.5)):
            for n, i in enumerate(pool[:12]):
                gap = max(0.0, n % 6 - step * number)
                rows.append(
                    Rescored(i.id, f"student_{number}", number, group, gap, "mfd", gap == 0, gap > DELTA, True)
                )  # fmt: skip
        return rows
