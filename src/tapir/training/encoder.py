"""Fine-tuning a BERT-style encoder to name task types (§3.3, footnote 3; appendix A).

`transformers` trains; ours are the class weights and the encoding, which is the one that classifies later. Balancing
and splitting the rows is `curriculum.labelling`'s, what is said of the outcome `stages.distil_classifier`'s.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    EarlyStoppingCallback,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.utils import logging as hf_logging

from tapir.errors import ModelError
from tapir.models.classifier import SETTINGS, classified_text, export_int8, load_tokenizer
from tapir.types import Instruction

Says = Callable[[int, str], None]
"""Epochs done, and what there is to say of the last one."""


@dataclass(frozen=True, slots=True)
class EncoderSettings:
    """How the encoder is trained. The paper gives none of these; ours suit a few hundred to some ten thousand rows."""

    learning_rate: float = 1e-4
    epochs: int = 30
    batch: int = 32
    warmup: float = 0.06
    patience: int = 3
    """Stop when the held-out loss has not fallen for so many epochs; the best epoch's weights are kept."""
    max_tokens: int = 256
    seed: int = 17


def train_encoder(
    base: Path,
    train: Sequence[Instruction],
    held_out: Sequence[Instruction],
    labels: Sequence[str],
    weights: Mapping[str, float],
    out: Path,
    settings: EncoderSettings,
    *,
    say: Says,
) -> dict[str, Any]:
    """Weights, tokenizer, label map and int8 form in `out`, which must be new; returns epochs and held-out losses.

    Without held-out rows there is no early stopping: all epochs are trained.
    """
    with _quiet():
        return _train(base, train, held_out, labels, weights, out, settings, say)


def _train(
    base: Path,
    train: Sequence[Instruction],
    held_out: Sequence[Instruction],
    labels: Sequence[str],
    weights: Mapping[str, float],
    out: Path,
    settings: EncoderSettings,
    say: Says,
) -> dict[str, Any]:
    work = out.with_name(f".{out.name}.checkpoints")
    torch.manual_seed(settings.seed)
    model = _load(base, labels)
    if settings.max_tokens > (room := getattr(model.config, "max_position_embeddings", settings.max_tokens)):
        raise ModelError(f"{base}: it reads {room} tokens at most, not {settings.max_tokens}; lower --max-tokens")
    tokenizer: Any = AutoTokenizer.from_pretrained(str(base), local_files_only=True)
    tokenizer.model_max_length = settings.max_tokens
    tokenizer.save_pretrained(str(out))
    losses: list[float] = []
    trainer = _trainer(model, _rows(train, labels, out, settings), _rows(held_out, labels, out, settings),
                       [weights[label] for label in labels], work, settings)  # fmt: skip
    trainer.add_callback(_Told(losses, say))
    try:
        trainer.train()
    finally:
        shutil.rmtree(work, ignore_errors=True)
    if model.config.model_type == "bert":
        # The int8 converter asks for this, which newer configurations leave out because there is but one kind.
        model.config.position_embedding_type = "absolute"
    model.save_pretrained(str(out))
    learned = {"labels": list(labels), "max_tokens": settings.max_tokens}
    (out / SETTINGS).write_text(json.dumps(learned), encoding="utf-8")
    export_int8(out)
    return {"epochs": round(trainer.state.epoch or 0), "held_out_losses": losses}


def _load(base: Path, labels: Sequence[str]) -> Any:
    try:
        return AutoModelForSequenceClassification.from_pretrained(
            str(base),
            num_labels=len(labels),
            id2label=dict(enumerate(labels)),
            label2id={label: at for at, label in enumerate(labels)},
            dtype=torch.float32,
            trust_remote_code=False,
            local_files_only=True,
        )
    except (OSError, ValueError) as error:
        raise ModelError(f"{base}: not an encoder that can be trained to classify ({error})") from error


def _rows(
    rows: Sequence[Instruction], labels: Sequence[str], folder: Path, settings: EncoderSettings
) -> list[dict[str, Any]]:
    if not rows:
        return []
    tokenizer = load_tokenizer(folder, settings.max_tokens)
    number = {label: at for at, label in enumerate(labels)}
    encoded = tokenizer.encode_batch([classified_text(row, settings.max_tokens) for row in rows])
    return [{"input_ids": e.ids, "labels": number[str(row.task)]} for e, row in zip(encoded, rows, strict=True)]


def _trainer(
    model: Any,
    train: list[dict[str, Any]],
    held_out: list[dict[str, Any]],
    weights: Sequence[float],
    work: Path,
    settings: EncoderSettings,
) -> Trainer:
    pad = model.config.pad_token_id or 0
    by_class = torch.tensor(weights)
    steps = settings.epochs * -(-len(train) // settings.batch)
    when = "epoch" if held_out else "no"

    def loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(outputs.logits.float(), labels, by_class.to(labels.device))

    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(work),
            per_device_train_batch_size=settings.batch,
            per_device_eval_batch_size=settings.batch,
            num_train_epochs=settings.epochs,
            learning_rate=settings.learning_rate,
            warmup_steps=int(settings.warmup * steps),
            train_sampling_strategy="group_by_length",
            eval_strategy=when,
            save_strategy=when,
            save_only_model=True,
            save_total_limit=1,
            load_best_model_at_end=bool(held_out),
            metric_for_best_model="loss",
            remove_unused_columns=False,
            seed=settings.seed,
            use_cpu=not torch.cuda.is_available(),
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
        data_collator=lambda batch: _collate(batch, pad),
        train_dataset=train,  # pyright: ignore[reportArgumentType]
        eval_dataset=held_out or None,  # pyright: ignore[reportArgumentType]
        compute_loss_func=loss,
        callbacks=[EarlyStoppingCallback(settings.patience)] if held_out else [],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _collate(batch: list[dict[str, Any]], pad: int) -> dict[str, torch.Tensor]:
    longest = max(len(row["input_ids"]) for row in batch)
    lacking = [longest - len(row["input_ids"]) for row in batch]
    return {
        "input_ids": torch.tensor([r["input_ids"] + [pad] * n for r, n in zip(batch, lacking, strict=True)]),
        "attention_mask": torch.tensor([[1] * (longest - n) + [0] * n for n in lacking]),
        "labels": torch.tensor([row["labels"] for row in batch]),
    }


@contextlib.contextmanager
def _quiet() -> Generator[None]:
    """No bars, and no report on every load that the last layer is new: that is what is trained."""
    bars, verbosity = hf_logging.is_progress_bar_enabled(), hf_logging.get_verbosity()
    hf_logging.disable_progress_bar()
    hf_logging.set_verbosity_error()
    try:
        yield
    finally:
        hf_logging.set_verbosity(verbosity)
        if bars:
            hf_logging.enable_progress_bar()


class _Told(TrainerCallback):
    """Keeps the held-out losses and tells of every epoch."""

    def __init__(self, losses: list[float], say: Says) -> None:
        self._losses, self._say = losses, say

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._losses.append(round(float(kwargs["metrics"]["eval_loss"]), 4))
        self._say(round(state.epoch), f"held-out loss {self._losses[-1]:.3f}")
