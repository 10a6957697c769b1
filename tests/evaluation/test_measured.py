"""Values by instruction, of which an ablation's means and differences are made."""

from statistics import fmean

import pytest

from tapir.evaluation.heldout import Fit, results
from tapir.evaluation.measured import measured


def test_the_mean_likelihood_is_the_figure_of_the_run_over_all_tokens():
    # 4 over one token and 8 over seven: 12 / 8, where the mean of the rates by answer would be 2.57.
    fit = [Fit("short", "s", 4.0, 1), Fit("long", "s", 8.0, 7)]
    values = {m.instruction_id: m.value for m in measured([], {}, {}, [], fit)}
    assert values == {"short": 1.0, "long": 2.0}
    figure = next(r for r in results("s", [], {}, [], fit, [], seed=1) if r.metric == "nll_per_token")
    assert fmean(values.values()) == pytest.approx(figure.value) == 1.5
