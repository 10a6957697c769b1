"""Which files of a folder make it other weights in the ledger's keys."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tapir.models.weights_hash import SOURCE, weights_hash

SAFE = ("config.json", "model.safetensors", "tokenizer.json", "README.md")
PICKLED = ("config.json", "pytorch_model.bin", "tokenizer.json", "README.md")


def folder(path: Path, files: tuple[str, ...]) -> Path:
    path.mkdir()
    for name in files:
        (path / name).write_text(f"{name} as it was", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("files", "name"),
    [
        (SAFE, "model.safetensors"),
        (SAFE, "config.json"),
        (SAFE, "generation_config.json"),
        (SAFE, "tokenizer.json"),
        (SAFE, "tokenizer.model"),
        (SAFE, "spiece.model"),
        (SAFE, "special_tokens_map.json"),
        (SAFE, "added_tokens.json"),
        (SAFE, "chat_template.jinja"),
        (SAFE, "modeling_own.py"),
        (PICKLED, "pytorch_model.bin"),
    ],
)
def test_a_file_that_can_change_a_reply_counts(files: tuple[str, ...], name: str, tmp_path: Path):
    there = folder(tmp_path / "student", files)
    before = weights_hash(there)
    (there / name).write_text("edited, and of another length", encoding="utf-8")
    assert weights_hash(there) != before


@pytest.mark.parametrize("name", ["README.md", "pytorch_model.bin", "trainer_state.json"])
def test_a_file_that_no_reply_depends_on_does_not_count(name: str, tmp_path: Path):
    there = folder(tmp_path / "student", SAFE)
    before = weights_hash(there)
    (there / name).write_text("edited, and of another length", encoding="utf-8")
    assert weights_hash(there) == before


def test_weights_are_the_same_in_any_folder_and_converted_ones_are_their_source(tmp_path: Path):
    one, two = folder(tmp_path / "one", SAFE), folder(tmp_path / "two", SAFE)
    assert weights_hash(one) == weights_hash(two)
    (two / SOURCE).write_text(json.dumps({"name": "tiny", "sha256": "f" * 64}), encoding="utf-8")
    assert weights_hash(two) == "f" * 64
