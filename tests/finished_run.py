"""The files of a finished run with two students, written by hand: what commands that use a run read."""

from __future__ import annotations

from pathlib import Path

import yaml
from tiny import build_tiny_model
from whole_run import recipe

from tapir.store.rundir import RunDir, Step, write_json
from tapir.types import Example, Instruction, Message, Receipt, Result

EXAMPLES = [
    Example((Message("user", "What is sand?"), Message("assistant", "Small stones.")), "id1", "Math", hard=True),
    Example((Message("user", "What is the sea?"), Message("assistant", "Water.")), "id2", "Writing", hard=False),
]
AGAIN = Example(EXAMPLES[0].messages, "id1", "Math", hard=True, weight=0.5)
HELD_OUT = [Instruction(f"What is the sum of {n} and two?") for n in range(3)]


def write_run(folder: Path, name: str = "tiny") -> Path:
    """A run of two rounds in `folder/NAME`; the second round trained on the first example again."""
    run = RunDir(folder / name)
    run.root.mkdir(parents=True)
    plain = recipe(folder) | {"ledger": {"path": str(folder / "calls.sqlite")}}
    run.recipe_path.write_text(yaml.safe_dump(plain), encoding="utf-8")
    write_json(run.manifest_path, {"tapir": "0.1", "git_commit": "abc1234"})
    _finish(held_out := run.step("round_0/08_held_out", "x"), 3)
    held_out.write(Instruction, HELD_OUT)
    for number, (place, rows) in enumerate(
        (("04_student_0", []), ("05_student_1", EXAMPLES), ("05_student_2", [AGAIN]))
    ):
        student = run.step(f"round_{number}/{place}", "x")
        build_tiny_model(student.folder, seed=number)
        (student.folder / ".ct2-int8-0123456789ab").mkdir()
        _finish(student, len(rows), steps=4, final_loss=1.5, hard_share_of_rows=0.5)
        if number:
            _finish(mix := run.step(f"round_{number}/04_mix", "x"), len(rows))
            mix.write(Example, rows)
    evaluation = run.step("round_2/06_evaluation", "x")
    sentence = "student_2 passes 3 of 4 checks"
    evaluation.write(Result, [Result("student_2", "checks_passed", 75.0, 4, 30.1, 95.4, sentence=sentence)])
    _finish(evaluation, 1)
    return run.root


def _finish(step: Step, rows: int, **notes: object) -> None:
    receipt = Receipt(step.stage, rows_in=rows, rows_out=rows)
    receipt.notes |= notes
    step.receipt_path.parent.mkdir(parents=True, exist_ok=True)
    step.finish(receipt)
