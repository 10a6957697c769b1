"""The seam with TRL: `SFTTrainer` with our batches, the loss of equation 4 and its item count, and safe checkpoints.

Everything else (optimiser, schedule, devices, mixed precision, distribution) is TRL's and `transformers`'.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
import shutil
import time
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from peft import PeftModel
from torch import Tensor, nn
from torch.nn import functional
from transformers import Trainer, TrainerCallback
from trl.trainer.sft_trainer import SFTTrainer

from tapir.errors import ModelError
from tapir.training import checkpoints
from tapir.training.collate import Groups
from tapir.training.encode import UNTRAINED
from tapir.training.result import Progress, StepLog, append_log

OURS = ("labels", "weights", "groups")
"""Parts of a batch that the model is not shown."""


def token_nll(model: nn.Module, inputs: Mapping[str, Tensor], *, fused: bool) -> Tensor:
    """NLL of every label after the first position, 0 where it is untrained: shape (rows, width − 1).

    Logits are made for trained positions only; over a large vocabulary they are a good part of a small model's work.
    """
    seen = {name: value for name, value in inputs.items() if name not in OURS}
    targets = inputs["labels"][:, 1:]
    if fused:
        # TRL's Triton kernel picks the trained positions itself and never holds their logits in memory.
        return -model(**seen, labels=inputs["labels"], fused_lm_head=True).log_probs
    places = (targets != UNTRAINED).any(dim=0).nonzero().squeeze(1)
    if len(places) == 0:
        # A filler teaches nothing, but its forward and backward must run: the other processes wait for it.
        places = places.new_zeros(1)
    wanted = targets[:, places]
    logits: Tensor = model(**seen, use_cache=False, logits_to_keep=places).logits
    nll = functional.cross_entropy(
        logits.flatten(0, 1).float(), wanted.flatten(), ignore_index=UNTRAINED, reduction="none"
    )
    return nll.new_zeros(targets.shape).index_copy(1, places, nll.view(wanted.shape))


class MixTrainer(SFTTrainer):
    """Minimises Σ w·NLL over the *unweighted* number of trained tokens of the global batch (equation 4).

    Dividing by the summed weights instead would cancel α wherever a batch holds one part only.
    """

    # Our loss is divided by the whole step's tokens already, so the trainer must not divide it by the micro-batches.
    loss_is_scaled_for_ga = True

    def __init__(self, *, groups: Groups, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.groups = groups
        model: Any = self.model
        base = model.get_base_model() if isinstance(model, PeftModel) else model
        self.fused = torch.cuda.is_available()
        if not self.fused and "logits_to_keep" not in inspect.signature(type(base).forward).parameters:
            raise ModelError(
                f"{type(base).__name__} cannot compute logits for chosen positions, which training on CPU relies on; "
                "choose a student of another architecture"
            )
        self._tally = torch.zeros(len(groups), 2, dtype=torch.float64)
        """NLL and trained tokens by group since the last log."""

    def _send_telemetry(self) -> None:
        """TRL tells its makers what is trained on which machine; nothing of a run leaves it."""

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        # DeepSpeed has every float in its own precision, and bf16 would round α off.
        weights = cast(Tensor, inputs.pop("weights"))
        return {**super()._prepare_inputs(inputs), "weights": weights.to(self.args.device)}

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Any]:
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        # The count of equation 4: trained tokens of all micro-batches of the step on all processes, unweighted.
        count = torch.stack([(batch["labels"][:, 1:] != UNTRAINED).sum() for batch in batches]).sum()
        return batches, self.accelerator.reduce(count.to(device), "sum")

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor:
        nll = token_nll(model, inputs, fused=self.fused)
        trained = inputs["labels"][:, 1:] != UNTRAINED
        weights, groups = inputs["weights"][:, 1:], inputs["groups"][:, 1:]
        self._count(nll.detach()[trained], groups[trained])
        # Gradients are averaged over processes afterwards; the sum is wanted.
        return (weights * nll).sum() / num_items_in_batch * self.accelerator.num_processes

    def look(self, batch: Mapping[str, Tensor]) -> Tensor:
        """NLL of a batch's labels by the model as it trains; leaves no trace in the training."""
        model = cast(nn.Module, self.model_wrapped)
        before, device = model.training, self.accelerator.device
        model.eval()
        try:
            devices = [device] if device.type == "cuda" else []
            with torch.no_grad(), torch.random.fork_rng(devices), self.compute_loss_context_manager():
                return token_nll(model, self._prepare_inputs(dict(batch)), fused=self.fused)
        finally:
            model.train(before)

    def _count(self, nll: Tensor, groups: Tensor) -> None:
        members = functional.one_hot(groups, len(self.groups)).double()
        self._tally[:, 0] += (members.T @ nll.double()).cpu()
        self._tally[:, 1] += members.sum(dim=0).cpu()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            if not math.isfinite(logs["loss"]):
                raise ModelError(
                    f"the loss is {logs['loss']} at step {self.state.global_step}; lower train.learning_rate, "
                    "or set train.precision: float32"
                )
            logs |= self._parts()
        super().log(logs, start_time)

    def _parts(self) -> dict[str, float]:
        """Mean NLL of hard, easy and each task, by the names of `LogWriter`; absent where no token was trained."""
        total = cast(Tensor, self.accelerator.reduce(self._tally.to(self.accelerator.device), "sum")).cpu()
        self._tally.zero_()
        cells = total.view(len(self.groups.tasks), 2, 2)
        parts = {"part/easy": cells[:, 0].sum(0), "part/hard": cells[:, 1].sum(0)}
        parts |= {f"task/{task}": cells[number].sum(0) for number, task in enumerate(self.groups.tasks)}
        means = {name: float(cell[0] / cell[1]) for name, cell in parts.items() if cell[1] > 0}
        return means | {"trained_tokens": float(total[:, 1].sum())}

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        folder = Path(cast(str, self.args.output_dir)) / f"{checkpoints.PREFIX}{self.state.global_step}"
        try:
            with self._own_names():
                # TRL's own version only adds a model card, which a checkpoint needs none of.
                Trainer._save_checkpoint(self, model, trial)  # pyright: ignore[reportPrivateUsage]
        except Exception as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise checkpoints.unwritten(folder, error) from error
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            checkpoints.seal(folder)

    @contextlib.contextmanager
    def _own_names(self) -> Generator[None]:
        """Save weights under the names that they have in memory, by which the trainer reads a checkpoint.

        Some architectures (mixtures of experts) have others in files meant for sharing.
        """
        model: Any = self.accelerator.unwrap_model(self.model)
        if isinstance(model, PeftModel):
            yield
            return
        model.save_pretrained = functools.partial(model.save_pretrained, save_original_format=False)
        try:
            yield
        finally:
            del model.save_pretrained

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        model: Any = self.accelerator.unwrap_model(self.model)
        known = {*model.all_tied_weights_keys, *(model._keys_to_ignore_on_save or ())}
        if missing := sorted(set(load_result.missing_keys) - known):
            # The trainer would warn, and go on from weights that were never trained.
            raise ModelError(
                f"the checkpoint lacks {len(missing)} of the student's weights ({missing[0]} …) and cannot be gone on "
                f"from; delete {self.args.output_dir} to train this round from its start"
            )


class LogWriter(TrainerCallback):
    """Writes one `StepLog` a step, on the main process, and shows it to `progress`."""

    def __init__(self, path: Path, steps: int, *, last: StepLog | None, progress: Progress | None) -> None:
        self.path = path
        self.steps = steps
        self.last = last
        """The step before the first one here, of a training that goes on; it may have been the very last."""
        self._progress = progress
        self._before = last.seconds if last else 0.0
        self._started = time.monotonic()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        return self._before + time.monotonic() - self._started

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, float] | None = None, **_: Any) -> None:
        if logs is None or "loss" not in logs:
            return
        self.last = StepLog(
            step=state.global_step,
            steps=self.steps,
            loss=logs["loss"],
            grad_norm=logs.get("grad_norm"),
            learning_rate=logs["learning_rate"],
            trained_tokens=int(logs["trained_tokens"]),
            seconds=self.seconds,
            hard=logs.get("part/hard"),
            easy=logs.get("part/easy"),
            by_task={name[5:]: value for name, value in logs.items() if name.startswith("task/")},
        )
        if state.is_world_process_zero:
            append_log(self.path, self.last)
            if self._progress:
                self._progress(self.last)
