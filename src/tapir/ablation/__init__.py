"""Strategies trained and measured beside each other on one round 0 (Table 5), over seeds and settings."""

from tapir.ablation.plan import Arm, Cell, arms_of, cells_of, describe, estimate_s
from tapir.ablation.running import ablate

__all__ = ["Arm", "Cell", "ablate", "arms_of", "cells_of", "describe", "estimate_s"]
