"""From a micro-batch of encoded examples to tensors.

Owns padding and flattening. Beside ids and labels every token carries its weight (equation 4) and its group (task and
part), so that the loss needs nothing but the batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tapir.training.encode import UNTRAINED, Encoded


class Groups:
    """Numbers for (task, part), so that losses can be told apart in a tensor: 2·task + hard."""

    def __init__(self, rows: Sequence[Encoded]) -> None:
        self.tasks = sorted({row.task for row in rows})
        self._number = {task: number for number, task in enumerate(self.tasks)}

    def __len__(self) -> int:
        return 2 * len(self.tasks)

    def of(self, row: Encoded) -> int:
        return 2 * self._number[row.task] + row.hard


class Collator:
    """Makes one micro-batch, named by its row numbers, into tensors.

    Packed, the examples lie end to end in one row and position ids restart at each: without an attention mask
    `transformers` reads the restarts as borders that attention does not cross, with every attention kernel; whether
    all of an architecture's layers keep to them is `training.borders`' to find out. Unpacked, they are padded on the
    right. No label is ever masked for being equal to the pad token.
    """

    def __init__(self, rows: Sequence[Encoded], groups: Groups, *, pad_id: int, packed: bool) -> None:
        self.rows = rows
        self.groups = groups
        self.pad_id = pad_id
        self.packed = packed

    def __call__(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        numbers = [number for item in items for number in item["rows"]]
        chosen = [self.rows[number] for number in numbers]
        if not chosen:
            return self._empty()
        return self._flat(chosen) if self.packed else self._padded(chosen)

    def _empty(self) -> dict[str, Tensor]:
        # A process that has no example left in a step still takes part in it, with nothing to learn from.
        return {
            "input_ids": torch.tensor([[self.pad_id, self.pad_id]]),
            "position_ids": torch.tensor([[0, 1]]),
            "labels": torch.tensor([[UNTRAINED, UNTRAINED]]),
            "weights": torch.zeros(1, 2),
            "groups": torch.zeros(1, 2, dtype=torch.long),
        }

    def _flat(self, rows: Sequence[Encoded]) -> dict[str, Tensor]:
        return {
            "input_ids": torch.tensor([[i for row in rows for i in row.input_ids]]),
            "position_ids": torch.tensor([[p for row in rows for p in range(len(row))]]),
            # Nothing inside an example predicts its first token, and its neighbour's last token must not.
            "labels": torch.tensor([[x for row in rows for x in (UNTRAINED, *row.labels[1:])]]),
            "weights": torch.tensor([[row.weight for row in rows for _ in row.input_ids]]),
            "groups": torch.tensor([[self.groups.of(row) for row in rows for _ in row.input_ids]]),
        }

    def _padded(self, rows: Sequence[Encoded]) -> dict[str, Tensor]:
        width = max(len(row) for row in rows)

        def wide(values: Sequence[int], fill: int) -> list[int]:
            return [*values, *[fill] * (width - len(values))]

        return {
            "input_ids": torch.tensor([wide(row.input_ids, self.pad_id) for row in rows]),
            "attention_mask": torch.tensor([wide([1] * len(row), 0) for row in rows]),
            "labels": torch.tensor([wide((UNTRAINED, *row.labels[1:]), UNTRAINED) for row in rows]),
            "weights": torch.tensor([[row.weight] for row in rows]).expand(len(rows), width).contiguous(),
            "groups": torch.tensor([[self.groups.of(row)] for row in rows]).expand(len(rows), width).contiguous(),
        }
