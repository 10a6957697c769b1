"""A language model of under a million parameters, made on the spot: real files, random weights."""

from __future__ import annotations

import json
from pathlib import Path

CHATML = (
    "{%- for m in messages %}{{- '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def build_tiny_model(folder: Path, *, seed: int = 0, hidden: int = 64, chat_template: str | None = CHATML) -> Path:
    """A Llama of two layers with a byte-level tokenizer and ChatML, saved as safetensors in `folder`."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = build_tiny_tokenizer(folder, chat_template=chat_template)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        initializer_range=0.2,  # far from uniform, so that greedy replies differ from prompt to prompt
        bos_token_id=None,
        eos_token_id=2,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def build_tiny_experts(folder: Path, *, seed: int = 0) -> Path:
    """A mixture of four experts, whose weights have other names in its files than in memory."""
    import torch
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = build_tiny_tokenizer(folder)
    torch.manual_seed(seed)
    config = Qwen3MoeConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=64,
        moe_intermediate_size=32,
        num_experts=4,
        num_experts_per_tok=2,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=1024,
        bos_token_id=None,
        eos_token_id=2,
        pad_token_id=0,
    )
    Qwen3MoeForCausalLM(config).save_pretrained(folder)
    return folder


def build_tiny_tokenizer(folder: Path, *, chat_template: str | None = CHATML, vocabulary: int = 400) -> int:
    """Its files in `folder`; returns how many tokens it has."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "bos_token": None,
        "model_max_length": 1024,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    if chat_template is not None:
        (folder / "chat_template.jinja").write_text(chat_template, encoding="utf-8")
    return tokenizer.get_vocab_size()


_CORPUS = [
    "You are a helpful assistant.",
    "system user assistant",
    "What is the sum of two and three? The answer is five.",
    "Score the answers of both assistants from 1 to 10. Assistant 1: 7 Assistant 2: 8",
    "Write a short poem about the sea, the wind and the sand.",
    "0 1 2 3 4 5 6 7 8 9 10",
]


def build_tiny_encoder(folder: Path, *, seed: int = 0) -> Path:
    """A BERT of two narrow layers with a word tokenizer, saved as safetensors in `folder`."""
    import torch
    from transformers import BertConfig, BertModel

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = _build_word_tokenizer(folder)
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        pad_token_id=0,
    )
    BertModel(config).save_pretrained(folder)
    return folder


def _build_word_tokenizer(folder: Path) -> int:
    """Whole words of the questions that tests classify; returns how many there are."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordLevelTrainer(special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]"], show_progress=False)
    tokenizer.train_from_iterator([text for _, text in typed_questions(12)], trainer)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]", "model_max_length": 64}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return tokenizer.get_vocab_size()


def typed_questions(count: int) -> list[tuple[str, str]]:
    """(task type, text): `count` of each of three types that a few words tell apart."""
    forms = {
        "Math": "how many apples are {n} plus {n} ?",
        "Writing": "write a story about {n} boats",
        "History": "which king ruled in the year {n} ?",
    }
    return [(task, form.format(n=n)) for task, form in forms.items() for n in range(count)]
