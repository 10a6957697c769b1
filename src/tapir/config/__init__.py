"""The recipe: one YAML file, every field described where it is defined, unknown keys refused.

Reading and checking only. What the values are used for is said in the field's own words; live objects are made from
them in `tapir.wiring`.
"""

from tapir.config.ablation import Ablate, Form
from tapir.config.judging import (
    ON_FILES,
    Count,
    DifficultySettings,
    Evaluation,
    JudgeSettings,
    Quantile,
    file_names,
)
from tapir.config.models import ROLES, Budget, Caps, Limits, Model, Models, Price, Role, endpoint_of
from tapir.config.part import Part
from tapir.config.pool import Classify, Decontaminate, Expand, Mix, Refine, Refiner, Seeds
from tapir.config.reading import override, parse_recipe, read_yaml, rewritten
from tapir.config.recipe import LedgerSettings, Recipe
from tapir.config.scaling import RaySettings
from tapir.config.stages import table_of
from tapir.config.training import HOW_IT_RUNS, Curriculum, Lora, Train

__all__ = [
    "HOW_IT_RUNS",
    "ON_FILES",
    "ROLES",
    "Ablate",
    "Budget",
    "Caps",
    "Classify",
    "Count",
    "Curriculum",
    "Decontaminate",
    "DifficultySettings",
    "Evaluation",
    "Expand",
    "Form",
    "JudgeSettings",
    "LedgerSettings",
    "Limits",
    "Lora",
    "Mix",
    "Model",
    "Models",
    "Part",
    "Price",
    "Quantile",
    "RaySettings",
    "Recipe",
    "Refine",
    "Refiner",
    "Role",
    "Seeds",
    "Train",
    "endpoint_of",
    "file_names",
    "override",
    "parse_recipe",
    "read_yaml",
    "rewritten",
    "table_of",
]
