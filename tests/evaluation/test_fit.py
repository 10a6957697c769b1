"""Held-out fit from measured likelihoods; sums worked out by hand."""

import pytest

from tapir.errors import DataError
from tapir.evaluation.fit import score_fit
from tapir.evaluation.heldout import Fit


def rows(*pairs: tuple[float, int], name: str = "s") -> list[Fit]:
    return [Fit(f"q{n}", name, nll, tokens) for n, (nll, tokens) in enumerate(pairs)]


def test_every_token_weighs_the_same_not_every_answer():
    # (2 + 16) / (1 + 8), not the mean of 2 and 2; and (3 + 6) / 9.
    assert score_fit("s", "direct", rows((2.0, 1), (16.0, 8))).nll_per_token.value == 2.0
    found = score_fit("s", "direct", rows((3.0, 1), (6.0, 8)), missing=4)
    assert (found.nll_per_token.value, found.tokens, found.nll_per_token.n) == (1.0, 9, 2)
    assert found.nll_per_token.missing == 4


def test_the_interval_holds_the_number_and_equal_answers_have_none_to_show():
    found = score_fit("s", "direct", rows(*((float(n), 2) for n in range(1, 21)))).nll_per_token
    assert found.low is not None
    assert found.high is not None
    # Sum 210 over 40 tokens.
    assert found.low < found.value == 5.25 < found.high
    single = score_fit("s", "direct", rows((2.0, 4))).nll_per_token
    assert (single.value, single.low) == (0.5, None)


def test_a_change_is_that_of_all_tokens_of_the_answers_that_both_have():
    # 10 over 8 tokens now, 22 over 8 before; the third has no counterpart. By answers it would be (-1 - 1.667) / 2.
    found = score_fit("s", "enhanced", rows((2.0, 2), (8.0, 6), (5.0, 1)), rows((4.0, 2), (18.0, 6)))
    assert found.change is not None
    assert (found.change.value, found.change.n, found.change.unpaired) == (-1.5, 2, 1)
    assert found.change.low == pytest.approx(-10 / 6)
    assert found.change.high == -1.0


def test_a_change_is_the_difference_of_both_figures_whatever_the_tokenizers():
    now, before = rows((2.0, 2), (8.0, 6)), rows((4.0, 3), (18.0, 8))
    found = score_fit("s", "direct", now, before)
    assert found.change is not None
    assert found.change.value == pytest.approx(10 / 8 - 22 / 11)


def test_no_token_gives_no_number():
    with pytest.raises(DataError, match="no enhanced answer has a token"):
        score_fit("s", "enhanced", [])


def test_the_result_as_json_says_both_numbers_or_null():
    plain = score_fit("s", "direct", rows((2.0, 4))).to_json()
    assert (plain["nll_per_token"]["value"], plain["tokens"], plain["change"]) == (0.5, 4, None)
