"""The rows of one run as the studio asks for them: any stage's instructions, filtered, sorted and paged by DuckDB.

Owns the queries. Every value of a request goes in as a parameter; what becomes part of a query's text is chosen here
from fixed lists. What was dropped comes from the tables of dropped rows, and in runs that have none from what a step
took in and did not hand on; the receipts hold the counts.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tapir.curriculum.difficulty import DECIMALS
from tapir.report.life import tables
from tapir.store.confined import confined, rows_of
from tapir.store.rundir import RunDir
from tapir.types import Instruction

PAGE = 50
DROPPED, REJECTED = ".dropped", ".rejected"
"""Tables of dropped rows beside a stage's own, of grown instructions the latter."""
TEXT_STAGES = ("/01_seeds", "/01_expanded")
"""Stages that drop instructions which no other table has."""
MOST_CACHED = 64
ALL = "round_0/07_hard.all"
POOL = ("round_0/02_classified", "round_0/01_seeds")
SORTS = {
    "": "",
    "mfd": "mfd ASC NULLS LAST, id",
    "-mfd": "mfd DESC NULLS LAST, id",
    "task": "task, id",
    "-task": "task DESC, id",
    "round": "round, id",
    "-round": "round DESC, id",
    "length": "length(text), id",
    "-length": "length(text) DESC, id",
}
OUTCOMES = {
    "teacher": ("teacher's answer better", "mfd > 0"),
    "student": ("student's answer better", "mfd < 0"),
    "tie": ("a tie", "mfd = 0"),
    "unscored": ("unscored", "mfd IS NULL AND id IN (SELECT instruction_id FROM {verdicts})"),
    "unjudged": ("not judged", "id NOT IN (SELECT instruction_id FROM {verdicts})"),
}


@dataclass(frozen=True, slots=True)
class Filter:
    """What a person asked to see."""

    stage: str
    text: str = ""
    task: str = ""
    origin: str = ""
    round: int | None = None
    low: float | None = None
    """MFD at least this."""
    high: float | None = None
    verdict: str = ""
    dropped: str = ""
    """A reason: show what the stage dropped for it instead of what it handed on."""
    sort: str = ""

    @property
    def by_difficulty(self) -> bool:
        return self.low is not None or self.high is not None or bool(self.verdict)


@dataclass(frozen=True, slots=True)
class Found:
    rows: list[dict[str, Any]]
    count: int


class RunTables:
    """One run's tables in a database of their own. Safe to use from several threads."""

    def __init__(self, run: RunDir) -> None:
        self.run = run
        self._db = confined(run.root)
        self._lock = threading.Lock()
        self._counts: dict[Any, int] = {}

    def close(self) -> None:
        self._db.close()

    def query(self, text: str, values: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        with self._lock:
            cursor = self._db.cursor()
        with cursor:
            return rows_of(cursor, text, values or {})

    def stages(self) -> dict[str, Path]:
        """Tables that hold instructions, or rows about them, by place; those of dropped rows are shown by reason."""
        found = {place: path for place, path in tables(self.run).items() if id_column(path, _stamp(path))}
        return {place: path for place, path in found.items() if not place.endswith(DROPPED)}

    def exists(self, place: str) -> bool:
        return self._path(place).exists()

    def _path(self, place: str) -> Path:
        return self.run.root / f"{place}.parquet"

    def file(self, place: str) -> str:
        """The table as a query names it. Places are this program's own names, never a request's."""
        return f"read_parquet('{str(self._path(place).resolve()).replace(chr(39), chr(39) * 2)}')"

    def _instructions(self, stage: str) -> str:
        """Every instruction of the run, once; only the stage's own file where that holds them."""
        columns = "id, text, task, origin, round"
        if "text" in _columns(self._path(stage), _stamp(self._path(stage))) and self.id_of(stage) == "id":
            return f"SELECT {columns} FROM {self.file(stage)}"
        pool = [p for p in POOL if self.exists(p)][:1]
        grown = [p for p in tables(self.run) if p.endswith("/01_expanded")]
        held_out = [p for p in ("round_0/08_held_out",) if self.exists(p)]
        places = [*pool, *held_out, *grown]
        if not places:
            return "SELECT '' AS id, '' AS text, '' AS task, '' AS origin, 0 AS round WHERE false"
        return " UNION ALL ".join(f"SELECT {columns} FROM {self.file(p)}" for p in places)

    def id_of(self, place: str) -> str | None:
        path = self._path(place)
        return id_column(path, _stamp(path))

    def _difficulty(self) -> str:
        if self.exists(ALL):
            return f"SELECT instruction_id AS id, value AS mfd, kind FROM {self.file(ALL)}"
        return "SELECT '' AS id, 0.0 AS mfd, '' AS kind WHERE false"

    def _verdicts(self) -> str:
        place = "round_0/06_verdicts"
        return self.file(place) if self.exists(place) else "(SELECT '' AS instruction_id WHERE false)"

    def lists_dropped(self, stage: str) -> bool:
        """Whether the run's tables tell which rows the stage dropped; older runs only counted some."""
        return self.tells_texts(stage) or not stage.endswith(TEXT_STAGES)

    def tells_texts(self, stage: str) -> bool:
        """Whether the stage kept the texts of what it dropped, which no other table has."""
        return stage.endswith(TEXT_STAGES) and any(self.exists(stage + ending) for ending in (DROPPED, REJECTED))

    def _dropped_texts(self, stage: str) -> str:
        """What the stage dropped, as rows like instructions, with where they stood and what they repeat."""
        found = "text, {task} AS task, {origin} AS origin, {round} AS round, NULL::DOUBLE AS mfd, NULL AS kind"
        if self.exists(stage + DROPPED):
            columns = found.format(task="NULL::VARCHAR", origin="'seed'", round=0)
            columns = f'instruction_id AS id, {columns}, "where", repeats'
            return f"SELECT {columns} FROM {self.file(stage + DROPPED)} WHERE reason = $dropped"
        columns = found.format(task="task", origin="'expanded'", round=_round(stage))
        columns = f"'' AS id, {columns}, '' AS \"where\", parent_id AS repeats"
        return f"SELECT {columns} FROM {self.file(stage + REJECTED)} WHERE reason = $dropped"

    def _ids(self, wanted: Filter) -> str | None:
        """The ids that the stage handed on or dropped; None where its own table names each instruction once."""
        if wanted.dropped and self.exists(wanted.stage + DROPPED):
            return (
                f"SELECT DISTINCT instruction_id AS id FROM {self.file(wanted.stage + DROPPED)} WHERE reason = $dropped"
            )
        if wanted.dropped:
            return dropped_ids(self, wanted.stage, wanted.dropped)
        if self.id_of(wanted.stage) == "id":
            return None
        return f"SELECT DISTINCT instruction_id AS id FROM {self.file(wanted.stage)}"

    def ids_of(self, place: str) -> str:
        """A query for the ids in a table; none where it is not there yet."""
        column = self.id_of(place) if self.exists(place) else None
        return f"SELECT {column} AS id FROM {self.file(place)}" if column else "SELECT '' AS id WHERE false"

    def find(self, wanted: Filter, page: int = 1) -> Found:
        """One page of what fits, and how many rows do in all."""
        source, values = self._source(wanted)
        skipped = PAGE * (page - 1)
        limit = (
            f" ORDER BY {SORTS[wanted.sort]}" if SORTS.get(wanted.sort) else ""
        ) + f" LIMIT {PAGE} OFFSET {skipped}"
        if wanted.dropped and self.tells_texts(wanted.stage):
            return Found(self.query(f"SELECT * FROM {source}{limit}", values), self._count(wanted))
        if wanted.by_difficulty:
            # Joining is what costs, so it is done once for the page and the count; the texts follow for the page alone.
            found = self.query(f"SELECT id, count(*) OVER () AS n FROM {source}{limit}", values)
            rows = self.details([r["id"] for r in found], wanted.stage)
            return Found(rows, int(found[0]["n"]) if found else self._count(wanted))
        if "mfd" in wanted.sort:
            rows = self.details([r["id"] for r in self.query(f"SELECT id FROM {source}{limit}", values)], wanted.stage)
        else:
            rows = self._measured(self.query(f"SELECT id, text, task, origin, round FROM {source}{limit}", values))
        ends_here = 0 < len(rows) < PAGE or (not rows and page == 1)
        return Found(rows, skipped + len(rows) if ends_here else self._count(wanted))

    def _measured(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The rows with their difficulty, where they have one."""
        values = {"ids": [r["id"] for r in rows]}
        query = f"SELECT * FROM ({self._difficulty()}) WHERE id IN (SELECT unnest($ids))"
        found = {r["id"]: r for r in self.query(query, values)} if rows else {}
        none = {"mfd": None, "kind": None}
        return [{**row, **(found.get(row["id"]) or none), "id": row["id"]} for row in rows]

    def _count(self, wanted: Filter) -> int:
        """Counted once for each filter and state of the files: paging and sorting do not change it."""
        unsorted = replace(wanted, sort="")
        key = (unsorted, tuple(_stamp(p) for p in tables(self.run).values()))
        if key not in self._counts:
            if len(self._counts) >= MOST_CACHED:
                self._counts.clear()
            source, values = self._source(unsorted)
            (row,) = self.query(f"SELECT count(*) AS n FROM {source}", values)
            self._counts[key] = int(row["n"])
        return self._counts[key]

    def _source(self, wanted: Filter) -> tuple[str, dict[str, Any]]:
        """The rows that fit as a FROM clause. Difficulty is joined only where the request speaks of it."""
        clauses, values = _conditions(wanted, self._verdicts())
        where = f" WHERE {' AND '.join(clauses)}" if clauses else ""
        if wanted.dropped and self.exists(wanted.stage + DROPPED):
            values["dropped"] = wanted.dropped
        if wanted.dropped and self.tells_texts(wanted.stage):
            return f"({self._dropped_texts(wanted.stage)}){where}", {**values, "dropped": wanted.dropped}
        base = wanted.stage if not wanted.dropped else ""
        joined = self._instructions(base or "round_0/07_hard")
        source = f"({joined}) AS i"
        ids = self._ids(wanted)
        if ids is not None:
            source = f"({ids}) AS ids JOIN {source} USING (id)"
        if wanted.by_difficulty or "mfd" in wanted.sort:
            source += f" LEFT JOIN ({self._difficulty()}) AS d USING (id)"
        return source + where, values

    def details(self, ids: list[str], stage: str = "") -> list[dict[str, Any]]:
        """These instructions with their difficulty, in the order given."""
        if not ids:
            return []
        base = stage if stage and self.id_of(stage) == "id" else "round_0/07_hard"
        found = self.query(
            f"SELECT * FROM ({self._instructions(base)}) WHERE id IN (SELECT unnest($ids))", {"ids": ids}
        )
        by_id = {row["id"]: row for row in self._measured(found)}
        return [by_id[i] for i in ids if i in by_id]

    def texts(self, ids: list[str]) -> dict[str, str]:
        """Texts of those that some table still holds, also as seeds that were dropped later."""
        found = [*self.details(ids), *self.details(ids, "round_0/01_seeds")]
        return {row["id"]: row["text"] for row in found}

    def refused_for(self, reason: str) -> dict[str, str]:
        """Texts of grown instructions that were refused for this, by the id that they would have had."""
        rejected = [f"SELECT text FROM {self.file(p)} WHERE reason = $reason"
                    for p in tables(self.run) if p.endswith(REJECTED)]  # fmt: skip
        rows = self.query(" UNION ".join(rejected), {"reason": reason}) if rejected else []
        return {Instruction(row["text"]).id: row["text"] for row in rows}

    def tasks(self) -> list[str]:
        """Task types in the pool."""
        pool = [p for p in POOL if self.exists(p)][:1]
        if not pool:
            return []
        rows = self.query(f"SELECT DISTINCT task FROM {self.file(pool[0])} WHERE task IS NOT NULL ORDER BY task")
        return [str(r["task"]) for r in rows]

    def kept_by_task(self) -> dict[str, dict[str, dict[float, int]]]:
        """Seeds by kind of difficulty, task and value: what every δ keeps follows from it.

        The values as they are: δ by quantile or count is one of them, and rounded it would pass itself.
        """
        pool = [p for p in POOL if self.exists(p)][:1]
        if not pool or not self.exists(ALL):
            return {}
        rows = self.query(
            "SELECT kind, coalesce(task, 'Others') AS task, mfd AS value, count(*) AS n FROM "
            f"({self._difficulty()}) JOIN {self.file(pool[0])} USING (id) GROUP BY ALL ORDER BY ALL"
        )
        found: dict[str, dict[str, dict[float, int]]] = {}
        for r in rows:
            found.setdefault(r["kind"], {}).setdefault(r["task"], {})[float(r["value"])] = int(r["n"])
        return found

    def answered_by_task(self) -> dict[str, int]:
        """Annotated seeds by task: what a round may draw from."""
        pool, answers = [p for p in POOL if self.exists(p)][:1], "round_0/03_teacher_answers"
        if not pool or not self.exists(answers):
            return {}
        rows = self.query(
            f"SELECT coalesce(task, 'Others') AS task, count(*) AS n FROM {self.file(pool[0])} WHERE id IN "
            f"(SELECT instruction_id FROM {self.file(answers)}) GROUP BY ALL"
        )
        return {str(r["task"]): int(r["n"]) for r in rows}

    def flips(self, path: Path, methods: tuple[str, ...], most: int) -> tuple[list[dict[str, Any]], int, int]:
        """Judged pairs whose winner changes with the order of the answers, the widest gap between the orders first.

        With how many there are, and of how many that have equally many readable votes in each order.
        """
        orders = (
            f"round(avg(gap) FILTER (\"order\" = '{order}'), {DECIMALS}) AS {order}"
            for order in ("student_first", "teacher_first")
        )
        votes = (
            'SELECT instruction_id AS id, student, "order", teacher_score - student_score AS gap '
            "FROM read_parquet($path) WHERE list_contains($methods, method)"
        )
        pairs = (
            f"SELECT id, student, {', '.join(orders)} FROM ({votes}) GROUP BY ALL HAVING count(gap) > 0 AND "
            "2 * count(gap) FILTER (\"order\" = 'student_first') = count(gap)"
        )
        values = {"path": str(path.resolve()), "methods": list(methods)}
        flipped = "sign(student_first) <> sign(teacher_first)"
        (counted,) = self.query(f"SELECT count(*) AS n, count(*) FILTER ({flipped}) AS flipped FROM ({pairs})", values)
        rows = self.query(
            "SELECT id, (student_first + teacher_first) / 2 AS mfd, abs(student_first - teacher_first) AS spread "
            f"FROM ({pairs}) WHERE {flipped} ORDER BY spread DESC, id LIMIT $most",
            {**values, "most": most},
        )
        texts = {row["id"]: row for row in self.details([r["id"] for r in rows])}
        return [{**texts[r["id"]], **r} for r in rows if r["id"] in texts], int(counted["flipped"]), int(counted["n"])

    def against_check(self, path: Path, methods: tuple[str, ...], most: int) -> tuple[list[dict[str, Any]], int, int]:
        """Pairs of which the judge prefers the answer that the check holds for worse, the widest gap first.

        With how many there are, and of how many that have both: a check's winner, and a judge read in every vote.
        """
        pairs = (
            "SELECT instruction_id AS id, student, avg(teacher_score - student_score) FILTER (method = 'verified') AS "
            "checked, avg(teacher_score - student_score) FILTER (list_contains($methods, method)) AS judged FROM "
            "read_parquet($path) GROUP BY ALL HAVING checked <> 0 AND judged IS NOT NULL AND "
            "count(*) FILTER (list_contains($methods, method) AND problem IS NOT NULL) = 0"
        )
        values = {"path": str(path.resolve()), "methods": list(methods)}
        count = f"SELECT count(*) AS n, count(*) FILTER (checked * judged < 0) AS against FROM ({pairs})"
        (counted,) = self.query(count, values)
        rows = self.query(
            f"SELECT * FROM ({pairs}) WHERE checked * judged < 0 ORDER BY abs(judged) DESC, id, student LIMIT $most",
            {**values, "most": most},
        )
        return rows, int(counted["against"]), int(counted["n"])

    def sample(self, path: Path, methods: tuple[str, ...], seed: str, most: int) -> list[tuple[str, str]]:
        """Judged pairs (instruction, student) in an order that depends on the seed alone."""
        rows = self.query(
            "SELECT DISTINCT instruction_id AS id, student FROM read_parquet($path) "
            "WHERE list_contains($methods, method) ORDER BY md5(id || student || $seed), id LIMIT $most",
            {"path": str(path.resolve()), "methods": list(methods), "seed": seed, "most": most},
        )
        return [(str(r["id"]), str(r["student"])) for r in rows]


def _conditions(wanted: Filter, verdicts: str) -> tuple[list[str], dict[str, Any]]:
    clauses: list[str] = []
    values: dict[str, Any] = {}
    if wanted.text:
        # Both lowered by the database: Python lowers some letters in another way.
        clauses.append("(contains(lower(text), lower($text)) OR starts_with(id, lower($text)))")
        values["text"] = wanted.text
    for name, value in (("task", wanted.task), ("origin", wanted.origin)):
        if value:
            clauses.append(f"{name} = ${name}")
            values[name] = value
    for clause, name, value in (
        ("round = $round", "round", wanted.round),
        ("mfd >= $low", "low", wanted.low),
        ("mfd <= $high", "high", wanted.high),
    ):
        if value is not None:
            clauses.append(clause)
            values[name] = value
    if wanted.verdict in OUTCOMES:
        clauses.append(OUTCOMES[wanted.verdict][1].format(verdicts=verdicts))
    return clauses, values


def dropped_ids(found: RunTables, stage: str, reason: str) -> str:
    """A query for the ids that a stage dropped for a reason, as far as the tables tell it.

    A stage that drops for several reasons which no table tells apart shows all it dropped under each.
    """
    hard, every = found.ids_of("round_0/07_hard"), found.ids_of(ALL)
    match stage.partition("/")[2], reason:
        case "07_hard", "not_hard":
            return f"({every}) EXCEPT ({hard})"
        case "07_hard", _:
            return f"({found.ids_of('round_0/06_verdicts')}) EXCEPT ({every})"
        case "08_held_out", _:
            return f"({found.ids_of(stage)}) EXCEPT ({found.ids_of(f'{stage}.answers')})"
        case "04_mix", _:
            supply = _drawn_from(found, stage, hard=reason == "undrawn_hard")
            return f"({supply}) EXCEPT ({found.ids_of(stage)})"
        case name, _:
            before = INPUTS.get(name)
            folder = stage.partition("/")[0]
            into = found.ids_of(f"{folder}/{before}") if before else "SELECT '' AS id WHERE false"
            return f"({into}) EXCEPT ({found.ids_of(stage)})"


def _drawn_from(found: RunTables, stage: str, *, hard: bool) -> str:
    """A query for the seeds and the grown rows, hard or easy, that a round may draw: those that have an answer."""

    def of(name: str) -> str:
        rounds = range(1, _round(stage) + 1)
        return " UNION ALL ".join(found.ids_of(f"round_{r}/{name}") for r in rounds)

    answered = f"({of('03_enhanced_answers')}) UNION ALL ({of('01_expanded.direct')})"
    difficult, easy = found.ids_of("round_0/07_hard"), of("01_expanded.easy")
    if hard:
        return f"({difficult}) UNION ((({of('01_expanded')}) INTERSECT ({answered})) EXCEPT ({easy}))"
    seeds = f"({found.ids_of('round_0/03_teacher_answers')}) EXCEPT ({difficult})"
    return f"({seeds}) UNION (({easy}) INTERSECT ({answered}))"


def _round(place: str) -> int:
    return int(place.partition("/")[0].removeprefix("round_"))


INPUTS = {
    "02_classified": "01_seeds",
    "03_teacher_answers": "02_classified",
    "05_student_answers": "03_teacher_answers",
    "06_verdicts": "05_student_answers",
    "03_enhanced_answers": "02_refined",
}
"""The step whose rows a step of the same round takes in one for one."""


def _stamp(path: Path) -> tuple[int, int]:
    """Changes when a file is replaced."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0, 0
    return found.st_mtime_ns, found.st_size


@functools.lru_cache(maxsize=4_096)
def _columns(path: Path, stamp: tuple[int, int]) -> tuple[str, ...]:
    return tuple(pq.read_schema(path).names) if stamp[1] else ()


def id_column(path: Path, stamp: tuple[int, int]) -> str | None:
    """The column that names the instruction, if the table has one."""
    return next((c for c in ("id", "instruction_id") if c in _columns(path, stamp)), None)
