"""Each step of a run: which tables it reads, which stage does the work, what it writes.

No decisions on rows here (they are `tapir.stages`' and `tapir.curriculum`'s), and no order (that is `pipeline`'s).
"""

from tapir.steps.benchmarks import benchmark
from tapir.steps.evaluation import evaluate
from tapir.steps.round_0 import (
    annotate,
    answer,
    classify_seeds,
    gather_held_out,
    gather_seeds,
    judge_attempts,
    select_hard_seeds,
    train_student_0,
)
from tapir.steps.rounds import Curriculum, enhance, expand, mix, refine, train

__all__ = [
    "Curriculum",
    "annotate",
    "answer",
    "benchmark",
    "classify_seeds",
    "enhance",
    "evaluate",
    "expand",
    "gather_held_out",
    "gather_seeds",
    "judge_attempts",
    "mix",
    "refine",
    "select_hard_seeds",
    "train",
    "train_student_0",
]
