"""No command sends a key to a host that nobody has confirmed; `--trust` confirms it once for all of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_endpoint import fake, serving
from typer.testing import CliRunner, Result

from tapir import doctor as checking
from tapir.cli import app
from tapir.cli.stage import open_stage
from tapir.doctor import Finding
from tapir.errors import RecipeError
from tapir.models.fake_server import Fake
from tapir.stages.distil_refiner import write_mark
from tapir.wiring import load_recipe

KEY = "TAPIR_TEST_KEY"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Fake, str]]:
    """An endpoint whose key is at hand, and nobody has said yet that it may have it."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv(KEY, "sk-tapir-0123456789abcdef")
    with serving(seen := fake()) as url:
        yield seen, url


def recipe(folder: Path, url: str, **parts: Any) -> Path:
    rows = [{"instruction": f"Name {n} rivers.", "task": "Geography"} for n in (2, 3)]
    (folder / "pool.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    teacher = {"base_url": url, "model": "fake", "api_key_env": KEY, "max_answer_tokens": 32}
    raw = {
        "seeds": {"source": str(folder / "pool.jsonl")},
        "models": {"teacher": teacher, "student": {"kind": "local", "model": str(folder / "nowhere")}},
        "ledger": {"path": str(folder / "ledger.sqlite")},
        **parts,
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return path


def call(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def test_a_stage_asks_a_host_once_it_is_confirmed(server: tuple[Fake, str], tmp_path: Path):
    seen, url = server
    words = ("stage", "annotate", tmp_path / "pool.jsonl", "-o", tmp_path / "out.jsonl", "--recipe")
    words = (*words, recipe(tmp_path, url))
    refused = call(*words)
    assert isinstance(refused.exception, RecipeError)
    host = url.removeprefix("http://").removesuffix("/v1")
    said = f"this recipe would send ${KEY} to {host}; if that is right, say so once with --trust"
    assert str(refused.exception) == said
    assert seen.counts["requests"] == 0
    assert call(*words, "--trust").exit_code == 0
    assert seen.counts["requests"] == 2
    assert call(*words).exit_code == 0


@pytest.mark.parametrize(
    "command",
    [
        "stage classify POOL -o OUT",
        "stage answer POOL -o OUT",
        "stage judge POOL POOL POOL -o OUT",
        "stage expand POOL POOL -o OUT",
        "stage refine POOL -o OUT",
        "stage enhance POOL POOL POOL -o OUT",
        "classify POOL -o OUT",
        "refiner train POOL -o OUT",
        "refiner eval REFINER --file POOL",
    ],
)
def test_every_command_that_asks_a_recipes_models_asks_for_confirmation(
    command: str, server: tuple[Fake, str], tmp_path: Path
):
    (tmp_path / "refiner").mkdir()
    write_mark(tmp_path / "refiner", {"held_out": 0})
    places = {"POOL": tmp_path / "pool.jsonl", "OUT": tmp_path / "out.jsonl", "REFINER": tmp_path / "refiner"}
    words = [places.get(word, word) for word in command.split()]
    result = call(*words, "--recipe", recipe(tmp_path, server[1]))
    assert isinstance(result.exception, RecipeError), result.output
    assert str(result.exception).endswith("if that is right, say so once with --trust")
    assert server[0].counts["requests"] == 0


def test_a_stage_that_asks_no_model_confirms_nothing(server: tuple[Fake, str], tmp_path: Path):
    with open_stage(str(recipe(tmp_path, server[1])), [], "mix", trust=None) as (session, _):
        assert session.recipe.models.teacher.api_key_env == KEY
    assert not (tmp_path / "config").exists()


def of_models(found: list[Finding]) -> list[tuple[str, bool]]:
    return [(f.what, f.ok) for f in found if f.what.startswith(("keys", "teacher"))]


@pytest.fixture
def models_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The doctor's other checks load what trains."""
    for name in ("_extras", "_machine", "_training"):
        monkeypatch.setattr(checking, name, lambda recipe: ())


@pytest.mark.usefixtures("models_alone")
def test_the_doctor_asks_no_host_that_is_not_confirmed(server: tuple[Fake, str], tmp_path: Path):
    seen, url = server
    path = recipe(tmp_path, url)
    found = checking.examine(load_recipe(path))
    assert of_models(found) == [("keys (these hosts are not asked)", False)]
    assert "say so once with --trust" in call("doctor", path).stdout
    assert seen.counts["requests"] == 0
    assert f"ok      teacher: fake at {url}: answers (stop)" in call("doctor", path, "--trust").stdout
    assert of_models(checking.examine(load_recipe(path))) == [(f"teacher: fake at {url}: answers (stop)", True)]


@pytest.mark.usefixtures("models_alone")
def test_the_doctor_asks_the_confirmed_ones_of_several_urls(server: tuple[Fake, str], tmp_path: Path):
    path = recipe(tmp_path, server[1])
    assert call("doctor", path, "--trust").exit_code == 1  # the student is nowhere
    with serving(other := fake()) as elsewhere:
        both = load_recipe(path, [f"models.teacher.base_urls=['{server[1]}', '{elsewhere}']"])
        found = of_models(checking.examine(both))
    *asked, (advice, _) = found
    assert asked == [
        ("keys (these hosts are not asked)", False),
        (f"teacher: fake at {server[1]}: answers (stop)", True),
    ]
    assert "identity" in advice
    assert other.counts["requests"] == 0


@pytest.mark.usefixtures("models_alone")
def test_the_doctor_of_a_replay_asks_nobody_and_wants_no_key(
    server: tuple[Fake, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv(KEY)
    replay = load_recipe(recipe(tmp_path, server[1]), ["ledger.replay=true"])
    assert of_models(checking.examine(replay)) == [("teacher: fake (not asked, since a replay sends nothing)", True)]
    assert server[0].counts["requests"] == 0
