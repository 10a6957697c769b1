"""The rounds and the training of one round."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tapir.config.part import Part, Positive, Share


class Curriculum(Part):
    """The rounds."""

    rounds: Annotated[int, Field(ge=1)] = 3
    """How many."""
    alpha_start: Share = 0.3
    """Share of hard data in round 1 (§4.1)."""
    alpha_step: Annotated[float, Field(ge=-1, le=1)] = 0.2
    """Added each round (§4.1), kept within 0 and 1."""
    alphas: tuple[Share, ...] | None = None
    """A fixed list instead, one per round."""
    mixing: Literal["proportion", "loss"] = "proportion"
    """α as the share of rows, or as the weight in the loss (equation 4): then each part is drawn alone."""
    data: Literal["cumulative", "newest"] = "cumulative"
    """Train on all grown data so far, or on the newest beside the seeds."""
    seed: int | None = None
    """Seed of the rounds' draws and training alone; by default the recipe's. Round 0 and expansion do not see it."""
    tokens: Positive | None = None
    """Trained tokens of all rounds together, evenly shared out, instead of `train.epochs` over each round's set."""

    @model_validator(mode="after")
    def _one_alpha_a_round(self) -> Curriculum:
        if self.alphas is not None and len(self.alphas) != self.rounds:
            raise ValueError(f"alphas has {len(self.alphas)} values for {self.rounds} rounds")
        return self

    def alpha(self, round_number: int) -> float:
        """α of round r, counted from 1."""
        if self.alphas is not None:
            return self.alphas[round_number - 1]
        return round(min(1.0, max(0.0, self.alpha_start + (round_number - 1) * self.alpha_step)), 9)


class Lora(Part):
    r: Positive = 16
    """Rank."""
    alpha: Positive = 32
    """Scale."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout on the adapters."""
    target: str | tuple[str, ...] = "all-linear"
    """Modules that get adapters."""


HOW_IT_RUNS = {"save_every", "report_to", "launcher", "max_truncated"}
"""Settings of a training that cannot change its weights."""


class Train(Part):
    """Supervised fine-tuning, by TRL."""

    method: Literal["full", "lora", "qlora"] = "full"
    """What is trained."""
    lora: Lora = Lora()
    """Adapters, for lora and qlora."""
    keep_adapters: bool = False
    """Keep the adapters beside the merged weights."""
    learning_rate: Annotated[float, Field(gt=0)] = 2e-5
    """Peak rate (§4.1)."""
    warmup: Share = 0.03
    """Share of steps that warm up (§4.1)."""
    schedule: Literal["linear", "cosine", "constant"] = "cosine"
    """After warm-up (the paper does not name it)."""
    epochs: Annotated[float, Field(gt=0)] = 3
    """Passes over a round's set (§4.1)."""
    batch: Positive = 32
    """Examples an optimiser step (§4.1)."""
    micro_batch: Positive = 4
    """Examples at once on a device; the rest is accumulated."""
    max_tokens: Positive = 2048
    """Longest example (§4.1)."""
    too_long: Literal["drop", "cut"] = "drop"
    """What happens to a longer one."""
    max_truncated: Share = 0.05
    """Share of over-long examples above which training refuses to start."""
    packing: bool = False
    """Several examples in a row of tokens, each attending to itself only."""
    order: Literal["shuffled", "easy_first", "by_difficulty"] = "shuffled"
    """Order of examples within an epoch."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """bf16 where the hardware has it."""
    gradient_checkpointing: bool = False
    """Trade time for memory."""
    attention: Literal["auto", "eager", "sdpa", "flash_attention_2"] = "auto"
    """Attention kernel; flash where installed."""
    liger: bool = False
    """Liger kernels, where installed."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    """Gradient clipping."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """AdamW's decay (ours: none)."""
    save_every: Positive | None = None
    """Checkpoint every so many steps."""
    report_to: tuple[str, ...] = ()
    """Trackers that `transformers` knows."""
    launcher: Literal["single", "accelerate", "ray"] = "single"
    """One process, `accelerate launch`, or Ray Train."""
    accelerate_config: str | None = None
    """Config file for `accelerate`; `fsdp`, `deepspeed` name the shipped ones. Ray Train heeds it too, but for
    DeepSpeed."""
