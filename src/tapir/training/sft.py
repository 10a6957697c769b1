"""One round of training: from a student's folder and examples to the next student's folder.

Owns the order of events, resuming, and what is written. The loss and its seam with TRL are in `training.trainer`,
weights in and out in `training.weights`; which examples a round holds is decided before it.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from datasets import Dataset, Features, Value
from datasets import Sequence as Column
from transformers import PrinterCallback
from transformers.utils import logging as hf_logging
from trl.trainer.sft_config import SFTConfig

from tapir.config import HOW_IT_RUNS, Train
from tapir.errors import DataError, ModelError, RecipeError
from tapir.models.chat_template import ChatFormat
from tapir.models.device import give_back, memory_told
from tapir.store.tables import sync_folder
from tapir.training import checkpoints, weights
from tapir.training.attention import attend_by_segment
from tapir.training.borders import BorderCheck
from tapir.training.encode import EncodedSet
from tapir.training.folder import NOTHING, Allowed, fingerprint
from tapir.training.needs import check_machine, lora_config
from tapir.training.pack import Plan, plan_round
from tapir.training.prepare import collator, prepare
from tapir.training.resident import Resident
from tapir.training.result import Progress, TrainResult, read_log, write_log
from tapir.training.trackers import beside, run_name
from tapir.training.trainer import LogWriter, MixTrainer
from tapir.types import Example, canonical_json

LOG_NAME = "training_log.jsonl"


@dataclass(frozen=True, slots=True)
class Round:
    """Everything that a round's weights depend on, made before a model is loaded."""

    student: Path
    settings: Train
    seed: int
    chat: ChatFormat
    encoded: EncodedSet
    plan: Plan
    allowed: Allowed

    def job(self) -> str:
        """One name for all of it; a checkpoint is gone on from only under the same name."""
        parts = {
            "student": fingerprint(self.student, self.allowed),
            "settings": self.settings.model_dump(mode="json", exclude=HOW_IT_RUNS),
            "seed": self.seed,
            "template": self.chat.source,
            "rows": [asdict(row) for row in self.encoded.rows],
            "processes": self.plan.processes,
            "torch": torch.__version__,
        }
        return hashlib.sha256(canonical_json(parts).encode()).hexdigest()


def train_round(
    student_folder: Path,
    examples: Sequence[Example],
    out_folder: Path,
    settings: Train,
    *,
    seed: int,
    template: str | None = None,
    allowed: Allowed = NOTHING,
    progress: Progress | None = None,
    show: Callable[[str], None] | None = None,
    log_path: Path | None = None,
    resident: Resident | None = None,
) -> TrainResult:
    """Train the student of `student_folder` on `examples` into `out_folder`, which appears whole or not at all.

    A run that was killed goes on from its last whole checkpoint when called again with the same arguments. `show`
    gets one example with its trained tokens coloured before the first step; `resident` keeps the trained model in
    memory for a next round that starts from `out_folder`.
    """
    if out_folder.exists():
        raise DataError(f"{out_folder} exists already; delete it to train this student again")
    check_machine(settings)
    prepared = _prepare(student_folder, examples, settings, seed=seed, template=template, allowed=allowed, show=show)
    state = _processes()
    work = out_folder.with_name(f".{out_folder.name}.training")
    log = log_path or work / LOG_NAME
    if state.is_main_process:
        checkpoints.prepare_work(work, prepared.job())
    state.wait_for_everyone()
    checkpoint = checkpoints.last_whole(work)
    done = read_log(log)[: checkpoints.step_of(checkpoint)] if checkpoint else []
    state.wait_for_everyone()
    if state.is_main_process:
        write_log(log, done)
    with (
        _deterministic(seed),
        _quiet(),
        beside(out_folder),
        checkpoints.full_disk_told(work / "student"),
        memory_told(_takes_less(settings)),
    ):
        trainer = _trainer(prepared, work, resident, run_name(out_folder))
        writer = LogWriter(log, prepared.plan.steps, last=done[-1] if done else None, progress=progress)
        trainer.add_callback(writer)
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        result = _finish(prepared, trainer, writer, work, out_folder, resumed_at=len(done), resident=resident)
    # Weights and optimiser would stay in memory while the run goes on to other things.
    del trainer, writer
    give_back()
    return result


def _prepare(
    student: Path,
    examples: Sequence[Example],
    settings: Train,
    *,
    seed: int,
    template: str | None,
    allowed: Allowed,
    show: Callable[[str], None] | None,
) -> Round:
    chat, encoded, _ = prepare(student, examples, settings, template=template, allowed=allowed, show=show)
    plan = plan_round(
        encoded.rows,
        batch=settings.batch,
        micro_batch=settings.micro_batch,
        epochs=settings.epochs,
        order=settings.order,
        seed=seed,
        packed_tokens=settings.max_tokens if settings.packing else None,
        processes=_processes().num_processes,
    )
    if not plan.steps:
        raise RecipeError(
            f"{settings.epochs:g} epochs of {len(encoded.rows)} examples come to no step; raise train.epochs (or "
            "curriculum.tokens), or give the round more examples"
        )
    return Round(student, settings, seed, chat, encoded, plan, allowed)


def _takes_less(settings: Train) -> str:
    """What to set where the device's memory does not suffice, the least costly first."""
    ways = [
        (
            settings.micro_batch > 1,
            f"lower train.micro_batch (now {settings.micro_batch}; a step keeps its train.batch)",
        ),
        (not settings.gradient_checkpointing, "set train.gradient_checkpointing: true"),
        (settings.method == "full", "set train.method: lora"),
        (settings.method == "lora", "set train.method: qlora"),
        (True, f"lower train.max_tokens (now {settings.max_tokens})"),
    ]
    return ", or ".join(said for there, said in ways if there)


def _processes() -> PartialState:
    """This process among those that train; unless told, accelerate overlooks its siblings where there is no GPU."""
    return PartialState(cpu=not torch.cuda.is_available())


def _trainer(prepared: Round, work: Path, resident: Resident | None, name: str) -> MixTrainer:
    settings, plan = prepared.settings, prepared.plan
    collate = collator(prepared.chat, prepared.encoded, packed=settings.packing)
    model = resident.take(prepared.student) if resident else None
    if model is None:
        model = weights.load(prepared.student, settings, prepared.allowed)
    weights.set_stop(model, prepared.chat)
    if settings.packing and weights.attention(settings) == "sdpa" and settings.attention == "auto":
        attend_by_segment(model)
    data = {"rows": [list(micro) for micro in plan.micro_batches]}
    with weights.old_names_allowed():
        trainer = MixTrainer(
            groups=collate.groups,
            model=model,
            args=_arguments(prepared, work, name),
            data_collator=collate,
            train_dataset=Dataset.from_dict(data, features=Features({"rows": Column(Value("int64"))})),
            processing_class=prepared.chat.tokenizer,
            peft_config=None if settings.method == "full" else lora_config(settings.lora),
        )
    trainer.remove_callback(PrinterCallback)
    if settings.packing:
        trainer.add_callback(BorderCheck(trainer, collate))
    if trainer.accelerator.num_processes != plan.processes:
        raise ModelError(
            f"the round was planned for {plan.processes} processes, but {trainer.accelerator.num_processes} train; "
            "please report this as a bug, with the accelerate config"
        )
    return trainer


def _arguments(prepared: Round, work: Path, name: str) -> SFTConfig:
    settings, plan = prepared.settings, prepared.plan
    schedule = "constant_with_warmup" if settings.schedule == "constant" else settings.schedule
    args = SFTConfig(
        output_dir=str(work),
        # The data set is the plan: one row a micro-batch, all epochs in order, so that the library neither shuffles,
        # batches nor packs, and resuming is skipping rows.
        per_device_train_batch_size=1,
        gradient_accumulation_steps=plan.per_step,
        num_train_epochs=1,
        train_sampling_strategy="sequential",
        remove_unused_columns=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        packing=False,
        max_length=None,
        accelerator_config={"dispatch_batches": False, "split_batches": False, "even_batches": False},
        learning_rate=settings.learning_rate,
        lr_scheduler_type=schedule,
        warmup_steps=-int(-settings.warmup * plan.steps // 1),
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        seed=prepared.seed,
        bf16=weights.uses_bf16(settings),
        use_cpu=not torch.cuda.is_available(),
        activation_checkpointing=settings.gradient_checkpointing,
        use_liger_kernel=settings.liger and weights.has_liger(),
        router_aux_loss_coef=0.0,
        logging_steps=1,
        # A loss that is not a number must be seen, not averaged away.
        logging_nan_inf_filter=False,
        save_strategy="steps" if settings.save_every else "no",
        save_steps=settings.save_every or 500,
        report_to=list(settings.report_to) or "none",
        run_name=name,
        disable_tqdm=True,
        # A filler runs through all weights, so none is ever unused.
        ddp_find_unused_parameters=False,
    )
    # One process drives one device; several GPUs are the launcher's business.
    args._n_gpu = min(args.n_gpu, 1)  # pyright: ignore[reportPrivateUsage]
    return args


def _finish(
    prepared: Round,
    trainer: MixTrainer,
    writer: LogWriter,
    work: Path,
    out_folder: Path,
    *,
    resumed_at: int,
    resident: Resident | None,
) -> TrainResult:
    whole = work / "student"
    if trainer.is_world_process_zero():
        # What a full disk left of an earlier try would stay among the new files.
        shutil.rmtree(whole, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()
    adapters = weights.save(trainer, prepared.student, whole, prepared.settings, prepared.chat, prepared.allowed)
    result = _result(prepared, writer, out_folder, adapters, resumed_at)
    if trainer.is_world_process_zero():
        result.write(whole)
        if writer.path.parent == work:
            shutil.copyfile(writer.path, whole / LOG_NAME)
        sync_folder(whole)
        whole.rename(out_folder)
        shutil.rmtree(work)
    trainer.accelerator.wait_for_everyone()
    if resident and weights.same_as_saved(trainer, prepared.settings):
        resident.keep(out_folder, weights.plain_model(trainer))
    return result


def _result(prepared: Round, writer: LogWriter, out_folder: Path, adapters: str | None, resumed_at: int) -> TrainResult:
    encoded, plan = prepared.encoded, prepared.plan
    share = encoded.hard_share()
    if writer.last is None:
        raise DataError(
            f"{writer.path}: it lacks the steps before the last checkpoint; delete .{out_folder.name}.training beside "
            f"{out_folder} to train this student from its start"
        )
    return TrainResult(
        folder=out_folder,
        steps=plan.steps,
        examples=len(encoded.rows),
        tokens=sum(len(row) for row in encoded.rows),
        trained_tokens=sum(encoded.rows[n].trained for micro in plan.micro_batches for n in micro),
        final_loss=writer.last.loss,
        seconds=writer.seconds,
        dropped=dict(encoded.dropped),
        cut=encoded.cut,
        hard_rows=share.rows,
        hard_weight=share.weight,
        adapters=out_folder / adapters if adapters else None,
        resumed_at=resumed_at,
    )


@contextlib.contextmanager
def _deterministic(seed: int) -> Generator[None]:
    """Two runs on one CPU give the same bits; on a GPU operations without such a form only warn."""
    deterministic: Any = torch.utils.deterministic
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filled = deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available())
    # Writing over memory that will be written anyway costs time and changes no result.
    deterministic.fill_uninitialized_memory = False
    torch.manual_seed(seed)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        deterministic.fill_uninitialized_memory = filled


@contextlib.contextmanager
def _quiet() -> Generator[None]:
    """No progress bars of the libraries': `progress` tells all, and standard output belongs to data."""
    shown = hf_logging.is_progress_bar_enabled()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            hf_logging.enable_progress_bar()
