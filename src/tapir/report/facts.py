"""What a run's files say, gathered for the page: tables by place, mixes, judgements, cases, training logs.

Reading and counting only; a table that is not there yet is None or empty, never an error, since a report may be
asked for at any moment of a run. Columns are read alone where whole rows are not needed: a run may be large.
"""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from tapir.config import Recipe, parse_recipe, read_yaml
from tapir.curriculum.difficulty import difficulties
from tapir.curriculum.mixture import targets_for
from tapir.curriculum.trust import TrustReport
from tapir.errors import RecipeError
from tapir.evaluation.pairwise import leads
from tapir.report import text
from tapir.report.judge import RunTrust, run_trust
from tapir.store.rundir import RunDir
from tapir.store.tables import read_rows
from tapir.tasks import OTHERS, Taxonomy, load_taxonomy
from tapir.training.result import StepLog, read_log
from tapir.types import Difficulty, Instruction, Result, Verdict

POOL = "round_0/02_classified"
HARD = "round_0/07_hard"


@dataclass(frozen=True, slots=True)
class Case:
    """A held-out instruction with what the first student, the last and the teacher answered."""

    instruction: Instruction
    gap: float
    """Mean over orders and votes of the last student's score minus student_0's."""
    first: str | None
    last: str | None
    teacher: str | None


@dataclass(frozen=True)
class Facts:
    """Everything that the page says about one run."""

    run: RunDir

    def path(self, place: str, name: str | None = None) -> Path:
        return self.run.step(place, "").table(name)

    @functools.cached_property
    def manifest(self) -> dict[str, Any]:
        return self.run.manifest()

    @functools.cached_property
    def recipe_text(self) -> str | None:
        path = self.run.recipe_path
        return path.read_text(encoding="utf-8") if path.exists() else None

    @functools.cached_property
    def recipe(self) -> Recipe | None:
        """The run's recipe; None where there is none, or another version of tapir wrote it (`recipe_problem`)."""
        return self._parsed[0]

    @functools.cached_property
    def recipe_problem(self) -> str | None:
        return self._parsed[1]

    @functools.cached_property
    def _parsed(self) -> tuple[Recipe | None, str | None]:
        if self.recipe_text is None:
            return None, "the run has no recipe.yaml"
        try:
            return parse_recipe(read_yaml(self.run.recipe_path), where="recipe.yaml"), None
        except RecipeError as error:
            return None, str(error)

    @functools.cached_property
    def receipts(self) -> dict[str, dict[str, Any]]:
        return self.run.receipts()

    @functools.cached_property
    def rounds(self) -> list[int]:
        """Rounds of which a training set or an evaluation is there."""
        found = {int(p.split("/")[0][6:]) for p in self.receipts}
        return [number for number in self.run.rounds() if number in found - {0}]

    @functools.cached_property
    def results(self) -> list[Result]:
        return text.results(self.run)

    @functools.cached_property
    def students(self) -> list[str]:
        return text.students(self.results)

    def rows(self, place: str) -> int | None:
        """Rows that a finished step handed on."""
        receipt = self.receipts.get(place)
        return None if receipt is None else int(receipt["rows_out"])

    @functools.cached_property
    def task_of(self) -> dict[str, str]:
        """Task type by instruction id, over the pool."""
        path = self.path(POOL)
        if not path.exists():
            return {}
        table = pq.read_table(path, columns=["id", "task"]).to_pydict()
        return {i: t or OTHERS for i, t in zip(table["id"], table["task"], strict=True)}

    @functools.cached_property
    def targets(self) -> dict[str, float]:
        """Pr(T); empty where the recipe or its taxonomy file is not at hand."""
        if self.recipe is None or self.taxonomy is None:
            return {}
        return targets_for(self.taxonomy.names, self.recipe.mix.targets)

    @functools.cached_property
    def taxonomy(self) -> Taxonomy | None:
        """The recipe's task types, or the default ones; None where its file is not at hand."""
        path = self.run.named(self.recipe.taxonomy) if self.recipe and self.recipe.taxonomy else None
        return load_taxonomy(path) if path is None or path.exists() else None

    @functools.cached_property
    def mixes(self) -> dict[str, Counter[str]]:
        """Rows by task: the pool, the hard seeds, all grown rows, each round's training set."""
        found: dict[str, Counter[str]] = {}
        if self.task_of:
            found["seed pool"] = Counter(self.task_of.values())
        if self.path(HARD).exists():
            ids = pq.read_table(self.path(HARD), columns=["instruction_id"])["instruction_id"].to_pylist()
            found["hard seeds"] = Counter(self.task_of.get(i, OTHERS) for i in ids)
        grown = Counter[str]()
        for r in self.rounds:
            grown += _tasks(self.path(f"round_{r}/01_expanded"))
        if grown:
            found["grown"] = grown
        for r in self.rounds:
            counts = _tasks(self.path(f"round_{r}/04_mix"))
            if counts:
                found[f"round {r}"] = counts
        return found

    @functools.cached_property
    def difficulties(self) -> list[Difficulty]:
        """Of every scored seed; from the verdicts alone while nothing has been selected (`run --until judge`)."""
        path, judged = self.path(HARD, "all"), self.path("round_0/06_verdicts")
        if path.exists():
            return list(read_rows(path, Difficulty))
        return difficulties(read_rows(judged, Verdict, without=("raw",))) if judged.exists() else []

    def delta(self, kind: str) -> float | None:
        """δ as it was applied to this kind."""
        value = self.receipts.get(HARD, {}).get("notes", {}).get(f"delta_{kind}")
        return None if value is None else float(value)

    @functools.cached_property
    def trust(self) -> RunTrust:
        """Everything that says how far the judge can be trusted."""
        return run_trust(self.run)

    @functools.cached_property
    def judgements(self) -> dict[str, TrustReport]:
        """Trust in the judge, for the selection and for each round's evaluation."""
        return {
            "selection" if s.against == "teacher" else f"evaluation of {s.student}": s.trust
            for s in self.trust.sections
            if s.trust.pairs
        }

    @functools.cached_property
    def methods(self) -> dict[str, Counter[str]]:
        """Verdicts by method, for the selection and for each round's evaluation."""
        paths = {"selection": self.path("round_0/06_verdicts")}
        paths |= {f"evaluation of student_{r}": self.path(f"round_{r}/06_evaluation", "verdicts") for r in self.rounds}
        counts = {name: _counts(path, "method") for name, path in paths.items()}
        return {name: found for name, found in counts.items() if found}

    def answers_path(self, number: int) -> Path:
        """student_r's held-out answers."""
        return self.path("round_0/09_evaluation" if number == 0 else f"round_{number}/06_evaluation", "answers")

    @functools.cached_property
    def last_judged(self) -> int | None:
        """The last round whose student was compared with student_0 on the held-out instructions."""
        paths = {r: self.path(f"round_{r}/06_evaluation", "verdicts") for r in self.rounds}
        return max((r for r, p in paths.items() if p.exists() and pq.read_metadata(p).num_rows), default=None)

    @functools.cached_property
    def held_out_gaps(self) -> dict[str, float]:
        """Last student's score minus student_0's by instruction; a pair of which an order is unread has none."""
        if self.last_judged is None:
            return {}
        path = self.path(f"round_{self.last_judged}/06_evaluation", "verdicts")
        # student_0 stands in the teacher's place here.
        found = leads(read_rows(path, Verdict, without=("raw",)))
        return {i: round(lead, 9) for i, lead in found.items() if lead is not None}

    @functools.cached_property
    def held_out(self) -> dict[str, Instruction]:
        path = self.path("round_0/08_held_out")
        return {i.id: i for i in read_rows(path, Instruction)} if path.exists() else {}

    def cases(self, most: int = 10) -> tuple[list[Case], list[Case]]:
        """The held-out instructions on which the last student gained most over student_0, and lost most."""
        gaps = {i: g for i, g in self.held_out_gaps.items() if i in self.held_out}
        ranked = sorted(gaps, key=lambda i: (-gaps[i], i))
        best = [i for i in ranked if gaps[i] > 0][:most]
        worst = [i for i in reversed(ranked) if gaps[i] < 0][:most]
        wanted = {*best, *worst}
        first, last = _texts(self.answers_path(0), wanted), _texts(self.answers_path(self.last_judged or 0), wanted)
        teacher = _texts(self.path("round_0/08_held_out", "answers"), wanted)

        def case(i: str) -> Case:
            return Case(self.held_out[i], gaps[i], first.get(i), last.get(i), teacher.get(i))

        return [case(i) for i in best], [case(i) for i in worst]

    @functools.cached_property
    def training_logs(self) -> dict[str, list[StepLog]]:
        """Steps by student, also of a training under way."""
        paths = [p for r in self.run.rounds() for p in self.run.root.glob(f"round_{r}/*_student_*.log.jsonl")]
        logs = {p.name.split("_", 1)[1].removesuffix(".log.jsonl"): read_log(p) for p in paths}
        return {name: log for name, log in logs.items() if log}

    @functools.cached_property
    def cut_answers(self) -> dict[str, tuple[int, int]]:
        """Answers that ended at the token limit, and all answers, by author."""
        found: dict[str, tuple[int, int]] = {}
        places = {"the teacher": self.path("round_0/03_teacher_answers"), "student_0": self.answers_path(0)}
        places |= {f"student_{r}": self.answers_path(r) for r in self.rounds}
        for name, path in places.items():
            reasons = _counts(path, "finish_reason")
            if reasons:
                found[name] = reasons["length"], reasons.total()
        return found


def _tasks(path: Path) -> Counter[str]:
    return _counts(path, "task")


def _counts(path: Path, column: str) -> Counter[str]:
    """How often each value stands in a column; empty where the table is not there."""
    if not path.exists():
        return Counter()
    counted: Any = pc.value_counts(pq.read_table(path, columns=[column])[column])  # pyright: ignore[reportAttributeAccessIssue]
    return Counter({str(c["values"] or OTHERS): int(c["counts"]) for c in counted.to_pylist()})


def _texts(path: Path, wanted: set[str]) -> dict[str, str]:
    if not path.exists() or not wanted:
        return {}
    chosen = pq.read_table(path, columns=["instruction_id", "text"], filters=[("instruction_id", "in", wanted)])
    found = chosen.to_pydict()
    return dict(zip(found["instruction_id"], found["text"], strict=True))
