"""What must hold before the first step, and one example shown as the student will see it.

Each check names a failure that training would bear in silence: the loss falls all the same, and the student never
stops, or never learns. Costs no model, only a tokenizer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from tapir.errors import ModelError
from tapir.training.encode import UNTRAINED, Encoded, EncodedSet, unfit
from tapir.types import Example, Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from tapir.models.chat_template import ChatFormat

_SAMPLE = 32
"""Examples that the costlier checks look at; what they guard is a property of template and tokenizer."""
_TRAINED, _PLAIN = "\x1b[32m", "\x1b[0m"
_PROBE = Message("assistant", "Fine, thank you.")


@dataclass(frozen=True, slots=True)
class Span:
    """Neighbouring tokens that are all trained, or all not."""

    text: str
    trained: bool


@dataclass(frozen=True, slots=True)
class Preview:
    """One example as the student sees it."""

    spans: tuple[Span, ...]

    def coloured(self) -> str:
        """Trained text in green; control characters of the text itself are shown, not sent."""
        return "".join(
            f"{_TRAINED}{_shown(span.text)}{_PLAIN}" if span.trained else _shown(span.text) for span in self.spans
        )

    def marked(self) -> str:
        """The same without colours: trained text in brackets that no keyboard has."""
        return "".join(f"⟦{_shown(span.text)}⟧" if span.trained else _shown(span.text) for span in self.spans)


def preflight(
    examples: Sequence[Example],
    encoded: EncodedSet,
    chat: ChatFormat,
    *,
    max_truncated: float,
    stop_ids: Sequence[int] | None = None,
    batch: Mapping[str, Any] | None = None,
) -> Preview:
    """Refuse what would train wrongly, with its remedy; else show the first example.

    `stop_ids` are the tokens generation stops on, None where they are still to be written; `batch` is a collated
    micro-batch of the first encoded rows.
    """
    check_lengths(encoded, max_truncated)
    check_trained(encoded.rows)
    check_end_of_turn(encoded.rows, chat)
    check_specials(encoded.rows, chat.tokenizer.bos_token_id, chat.end_of_turn_id)
    for example in islice((e for e in examples if not unfit(e)), _SAMPLE):
        check_prompt(example.messages[:-1], chat)
    if stop_ids is not None:
        check_stop(stop_ids, chat.end_of_turn_id)
    if batch is not None:
        check_collated(encoded.rows, batch, chat.tokenizer.pad_token_id)
    return preview(encoded.rows[0], chat.tokenizer)


def check_lengths(encoded: EncodedSet, max_truncated: float) -> None:
    """Refuse an empty set, and one of which too much is over-long."""
    share = encoded.too_long / encoded.seen if encoded.seen else 0.0
    if share > max_truncated:
        raise ModelError(
            f"{encoded.too_long} of {encoded.seen} examples ({share:.0%}) are longer than train.max_tokens, more than "
            f"train.max_truncated allows ({max_truncated:.0%}); raise max_tokens, or max_truncated if this is wanted"
        )
    if not encoded.rows:
        reasons = ", ".join(f"{count} {reason}" for reason, count in encoded.dropped.items()) or "none came in"
        raise ModelError(f"there is no example to train on ({reasons}); give the round more data")


def check_trained(rows: Sequence[Encoded]) -> None:
    for row in rows:
        if not row.trained:
            raise ModelError(
                f"example {row.instruction_id} has no trained token; give it an answer or leave it out of the round"
            )


def check_end_of_turn(rows: Sequence[Encoded], chat: ChatFormat) -> None:
    """Every whole answer ends in the token that will stop generation, and that token is trained."""
    for row in rows:
        if not row.cut and row.labels[-1] != chat.end_of_turn_id:
            raise ModelError(
                f"example {row.instruction_id}: the end-of-turn token {chat.end_of_turn_id} is not trained, so the "
                "student would never stop; set models.student.chat_template: chatml, or mend the model's template so "
                "that it writes the token right after the answer"
            )


def check_specials(rows: Sequence[Encoded], bos_id: Any, end_of_turn_id: int) -> None:
    """No control token stands twice where it belongs once: the student would learn to write it twice."""
    for row in rows:
        if row.labels[-2:] == (end_of_turn_id, end_of_turn_id):
            raise ModelError(
                f"example {row.instruction_id}: its answer ends in the end-of-turn token twice; take the token's text "
                "out of the answer, the template writes it"
            )
        if bos_id is not None and row.input_ids[:2] == (bos_id, bos_id):
            raise ModelError(
                f"example {row.instruction_id} begins with the beginning-of-text token twice: the template writes it "
                "and so does the tokenizer; set add_bos_token: false in tokenizer_config.json, or take it out of the "
                "template"
            )


def check_prompt(prompt: Sequence[Message], chat: ChatFormat) -> None:
    """What is trained must be what is generated from, and what the template itself makes of the finished turn."""
    if prompt and prompt[0].role == "system" and not chat.has_system_slot:
        # There is nothing to compare with: a server would refuse the system turn, or drop it.
        prompt = prompt[1:]
    ids, opened = chat.prompt_ids(prompt), _rendered(chat, prompt, finished=False)
    served = list(chat.tokenizer.encode(opened, add_special_tokens=False))
    spelt = any(special in message.content for message in prompt for special in chat.tokenizer.all_special_tokens)
    # ChatFormat takes a control token in a text for text; a server obeys it, and differs for a good reason.
    if served != ids and not spelt:
        raise ModelError(
            "the prompt's tokens differ between training and a server that uses the saved template, from token "
            f"{_first_difference(ids, served)} on; set models.student.chat_template: chatml"
        )
    if not _rendered(chat, (*prompt, _PROBE), finished=True).startswith(opened):
        raise ModelError(
            "the template opens an answer otherwise than it writes a finished turn, so earlier turns would look "
            "different from what the student is trained to write; set models.student.chat_template: chatml"
        )


def _rendered(chat: ChatFormat, messages: Sequence[Message], *, finished: bool) -> str:
    """The text a server makes from the saved tokenizer."""
    turns = [{"role": message.role, "content": message.content} for message in messages]
    made = chat.tokenizer.apply_chat_template(
        turns, chat_template=chat.source, tokenize=False, add_generation_prompt=not finished
    )
    return str(made)


def _first_difference(one: Sequence[int], other: Sequence[int]) -> int:
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def check_stop(stop_ids: Sequence[int], end_of_turn_id: int) -> None:
    if end_of_turn_id not in stop_ids:
        raise ModelError(
            f"generation stops on {list(stop_ids)}, but the answers are trained to end in {end_of_turn_id}; add it to "
            "eos_token_id in the student's generation_config.json"
        )


def check_collated(rows: Sequence[Encoded], batch: Mapping[str, Any], pad_id: Any) -> None:
    """Collating must not lose a trained token; masking by pad id does where pad and end-of-turn are one token."""
    wanted = sum(row.trained for row in rows[: len(batch["labels"])])
    found = int((batch["labels"][:, 1:] != UNTRAINED).sum())
    if len(batch["labels"]) > 1 and found != wanted:
        raise ModelError(
            f"{wanted - found} of {wanted} trained tokens were masked away in the batch, as happens where the pad "
            f"token ({pad_id}) is also the end-of-turn token and padding is masked by id; mask by length instead, or "
            "give the tokenizer a pad token of its own"
        )


def preview(row: Encoded, tokenizer: PreTrainedTokenizerBase) -> Preview:
    """The row's text in spans of trained and untrained tokens."""
    spans: list[Span] = []
    start = 0
    for end in range(1, len(row) + 1):
        trained = row.labels[start] != UNTRAINED
        if end == len(row) or (row.labels[end] != UNTRAINED) != trained:
            spans.append(Span(str(tokenizer.decode(list(row.input_ids[start:end]))), trained))
            start = end
    return Preview(tuple(spans))


def _shown(text: str) -> str:
    return "".join(c if c.isprintable() or c in "\n\t" else f"\\u{ord(c):04x}" for c in text)
