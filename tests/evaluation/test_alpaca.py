"""AlpacaEval scoring: every number here is worked out by hand."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tapir.errors import DataError
from tapir.evaluation.alpaca import (
    OWN_PROMPT_NOTE,
    USER_PROMPT_NOTE,
    Pair,
    is_switched,
    length_controlled,
    live,
    mean_annotations,
    preference_from_logprobs,
    read_prompt,
    score_annotations,
)
from tapir.models.calls import Reply, TokenLogprob

UNSWITCHED = "What is some cool music from the 1920s?"
SWITCHED = "How did US states get their names?"


def row(number: int, preference: float | None, **more: object) -> dict[str, object]:
    fixed = {"generator_1": "base", "generator_2": "ours", "annotator": "judge"}
    return {"instruction": f"q{number}", "output_1": "a", "output_2": "b", "preference": preference} | fixed | more


def written(folder: Path, rows: list[dict[str, object]]) -> Path:
    path = folder / "annotations.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


class Judge:
    """Prefers as told: log-probabilities of the first token by a text that the prompt holds."""

    def __init__(self, top: dict[str, float]) -> None:
        self.top = top
        self.seen: list[str] = []
        self.samples: list[int] = []

    def run(self, requests, *, stage, accept_truncated=False, accept_empty=False):
        for request in requests:
            assert (request.sampling.max_tokens, request.sampling.top_logprobs) == (1, 5)
            self.seen.append(request.messages[-1].content)
            self.samples.append(request.sample)
            best = max(self.top, key=lambda t: self.top[t])
            yield request, Reply(best, logprobs=(TokenLogprob(best, self.top[best], tuple(self.top.items())),))


def test_the_switch_follows_the_public_rule():
    # Which of these public annotations were switched can be told from their stored log-probabilities.
    assert [is_switched(i) for i in (SWITCHED, UNSWITCHED, "Who is Larry Page?")] == [True, False, False]
    assert is_switched("How do I wrap a present neatly?") is False
    assert is_switched("Hi, I'm trying to solve a crossword puzzle, but I've never done one of these before. "
                       "Can you help me out?") is True  # fmt: skip


def test_the_preference_is_two_less_the_probability_that_the_first_is_better():
    top = {"m": math.log(0.6), "M": math.log(0.2), "The": math.log(0.1)}
    assert preference_from_logprobs(top, switched=False) == pytest.approx(1.25)
    assert preference_from_logprobs(top, switched=True) == pytest.approx(1.75)


def test_a_public_row_comes_out_as_it_is_stored():
    # M at -0.0000006704 and m at -15.515626, switched: 1.0000001827 in the public file.
    assert preference_from_logprobs({"M": -0.0000006704, "m": -15.515626}, switched=True) == pytest.approx(
        1.0000001827, abs=1e-10
    )


def test_a_missing_token_counts_zero_and_both_missing_is_missing():
    assert preference_from_logprobs({"m": -3.0}, switched=False) == 1.0
    assert preference_from_logprobs({"M": -3.0}, switched=False) == 2.0
    assert preference_from_logprobs({"M": -3.0}, switched=True) == 1.0
    assert preference_from_logprobs({"The": -0.1}, switched=False) is None


def test_stored_annotations_give_the_public_numbers(tmp_path):
    # In percent: 100, 0, 50 (exact draw), 50 (old draw), 80; one null is missing.
    rows = [row(1, 2.0), row(2, 1.0), row(3, 1.5), row(4, 0), row(5, 1.8), row(6, None)]
    score = score_annotations(written(tmp_path, rows))
    assert score.win_rate.value == pytest.approx(56.0)
    # Squares about .56: .1936 + .3136 + .0036 + .0036 + .0576 = .572; /4 = .143; sqrt(.143/5) = .169115
    assert score.standard_error == pytest.approx(16.9115, abs=1e-4)
    assert (score.wins, score.losses, score.draws) == (2, 1, 2)
    assert score.discrete_win_rate.value == pytest.approx(60.0)
    assert (score.n, score.missing, score.model, score.reference) == (5, 1, "ours", "base")
    low, high = score.win_rate.low, score.win_rate.high
    assert low is not None
    assert high is not None
    assert low < 56 < high


def test_nearly_a_draw_is_no_draw(tmp_path):
    score = score_annotations(written(tmp_path, [row(1, 1.4999999), row(2, 1.5), row(3, 1.5000001)]))
    assert (score.wins, score.losses, score.draws) == (1, 1, 1)


def test_a_preference_off_the_scale_is_missing_not_averaged(tmp_path):
    score = score_annotations(written(tmp_path, [row(1, 2.0), row(2, -1), row(3, 3.0), row(4, float("nan"))]))
    assert (score.win_rate.value, score.n, score.missing) == (100.0, 1, 3)


def test_duplicates_are_removed_with_a_warning_and_the_last_readable_one_stays(tmp_path):
    rows = [row(1, 1.0), row(1, 2.0), row(1, None), row(2, 1.0)]
    with pytest.warns(UserWarning, match="2 duplicate annotations removed"):
        score = score_annotations(written(tmp_path, rows))
    assert (score.win_rate.value, score.n, score.missing) == (50.0, 2, 0)


def test_rows_that_are_not_in_the_file_count_as_missing(tmp_path):
    score = score_annotations(written(tmp_path, [row(1, 2.0), row(2, 1.0)]), expected=5)
    assert (score.n, score.missing, score.win_rate.missing) == (2, 3, 3)


def test_a_file_of_several_models_asks_which(tmp_path):
    path = written(tmp_path, [row(1, 2.0), row(1, 1.0, generator_2="theirs")])
    with pytest.raises(DataError, match=r"annotations of 2 models .ours, theirs."):
        score_annotations(path)
    assert score_annotations(path, model="theirs").win_rate.value == 0.0


def weights(folder: Path, name: str = "weights.csv") -> Path:
    path = folder / name
    path.write_text(
        ",np.tanh(std_delta_len),instruction_difficulty,not_gamed_baseline.astype(float)\n"
        "base,0.0,0.0,0.0\nours,-1.5,2.0,-1.0\ntheirs,-1.0,1.0,-1.0\n",
        encoding="utf-8",
    )
    return path


def difficulties(folder: Path, values: tuple[float, ...] = (0.5, 0.0)) -> Path:
    path = folder / "difficulty.csv"
    lines = [f"{i},{v}" for i, v in enumerate(values)]
    path.write_text("\n".join([",instruction_difficulty", *lines]), encoding="utf-8")
    return path


def test_the_length_controlled_win_rate_follows_the_public_formula(tmp_path):
    path = written(tmp_path, [row(1, 2.0), row(2, None)])
    score = length_controlled(score_annotations(path), weights(tmp_path), difficulties(tmp_path))
    # logistic(-1 + 2 × 0.5) = 0.5 and logistic(-1 + 2 × 0) = 0.268941; mean 38.4471 %
    assert score.length_controlled_win_rate == pytest.approx(38.4471, abs=1e-4)


def test_weights_count_relative_to_the_reference(tmp_path):
    path = written(tmp_path, [row(1, 2.0, generator_1="theirs"), row(2, 1.0, generator_1="theirs")])
    score = length_controlled(score_annotations(path), weights(tmp_path), difficulties(tmp_path))
    # Differences: model 0, difficulty 1: logistic(0.5) = 0.622459 and logistic(0) = 0.5
    assert score.length_controlled_win_rate == pytest.approx(56.1230, abs=1e-4)


@pytest.mark.parametrize("lacking", ["difficulty", "glm", "model", "size"])
def test_a_length_controlled_rate_without_its_data_is_refused(tmp_path, lacking):
    path = written(tmp_path, [row(1, 2.0, generator_2="new" if lacking == "model" else "ours"), row(2, 1.0)][:1])
    glm = None if lacking == "glm" else weights(tmp_path)
    difficulty = None if lacking == "difficulty" else difficulties(tmp_path, (0.5,) if lacking == "model" else (1, 2))
    with pytest.raises(DataError, match=r"fresh fit|defined over the whole set"):
        length_controlled(score_annotations(path), glm, difficulty)


def test_live_judging_mirrors_switched_pairs_and_spares_identical_ones():
    judge = Judge({"m": math.log(0.9), "M": math.log(0.1)})
    pairs = [Pair(UNSWITCHED, "REF", "MINE"), Pair(SWITCHED, "REF", "MINE"), Pair("same", "X", "X")]
    rows, score = live(pairs, judge, model="student_1", reference="gpt")
    assert [r.preference for r in rows] == pytest.approx([1.1, 1.9, 1.5])
    assert len(judge.seen) == 2
    assert judge.seen[0].index("REF") < judge.seen[0].index("MINE")
    assert judge.seen[1].index("MINE") < judge.seen[1].index("REF")
    assert score.win_rate.value == pytest.approx(50.0)
    assert score.note == OWN_PROMPT_NOTE


def test_repeats_of_the_judge_are_asked_apart_and_averaged_where_they_were_read():
    judge = Judge({"m": math.log(0.9), "M": math.log(0.1)})
    times = [live([Pair(UNSWITCHED, "R", "M")], judge, model="s", reference="r", repeat=n)[0] for n in range(2)]
    assert judge.samples == [0, 1]
    unread = replace(times[0][0], preference=None, problem="no_logprobs")
    warmer = replace(times[0][0], preference=1.5)
    # (1.1 + 1.5) / 2; an unread repeat neither counts as 0 nor as a draw.
    assert mean_annotations([times[0], [warmer], [unread]])[0].preference == pytest.approx(1.3)
    assert mean_annotations([[unread], [unread]])[0].preference is None


def test_equal_preferences_of_few_rows_are_not_called_certain(tmp_path):
    # Wilson for 3 of 3: 1 / (1 + 3.84146 / 3).
    score = score_annotations(written(tmp_path, [row(n, 2.0) for n in range(3)]))
    assert (score.win_rate.low, score.win_rate.high) == (pytest.approx(43.8503, abs=1e-3), 100.0)


def test_a_judge_without_logprobs_leaves_the_pair_missing_with_a_reason():
    class Mute:
        def run(self, requests, **_):
            for i, request in enumerate(requests):
                yield request, Reply("m") if i else Reply("m", logprobs=(TokenLogprob("m", 0.0),))

    rows, score = live([Pair("a", "x", "y"), Pair("b", "x", "y")], Mute(), model="s", reference="r")
    assert [r.problem for r in rows] == [None, "no_logprobs"]
    assert (score.n, score.missing) == (1, 1)


def test_a_prompt_of_ones_own_is_read_as_chatml_and_sees_the_texts_as_they_are(tmp_path):
    path = tmp_path / "clf.txt"
    path.write_text(
        '<|im_start|>system\nRank.\n<|im_end|>\n<|im_start|>user\n{"a": "{instruction}"} {output_1} | {output_2}\n'
        "<|im_end|>\n",
        encoding="utf-8",
    )
    judge = Judge({"m": -0.1})
    pair = Pair(UNSWITCHED, "{output_2} </answer_1>", "B")
    _, score = live([pair], judge, model="s", reference="r", prompt=path)
    assert judge.seen == [f'{{"a": "{UNSWITCHED}"}} {{output_2}} </answer_1> | B']
    assert [m.role for m in read_prompt(path).messages] == ["system", "user"]
    assert score.note == USER_PROMPT_NOTE


def test_a_prompt_that_hides_an_output_is_refused(tmp_path):
    path = tmp_path / "bad.txt"
    path.write_text("{instruction} {output_1}", encoding="utf-8")
    with pytest.raises(DataError, match=r"no \{output_2\}"):
        read_prompt(path)


def test_scoring_loads_neither_torch_nor_pandas():
    code = (
        "import sys; import tapir.evaluation.alpaca, tapir.evaluation.mt_bench_live, tapir.evaluation.relative, "
        "tapir.evaluation.harness, tapir.evaluation.answers, tapir.evaluation.instruction_following; "
        "print([m for m in ('torch', 'pandas', 'transformers', 'lm_eval') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
