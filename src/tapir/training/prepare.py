"""Everything about a round that is decided before a model is loaded: adapters placed, examples encoded and looked at.

`tapir doctor` and every training go through here, so that what the one finds sound the other does too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from tapir.config import Train
from tapir.models.chat_template import ChatFormat, load_tokenizer
from tapir.training.collate import Collator, Groups
from tapir.training.encode import EncodedSet, encode_all
from tapir.training.folder import NOTHING, Allowed, check_folder, stop_ids
from tapir.training.needs import check_adapters
from tapir.training.preflight import Preview, preflight
from tapir.types import Example

_FIRST = 8
"""Examples in the batch that is collated for the preflight."""


def prepare(
    student: Path,
    examples: Sequence[Example],
    settings: Train,
    *,
    template: str | None,
    allowed: Allowed = NOTHING,
    show: Callable[[str], None] | None = None,
) -> tuple[ChatFormat, EncodedSet, Preview]:
    """The chat format, the encoded examples and one of them to show; refuses what would train wrongly.

    `show` gets that example with its trained tokens coloured.
    """
    check_folder(student, allowed)
    check_adapters(student, settings, allowed)
    chat = ChatFormat(load_tokenizer(student), template)
    encoded = encode_all(examples, chat, max_tokens=settings.max_tokens, too_long=settings.too_long)
    first = {"rows": list(range(min(len(encoded.rows), _FIRST)))}
    shown = preflight(
        examples,
        encoded,
        chat,
        max_truncated=settings.max_truncated,
        # With a template of ours the stop token is written with the weights; the old one does not matter.
        stop_ids=stop_ids(student) if template is None else None,
        batch=collator(chat, encoded, packed=False)([first]),
    )
    if show:
        show(shown.coloured())
    return chat, encoded, shown


def collator(chat: ChatFormat, encoded: EncodedSet, *, packed: bool) -> Collator:
    """What makes these rows into tensors."""
    tokenizer = chat.tokenizer
    pad_id = tokenizer.pad_token_id if isinstance(tokenizer.pad_token_id, int) else chat.end_of_turn_id
    return Collator(encoded.rows, Groups(encoded.rows), pad_id=pad_id, packed=packed)
