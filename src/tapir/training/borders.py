"""Whether packed examples are out of each other's sight, tried on the model that is to be trained.

Position ids that restart close the view of attention, where an architecture looks at them. Convolutions, state spaces
and linear attention run on across the border, and training would bear it in silence: the loss falls all the same.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from transformers import TrainerCallback

from tapir.errors import ModelError
from tapir.training.collate import Collator
from tapir.training.encode import UNTRAINED
from tapir.training.trainer import MixTrainer

TOKENS = 16
"""Of each of the two examples."""
MOST_NATS = 0.05
"""A token's likelihood may move by so much: rounding comes to less, and what an architecture lets through to more."""


class BorderCheck(TrainerCallback):
    """Refuses to train across borders, once the model stands as it will train and before its first step.

    All processes look together: where weights are sharded, none can run the model alone.
    """

    def __init__(self, trainer: MixTrainer, collate: Collator) -> None:
        self._trainer, self._collate = trainer, collate

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        one, other = (self._trainer.look(batch) for batch in _twins(self._collate))
        moved = self._trainer.accelerator.gather((one - other).abs().max().reshape(1))
        if float(torch.as_tensor(moved).max()) > MOST_NATS:
            model: Any = self._trainer.accelerator.unwrap_model(self._trainer.model)
            raise ModelError(
                f"{model.config.model_type}: this architecture lets a packed example see the one before it, which "
                "would train on what no prompt holds; set train.packing: false"
            )


def _twins(collate: Collator) -> list[dict[str, torch.Tensor]]:
    """Two packed rows that end in the same example and differ in every token before it."""
    row = collate.rows[0]
    highest = max(row.input_ids)
    # No natural text: what nobody could guess shows any help from the neighbour.
    ids = tuple(highest * n // TOKENS for n in range(1, TOKENS + 1))
    last = replace(row, input_ids=ids, labels=ids)
    firsts = (replace(row, input_ids=order, labels=(UNTRAINED,) * TOKENS) for order in (ids, ids[::-1]))
    return [
        Collator([first, last], collate.groups, pad_id=collate.pad_id, packed=True)([{"rows": [0, 1]}])
        for first in firsts
    ]
