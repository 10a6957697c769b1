"""What a recipe may call a local model, and what it is refused without the recipe's explicit word."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tapir.config import Model
from tapir.errors import ModelError
from tapir.models.resolve import resolve


def folder(place: Path, config: str = "{}", weights: str = "model.safetensors") -> Path:
    place.mkdir()
    (place / "config.json").write_text(config, encoding="utf-8")
    save_file({"a": torch.zeros(3, 5), "b": torch.zeros(7)}, place / weights, metadata={"format": "pt"})
    return place


def local(model: Path | str, *, allow_pickle: bool = False, trust_remote_code: bool = False) -> Model:
    return Model(kind="local", model=str(model), allow_pickle=allow_pickle, trust_remote_code=trust_remote_code)


def test_a_folder_of_safetensors_is_taken_as_it_is(tmp_path: Path):
    place = folder(tmp_path / "m")
    assert resolve(local(place)) == place


@pytest.mark.parametrize("left", [0, 5, 60, -1])
def test_weights_that_were_cut_short_are_not_loaded(tmp_path: Path, left: int):
    place = folder(tmp_path / "m")
    file = place / "model.safetensors"
    file.write_bytes(file.read_bytes()[:left])
    with pytest.raises(ModelError, match=r"model\.safetensors: .*; get it again"):
        resolve(local(place))


def test_every_file_of_the_index_must_be_there(tmp_path: Path):
    place = folder(tmp_path / "m")
    shards = {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}
    (place / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}), encoding="utf-8")
    with pytest.raises(ModelError, match=r"1 of 2 files of weights are missing: get model-00002-of-00002"):
        resolve(local(place))
    (place / "model.safetensors.index.json").write_text("[]", encoding="utf-8")
    with pytest.raises(ModelError, match=r"index\.json: this is no index of weights"):
        resolve(local(place))


def test_pickled_weights_need_the_recipes_word(tmp_path: Path):
    place = folder(tmp_path / "m", weights="pytorch_model.bin")
    with pytest.raises(ModelError, match="no safetensors weights; convert them, or set `allow_pickle: true`"):
        resolve(local(place))
    assert resolve(local(place, allow_pickle=True)) == place


def test_code_beside_weights_needs_the_recipes_word(tmp_path: Path):
    place = folder(tmp_path / "m", config='{"auto_map": {"AutoModel": "evil.Model"}}')
    with pytest.raises(ModelError, match="read it, then set `trust_remote_code: true`"):
        resolve(local(place))
    assert resolve(local(place, trust_remote_code=True)) == place


def test_a_path_that_is_no_folder_is_not_looked_up_on_the_hub():
    with pytest.raises(ModelError, match=r"\./nowhere: not a folder of weights"):
        resolve(local("./nowhere"))


def test_a_folder_without_configuration_is_no_model(tmp_path: Path):
    with pytest.raises(ModelError, match=r"there is no config\.json in it"):
        resolve(local(tmp_path))


def test_a_model_needs_a_name():
    with pytest.raises(ModelError, match="a catalogue name, a folder of weights, or a hub id"):
        resolve(Model(kind="local"))


def test_a_hub_that_does_not_deliver_is_one_clear_error(monkeypatch: pytest.MonkeyPatch):
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    asked: list[list[str]] = []

    def offline(repo: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append(allow_patterns)
        raise LocalEntryNotFoundError("offline")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(ModelError, match=r"owner/name: neither a catalogue name nor a folder"):
        resolve(local("owner/name"))
    assert not any("bin" in pattern or "py" in pattern for pattern in asked[0])
