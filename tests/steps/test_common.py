"""What of a recipe, and of the files it names, makes a step another one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from whole_run import prepare

from tapir.steps.common import judge_mark
from tapir.wiring import load_recipe, open_session


def with_template(file: Path) -> dict[str, Any]:
    return {"judge": {"template": str(file)}}


def with_chat_template(file: Path) -> dict[str, Any]:
    return {"models": {"judge": {"kind": "local", "model": "anywhere", "chat_template": str(file)}}}


def with_script(file: Path) -> dict[str, Any]:
    return {"models": {"judge": {"kind": "scripted", "script": str(file)}}}


@pytest.mark.parametrize("named", [with_template, with_chat_template, with_script])
def test_an_edited_file_makes_other_verdicts_and_a_moved_one_does_not(
    named: Callable[[Path], dict[str, Any]], tmp_path: Path
):
    plain = yaml.safe_load(prepare(tmp_path).read_text(encoding="utf-8"))

    def mark(file: Path) -> list[Any]:
        given = named(file)
        parts = given | ({"models": plain["models"] | given["models"]} if "models" in given else {})
        loaded = load_recipe(prepare(tmp_path, **parts), [f"ledger.path={tmp_path / 'ledger.sqlite'}"])
        with open_session(loaded, tmp_path / "run") as session:
            return judge_mark(session, "judge")

    file, moved = tmp_path / "one.txt", tmp_path / "two.txt"
    for place in (file, moved):
        place.write_text("as it was", encoding="utf-8")
    before = mark(file)
    assert mark(moved) == before
    file.write_text("edited", encoding="utf-8")
    assert mark(file) != before
