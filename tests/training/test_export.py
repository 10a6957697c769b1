"""Exports that others can read, and that answer as the run did."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar, Literal

import pytest
import torch
import yaml
from gguf import GGUFReader, GGUFWriter
from huggingface_hub import RepoUrl
from tiny import SPECIAL, build_tiny_model
from training_rows import example, examples, settings
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from tapir.errors import DataError, ModelError
from tapir.training.cards import CardFacts, CardRound, data_card, model_card
from tapir.training.export import Dtype, Written, export_dataset, export_safetensors, push, serve_line
from tapir.training.gguf_export import export_gguf
from tapir.training.sft import train_round
from tapir.training.verify import verify
from tapir.types import Example, Message

pytestmark = pytest.mark.xdist_group("training export")

PROMPTS = [example(n).messages[:-1] for n in range(5)]


@pytest.fixture(scope="module")
def trained(student: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "student_1"
    train_round(student, examples(8), folder, settings(epochs=10), seed=1)
    return folder


def test_an_export_in_full_precision_answers_every_prompt_as_the_run_does(trained: Path, tmp_path: Path):
    export_safetensors(trained, tmp_path / "out", dtype="float32", card="# card\n")
    found = verify(trained, tmp_path / "out", PROMPTS, max_tokens=16)
    assert (found.prompts, found.spelt_alike, found.same, found.differing, found.sound) == (5, 5, 5, (), True)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"model.safetensors", "chat_template.jinja", "generation_config.json", "README.md"} <= names
    assert "tapir_training.json" not in names


def test_verifying_tells_which_answers_differ(trained: Path, student: Path):
    found = verify(trained, student, PROMPTS, max_tokens=16)
    assert found.same < 5
    assert found.differing[0][0].startswith("What is the sum of")


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_an_export_has_the_precision_that_it_says(trained: Path, tmp_path: Path, dtype: Dtype):
    export_safetensors(trained, tmp_path / "out", dtype=dtype)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == dtype
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").dtype == getattr(torch, dtype)
    with pytest.raises(DataError, match="exists already"):
        export_safetensors(trained, tmp_path / "out")


def test_the_serve_line_quotes_odd_folders():
    assert serve_line(Path("runs/my run")) == "vllm serve 'runs/my run'"


class Hub:
    """The hub's client, with one public repository and no other."""

    sent: ClassVar[list[str]] = []

    def create_repo(self, name: str, *, repo_type: str, private: bool, exist_ok: bool) -> RepoUrl:
        return RepoUrl(f"https://huggingface.co/{name}")

    def repo_info(self, name: str, *, repo_type: str) -> SimpleNamespace:
        return SimpleNamespace(private=name != "me/public")

    def upload_folder(self, *, folder_path: str, repo_id: str, repo_type: str) -> None:
        self.sent.append(repo_id)


def test_a_public_repository_gets_nothing_unless_that_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    monkeypatch.setattr(Hub, "sent", [])
    with pytest.raises(DataError, match=r"me/public: everybody can see this repository; give --public"):
        push(tmp_path, "me/public", kind="model")
    assert push(tmp_path, "me/own", kind="model") == "https://huggingface.co/me/own"
    push(tmp_path, "me/public", kind="model", private=False)
    assert Hub.sent == ["me/own", "me/public"]


def test_a_hub_that_is_out_of_reach_and_a_name_it_cannot_have_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    for name in ("me/tiny", "no such name!"):
        with pytest.raises(DataError, match=rf"{name}: the hub did not take it .*check the name \(owner/name\)"):
            push(tmp_path, name, kind="model")


CONVERSATION = Example(
    (
        Message("system", "Be brief."),
        Message("user", "What is sand?"),
        Message("assistant", "Small stones."),
        Message("user", "And the sea?"),
        Message("assistant", "Water."),
    ),
    "id",
    "Others",
    hard=True,
    weight=0.3,
)


def test_the_dataset_is_the_same_conversation_in_every_form(tmp_path: Path):
    assert export_dataset([CONVERSATION], tmp_path / "data", name="sand") == Written(1, not_alpaca=0)
    line = json.loads((tmp_path / "data" / "messages.jsonl").read_text())
    assert line["messages"][-1] == {"role": "assistant", "content": "Water.", "train": True}
    assert [message["train"] for message in line["messages"]] == [False] * 4 + [True]
    assert (line["hard"], line["weight"], line["task"]) == (True, 0.3, "Others")
    assert json.loads((tmp_path / "data" / "alpaca.json").read_text()) == [
        {
            "instruction": "And the sea?",
            "input": "",
            "output": "Water.",
            "system": "Be brief.",
            "history": [["What is sand?", "Small stones."]],
        }
    ]
    shared = json.loads((tmp_path / "data" / "sharegpt.json").read_text())[0]
    assert shared["system"] == "Be brief."
    assert [turn["from"] for turn in shared["conversations"]] == ["human", "gpt", "human", "gpt"]


@pytest.mark.parametrize(
    "roles",
    [
        ("user", "user", "assistant"),
        ("user", "assistant", "assistant"),
        ("assistant", "user", "assistant"),
        ("user", "assistant", "system", "user", "assistant"),
        ("system", "user", "user", "assistant", "user", "assistant"),
    ],
)
def test_a_conversation_without_turns_is_counted_out_of_the_alpaca_form_and_whole_in_the_others(
    roles: tuple[Literal["system", "user", "assistant"], ...], tmp_path: Path
):
    odd = replace(CONVERSATION, messages=tuple(Message(role, f"{n}") for n, role in enumerate(roles)))
    assert export_dataset([CONVERSATION, odd], tmp_path / "data", name="sand") == Written(2, not_alpaca=1)
    assert len(json.loads((tmp_path / "data" / "alpaca.json").read_text())) == 1
    lines = (tmp_path / "data" / "messages.jsonl").read_text().splitlines()
    assert [turn["role"] for turn in json.loads(lines[1])["messages"]] == list(roles)
    shared = json.loads((tmp_path / "data" / "sharegpt.json").read_text())[1]
    said = [shared["system"]] * bool(shared["system"]) + [turn["value"] for turn in shared["conversations"]]
    assert said == [f"{n}" for n in range(len(roles))]


def test_llama_factory_and_axolotl_are_told_of_columns_that_are_there(tmp_path: Path):
    export_dataset([CONVERSATION], tmp_path / "data", name="sand")
    info = json.loads((tmp_path / "data" / "dataset_info.json").read_text())
    assert set(info) == {"sand_alpaca", "sand_sharegpt"}
    for entry in info.values():
        row = json.loads((tmp_path / "data" / entry["file_name"]).read_text())[0]
        assert set(entry["columns"].values()) <= set(row)
    part = yaml.safe_load((tmp_path / "data" / "axolotl.yaml").read_text())["datasets"][0]
    row = json.loads((tmp_path / "data" / part["path"]).read_text())
    assert part["field_messages"] in row


def test_a_gguf_llama_has_the_logits_of_the_student(trained: Path, tmp_path: Path):
    export_gguf(trained, tmp_path / "student.gguf", kind="f32")
    read = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="student.gguf", dtype=torch.float32)
    own = AutoModelForCausalLM.from_pretrained(trained, dtype=torch.float32)
    ids = torch.tensor([[5, 9, 40, 41, 7]])
    assert torch.allclose(read(ids).logits, own(ids).logits, atol=1e-4)
    assert [path.name for path in tmp_path.iterdir()] == ["student.gguf"]


def test_a_gguf_carries_the_tokenizer_and_the_template(trained: Path, tmp_path: Path):
    export_gguf(trained, tmp_path / "student.gguf")
    read = AutoTokenizer.from_pretrained(tmp_path, gguf_file="student.gguf")
    own = AutoTokenizer.from_pretrained(trained)
    text = "<|im_start|>user\nWhat is the sum of 12 and 3?<|im_end|>\n"
    assert read.encode(text, add_special_tokens=False) == own.encode(text, add_special_tokens=False)
    assert read.chat_template == own.chat_template


def test_a_gguf_stops_where_the_student_learnt_to_though_its_text_ends_in_another_token(tmp_path: Path):
    base = build_tiny_model(tmp_path / "base", chat_template=None)
    settings_of_tokenizer = base / "tokenizer_config.json"
    settings_of_tokenizer.write_text(settings_of_tokenizer.read_text().replace("<|im_end|>", "<|endoftext|>"))
    train_round(base, examples(8), tmp_path / "student", settings(epochs=10), seed=1, template="chatml")
    export_gguf(tmp_path / "student", tmp_path / "student.gguf", kind="f32")
    found = verify(tmp_path / "student", tmp_path / "student.gguf", PROMPTS, max_tokens=48)
    assert (found.same, found.differing) == (5, ())
    ends = {name: GGUFReader(tmp_path / "student.gguf").fields[f"tokenizer.ggml.{name}_token_id"].contents()
            for name in ("eos", "eot")}  # fmt: skip
    assert ends == {"eos": SPECIAL.index("<|endoftext|>"), "eot": SPECIAL.index("<|im_end|>")}


def test_verifying_finds_a_gguf_that_does_not_stop(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as forgetful:
        for name in ("eos", "eot"):
            forgetful.setattr(GGUFWriter, f"add_{name}_token_id", lambda *_: None)
        export_gguf(trained, tmp_path / "student.gguf", kind="f32")
    assert verify(trained, tmp_path / "student.gguf", PROMPTS, max_tokens=48).same == 0


def test_a_gguf_qwen2_has_the_logits_of_the_student(trained: Path, tmp_path: Path):
    folder = tmp_path / "qwen"
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=json.loads((trained / "config.json").read_text())["vocab_size"],
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.2,
    )
    model = Qwen2ForCausalLM(config)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(trained).save_pretrained(folder)
    export_gguf(folder, tmp_path / "qwen.gguf", kind="f32")
    read = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="qwen.gguf", dtype=torch.float32)
    ids = torch.tensor([[5, 9, 40, 41, 7]])
    assert torch.allclose(read(ids).logits, model(ids).logits, atol=1e-4)


def test_an_architecture_that_cannot_be_written_is_refused_with_the_way_on(trained: Path, tmp_path: Path):
    import shutil

    shutil.copytree(trained, tmp_path / "other")
    config = tmp_path / "other" / "config.json"
    config.write_text(config.read_text().replace('"model_type": "llama"', '"model_type": "mamba"'))
    with pytest.raises(ModelError, match=r"mamba.*convert_hf_to_gguf"):
        export_gguf(tmp_path / "other", tmp_path / "other.gguf")


FACTS = CardFacts(
    name="sand | <b>",
    base_model="SmolLM2",
    teacher="big-model",
    seed_pool="the built-in pool",
    licences={"student": "apache-2.0", "teacher": None},
    rounds=[CardRound(1, 0.3, 100, 0.31, 10, 1.25), CardRound(2, 0.5, 120, None, 12, 1.0)],
    evaluations=["student_2 beats student_0 on 62.5 % of 200 prompts (95 % CI 55.8 to 69.2)"],
    recipe_yaml="name: sand\nnote: '``` # out'\n",
    version="0.1",
    tasks={"Math": 3, "Others": 1},
)


def test_the_model_card_says_what_from_whom_how_well_and_how_again():
    card = model_card(FACTS)
    front = yaml.safe_load(card.split("---")[1])
    assert front["license"] == "other"  # one licence is unknown
    assert "| 1 | 0.30 | 100 | 31.0% | 10 | 1.250 |" in card
    assert "| 2 | 0.50 | 120 | unknown |" in card
    assert "62.5 % of 200 prompts" in card
    assert "teacher: unknown" in card


def test_text_from_outside_cannot_break_out_of_the_card():
    card = model_card(FACTS)
    assert "<b>" not in card.replace("\\<b\\>", "")
    assert card.count("```") == 2


def test_the_data_card_counts_tasks_and_names_its_file():
    card = data_card(FACTS, examples=4)
    assert yaml.safe_load(card.split("---")[1])["configs"][0]["data_files"] == "messages.jsonl"
    assert "| Math | 3 |" in card
    assert card.startswith("---\n")
