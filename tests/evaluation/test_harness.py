"""lm-eval: what it returns is read, before and after are compared, and it runs offline on local files."""

import importlib.util
import json

import pytest

from tapir.errors import DataError, RecipeError
from tapir.evaluation.harness import LEADERBOARD_SHOTS, TaskScore, compare, evaluate, read_results, refuse_code
from tapir.evaluation.rows import Estimate


def score(value: float, error: float | None, task: str = "arc") -> TaskScore:
    return TaskScore(task, "acc", 0, Estimate(value, 100), error)


def test_the_leaderboards_shots_are_25_10_5_and_0():
    assert list(LEADERBOARD_SHOTS.values()) == [25, 10, 5, 0]


def test_results_are_read_with_the_normalised_accuracy_first():
    results = {
        "results": {"arc": {"acc,none": 0.2, "acc_norm,none": 0.25, "acc_norm_stderr,none": 0.01, "alias": "arc"}},
        "n-samples": {"arc": {"original": 200, "effective": 100}},
    }
    found = read_results(results, ["arc"], 25)[0]
    assert (found.metric, found.accuracy.value, found.standard_error, found.accuracy.n) == ("acc_norm", 25.0, 1.0, 100)
    # Wilson for 25 of 100: (0.25 + 0.019207) / 1.038415 less 0.083800.
    assert found.accuracy.low == pytest.approx(17.545, abs=0.001)


def test_no_interval_leaves_the_scale_however_few_the_questions():
    all_right = {"results": {"t": {"acc,none": 1.0, "acc_stderr,none": 0.0}}, "n-samples": {"t": {"effective": 4}}}
    found = read_results(all_right, ["t"], 0)[0].accuracy
    # Wilson for 4 of 4: 1 / (1 + 3.84146 / 4); a normal interval would claim certainty.
    assert (found.low, found.high) == (pytest.approx(51.01, abs=0.01), 100.0)
    change = compare([score(95.0, 30.0)], [score(5.0, 40.0)])[0].change
    assert (change.value, change.low, change.high) == (-90.0, -100.0, pytest.approx(-90 + 1.95996 * 50, abs=1e-3))


def test_a_groups_questions_are_its_members():
    results = {
        "results": {"mmlu": {"acc,none": 0.5, "acc_stderr,none": "N/A"}},
        "group_subtasks": {"mmlu": ["mmlu_a", "mmlu_b"], "mmlu_a": [], "mmlu_b": []},
        "n-samples": {"mmlu_a": {"effective": 3}, "mmlu_b": {"effective": 4}},
    }
    found = read_results(results, ["mmlu"], 5)[0]
    assert (found.accuracy.n, found.standard_error) == (7, None)


@pytest.mark.parametrize(
    ("after", "error", "harm", "said"),
    [
        # The change's error is 5: sqrt(3² + 4²).
        (39.9, 4.0, True, "a drop of more than two standard errors"),
        (40.0, 4.0, False, "inside the noise"),
        (61.0, 4.0, False, "changes by .11.0 points .standard error 5.0.$"),
        (10.0, None, None, "its error is not known"),
    ],
)
def test_a_drop_beyond_two_standard_errors_is_flagged(after, error, harm, said):
    change = compare([score(50.0, 3.0)], [score(after, error)])[0]
    assert change.harm is harm
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(change.sentence)


def test_only_equal_tasks_are_compared():
    with pytest.raises(DataError, match="not the same tasks"):
        compare([score(1, 1)], [score(1, 1, "other")])
    with pytest.raises(DataError, match="some ran before only"):
        compare([score(1, 1), score(1, 1, "other")], [score(1, 1)])


@pytest.mark.parametrize(
    "line", ["process_docs: !function mine.docs", "doc_to_text: \"{{ ''.__class__ }}\"", "class: mine.Task"]
)
def test_task_files_that_would_run_code_are_refused(tmp_path, line):
    (tmp_path / "t.yaml").write_text(f"task: t\n{line}\n", encoding="utf-8")
    with pytest.raises(RecipeError, match="would run code"):
        refuse_code(tmp_path)


def test_code_in_an_included_file_is_found_too(tmp_path):
    (tmp_path / "_base").write_text("process_docs: !function mine.docs\n", encoding="utf-8")
    (tmp_path / "t.yaml").write_text("include: _base\ntask: t\n", encoding="utf-8")
    with pytest.raises(RecipeError, match="_base: the task file would run code"):
        refuse_code(tmp_path)


TASK = """task: {name}
dataset_path: json
dataset_kwargs:
  data_files: {{test: {data}, train: {data}}}
test_split: test
fewshot_split: train
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: answer
metric_list: [{{metric: acc}}, {{metric: acc_norm}}]
"""
NAMES = ("tapir_arc", "tapir_hellaswag", "tapir_mmlu", "tapir_truthfulqa")


@pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="lm-eval is not installed (extra `eval`)")
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed (extra `local`)")
@pytest.mark.filterwarnings("ignore")
def test_four_local_tasks_run_on_the_tiny_student_without_a_network(tmp_path, monkeypatch):
    from tiny import build_tiny_model

    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    for name in NAMES:
        rows = [{"question": f"{i} + 1 =", "choices": [f" {i + 1}", f" {i}"], "answer": 0} for i in range(4)]
        data = tmp_path / f"{name}.jsonl"
        data.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
        (tmp_path / f"{name}.yaml").write_text(TASK.format(name=name, data=data), encoding="utf-8")
    model = tmp_path / "model"
    build_tiny_model(model)
    found = evaluate(model, dict(zip(NAMES, (2, 1, 1, 0), strict=True)), task_files=tmp_path, batch_size=4)
    assert {s.task: s.shots for s in found} == dict(zip(NAMES, (2, 1, 1, 0), strict=True))
    assert all(s.accuracy.n == 4 and 0 <= s.accuracy.value <= 100 for s in found)
    assert [c.harm for c in compare(found, found)] == [False] * 4
