"""A trained student and its data in the forms that others use.

Safetensors for any server, the trained set as messages, Alpaca and ShareGPT with what LLaMA-Factory and axolotl need
to read it. GGUF is `training.gguf_export`'s, the texts of the cards `training.cards`', and whether an export answers
as the run does `training.verify`'s.
"""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from tapir.errors import DataError
from tapir.models.weights_hash import SOURCE
from tapir.training.folder import check_folder
from tapir.training.result import RESULT_NAME
from tapir.types import Example, Message

Dtype = Literal["float32", "float16", "bfloat16"]

_OURS = (RESULT_NAME, SOURCE, "training_log.jsonl", "adapters", "README.md", ".*")
"""What lies in a student's folder for the run's sake, the int8 copy of its engine among it."""


def export_safetensors(student: Path, target: Path, *, dtype: Dtype = "float32", card: str | None = None) -> None:
    """A folder that any server loads: weights, tokenizer, template, generation config, and the card as README.md.

    In float32 unless asked otherwise: that is the student that was evaluated. bfloat16 turned half of a real student's
    greedy answers (docs/lab.md).
    """
    import torch
    from safetensors.torch import load_file, save_file

    check_folder(student)
    partial = _new(target)
    shutil.copytree(student, partial, ignore=shutil.ignore_patterns(*_OURS, "*.safetensors"))
    wanted: torch.dtype = getattr(torch, dtype)
    for path in sorted(student.glob("*.safetensors")):
        tensors = {name: tensor.to(wanted) for name, tensor in load_file(str(path)).items()}
        save_file(tensors, str(partial / path.name), metadata={"format": "pt"})
    config = partial / "config.json"
    settings: dict[str, Any] = json.loads(config.read_text(encoding="utf-8"))
    config.write_text(json.dumps(settings | {"dtype": dtype}, indent=2) + "\n", encoding="utf-8")
    if card:
        (partial / "README.md").write_text(card, encoding="utf-8")
    partial.rename(target)


def serve_line(place: Path) -> str:
    """The command that serves an exported folder by vLLM, or a GGUF file by llama.cpp."""
    command = "llama-server -m" if place.suffix == ".gguf" else "vllm serve"
    return f"{command} {shlex.quote(str(place))}"


def push(folder: Path, repository: str, *, kind: Literal["model", "dataset"], private: bool = True) -> str:
    """Upload an exported folder to the Hugging Face hub, private unless told; returns its address.

    A repository that is there already keeps its visibility, so a public one is refused unless that is wanted.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError, HTTPError  # pyright: ignore[reportPrivateImportUsage]

    api = HfApi()
    try:
        made = api.create_repo(repository, repo_type=kind, private=private, exist_ok=True)
        if private and not api.repo_info(made.repo_id, repo_type=kind).private:
            raise DataError(f"{made}: everybody can see this repository; give --public if that is meant, or another")
        api.upload_folder(folder_path=str(folder), repo_id=made.repo_id, repo_type=kind)
    except (HTTPError, HFValidationError, OSError) as error:
        raise DataError(
            f"{repository}: the hub did not take it ({error}); check the name (owner/name) and the network, and log in "
            "with `hf auth login`"
        ) from error
    return str(made)


@dataclass(frozen=True, slots=True)
class Written:
    """How many examples a dataset holds, and how many of them its Alpaca form cannot."""

    examples: int
    not_alpaca: int


def export_dataset(examples: Iterable[Example], target: Path, *, name: str, card: str | None = None) -> Written:
    """The trained set in four forms. Weights and origin go with the messages form only.

    Alpaca's form knows a question and its answer, after others of their kind; conversations that go otherwise are left
    out of it and counted.
    """
    rows = list(examples)
    partial = _new(target)
    partial.mkdir(parents=True)
    _write_lines(partial / "messages.jsonl", (_plain(row) for row in rows))
    alpaca = [_alpaca(row) for row in rows if _takes_turns(row)]
    _write_json(partial / "alpaca.json", alpaca)
    _write_json(partial / "sharegpt.json", [_sharegpt(row) for row in rows])
    _write_json(partial / "dataset_info.json", _dataset_info(name))
    (partial / "axolotl.yaml").write_text(yaml.safe_dump(_axolotl(), sort_keys=False), encoding="utf-8")
    if card:
        (partial / "README.md").write_text(card, encoding="utf-8")
    partial.rename(target)
    return Written(len(rows), len(rows) - len(alpaca))


def refuse_existing(target: Path) -> None:
    if target.exists():
        raise DataError(f"{target} exists already; export to another place (--out), or delete it")
    target.parent.mkdir(parents=True, exist_ok=True)


def _new(target: Path) -> Path:
    refuse_existing(target)
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    return partial


def _write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as out:
        out.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _plain(row: Example) -> dict[str, Any]:
    return {
        "messages": [asdict(turn) | {"train": n == len(row.messages)} for n, turn in enumerate(row.messages, start=1)],
        "instruction_id": row.instruction_id,
        "task": row.task,
        "hard": row.hard,
        "weight": row.weight,
    }


def _split(row: Example) -> tuple[str, tuple[Message, ...]]:
    """The system turn that opens the conversation, and all turns after it."""
    if row.messages[0].role == "system":
        return row.messages[0].content, row.messages[1:]
    return "", row.messages


def _takes_turns(row: Example) -> bool:
    """Whether user and assistant speak by turns, from the one to the other."""
    _, turns = _split(row)
    return [turn.role for turn in turns] == ["user", "assistant"] * max(1, len(turns) // 2)


def _alpaca(row: Example) -> dict[str, Any]:
    system, turns = _split(row)
    earlier = turns[:-2]
    return {
        "instruction": turns[-2].content,
        "input": "",
        "output": turns[-1].content,
        "system": system,
        "history": [[ask.content, reply.content] for ask, reply in zip(earlier[::2], earlier[1::2], strict=True)],
    }


def _sharegpt(row: Example) -> dict[str, Any]:
    system, turns = _split(row)
    names = {"user": "human", "assistant": "gpt", "system": "system"}
    return {
        "conversations": [{"from": names[turn.role], "value": turn.content} for turn in turns],
        "system": system,
    }


def _dataset_info(name: str) -> dict[str, Any]:
    alpaca = {"prompt": "instruction", "query": "input", "response": "output", "system": "system", "history": "history"}
    return {
        f"{name}_alpaca": {"file_name": "alpaca.json", "formatting": "alpaca", "columns": alpaca},
        f"{name}_sharegpt": {
            "file_name": "sharegpt.json",
            "formatting": "sharegpt",
            "columns": {"messages": "conversations", "system": "system"},
            "tags": {"role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt"},
        },
    }


def _axolotl() -> dict[str, Any]:
    # Unless told by message, axolotl trains every answer of a conversation; here only the last one was.
    return {
        "datasets": [
            {
                "path": "messages.jsonl",
                "ds_type": "json",
                "type": "chat_template",
                "field_messages": "messages",
                "message_property_mappings": {"role": "role", "content": "content"},
                "message_field_training": "train",
                "roles_to_train": [],
                "train_on_eos": "turn",
            }
        ],
        "train_on_inputs": False,
    }
