"""Public benchmarks are read from where the user has them; one that is missing is an error that says how to go on."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from tapir.errors import DataError, RecipeError
from tapir.evaluation.benchmarks import benchmark_names, benchmarks, files_among, load_benchmark


def write(path: Path, *rows: dict[str, object]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_a_benchmark_in_the_users_folder_gives_an_item_for_each_of_its_text_columns(tmp_path: Path):
    write(tmp_path / "gsm8k.jsonl", {"question": "How many?", "answer": "Count them: 3", "level": 1})
    assert load_benchmark("gsm8k", tmp_path) == [
        ("gsm8k", "0:question", "How many?"),
        ("gsm8k", "0:answer", "Count them: 3"),
    ]


@pytest.mark.parametrize(
    ("ending", "text"),
    [("jsonl", '{"question": "How many?"}'), ("json", '[{"question": "How many?"}]'), ("csv", "question\nHow many?\n")],
)
def test_a_byte_order_mark_hides_no_item(tmp_path: Path, ending: str, text: str):
    (tmp_path / f"gsm8k.{ending}").write_text(text, encoding="utf-8-sig")
    assert load_benchmark("gsm8k", tmp_path) == [("gsm8k", "0:question", "How many?")]


def test_turns_of_a_conversation_are_items_of_their_own(tmp_path: Path):
    (tmp_path / "mt-bench.json").write_text(json.dumps([{"prompt": ["First?", "Then?"]}]), encoding="utf-8")
    assert [mark for _, mark, _ in load_benchmark("mt-bench", tmp_path)] == ["0:prompt:0", "0:prompt:1"]


def test_a_table_with_other_columns_is_an_error_that_names_those_wanted(tmp_path: Path):
    (tmp_path / "mmlu.csv").write_text("text\nWhat is it?\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"mmlu: .* has no text in question"):
        load_benchmark("mmlu", tmp_path)


def test_a_benchmark_that_is_nowhere_says_how_to_give_or_waive_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    with pytest.raises(DataError, match=r"gsm8k .* not at hand .* decontaminate\.waive"):
        load_benchmark("gsm8k", tmp_path)


def test_public_stands_for_all_and_waived_ones_are_left_out():
    names = benchmark_names(["public", "held_out.jsonl"], ["mmlu"])
    assert set(names) == benchmarks().keys() - {"mmlu"}
    assert files_among(["public", "held_out.jsonl", "gsm8k"]) == ["held_out.jsonl"]


def test_only_a_benchmark_can_be_waived():
    with pytest.raises(RecipeError, match="'mlmu' is no public benchmark"):
        benchmark_names(["public"], ["mlmu"])


def repository(folder: Path, *, files: str, configs: dict[str, dict[str, str]], **columns: list[Any]) -> Path:
    """A data set's folder as the hub lays it out: Parquet, and a card that names configurations where there are any."""
    for path in [files] if not configs else [path for splits in configs.values() for path in splits.values()]:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), folder / path)
    if configs:
        card = [
            {"config_name": name, "data_files": [{"split": s, "path": p} for s, p in splits.items()]}
            for name, splits in configs.items()
        ]
        (folder / "README.md").write_text(f"---\n{yaml.safe_dump({'configs': card})}---\n", encoding="utf-8")
    return folder


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Path], list[dict[str, Any]]]:
    """The real `datasets`, which finds this folder under a repository's name; the list fills with what it was asked."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    real, names, asked = datasets.load_dataset, datasets.get_dataset_config_names, list[dict[str, Any]]()

    def serve(name: str, folder: Path) -> list[dict[str, Any]]:
        def load_dataset(*args: Any, **kwargs: Any) -> Any:
            bound = inspect.signature(real).bind(*args, **kwargs).arguments
            assert bound["path"] == name, f"nobody serves {bound['path']}"
            asked.append(dict(bound))
            # A folder has no revisions.
            return real(**{**bound, "path": str(folder), "revision": None})

        monkeypatch.setattr(datasets, "load_dataset", load_dataset)
        monkeypatch.setattr(datasets, "get_dataset_config_names", lambda path: names(str({name: folder}[path])))
        return asked

    return serve


def test_a_benchmark_of_the_hub_is_asked_for_by_its_configuration_and_split(tmp_path: Path, hub: Any):
    configs = {name: {s: f"{name}/{s}-00000-of-00001.parquet" for s in ("train", "test")} for name in ("main", "other")}
    folder = repository(tmp_path / "gsm8k", files="", configs=configs, question=["How many?"], answer=["#### 3"])
    asked = hub("openai/gsm8k", folder)
    assert load_benchmark("gsm8k") == [("gsm8k", "0:question", "How many?"), ("gsm8k", "0:answer", "#### 3")]
    assert [(a["name"], a["split"], a["revision"]) for a in asked] == [("main", "test", None)]


def test_every_configuration_is_read_where_all_count(tmp_path: Path, hub: Any):
    configs = {name: {"test": f"{name}/test-00000-of-00001.parquet"} for name in ("ruin_names", "snarks")}
    folder = repository(tmp_path / "bbh", files="", configs=configs, input=["Which of these?"], target=["(B)"])
    asked = hub("SaylorTwift/bbh", folder)
    assert [text for _, _, text in load_benchmark("bbh")] == ["Which of these?"] * 2
    assert [a["name"] for a in asked] == ["ruin_names", "snarks"]


def test_a_branch_of_bare_files_is_read_by_their_names(tmp_path: Path, hub: Any):
    # The hub's converted branch has no card, so that its folders are no configurations.
    place = "alpaca_eval/eval/0000.parquet"
    folder = repository(tmp_path / "alpaca_eval", files=place, configs={}, instruction=["Tell me."], output=["No."])
    other = folder / "alpaca_eval_gpt4_baseline/eval"
    other.mkdir(parents=True)
    pq.write_table(pa.table({"instruction": ["another"]}), other / "0000.parquet")
    asked = hub("tatsu-lab/alpaca_eval", folder)
    assert load_benchmark("alpaca-eval") == [("alpaca-eval", "0:instruction", "Tell me.")]
    assert (asked[0]["revision"], asked[0].get("name")) == ("refs/convert/parquet", None)


def test_a_repository_of_bare_files_has_the_splits_that_its_file_names_say(tmp_path: Path, hub: Any):
    folder = repository(tmp_path / "piqa", files="piqa_validation.parquet", configs={}, goal=["Open a jar."])
    pq.write_table(pa.table({"goal": ["of the training split"]}), folder / "piqa_train.parquet")
    hub("baber/piqa", folder)
    assert [text for _, _, text in load_benchmark("piqa")] == ["Open a jar."]


def test_a_configuration_that_the_hub_has_no_more_is_an_error_that_names_the_benchmark(tmp_path: Path, hub: Any):
    configs = {"socratic": {"test": "socratic/test-00000-of-00001.parquet"}}
    hub("openai/gsm8k", repository(tmp_path / "gsm8k", files="", configs=configs, question=["?"], answer=["!"]))
    with pytest.raises(DataError, match=r"gsm8k \(openai/gsm8k\) is not at hand \(ValueError\)"):
        load_benchmark("gsm8k")


OURS_ALONE = {"alpaca-eval", "mt-bench"}
"""Benchmarks that lm-eval has no task for."""
OTHER_HOME = {"drop": "EleutherAI/drop"}
"""lm-eval reads a script there; ours is the makers' own, in Parquet."""


def test_places_are_those_that_lm_eval_reads_the_benchmarks_from():
    """What the hub has cannot be looked up here; lm-eval's task files are read by many every day."""
    tasks = _lm_eval_tasks()
    for name, ours in benchmarks().items():
        if name in OURS_ALONE or name in OTHER_HOME:
            continue
        theirs = [t for t in tasks if t.get("dataset_path") == ours.hub]
        assert theirs, f"{name}: lm-eval has no task on {ours.hub}"
        splits = {t.get(f"{kind}_split") for t in theirs for kind in ("test", "validation", "training")}
        assert ours.split in splits, f"{name}: {sorted(filter(None, splits))}"
        named = {None if t.get("dataset_name") == "default" else t.get("dataset_name") for t in theirs}
        # `all` of MMLU and `*` of BBH are the union of what lm-eval reads one by one.
        assert ours.config in {*named, "all", "*"}, f"{name}: {named}"


def _lm_eval_tasks() -> list[dict[str, Any]]:
    import importlib.util

    found = importlib.util.find_spec("lm_eval")
    if found is None or found.origin is None:
        pytest.skip("needs the extra eval: pip install -e '.[eval]'")
    tasks = Path(found.origin).parent / "tasks"
    folders = ("arc", "bbh", "gsm8k", "hellaswag", "humaneval", "ifeval", "hendrycks_math", "mbpp", "mmlu/default",
               "piqa", "truthfulqa", "winogrande")  # fmt: skip
    loaded: list[dict[str, Any]] = []
    for folder in folders:
        for path in [*(tasks / folder).rglob("*.y*ml"), *(tasks / folder).rglob("_*_yaml")]:
            lines = path.read_text(encoding="utf-8").splitlines()
            # Only these lines: the rest has tags of lm-eval's own.
            kept = [line for line in lines if line.startswith(("dataset_", "test_", "validation_", "training_"))]
            plain = [line for line in kept if not line.rstrip().endswith(":")]
            loaded.append(yaml.safe_load("\n".join(plain)) or {})
    return loaded
