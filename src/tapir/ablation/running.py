"""Doing an ablation: round 0 once, the teacher's part once, then every arm, on as many devices as are given.

Every arm is an ordinary run directory. What it has in common with another is taken over from there (`RunDir`), calls
are in the ledger, so an ablation that was killed goes on where it stood.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

from tapir import steps
from tapir.ablation.plan import NOTE, Arm, Cell, arms_of, cells_of, note_of
from tapir.config import Recipe
from tapir.evaluation.heldout import Fit
from tapir.evaluation.measured import Measured, measured
from tapir.pipeline import Ground, lay_ground
from tapir.progress import Progress
from tapir.steps.common import answers_of, instructions_of
from tapir.store.remote import RemoteStore
from tapir.store.rundir import RunDir, Step, write_json
from tapir.strategies import strategy
from tapir.training.result import StepLog
from tapir.types import Receipt, Verdict
from tapir.wiring import Session, open_session


def ablate(
    recipe: Recipe, root: Path, *, parallel: int = 1, progress: Progress | None = None, source: str = ""
) -> list[Path]:
    """Train and measure every arm that is not done yet; the folders of all, in order."""
    progress = progress or Progress()
    cells = cells_of(recipe)
    arms = arms_of(recipe, cells)
    with RunDir(root).writing():
        # All arms count against one budget, that of the first round 0.
        run_id = RunDir(cells[0].base(root)).identity()
        for cell in cells:
            progress.say(f"round 0 ({cell.name})")
            with _session(root, cell.recipe, cell.base(root), progress, source, run_id) as session:
                _measure(session, 0, lay_ground(session))
        # The teacher's part first, one arm after another: two at once would pay for the same calls twice.
        for arm in arms:
            if arm.seed == arms[0].seed:
                progress.say(f"gathering for {arm.name}")
                with _arm_session(arm, root, progress) as session:
                    strategy(arm.variant).gather(session, lay_ground(session))
        _train_all(arms, root, parallel, progress)
    return [arm.folder(root) for arm in arms]


def _train_all(arms: Sequence[Arm], root: Path, parallel: int, progress: Progress) -> None:
    if parallel == 1:
        for number, arm in enumerate(arms, 1):
            progress.say(f"arm {number} of {len(arms)}: {arm.name}")
            train_arm(arm, root, progress)
        return
    context = multiprocessing.get_context("spawn")
    places: Queue[int] = context.Queue()
    for place in range(parallel):
        places.put(place)
    workers = ProcessPoolExecutor(parallel, mp_context=context, initializer=_settle, initargs=(places, parallel))
    with workers:
        waiting = {workers.submit(train_arm, arm, root): arm for arm in arms}
        try:
            for number, (future, arm) in enumerate(waiting.items(), 1):
                future.result()
                progress.say(f"arm {number} of {len(arms)}: {arm.name} done")
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                # A signal that only this process got: the arms under way would be waited for, for hours perhaps.
                for worker in multiprocessing.active_children():
                    worker.terminate()
            workers.shutdown(wait=True, cancel_futures=True)
            raise


def _settle(places: Queue[int], parallel: int) -> None:
    """Give this process a device of its own, and its share of the cores, before torch is there to look.

    It ends when the command's own process says so, in order: Ctrl-C reaches both.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end)
    place = places.get()
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // parallel))
    devices = _devices()
    if devices:
        os.environ["CUDA_VISIBLE_DEVICES"] = devices[place % len(devices)]


def _end(*_: object) -> None:
    sys.exit(128 + signal.SIGTERM)


def _devices() -> list[str]:
    """The devices to share out: those that were named, or all that the driver lists."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [device for device in named.split(",") if device]
    return [str(n) for n, _ in enumerate(Path("/proc/driver/nvidia/gpus").glob("*"))]


def train_arm(arm: Arm, root: Path, progress: Progress | None = None) -> None:
    """Train and measure one arm, unless that is done."""
    with _arm_session(arm, root, progress or Progress()) as session:
        ground = lay_ground(session)
        number, student = strategy(arm.variant).train(session, ground)
        _measure(session, number, ground, student)
        recipe, rows = session.recipe, _annotated(root, arm.cell)
    write_json(arm.folder(root) / NOTE, dict(note_of(arm, recipe, rows, number)))
    if not recipe.ablate.keep_students:
        _delete_students(session.run, session.store)


def _measure(session: Session, number: int, ground: Ground, student: Step | None = None) -> Step:
    """The last student on the held-out instructions, value by value; student_0's evaluation is there already."""
    evaluation = ground.baseline
    if student is not None:
        evaluation = steps.evaluate(session, number, student, ground.held_out, baseline=ground.baseline)
        steps.benchmark(session, number, student, ground.held_out, evaluation, baseline=ground.benched)

    def work(step: Step, receipt: Receipt) -> None:
        rows = measured(
            instructions_of(ground.held_out),
            answers_of(evaluation, "answers"),
            answers_of(ground.baseline, "answers"),
            list(evaluation.read(Verdict, "verdicts")),
            list(evaluation.read(Fit, "fit")),
            session.run_program,
        )
        receipt.made = receipt.rows_out = step.write(Measured, rows)

    place = f"round_{number}/{'12' if student is None else '08'}_measured"
    return session.step(place, work, version=2, after=[ground.held_out, ground.baseline, evaluation])


def _annotated(root: Path, cell: Cell) -> int:
    return RunDir(cell.base(root)).receipts()["round_0/03_teacher_answers"]["rows_out"]


@contextmanager
def _arm_session(arm: Arm, root: Path, progress: Progress) -> Generator[Session]:
    trained = RunDir(arm.cell.base(root)).receipts()["round_0/04_student_0"]["notes"]
    recipe = arm.recipe(_annotated(root, arm.cell), trained.get("trained_tokens"))
    run_id = RunDir(arm.cell.base(root)).identity()
    with _session(root, recipe, arm.folder(root), progress, f"ablation: {arm.name}", run_id) as session:
        yield session


@contextmanager
def _session(
    root: Path, recipe: Recipe, folder: Path, progress: Progress, source: str, run_id: str
) -> Generator[Session]:
    """A session that takes over what any other run of this ablation has done."""
    manifests = [path for form in ("*/*", "*/*/*") for path in sorted(root.glob(f"{form}/manifest.json"))]
    lenders = tuple(RunDir(path.parent) for path in manifests if path.parent != folder)
    shown = _OnlyFresh(progress)
    # Arms of different forms and settings have folders of one name; in a store each needs a place of its own.
    place = f"{root.absolute().name}/{folder.relative_to(root).as_posix()}"
    with open_session(
        recipe, folder, progress=shown, source=source, lenders=lenders, run_id=run_id, stored_as=place
    ) as session:
        yield session


@dataclass
class _OnlyFresh(Progress):
    """Passes on what is done anew: of every arm's steps most are another's."""

    inner: Progress

    def start(self, place: str, total: int | None) -> None:
        self.inner.start(place, total)

    def expect(self, calls: int) -> None:
        self.inner.expect(calls)

    def call(self, reply: Any, usage: Any) -> None:
        self.inner.call(reply, usage)

    def advance(self, done: int, note: str = "") -> None:
        self.inner.advance(done, note)

    def finish(self, place: str, receipt: dict[str, Any], *, fresh: bool) -> None:
        if fresh:
            self.inner.finish(place, receipt, fresh=True)

    def say(self, line: str) -> None:
        self.inner.say(line)

    def trained(self, step: StepLog) -> None:
        self.inner.trained(step)

    def fetching(self, done_bytes: int, total_bytes: int, what: str) -> None:
        self.inner.fetching(done_bytes, total_bytes, what)


def _delete_students(run: RunDir, store: RemoteStore | None) -> None:
    """Remove an arm's trained weights, here and in the store; its receipts say so, and nobody borrows them."""
    for place, receipt in run.receipts().items():
        step = run.step(place, receipt["fingerprint"])
        if step.stage.startswith("student_") and not place.startswith("round_0/") and step.folder.exists():
            write_json(step.receipt_path, {**receipt, "weights_deleted": True})
            shutil.rmtree(step.folder)
            if store is not None:
                store.replace(step, run.calls_of(place))
