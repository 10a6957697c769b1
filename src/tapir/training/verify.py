"""Whether an exported student still is the run's: both answer the same prompts greedily, each by its own files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tapir.errors import ModelError
from tapir.training.folder import stop_ids
from tapir.types import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from tapir.models.chat_template import ChatFormat

PROMPTS = 20
GGUF = ".gguf"


@dataclass(frozen=True, slots=True)
class Verification:
    """How the exported student compares with the run's."""

    prompts: int
    spelt_alike: int
    """Prompts of which both make the same tokens: the template and the tokenizer came along."""
    same: int
    """Answers that are the same to the last token."""
    differing: tuple[tuple[str, str, str], ...]
    """(prompt, the run's answer, the exported one's) of those that are not the same."""

    @property
    def sound(self) -> bool:
        """Rounding may turn a close call between two tokens; it turns neither a prompt nor every answer."""
        return self.spelt_alike == self.prompts and self.same > 0


def verify(
    student: Path, exported: Path, prompts: Sequence[Sequence[Message]], *, max_tokens: int = 64
) -> Verification:
    """Answer the prompts greedily with both, and compare. `exported` is a folder, or a GGUF file."""
    if not prompts:
        raise ModelError("there is no prompt to verify the export with; give some of the run's held-out prompts")
    before, after = _answers(student, prompts, max_tokens), _answers(exported, prompts, max_tokens)
    paired = list(zip(prompts, before, after, strict=True))
    differing = tuple((p[-1].content, one[1], other[1]) for p, one, other in paired if one[1] != other[1])
    alike = sum(one[0] == other[0] for one, other in zip(before, after, strict=True))
    return Verification(len(prompts), alike, len(prompts) - len(differing), differing)


def _answers(place: Path, prompts: Sequence[Sequence[Message]], max_tokens: int) -> list[tuple[list[int], str]]:
    """Each prompt's tokens and its answer."""
    import torch

    from tapir.models.chat_template import ChatFormat

    tokenizer, model = _open(place)
    chat = ChatFormat(tokenizer)
    stops = _stops(place, chat)
    found: list[tuple[list[int], str]] = []
    for prompt in prompts:
        spelt = chat.prompt_ids(prompt)
        ids = torch.tensor([spelt])
        made = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=max_tokens,
            eos_token_id=stops,
            pad_token_id=chat.end_of_turn_id,
        )
        found.append((spelt, str(tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True))))
    return found


def _stops(place: Path, chat: ChatFormat) -> list[int]:
    """What ends an answer: for a folder as in the run, for a GGUF file as it tells llama.cpp."""
    if place.suffix != GGUF:
        from tapir.models.chat_template import stop_token_ids

        return stop_token_ids(chat, stop_ids(place))
    from gguf import GGUFReader

    fields = GGUFReader(place).fields
    named = (fields.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot"))
    return [int(field.contents()) for field in named if field is not None]


def _open(place: Path) -> tuple[PreTrainedTokenizerBase, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from tapir.models.chat_template import load_tokenizer

    # In float32 on either side, so that only the weights' own rounding is compared.
    how: dict[str, Any] = {"dtype": torch.float32, "local_files_only": True}
    if place.suffix == GGUF:
        tokenizer = AutoTokenizer.from_pretrained(str(place.parent), gguf_file=place.name)
        return tokenizer, AutoModelForCausalLM.from_pretrained(str(place.parent), gguf_file=place.name, **how)
    model = AutoModelForCausalLM.from_pretrained(str(place), use_safetensors=True, trust_remote_code=False, **how)
    return load_tokenizer(place), model
