"""Win rates from verdicts, worked out by hand."""

import pytest

from tapir.errors import DataError
from tapir.evaluation.pairwise import outcomes, repeats_json, repeats_sentence, score_pairs
from tapir.types import Verdict


def verdicts(name: str, first: float | None, second: float | None, vote: int = 0) -> list[Verdict]:
    """Both orders: by how much the model leads when its answer stands first, and when it stands second."""
    rows: list[Verdict] = []
    for order, lead in (("student_first", first), ("teacher_first", second)):
        rows.append(
            Verdict(name, order, problem="no_rating", vote=vote)
            if lead is None
            else Verdict(name, order, 5 + lead, 5, vote=vote)
        )
    return rows


def test_a_win_is_a_higher_mean_over_both_orders():
    rows = [*verdicts("win", 3, -1), *verdicts("loss", 1, -2), *verdicts("draw", 2, -2), *verdicts("half", 4, None)]
    assert outcomes(rows) == {"draw": 0.5, "half": None, "loss": 0.0, "win": 1.0}


def test_the_win_rate_counts_draws_half_and_names_what_is_missing():
    rows = [*verdicts("win", 3, -1), *verdicts("loss", -1, -2), *verdicts("draw", 2, -2), *verdicts("half", 4, None)]
    score = score_pairs(rows, model="new", against="old", expected=6)
    # (1 + 0 + 0.5) / 3; one verdict unread, two pairs never judged.
    assert (score.win_rate.value, score.win_rate.n, score.win_rate.missing) == (50.0, 3, 3)
    assert (score.wins, score.losses, score.draws) == (1, 1, 1)
    # The order alone made the winner of `win` (3, then -1) and the draw (2, then -2).
    assert score.turned == 2
    assert score.edge.noise is True


def test_a_check_decides_whatever_the_judge_says_beside_it():
    def checked(name: str, own: float, other: float, judge: list[Verdict]) -> list[Verdict]:
        by_check = [Verdict(name, o, own, other, method="verified") for o in ("student_first", "teacher_first")]
        return [*by_check, *judge]

    rows = [
        *checked("unread", 10, 1, verdicts("unread", None, 2)),
        *checked("both pass", 10, 10, verdicts("both pass", -1, -1)),
        *checked("turned", 1, 10, verdicts("turned", 8, -1)),
    ]
    # As `difficulties` has them: -9, 0 and 9.
    assert outcomes(rows) == {"both pass": 0.5, "turned": 0.0, "unread": 1.0}
    assert outcomes(rows[::-1]) == outcomes(rows)
    score = score_pairs(rows, model="new", against="old", expected=3)
    assert (score.win_rate.value, score.win_rate.missing, score.turned) == (50.0, 0, 0)


def test_wins_of_every_pair_are_certain_only_where_there_are_many():
    few = score_pairs([v for n in range(3) for v in verdicts(str(n), 1, 1)], model="a", against="b", expected=3)
    many = score_pairs([v for n in range(40) for v in verdicts(str(n), 1, 1)], model="a", against="b", expected=40)
    assert few.win_rate.low == pytest.approx(43.85, abs=0.01)
    assert (few.edge.noise, many.edge.noise) == (True, False)


def test_repeats_are_averaged_pair_by_pair_and_shown_one_by_one():
    # The first repeat says win, loss; the second loss by less, loss.
    rows = [*verdicts("a", 3, 3), *verdicts("b", -1, -1), *verdicts("a", -1, -1, 1), *verdicts("b", -1, -1, 1)]
    score = score_pairs(rows, model="new", against="old", expected=2)
    assert (score.win_rate.value, score.by_repeat) == (50.0, (50.0, 0.0))
    # Of 50 and 0: 50 / √2.
    assert repeats_json(score.by_repeat)["standard_deviation"] == pytest.approx(35.3553, abs=1e-4)
    assert "by each of 2 repeats of the judge: 50.0, 0.0 (standard deviation 35.4 points" in repeats_sentence(
        score.by_repeat, "points"
    )


def test_one_repeat_shows_no_noise():
    score = score_pairs(verdicts("a", 1, 1), model="new", against="old", expected=1)
    assert (score.by_repeat, repeats_json(score.by_repeat), repeats_sentence((), "points")) == ((), None, None)
    assert (score.win_rate.low, score.edge.noise) == (None, None)


def test_no_readable_verdict_gives_no_rate():
    with pytest.raises(DataError, match="no pair of 2 has a readable verdict"):
        score_pairs(verdicts("a", None, 1), model="new", against="old", expected=2)
