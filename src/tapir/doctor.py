"""`tapir doctor`: what a recipe needs, looked at before anything is spent. One line a problem, with its remedy."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tapir.config import ROLES, Evaluation, Model, Recipe, Role, Seeds, endpoint_of
from tapir.curriculum.mixture import targets_for
from tapir.errors import TapirError
from tapir.evaluation.benchmarks import benchmark_names, load_benchmark
from tapir.models.calls import Request, Sampling
from tapir.models.engine import Caller
from tapir.models.ledger import Ledger
from tapir.prompts.judge import read_template
from tapir.stages.seeds import load_evaluation, load_pool
from tapir.steps.benchmarks import read_judge_prompt
from tapir.tasks import load_taxonomy
from tapir.training.folder import Allowed
from tapir.training.launch import dry_start, idle_note
from tapir.training.needs import check_machine
from tapir.training.preflight import Preview
from tapir.trust import pairs, pairs_of, refusal, unconfirmed
from tapir.types import Example, Message, Receipt

NEEDED_DISK_GB = 5
LOOKED_AT = 256
"""Examples that the training preflight encodes; what it guards shows in the first few."""
STAND_IN = "Here is an answer."
"""In the place of an answer that the teacher has yet to give."""


@dataclass(frozen=True, slots=True)
class Finding:
    what: str
    ok: bool
    remedy: str = ""
    preview: Preview | None = None
    """One example as it would be trained."""


def examine(recipe: Recipe) -> list[Finding]:
    """Every check; one that fails does not hide the next."""
    checks = (_extras, _disk, _pool, _tasks, _held_out, _benchmarks, _templates, _keys, _models, _machine, _training)
    return [finding for check in checks for finding in check(recipe)]


def _tried(what: str, attempt: Callable[[], str]) -> Finding:
    try:
        detail = attempt()
    except TapirError as error:
        return Finding(what, False, str(error))
    return Finding(f"{what}: {detail}" if detail else what, True)


def _extras(recipe: Recipe) -> Iterator[Finding]:
    if any(recipe.models.resolved(role).on_this_machine().kind == "local" for role in ROLES):
        for package in ("torch", "transformers", "trl", "peft"):
            there = importlib.util.find_spec(package) is not None
            yield Finding(f"package {package}", there, "" if there else "pip install 'tapir-distill[local]'")


def _disk(recipe: Recipe) -> Iterator[Finding]:
    free_gb = shutil.disk_usage(Path.cwd()).free / 1e9
    enough = free_gb >= NEEDED_DISK_GB
    yield Finding(f"disk: {free_gb:.0f} GB free", enough, "" if enough else f"free at least {NEEDED_DISK_GB} GB here")


def _pool(recipe: Recipe) -> Iterator[Finding]:
    if recipe.seeds.source.startswith("hub:"):
        yield Finding(f"seed pool {recipe.seeds.source} (looked at when the run starts)", True)
        return

    def load() -> str:
        receipt = Receipt("seeds")
        rows = len(load_pool(recipe.seeds, seed=recipe.seed, receipt=receipt).instructions)
        dropped = ", ".join(f"{n} {reason}" for reason, n in sorted(receipt.dropped.items()))
        return f"{rows} instructions" + (f" (dropped: {dropped})" if dropped else "")

    yield _tried("seed pool", load)


def _tasks(recipe: Recipe) -> Iterator[Finding]:
    """The taxonomy, and the shares of its types that the rounds aim at."""

    def look() -> str:
        names = load_taxonomy(Path(recipe.taxonomy) if recipe.taxonomy else None).names
        targets_for(names, recipe.mix.targets)
        return str(len(names))

    yield _tried("task types", look)


def _held_out(recipe: Recipe) -> Iterator[Finding]:
    for evaluation in (e for e in recipe.evaluate if e.kind != "choice"):
        source = Seeds(source=evaluation.prompts, sample=evaluation.sample, near_duplicates=False)

        def load(source: Seeds = source) -> str:
            return f"{len(load_evaluation(source, seed=recipe.seed).instructions)} instructions"

        yield _tried(f"evaluation {evaluation.kind} on {evaluation.prompts}", load)


def _benchmarks(recipe: Recipe) -> Iterator[Finding]:
    """Public benchmarks that the training data must be free of: each is at hand, or waived."""
    settings = recipe.decontaminate
    for name in benchmark_names(settings.against, settings.waive) if settings.enabled else ():
        yield _tried(f"benchmark {name}", lambda name=name: f"{len(load_benchmark(name, settings.folder))} texts")


def _templates(recipe: Recipe) -> Iterator[Finding]:
    """Prompt files of the user's own."""
    if (given := recipe.judge.template) is not None:
        yield _tried(f"judge.template {given}", lambda: f"{len(read_template(Path(given)))} characters")
    for asked in (e for e in recipe.evaluate if e.judge_prompt):

        def look(asked: Evaluation = asked) -> str:
            read_judge_prompt(asked)
            return ""

        yield _tried(f"judge_prompt {asked.judge_prompt} of {asked.kind}", look)


def _keys(recipe: Recipe) -> Iterator[Finding]:
    if new := unconfirmed(pairs(recipe)):
        yield Finding("keys (these hosts are not asked)", False, refusal(new, "this recipe"))


def _models(recipe: Recipe) -> Iterator[Finding]:
    seen: set[str] = set()
    for role in ROLES:
        model = recipe.models.resolved(role)
        if (mark := endpoint_of(model)) in seen:
            continue
        seen.add(mark)
        if model.kind == "openai":
            if recipe.ledger.replay:
                yield Finding(f"{role}: {model.model} (not asked, since a replay sends nothing)", True)
            else:
                yield from _endpoint(role, model)
            if model.weights:
                yield _tried(f"{role}: {model.weights}", lambda model=model: _local(model.on_this_machine()))
        elif model.kind == "local":
            yield _tried(f"{role}: {model.model}", lambda model=model: _local(model))
        else:
            yield Finding(f"{role}: scripted", True)


def _endpoint(role: Role, model: Model) -> Iterator[Finding]:
    missing = [name for name in (model.api_key_env, *model.headers_env.values()) if name and not os.environ.get(name)]
    if missing:
        yield Finding(f"{role}: key", False, f"set the environment variable {' and '.join(missing)}")
        return

    # Each by itself: a run would pass over one that is wrong, and go on at the pace of the others.
    for url in model.base_urls or (model.base_url,):
        alone = model.model_copy(update={"base_url": url, "base_urls": ()})
        if not unconfirmed(pairs_of([alone])):
            yield _tried(f"{role}: {model.model} at {url}", lambda alone=alone: _ask(alone))
    if len(model.base_urls) > 1 and not (model.identity or model.weights):
        yield Finding(
            f"{role}.identity: not set, so other base_urls ask everything again; a name for what they serve lets "
            "servers come and go",
            True,
        )


def _ask(model: Model) -> str:
    from tapir.models.http import HttpBackend

    # A ledger of its own: a stored reply would say nothing about the endpoint of today.
    with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder) / "doctor.sqlite") as ledger:
        caller = Caller(HttpBackend(model), ledger, limits=model.limits, extra_body=model.extra_body)
        request = Request((Message("user", "Reply with the word ready."),), Sampling(max_tokens=8), row="doctor")
        reply = caller.one(request, stage="doctor")
    return f"answers ({reply.finish_reason})"


def _local(model: Model) -> str:
    from tapir.models.catalogue import catalogue, local_folder

    entry = catalogue().get(model.model)
    if entry is not None:
        if local_folder(entry) is None:
            return f"not here yet; `tapir run` or `tapir models pull {entry.name}` fetches {entry.bytes / 1e6:.0f} MB"
        return "here"
    from tapir.models.resolve import resolve

    return str(resolve(model))


def _machine(recipe: Recipe) -> Iterator[Finding]:
    """Packages and hardware that the recipe's training names. Ray's workers are machines of their own."""
    if recipe.train.launcher == "ray" or importlib.util.find_spec("transformers") is None:
        return
    settings = recipe.train
    trackers = "".join(f", {name}" for name in settings.report_to)

    def look() -> str:
        check_machine(settings)
        return ""

    yield _tried(f"training by {settings.method}, attention {settings.attention}{trackers}", look)


def _training(recipe: Recipe) -> Iterator[Finding]:
    """What every training looks at before its first step: template, end of turn, stops, lengths (ours)."""
    if recipe.train.launcher != "single" and recipe.train.accelerate_config:
        yield _tried(f"accelerate config {recipe.train.accelerate_config}", lambda: _dry_start(recipe))
    if recipe.train.launcher != "single":
        yield _tried("training processes", lambda: idle_note(recipe.train, recipe.ray) or "each has examples in a step")
    student = recipe.models.resolved("student").on_this_machine()
    folder = _here(student)
    if folder is None or importlib.util.find_spec("transformers") is None or recipe.seeds.source.startswith("hub:"):
        yield Finding("training preflight (made when the run starts: weights or pool are not here yet)", True)
        return
    from tapir.training.prepare import prepare

    allowed = Allowed(student.trust_remote_code, student.allow_pickle)
    try:
        examples = _examples(recipe)
        _, encoded, preview = prepare(folder, examples, recipe.train, template=student.chat_template, allowed=allowed)
    except TapirError as error:
        yield Finding("training preflight", False, str(error))
        return
    tokens = f"{encoded.trained_tokens} trained tokens in {len(encoded.rows)} of {len(examples)} examples"
    yield Finding(f"training preflight: {tokens}", True, preview=preview)


def _dry_start(recipe: Recipe) -> str:
    if recipe.train.launcher == "ray":
        from tapir.executors.training import environment

        made = environment(recipe.train, recipe.ray)
    else:
        made = dry_start(recipe.train, Path("job"))
    return f"accelerate takes it ({len(made)} settings)"


def _examples(recipe: Recipe) -> list[Example]:
    """The pool as it would be trained; answers that are still to come are stood in for."""
    pool = load_pool(recipe.seeds, seed=recipe.seed, receipt=Receipt("seeds"))
    return [
        Example(
            (*i.messages(), Message("assistant", pool.answers.get(i.id) or STAND_IN)), i.id, i.task or "", hard=False
        )
        for i in pool.instructions[:LOOKED_AT]
    ]


def _here(model: Model) -> Path | None:
    """The local model's folder, if it needs no fetching."""
    from tapir.models.catalogue import catalogue, local_folder

    if model.kind != "local":
        return None
    entry = catalogue().get(model.model)
    if entry is not None:
        return local_folder(entry)
    return Path(model.model) if Path(model.model).is_dir() else None
