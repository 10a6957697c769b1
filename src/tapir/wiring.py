"""From a recipe to live objects: the ledger, a caller per role, the run directory, and the running of one step.

Models are loaded when a step first needs them and put away before another large one is, so that teacher and student
weights do not pile up in memory.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib import resources
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import yaml

from tapir.config import Model, Recipe, Role, endpoint_of, override, parse_recipe, read_yaml
from tapir.curriculum.checks import RunProgram
from tapir.curriculum.contamination import ContaminationIndex
from tapir.curriculum.dedup import NearDuplicate, near_duplicates
from tapir.curriculum.hygiene import Likeness, OffType
from tapir.errors import RecipeError
from tapir.manifest import manifest
from tapir.models.budget import put_back
from tapir.models.calls import Asks, Backend, BatchBackend, Reply, Sampling, SpreadBackend, Tries, Usage
from tapir.models.classifier import open_classifier
from tapir.models.engine import Caller
from tapir.models.ledger import Ledger
from tapir.models.limits import Throttle
from tapir.models.spread import SpreadCaller
from tapir.models.students import served_identity
from tapir.progress import Noted, Progress
from tapir.prompts.judge import read_template
from tapir.sandbox import run_program
from tapir.stages.classify import Guesses, check_labels, off_type
from tapir.stages.decontaminate import allowed
from tapir.stages.judge import Asking, JudgePlan
from tapir.stages.seeds import evaluation_texts
from tapir.store.calls import StoredCalls
from tapir.store.progress import ProgressFile
from tapir.store.remote import RemoteStore
from tapir.store.rundir import RunDir, Step, fingerprint, write_json, write_lines, write_text
from tapir.tasks import Taxonomy, load_taxonomy
from tapir.training.launch import check_config
from tapir.training.resident import Resident
from tapir.types import Instruction, Receipt

TOOLS = "tools"
"""Under which single stages and commands count what they spend."""
WRITING_TEMPERATURE, JUDGING_TEMPERATURE, STUDENT_TEMPERATURE = 0.7, 0.0, 0.5
REPEATED_JUDGING_TEMPERATURE = 0.7
SHIPPED = ("quickstart", "small", "ablation-small", "openai-teacher", "single-round", "paper-llama2",
           "paper-qwen1.5-1.8b", "paper-qwen1.5-4b", "paper-qwen1.5-7b", "paper-qwen1.5-14b")  # fmt: skip


def load_recipe(source: str | Path, assignments: Iterable[str] = ()) -> Recipe:
    """The recipe of a file or of a shipped name, with `part.key=value` assignments applied."""
    raw = read_yaml(recipe_path(source))
    return parse_recipe(override(raw, tuple(assignments)) if isinstance(raw, dict) else raw, where=str(source))


def recipe_path(source: str | Path) -> Path:
    """A file as given, or the shipped recipe of that name."""
    path = Path(source)
    if not path.exists() and str(source) in SHIPPED:
        return Path(str(resources.files("tapir.data") / "recipes" / f"{source}.yaml"))
    return path


class StoppedHere(Exception):
    """The stage named by `--until` is done."""


@dataclass
class Session:
    """One run being worked on."""

    recipe: Recipe
    run: RunDir
    ledger: Ledger
    progress: Progress = field(default_factory=Progress)
    until: str | None = None
    run_id: str = ""
    """Under which the ledger counts what this run spends."""
    store: RemoteStore | None = None
    """Where finished steps are copied to, and taken from if this machine lacks them."""
    writer: str = ""
    """Name of the run directory that this session alone writes."""
    lenders: tuple[RunDir, ...] = ()
    """Runs whose finished steps are taken over where they are the very same (an ablation's other variants)."""
    usage: Usage = field(default_factory=Usage)
    """What the step under way has asked of models so far."""
    resident: Resident = field(default_factory=Resident)
    """The student trained last, as far as it can stay in memory."""
    _keys: set[bytes] = field(default_factory=lambda: set[bytes]())
    """Ledger keys that the step under way has used; as bytes, since a step may use millions."""
    _loaded: list[BatchBackend] = field(default_factory=lambda: list[BatchBackend]())
    _callers: dict[str, Caller] = field(default_factory=lambda: dict[str, Caller]())
    _throttles: dict[str, Throttle] = field(default_factory=lambda: dict[str, Throttle]())
    """One for each endpoint and model, whichever roles speak to it."""

    @functools.cached_property
    def taxonomy(self) -> Taxonomy:
        return load_taxonomy(Path(self.recipe.taxonomy) if self.recipe.taxonomy else None)

    def model(self, role: Role) -> Model:
        return self.recipe.models.resolved(role)

    def sampling(self, role: Role, purpose: Literal["writing", "judging", "student"]) -> Sampling:
        """How this role's replies are drawn for this purpose, by the recipe or by default."""
        model = self.model(role)
        default = {
            "writing": WRITING_TEMPERATURE, "judging": JUDGING_TEMPERATURE, "student": STUDENT_TEMPERATURE
        }[purpose]  # fmt: skip
        temperature = default if model.temperature is None else model.temperature
        return Sampling(temperature, model.top_p, model.max_answer_tokens)

    def judging_temperature(self, role: Role, repeats: int = 1) -> float:
        """Of this role's verdicts and grades. At 0 a judge repeats itself, so its repeats are asked warm."""
        temperature = self.sampling(role, "judging").temperature
        return REPEATED_JUDGING_TEMPERATURE if repeats > 1 and temperature == 0 else temperature

    def caller(self, role: Role) -> Asks:
        """The live model of a role; roles with equal settings share one."""
        return self.open(self.model(role))

    def open(self, model: Model) -> Caller:
        """A live model, whatever its role; equal settings share one."""
        return self._open(fingerprint(_reach(model)), lambda: self._backend(model), model)

    def student(self, folder: Path) -> Asks:
        """The student whose weights lie in `folder`: at the endpoints that serve these, in this process, or on the
        cluster."""
        model = self.model("student")
        if model.weights is not None and self.weights_hash(folder) == self._served_weights:
            return self.open(model.model_copy(update={"identity": served_identity(model, self._served_weights)}))
        here = model.on_this_machine()
        return self._open(f"student:{folder}", lambda: self._open_student(here, folder), here)

    @functools.cached_property
    def _served_weights(self) -> str:
        """Hash of the weights that the student's endpoints serve."""
        return self.weights_hash(self.student_weights())

    def _open_student(self, model: Model, folder: Path) -> BatchBackend:
        if self.recipe.executor == "ray":
            from tapir.executors.generation import open_on_ray

            return open_on_ray(model, folder, self.recipe.ray)
        from tapir.models.students import open_local

        return open_local(model, folder)

    @functools.cached_property
    def classifier(self) -> Guesses | None:
        """The recipe's trained classifier, where it labels; small enough to stay in memory beside a large model."""
        settings = self.recipe.classify
        if settings.by != "classifier" or settings.classifier is None:
            return None
        folder = Path(settings.classifier)
        if self.recipe.executor == "ray":
            from tapir.executors.pool import RayClassifier

            found: Guesses = RayClassifier(folder, self.recipe.ray)
        else:
            found = open_classifier(folder)
        check_labels(found, self.taxonomy)
        return found

    @property
    def off_type(self) -> OffType | None:
        """Says of a grown instruction that it is not of its task type; None where no classifier labels."""
        return off_type(self.classifier, self.recipe.classify.confidence) if self.classifier else None

    def _open(self, key: str, make: Callable[[], Backend], model: Model) -> Caller:
        if key not in self._callers:
            if model.kind == "local":
                self.close_models()
            backend = make()
            if isinstance(backend, BatchBackend):
                self._loaded.append(backend)
            kind = SpreadCaller if isinstance(backend, SpreadBackend) else Caller
            self._callers[key] = kind(
                backend,
                self.ledger,
                limits=model.limits,
                budget=self.recipe.budget,
                price=model.price_per_million,
                run_id=self.run_id,
                observers=(self._count,),
                keys_used=self._used,
                expects=self.progress.expect,
                throttle=self._throttles.setdefault(endpoint_of(model), Throttle(model.limits)),
                extra_body=model.extra_body,
                writer=self.writer,
            )
        return self._callers[key]

    def _backend(self, model: Model) -> Backend:
        if model.kind == "openai" and self.ledger.replay:
            from tapir.models.http import RecordedEndpoint

            return RecordedEndpoint(model)
        if model.kind == "openai" and model.batch_api:
            from tapir.models.batch_api import BatchApiBackend

            return BatchApiBackend(model, self.ledger, run_id=self.run_id, say=self.progress.say)
        if model.kind == "openai":
            from tapir.models.http import HttpBackend

            return HttpBackend(model, say=self.progress.say)
        if model.kind == "scripted":
            from tapir.models.scripted import load_scripted

            return load_scripted(model)
        from tapir.models.resolve import resolve
        from tapir.models.students import open_local

        return open_local(model, resolve(model, progress=self.progress.fetching))

    def _used(self, stage: str, address: str) -> None:
        self._keys.add(bytes.fromhex(address))

    def _count(self, reply: Reply, tries: Tries, usage: Usage) -> None:
        self.usage.count(reply, tries)
        self.progress.call(reply, self.usage)

    def judge_plan(self, role: Literal["judge", "evaluator"]) -> JudgePlan:
        """How this role is asked for verdicts."""
        model, settings = self.model(role), self.recipe.judge
        asking: Asking = "text" if model.structured == "auto" else model.structured
        sampling = self.sampling(role, "judging")
        if asking == "soft":
            sampling = replace(sampling, max_tokens=24, top_logprobs=20)
        return JudgePlan(
            asking,
            sampling,
            prefill=model.kind != "openai",
            samples=settings.samples,
            retries=settings.retries,
            max_unscored=settings.max_unscored,
            max_pairs=settings.max_pairs,
            verified=settings.verified,
            template=read_template(Path(settings.template)) if settings.template else None,
            max_answer_chars=settings.max_answer_chars,
            name=role,
            seed=self.recipe.seed,
            # The evaluator's verdicts select nothing: there is no threshold to be near to.
            adaptive_delta=self.recipe.difficulty.delta if settings.adaptive and role == "judge" else None,
            run_program=self.run_program,
        )

    @property
    def run_program(self) -> RunProgram | None:
        """The sandbox for program checks, where the recipe allows running code."""
        return run_program if self.recipe.seeds.allow_code else None

    def writing_temperature(self) -> float:
        """For new instructions: never 0, or each ask of one parent would be answered alike."""
        return self.model("teacher").temperature or WRITING_TEMPERATURE

    @functools.cached_property
    def _evaluation_texts(self) -> ContaminationIndex:
        settings = self.recipe.decontaminate
        own = (e.prompts for e in self.recipe.evaluate if e.kind != "choice")
        return ContaminationIndex(evaluation_texts(own, settings), allow=allowed(settings.allow))

    def contamination(self) -> ContaminationIndex:
        """Everything the recipe evaluates on or names beside it; empty where decontamination is switched off."""
        return self._evaluation_texts if self.recipe.decontaminate.enabled else ContaminationIndex([])

    def likeness(self) -> Likeness | None:
        """Finds instructions that say the same in other words, where the recipe names an encoder for it."""
        settings = self.recipe.expand
        if settings.embedding is None:
            return None
        from tapir.models.embedding import EmbeddingIndex, Encoder
        from tapir.models.resolve import resolve

        folder = resolve(Model(kind="local", model=settings.embedding), progress=self.progress.fetching)
        if self.recipe.executor == "ray":
            from tapir.executors.pool import RayEncoder

            return EmbeddingIndex(RayEncoder(folder, self.recipe.ray), above=settings.embedding_above)
        return EmbeddingIndex(Encoder(folder), above=settings.embedding_above)

    def near_duplicates(self, rows: Sequence[tuple[str, str]]) -> list[NearDuplicate]:
        """(id, text) rows that repeat an earlier one."""
        if self.recipe.executor == "ray":
            from tapir.executors.pool import spread_near_duplicates

            return spread_near_duplicates(rows, self.recipe.ray)
        return near_duplicates(rows)

    def student_weights(self) -> Path:
        """The base student's folder, fetched if need be."""
        from tapir.models.resolve import resolve

        return resolve(self.model("student").on_this_machine(), progress=self.progress.fetching)

    def weights_hash(self, folder: Path) -> str:
        from tapir.models.weights_hash import weights_hash

        return weights_hash(folder)

    def answer_nll(self, folder: Path, pairs: list[tuple[Instruction, str]]) -> list[tuple[float, int]]:
        """Negative log-likelihood and token count of each answer under the student in `folder`."""
        spoken = [(i.messages(), text) for i, text in pairs]
        self.close_models()
        if self.recipe.executor == "ray":
            from tapir.executors import scoring

            return scoring.answer_nll(folder, spoken, self.model("student"), self.recipe.ray)
        from tapir.models.local_hf import answer_nll

        return answer_nll(folder, spoken, self.model("student"), kept=self.resident.lend(folder))

    def close(self) -> None:
        """Put models away and leave the cluster."""
        self.close_models()
        if self.recipe.executor == "ray":
            from tapir.executors import cluster

            cluster.disconnect()

    def close_models(self) -> None:
        """Put every loaded model away."""
        for backend in self._loaded:
            backend.close()
        self._loaded.clear()
        self._callers.clear()

    def step(
        self,
        place: str,
        work: Callable[[Step, Receipt], None],
        *,
        version: int,
        settings: Any = None,
        after: Iterable[Step] = (),
        total: int | None = None,
    ) -> Step:
        """Do a step, or pass over it if its fingerprint says that it is done.

        `version` is raised by whoever changes what the stage's code writes; `settings` is its part of the recipe.
        """
        mark = fingerprint(place, version, settings, [s.fingerprint for s in after])
        step = self.run.step(place, mark)
        fresh = step.state != "done" and not step.take_back() and not self._taken_over(step)
        if fresh:
            step.clear()
            self._perform(step, work, total)
        if self.store:
            self.store.save(step, self.run.calls_of(step.place))
        found = step.receipt()
        assert found is not None
        step.forget_aside()
        self.progress.finish(place, found, fresh=fresh)
        if self.until is not None and step.stage == self.until:
            raise StoppedHere(place)
        return step

    def told_of(self, place: str) -> dict[str, Any]:
        """The receipt of a step, whatever recipe it was finished by: here, set aside, or in the store."""
        step = self.run.step(place, "")
        return step.receipt() or step.receipt_aside() or (self.store and self.store.receipt(step)) or {}

    def _taken_over(self, step: Step) -> bool:
        """Take a step from another run here, which costs nothing, or bring it from the store."""
        step.clear()
        lender = next((run for run in self.lenders if step.borrow(run)), None)
        if lender is not None:
            self._note_keys(step, lender.calls_of(step.place))
            return True
        return self.store is not None and self.store.load(step, functools.partial(self._note_keys, step))

    def _note_keys(self, step: Step, keys: Iterable[str]) -> None:
        """Add the ledger keys that this step used to the run's list, instead of those of an earlier try."""
        others = ((place, key) for place, key in self.run.calls_by_place() if place != step.place)
        lines = chain(others, ((step.place, key) for key in keys))
        write_lines(self.run.calls_path, (f"{place} {key}\n" for place, key in lines))

    def _perform(self, step: Step, work: Callable[[Step, Receipt], None], total: int | None) -> None:
        receipt, began = Receipt(step.stage), time.monotonic()
        self.progress.start(step.place, total)
        self.usage = usage = Usage()
        self._keys = set()
        work(step, receipt)
        self._note_keys(step, (key.hex() for key in sorted(self._keys)))
        receipt.calls, receipt.cached_calls, receipt.replayed_calls = usage.calls, usage.cached, usage.replayed
        receipt.retried_calls = usage.retried
        receipt.prompt_tokens, receipt.completion_tokens = usage.prompt_tokens, usage.completion_tokens
        receipt.cost_usd = usage.cost_usd
        receipt.seconds = round(time.monotonic() - began, 2)
        step.finish(receipt)


@contextmanager
def open_session(
    recipe: Recipe,
    root: Path,
    *,
    progress: Progress | None = None,
    until: str | None = None,
    source: str = "",
    lenders: tuple[RunDir, ...] = (),
    run_id: str = "",
    stored_as: str = "",
) -> Generator[Session]:
    """A session that is the only writer of a run directory; its recipe and manifest are written there.

    `run_id` lets several runs count against one budget; by default a run has its own. `stored_as` is the run's place
    in the recipe's store; by default its folder's name.
    """
    check_config(recipe.train, recipe.ray)
    run = RunDir(root)
    own = run_id or run.identity()
    _refuse_another_ledger(run, recipe, own)
    with run.writing(), open_ledger(recipe) as ledger:
        live = ProgressFile(root)
        told = Noted(progress or Progress(), live)
        name = stored_as or root.absolute().name
        store = RemoteStore(recipe.store, name) if recipe.store else None
        _refuse_another(run, recipe)
        writer = str(root.resolve())
        if not ledger.replay:
            with ledger.transaction() as db:
                put_back(db, writer)
        session = Session(recipe, run, ledger, told, until, run_id=own, store=store, writer=writer, lenders=lenders)
        # As given, not without defaults: a role's value that equals the default replaces the one it would take over.
        text = yaml.safe_dump(recipe.model_dump(mode="json", exclude_unset=True), sort_keys=False)
        write_text(run.recipe_path, text)
        write_text(run.called_from_path, str(Path.cwd()))
        write_json(run.manifest_path, {**manifest(recipe, source), "run_id": session.run_id})
        try:
            with _calls_stored(session, name.partition("/")[0]):
                yield session
        finally:
            live.end()
            session.close()


@contextmanager
def _calls_stored(session: Session, name: str) -> Generator[None]:
    """Calls that other machines have paid for are brought from the recipe's store, and new ones copied there."""
    if session.store is None or session.recipe.store is None or session.ledger.replay:
        yield
        return
    calls = StoredCalls(session.store, session.recipe.store, session.ledger, run=session.run_id, name=name)
    if new := calls.bring():
        session.progress.say(f"{new:,} calls of an earlier machine are in the ledger now, from {session.recipe.store}")
    with calls.saving(session.progress.say):
        yield


def _refuse_another(run: RunDir, recipe: Recipe) -> None:
    """A run goes on with its recipe, changed or not; another recipe's steps would replace its own, weights included."""
    if not run.recipe_path.exists():
        return
    name = (yaml.safe_load(run.recipe_path.read_text(encoding="utf-8")) or {}).get("name", "run")
    if name != recipe.name:
        raise RecipeError(
            f"{run.root}: holds a run of `{name}`, and this recipe is `{recipe.name}`; give another --out, "
            f"or set name={name} if it is to replace what is there"
        )


def _refuse_another_ledger(run: RunDir, recipe: Recipe, run_id: str) -> None:
    """A run called from another directory finds another file under the same relative path: one that knows neither what
    is paid for nor what may still be spent."""
    here, there = Path(recipe.ledger.path), run.named(recipe.ledger.path)
    if here.resolve() != there.resolve() and _knows(there, run_id) and not _knows(here, run_id):
        raise RecipeError(
            f"{run.root}: its calls and what it has spent are in {there}, and {here.absolute()} knows nothing of them; "
            f"start it in {run.called_from()}, or give --set ledger.path={there}"
        )


def _knows(path: Path, run_id: str) -> bool:
    if not os.access(path, os.R_OK):
        return False
    with Ledger(path, replay=True) as ledger:
        return ledger.knows(run_id)


@contextmanager
def open_tools(recipe: Recipe, folder: Path) -> Generator[Session]:
    """A session for single stages: the recipe's models and ledger, and no run that is kept."""
    with open_ledger(recipe) as ledger:
        session = Session(recipe, RunDir(folder), ledger, run_id=TOOLS)
        try:
            yield session
        finally:
            session.close()


def recording_files(recipe: Recipe) -> list[Path]:
    """The recordings that the recipe reads beside its ledger."""
    shipped = resources.files("tapir.data") / "recordings"
    return [
        Path(str(shipped / f"{name.removeprefix('builtin:')}.jsonl.gz")) if name.startswith("builtin:") else Path(name)
        for name in recipe.ledger.recordings
    ]


def open_ledger(recipe: Recipe, *, replay: bool | None = None) -> Ledger:
    """The recipe's ledger; with `replay`, for reading only, whatever the recipe says."""
    replay = recipe.ledger.replay if replay is None else replay
    return Ledger(Path(recipe.ledger.path), replay=replay, recordings=recording_files(recipe))


def _reach(model: Model) -> dict[str, Any]:
    """What decides which live object serves a model; sampling is not part of it."""
    return model.model_dump(mode="json", exclude={"same_as", "temperature", "top_p", "max_answer_tokens", "structured"})
