"""docs/cluster: files that a team starts from, against the formats and the commands that they use."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

from tapir.cli import app
from tapir.config import override, parse_recipe
from tapir.training.launch import idle_note

CLUSTER = Path(__file__).parents[2] / "docs/cluster"
JOB: dict[str, Any] = yaml.safe_load((CLUSTER / "kuberay.yaml").read_text(encoding="utf-8"))
SCRIPT = (CLUSTER / "slurm.sh").read_text(encoding="utf-8")

# The fields of ray.io/v1 that KubeRay 1.3 knows, of those that such a file may want.
RAY_JOB = {"entrypoint", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "submissionMode", "backoffLimit",
           "activeDeadlineSeconds", "rayClusterSpec", "runtimeEnvYAML", "submitterPodTemplate"}  # fmt: skip
RAY_CLUSTER = {"rayVersion", "headGroupSpec", "workerGroupSpecs", "enableInTreeAutoscaling", "autoscalerOptions"}
WORKER_GROUP = {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template", "numOfHosts"}


def commands() -> list[list[str]]:
    """Every `tapir …` of both files, as words; the script's variables stand for something."""
    variables = {"RECIPE": "recipe.yaml", "OUT": "out", "ip": "10.0.0.1", "port": "20001", "gpus": "64"}
    script = SCRIPT.replace("$((4 * gpus))", "256")
    script = re.sub(r"\$\{?(\w+)\}?", lambda m: variables.get(m[1], m[0]), script).replace("\\\n", " ")
    lines = [line for line in script.splitlines() if line.startswith("tapir ")]
    return [shlex.split(line) for line in [JOB["spec"]["entrypoint"], *lines]]


def test_both_files_run_one_command_each():
    assert [words[:2] for words in commands()] == [["tapir", "run"]] * 2


@pytest.mark.parametrize("words", commands(), ids=["kuberay", "slurm"])
def test_its_command_is_one_of_ours_with_options_that_it_has(words: list[str]):
    group: Any = typer.main.get_group(app)
    command = group.get_command(None, words[1])
    # Parsed as on the command line, and not run.
    context = command.make_context(words[1], words[2:])
    assert context.params["recipe"].endswith("recipe.yaml")
    assert context.params["trust"]
    assert CliRunner().invoke(app, [words[1], "--no-such-option"]).exit_code == 2


@pytest.mark.parametrize("words", commands(), ids=["kuberay", "slurm"])
def test_its_overrides_are_keys_of_a_recipe_and_bring_generation_and_training_to_the_cluster(words: list[str]):
    sets = [words[at + 1] for at, word in enumerate(words) if word == "--set"]
    scripted = {"kind": "scripted", "script": "builtin"}
    plain = {"models": {"teacher": scripted, "student": {"kind": "local", "model": "x"}}}
    recipe = parse_recipe(override(plain, tuple(sets)))
    assert (recipe.executor, recipe.train.launcher) == ("ray", "ray")
    assert recipe.ray.address is not None
    # 8 nodes with 8 GPUs each.
    assert (recipe.ray.gpus, recipe.ray.training_workers) == (1, 64)
    assert idle_note(recipe.train, recipe.ray) is None


def test_the_job_has_the_fields_that_kuberay_requires_and_no_unknown_ones():
    assert (JOB["apiVersion"], JOB["kind"]) == ("ray.io/v1", "RayJob")
    assert JOB["metadata"]["name"]
    assert set(JOB["spec"]) <= RAY_JOB
    assert {"entrypoint", "rayClusterSpec"} <= set(JOB["spec"])
    cluster = JOB["spec"]["rayClusterSpec"]
    assert set(cluster) <= RAY_CLUSTER
    assert {"rayStartParams", "template"} <= set(cluster["headGroupSpec"])
    for group in cluster["workerGroupSpecs"]:
        assert {"groupName", "maxReplicas", "minReplicas", "rayStartParams", "template"} <= set(group) <= WORKER_GROUP
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_ray_is_started_with_words_and_every_mount_has_its_volume():
    cluster = JOB["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        # The CRD takes a map of strings: a bare 0 is refused.
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        pod = group["template"]["spec"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert {"name", "image"} <= set(container)
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
            assert all(isinstance(e["value"], str) for e in container["env"])
            assert container["resources"]["requests"] == container["resources"]["limits"]


def test_the_ledger_lies_where_a_new_head_finds_it():
    mounts = JOB["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["volumeMounts"]
    path = next(word for word in commands()[0] if word.startswith("ledger.path=")).partition("=")[2]
    assert any(path.startswith(f"{mount['mountPath']}/") for mount in mounts)


def test_what_the_driver_fetches_lies_where_every_node_reads_it():
    cluster = JOB["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        container = group["template"]["spec"]["containers"][0]
        places = {e["name"]: e["value"] for e in container["env"]}
        shared = next(mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == "shared")
        # Catalogue names go to the one, hub ids to the other.
        assert {places["TAPIR_HOME"], places["HF_HOME"]} == {f"{shared}/tapir", f"{shared}/huggingface"}


def test_the_script_keeps_fetched_models_beside_the_run_unless_told_otherwise():
    before = SCRIPT.partition("srun")[0]
    lines = "\n".join(line for line in before.splitlines() if line.startswith("export"))
    told = f'{lines}\necho "$TAPIR_HOME $HF_HOME"'
    plain = {name: value for name, value in os.environ.items() if name not in ("TAPIR_HOME", "HF_HOME")}
    for extra, expected in [
        ({}, "/scratch/runs/tapir /scratch/runs/huggingface"),
        ({"TAPIR_HOME": "/a", "HF_HOME": "/b"}, "/a /b"),
    ]:
        done = subprocess.run(
            ["bash", "-euc", told],
            env={**plain, "OUT": "/scratch/runs/million", **extra},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == expected


def test_the_script_is_sound_bash():
    done = subprocess.run(["bash", "-n", str(CLUSTER / "slurm.sh")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_script_asks_slurm_before_its_first_command():
    lines = SCRIPT.splitlines()
    first = next(n for n, line in enumerate(lines) if line and not line.startswith("#"))
    asked = [n for n, line in enumerate(lines) if line.startswith("#SBATCH")]
    # What comes after a command is only a comment to sbatch.
    assert lines[0].startswith("#!")
    assert asked
    assert max(asked) < first
