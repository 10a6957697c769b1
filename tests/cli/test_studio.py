"""`tapir studio` reads a folder and a number of pairs, in the ways that people write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tapir.cli.studio import read_arguments
from tapir.errors import DataError, RecipeError


def test_the_folder_and_the_number_of_pairs_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    assert read_arguments([], annotate=False) == (Path("runs"), 50)
    assert read_arguments(["20"], annotate=True) == (Path("runs"), 20)
    assert read_arguments([str(tmp_path), "7"], annotate=True) == (tmp_path, 7)


def test_what_cannot_be_meant_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="there is no such folder"):
        read_arguments(["20"], annotate=False)
    with pytest.raises(RecipeError, match="one number of pairs"):
        read_arguments([str(tmp_path), "7", "8"], annotate=True)
