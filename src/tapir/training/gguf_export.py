"""A student as one GGUF file, for llama.cpp and Ollama.

Written with the `gguf` package, llama.cpp's own writer of the format. There is no maintained package that converts
every architecture (llama.cpp's script is not published as one), so this covers what small students mostly are: Llama,
Qwen2 and Qwen3 with a byte-level BPE tokenizer. Anything else is refused, with the way that leads on.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from tapir.errors import MissingExtra, ModelError
from tapir.models.chat_template import ChatFormat, load_tokenizer

GgufType = Literal["f32", "f16", "bf16", "q8_0"]
ARCHITECTURES = {"llama": "LLAMA", "qwen2": "QWEN2", "qwen3": "QWEN3"}
_QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPLITTERS = {("ByteLevel",): "gpt-2", ("Digits", "ByteLevel"): "smollm", (_QWEN2, "ByteLevel"): "qwen2"}
SPLITTERS[(_QWEN2.replace(r"\p{N}|", r"\p{N}{1,3}|"), "ByteLevel")] = "llama-bpe"
"""llama.cpp's names for how a text is split before merging, by what tokenizer.json does."""


def export_gguf(student: Path, target: Path, *, kind: GgufType = "f16") -> None:
    """Write the student to the file `target`. Norms stay in float32, as llama.cpp wants them."""
    try:
        import gguf
    except ImportError:
        raise MissingExtra("GGUF export needs the gguf package: pip install 'tapir-distill[local]'") from None
    config = _read(student / "config.json")
    family = ARCHITECTURES.get(str(config.get("model_type")))
    if family is None:
        raise _refusal(student, f"architecture {config.get('model_type')!r}")
    tokenizer = _read(student / "tokenizer.json")
    splitter = _splitter(student, tokenizer)
    architecture = gguf.MODEL_ARCH[family]
    partial = target.with_name(f".{target.name}.partial")
    writer = gguf.GGUFWriter(partial, gguf.MODEL_ARCH_NAMES[architecture])
    _describe(writer, config, student.name, kind)
    _vocabulary(writer, tokenizer, splitter, student, int(config["vocab_size"]))
    _tensors(writer, student, config, gguf.get_tensor_name_map(architecture, int(config["num_hidden_layers"])), kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    partial.rename(target)


def _refusal(student: Path, what: str) -> ModelError:
    return ModelError(
        f"{student}: {what} cannot be written as GGUF here; run llama.cpp's convert_hf_to_gguf.py on the folder, "
        "which is a plain Hugging Face one"
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read ({error}); export a whole student folder") from error


def _splitter(student: Path, tokenizer: dict[str, Any]) -> str:
    given = tokenizer.get("pre_tokenizer") or {}
    steps = given.get("pretokenizers", [given])
    key = tuple(step.get("pattern", {}).get("Regex") or step.get("type") for step in steps)
    normaliser = (tokenizer.get("normalizer") or {}).get("type")
    if tokenizer["model"]["type"] != "BPE" or key not in SPLITTERS or normaliser not in (None, "NFC"):
        # A wrong splitter would load and answer, only worse: no name is guessed.
        raise _refusal(student, f"a tokenizer of this kind ({tokenizer['model']['type']}, {normaliser}, {key})")
    return SPLITTERS[key]


def _describe(writer: Any, config: dict[str, Any], name: str, kind: GgufType) -> None:
    import gguf

    rope = config.get("rope_parameters") or {}
    if rope.get("rope_type", "default") != "default":
        raise ModelError(
            f"rope type {rope['rope_type']!r} cannot be written as GGUF here; use llama.cpp's convert_hf_to_gguf.py"
        )
    heads = int(config["num_attention_heads"])
    writer.add_name(name)
    writer.add_context_length(int(config["max_position_embeddings"]))
    writer.add_embedding_length(int(config["hidden_size"]))
    writer.add_block_count(int(config["num_hidden_layers"]))
    writer.add_feed_forward_length(int(config["intermediate_size"]))
    writer.add_head_count(heads)
    writer.add_head_count_kv(int(config.get("num_key_value_heads") or heads))
    writer.add_layer_norm_rms_eps(float(config["rms_norm_eps"]))
    writer.add_rope_freq_base(float(rope.get("rope_theta") or config.get("rope_theta") or 10000.0))
    size = int(config.get("head_dim") or config["hidden_size"] // heads)
    writer.add_rope_dimension_count(size)
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_vocab_size(int(config["vocab_size"]))
    writer.add_file_type(getattr(gguf.LlamaFileType, {"f32": "ALL_F32"}.get(kind, f"MOSTLY_{kind.upper()}")))
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def _vocabulary(writer: Any, tokenizer: dict[str, Any], splitter: str, student: Path, size: int) -> None:
    import gguf

    tokens = [f"[PAD{n}]" for n in range(size)]
    kinds = [gguf.TokenType.UNUSED] * size
    for token, number in tokenizer["model"]["vocab"].items():
        tokens[number], kinds[number] = token, gguf.TokenType.NORMAL
    for added in tokenizer.get("added_tokens", ()):
        tokens[added["id"]] = added["content"]
        kinds[added["id"]] = gguf.TokenType.CONTROL if added["special"] else gguf.TokenType.USER_DEFINED
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(splitter)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    merges = tokenizer["model"]["merges"]
    writer.add_token_merges([" ".join(pair) if isinstance(pair, list) else pair for pair in merges])
    _special_tokens(writer, student, tokens)


def _special_tokens(writer: Any, student: Path, tokens: list[str]) -> None:
    settings = _read(student / "tokenizer_config.json")
    places = {token: number for number, token in enumerate(tokens)}
    for name in ("bos", "eos", "pad", "unk"):
        declared = settings.get(f"{name}_token")
        text = declared.get("content") if isinstance(declared, dict) else declared
        if text in places:
            getattr(writer, f"add_{name}_token_id")(places[text])
    # The template writes every control token there is to be; a second beginning-of-text would be one too many.
    writer.add_add_bos_token(False)
    template = student / "chat_template.jinja"
    if template.exists():
        writer.add_chat_template(template.read_text(encoding="utf-8"))
        # Where the tokenizer's end of text is another token, a server that knew of no other would never stop.
        writer.add_eot_token_id(ChatFormat(load_tokenizer(student)).end_of_turn_id)


def _tensors(writer: Any, student: Path, config: dict[str, Any], names: Any, kind: GgufType) -> None:
    import gguf
    from safetensors import safe_open

    heads = int(config["num_attention_heads"])
    groups = {"q_proj": heads, "k_proj": int(config.get("num_key_value_heads") or heads)}
    wanted = gguf.GGMLQuantizationType[kind.upper()]
    for path in sorted(student.glob("*.safetensors")):
        with safe_open(str(path), framework="pt") as weights:
            for name in weights.keys():  # noqa: SIM118 -- not a mapping
                if name == "lm_head.weight" and config.get("tie_word_embeddings"):
                    continue
                tensor = weights.get_tensor(name).float()
                part = name.split(".")[-2]
                if config["model_type"] == "llama" and part in groups:
                    tensor = _interleaved(tensor, groups[part])
                found = names.get_name(name, try_suffixes=(".weight", ".bias"))
                if found is None:
                    raise _refusal(student, f"tensor {name}")
                data = tensor.contiguous().numpy()
                if data.ndim == 1 or wanted == gguf.GGMLQuantizationType.F32:
                    writer.add_tensor(found, data)
                else:
                    writer.add_tensor(found, gguf.quantize(data, wanted), raw_dtype=wanted)


def _interleaved(tensor: Any, heads: int) -> Any:
    # Rotary pairs lie half a head apart in transformers' Llama and side by side in llama.cpp's.
    rows, *rest = tensor.shape
    return tensor.reshape(heads, 2, rows // heads // 2, *rest).swapaxes(1, 2).reshape(tensor.shape)
