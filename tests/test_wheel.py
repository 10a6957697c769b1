"""The wheel alone: what it holds is enough to load every recipe, the pool, the prompts and the recording."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tapir.wiring import SHIPPED

pytestmark = pytest.mark.xdist_group("wheel")

CHECKOUT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, CHECKOUT]
    subprocess.run(build, check=True, capture_output=True, text=True)
    (wheel,) = folder.glob("tapir_distill-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder


def run(unpacked: Path, *command: str) -> str:
    """Python in an empty folder that sees the wheel's content before any checkout."""
    empty = unpacked / "empty"
    empty.mkdir(exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(unpacked / "site")}
    done = subprocess.run([sys.executable, *command], cwd=empty, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_shipped_recipe_plans_a_run_without_a_checkout(unpacked: Path):
    code = """
import tapir, tapir.wiring as wiring
from pathlib import Path
from tapir.planning import describe
assert Path(tapir.__file__).parents[1].name == "site", tapir.__file__
for name in wiring.SHIPPED:
    recipe = wiring.load_recipe(name)
    assert all(p.is_file() for p in wiring.recording_files(recipe)), name
    describe(recipe)
print(len(wiring.SHIPPED))
"""
    assert int(run(unpacked, "-c", code)) == len(SHIPPED)


def test_the_command_writes_a_recipe_and_says_what_it_would_do(unpacked: Path):
    assert "written" in run(unpacked, "-m", "tapir", "init", "mine.yaml", "--force")
    planned = run(unpacked, "-m", "tapir", "run", "quickstart", "--dry-run")
    assert "seed pool: 64" in planned
    assert "round 2: alpha 0.5" in planned


def test_the_wheel_says_that_it_is_typed_and_holds_no_tests(unpacked: Path):
    names = {str(p.relative_to(unpacked / "site")) for p in (unpacked / "site").rglob("*") if p.is_file()}
    assert "tapir/py.typed" in names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/"))]
