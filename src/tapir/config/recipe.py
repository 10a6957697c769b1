"""The recipe as a whole, and what must hold between its parts."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from tapir.config.ablation import Ablate
from tapir.config.judging import DifficultySettings, Evaluation, JudgeSettings, file_names
from tapir.config.models import ROLES, Budget, Models, endpoint_of
from tapir.config.part import Part
from tapir.config.pool import Classify, Decontaminate, Expand, Mix, Refine, Refiner, Seeds
from tapir.config.scaling import RaySettings
from tapir.config.training import Curriculum, Train


class LedgerSettings(Part):
    """Where calls are kept."""

    path: str = ".tapir/ledger.sqlite"
    """One a project; relative to the working directory."""
    replay: bool = False
    """Never call a served model; what the ledger does not hold is an error."""
    recordings: tuple[str, ...] = ()
    """Ledger exports read beside it; `builtin:NAME` is a shipped one."""

    @model_validator(mode="before")
    @classmethod
    def _replay_is_a_word(cls, value: Any) -> Any:
        """`ledger: replay` for `ledger: {replay: true}`."""
        return {"replay": True} if value == "replay" else value


class Recipe(Part):
    """A whole distillation."""

    version: Literal[1] = 1
    """Version of the recipe's form."""
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = "run"
    """Name of the run; its directory is `runs/NAME`."""
    seed: int = 17
    """All chance in the run follows from it."""
    seeds: Seeds = Seeds()
    models: Models
    taxonomy: str | None = None
    """Another task taxonomy (YAML); by default the paper's 32 types."""
    student_0: Literal["train", "as_is"] = "train"
    """Fine-tune the student on the pool first (§3.2), or take a chat model as it is."""
    budget: Budget = Budget()
    ledger: LedgerSettings = LedgerSettings()
    classify: Classify = Classify()
    judge: JudgeSettings = JudgeSettings()
    difficulty: DifficultySettings = DifficultySettings()
    curriculum: Curriculum = Curriculum()
    mix: Mix = Mix()
    expand: Expand = Expand()
    refine: Refine = Refine()
    refiner: Refiner = Refiner()
    train: Train = Train()
    evaluate: tuple[Evaluation, ...] = ()
    """Evaluations run on student_0 and after every round."""
    decontaminate: Decontaminate = Decontaminate()
    ablate: Ablate = Ablate()
    executor: Literal["local", "ray"] = "local"
    """Where the student generates and is scored: in this process, or on a Ray cluster. The rows are the same."""
    ray: RaySettings = RaySettings()
    store: str | None = None
    """An fsspec URL (`s3://bucket/folder`) that finished tables and checkpoints are copied to and read back from."""

    @property
    def rounds_seed(self) -> int:
        """What the rounds draw and train by."""
        return self.seed if self.curriculum.seed is None else self.curriculum.seed

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        if self.train.launcher == "ray" and self.executor != "ray":
            raise ValueError("train.launcher: ray needs executor: ray; on one machine take launcher: accelerate")
        if self.train.launcher == "ray" and self.train.accelerate_config == "deepspeed":
            raise ValueError(
                "train.accelerate_config: deepspeed does not train on Ray; take fsdp, or launcher: accelerate"
            )
        if self.store and urlsplit(self.store).username:
            raise ValueError("store must not carry credentials; the file system reads them from its own variables")
        judge = self.models.resolved("judge")
        if self.judge.samples > 1 and not judge.temperature:
            raise ValueError("judge.samples above 1 needs models.judge.temperature above 0, or all votes are equal")
        if self.budget.usd is not None or any(c.usd is not None for c in self.budget.per_stage.values()):
            for role in ROLES:
                model = self.models.resolved(role)
                if model.kind == "openai" and model.price_per_million is None:
                    raise ValueError(f"budget.usd needs models.{role}.price_per_million: without it money is unknown")
        if self.expand.check_difficulty and self.difficulty.kind != "mfd":
            raise ValueError("expand.check_difficulty compares with the judge's δ: it needs difficulty.kind mfd")
        file_names(self.evaluate)
        self._one_set_of_limits()
        self._students_are_known_apart()
        return self

    def _students_are_known_apart(self) -> None:
        """Endpoints serve weights that exist; those of a trained student are made by the run, and answer here."""
        student = self.models.resolved("student")
        if stray := [role for role in ROLES if role != "student" and getattr(self.models, role).weights]:
            raise ValueError(f"models.{stray[0]}.weights: only a student that endpoints serve has them; leave them out")
        if student.kind == "openai" and not student.weights:
            raise ValueError(
                "models.student is served (kind: openai), and training needs its weights here: name those that the "
                "endpoints serve in models.student.weights, or take kind: local"
            )
        if student.kind == "openai" and self.student_0 != "as_is":
            raise ValueError(
                "models.student is served, and a student_0 that the run trains would not be: set student_0: as_is, or "
                "take kind: local"
            )
        if student.kind == "local" and student.identity:
            raise ValueError(
                "models.student.identity would be one name for every student that the run trains; leave it out: local "
                "weights are known by their hash"
            )
        if student.kind != "openai" and student.weights:
            raise ValueError(
                "models.student.weights are those that endpoints serve (kind: openai); of a local student name them in "
                "models.student.model"
            )

    def _one_set_of_limits(self) -> None:
        """An endpoint bears what it bears, whichever role asks: two settings for it would add up."""
        seen: dict[str, tuple[str, Any]] = {}
        for role in ROLES:
            model = self.models.resolved(role)
            first, limits = seen.setdefault(endpoint_of(model), (role, model.limits))
            if model.kind == "openai" and limits != model.limits:
                raise ValueError(
                    f"models.{role}.limits differ from models.{first}.limits, and both are for the same model at the "
                    "same endpoint; give them once and take `same_as`"
                )
