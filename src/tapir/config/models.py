"""Who plays which role, how to reach them, and what they may cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from tapir.config.part import Part, Positive
from tapir.config.stages import refusal_of, table_of
from tapir.errors import RecipeError

Role = Literal["teacher", "judge", "student", "evaluator", "refiner", "refiner_annotator"]
ROLES: tuple[Role, ...] = get_args(Role)


class Caps(Part):
    """Hard caps; the call that could pass one is not sent."""

    usd: Annotated[float, Field(ge=0)] | None = None
    """Money, by `price_per_million`."""
    calls: Annotated[int, Field(ge=0)] | None = None
    """Calls sent (cached ones are free)."""
    prompt_tokens: Annotated[int, Field(ge=0)] | None = None
    """Prompt tokens, bounded from above before sending."""
    completion_tokens: Annotated[int, Field(ge=0)] | None = None
    """Generated tokens, thinking included."""


class Budget(Caps):
    """Caps for the run, and tighter ones for single stages."""

    per_stage: dict[str, Caps] = {}
    """Caps by stage, each named by its verb or its table, for instance `{judge: {usd: 20}}` (or `verdicts`)."""

    @field_validator("per_stage")
    @classmethod
    def _stages_by_name(cls, per_stage: dict[str, Caps]) -> dict[str, Caps]:
        names: dict[str, str] = {}
        for name in per_stage:
            if problem := refusal_of(name):
                raise ValueError(problem)
            if (other := names.setdefault(table_of(name), name)) != name:
                raise ValueError(f"{other} and {name} are the same stage; give it once")
        return per_stage

    def of_stage(self, stage: str) -> tuple[str, Caps] | None:
        """The caps of this stage, however it is named, with the name that they are given under."""
        return next(((n, caps) for n, caps in self.per_stage.items() if table_of(n) == table_of(stage)), None)


class Price(Part):
    """US dollars for a million tokens."""

    prompt: Annotated[float, Field(ge=0)]
    """Price of a million prompt tokens."""
    completion: Annotated[float, Field(ge=0)]
    """Price of a million generated tokens."""


class Limits(Part):
    """What an endpoint is asked to bear; the engine slows down further by itself when the server pushes back."""

    in_flight: Positive = 16
    """Calls under way at once."""
    requests_per_minute: Positive | None = None
    """Requests started in a minute."""
    tokens_per_minute: Positive | None = None
    """Tokens (prompt and reserved reply) started in a minute."""
    connect_timeout_s: Annotated[float, Field(gt=0)] = 10
    """Until a connection stands."""
    first_byte_timeout_s: Annotated[float, Field(gt=0)] = 300
    """From sending to the reply's first byte."""
    timeout_s: Annotated[float, Field(gt=0)] = 600
    """For the whole reply."""
    retries: Annotated[int, Field(ge=0, le=20)] = 5
    """Further tries after a passing failure (429, 5xx, a broken stream)."""


ABOUT_WEIGHTS = {"engine", "revision", "dtype", "batch", "data_parallel", "tensor_parallel", "gpu_memory",
                 "max_context", "threads", "chat_template",
                 "trust_remote_code", "allow_pickle", "temperature", "top_p", "max_answer_tokens"}  # fmt: skip
"""Settings of a model that say how its weights run here, and how replies are drawn."""
WHO_ANSWERS = {"kind", "model", "base_url", "base_urls", "weights", "revision", "script"}
"""Settings that name the model, and where it is asked."""


class Model(Part):
    """One role's model and how to reach it."""

    same_as: Role | None = None
    """Take another role's settings; what is given beside it replaces single values. A role that gives another model or
    endpoint gives its own `identity` and `price_per_million` too: those of the other role are not taken over."""
    kind: Literal["openai", "local", "scripted"] = "openai"
    """An OpenAI-compatible endpoint, weights on this machine, or the public table-driven fake."""
    model: str = ""
    """Model name at the endpoint; or a catalogue name, hub id or folder of local weights."""
    base_url: str | None = None
    """The endpoint's base URL, up to and including `/v1`."""
    base_urls: tuple[str, ...] = ()
    """Several endpoints that serve the same model; calls are balanced over them. Other addresses are another model, and
    everything is asked again, unless `identity` (or `weights`) says what they serve: then servers may come and go."""
    weights: str | None = None
    """Of a student that endpoints serve (`kind: openai`): the folder, catalogue name or hub id of the very weights that
    they serve. Trained students start from them and answer on this machine, where likelihoods are reckoned too; the
    endpoints answer for student_0 alone, by their own chat template: serve with the one that is used here."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the key; the key itself is written nowhere."""
    headers_env: dict[str, str] = {}
    """Further request headers, each from the environment variable named."""
    identity: str | None = None
    """What stands for this model in the ledger's keys; by default URLs and model, or the hash of local weights."""
    extra_body: dict[str, Any] = {}
    """Further fields of the request body, passed as they are."""
    token_param: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """The body field that bounds the reply."""
    drop_params: tuple[str, ...] = ()
    """Body fields this endpoint does not accept."""
    structured: Literal["auto", "schema", "soft", "text"] = "auto"
    """How verdicts and labels are asked for: by JSON schema, by token probabilities, or as text."""
    stream: bool = False
    """Read replies as a stream (needed by some proxies; gives a first-byte time)."""
    batch_api: bool = False
    """Send calls through the endpoint's offline batch API: cheaper, hours later."""
    price_per_million: Price | None = None
    """Prices; a money cap needs them. With `batch_api` the batch's own, which most providers halve."""
    limits: Limits = Limits()
    """Rate limits and timeouts."""
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    """Sampling temperature; by default 0.7 for writing, 0 for judging, 0.5 for the student (§4.1)."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Nucleus sampling."""
    max_answer_tokens: Positive = 1024
    """Longest answer asked for."""
    engine: Literal["auto", "transformers", "ctranslate2", "vllm"] = "auto"
    """What runs local weights."""
    revision: str | None = None
    """Hub revision of local weights."""
    dtype: Literal["auto", "float32", "bfloat16", "float16", "int8"] = "auto"
    """Precision of local inference."""
    batch: Positive = 16
    """Prompts generated together by a local engine."""
    data_parallel: Positive = 1
    """vLLM engines on this machine that share the prompts, a GPU each, or `tensor_parallel` of them."""
    tensor_parallel: Positive = 1
    """GPUs that hold one copy of the weights between them (vLLM)."""
    gpu_memory: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of a GPU's memory that vLLM may take; by default its own choice."""
    max_context: Positive | None = None
    """Tokens that a prompt and its answer may have together, where the window of local weights is more than the GPU has
    room for. A longer prompt is refused, and counted, by itself."""
    threads: Annotated[int, Field(ge=0)] = 0
    """Threads of a local engine; 0 takes all."""
    chat_template: str | None = None
    """`chatml`, `llama2`, `alpaca`, or a Jinja file; by default the model's own."""
    trust_remote_code: bool = False
    """Run Python that comes with the weights. Refused unless set here."""
    allow_pickle: bool = False
    """Load `.bin`/`.pt` weights, which can run code. Refused unless set here."""
    script: str | None = None
    """Rules file of a scripted model; `builtin` is the shipped one."""

    @field_validator("base_url")
    @classmethod
    def _plain_url(cls, url: str | None) -> str | None:
        return None if url is None else plain_url(url)

    @field_validator("base_urls")
    @classmethod
    def _plain_urls(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(plain_url(url) for url in urls)

    def on_this_machine(self) -> Model:
        """The model as it runs here: of a served one its `weights`.

        Without `identity`, which stands for what is served: trained students would all be known by that name.
        """
        if self.weights is None:
            return self
        kept = self.model_dump(include=ABOUT_WEIGHTS, exclude_unset=True)
        return Model.model_validate({**kept, "kind": "local", "model": self.weights})


def endpoint_of(model: Model) -> str:
    """Which server and model a role speaks to: what limits hold for, and a throttle is shared by."""
    if model.kind != "openai":
        return f"{model.kind} {model.model}"
    return " ".join([*sorted(model.base_urls or (model.base_url or "",)), model.model])


def plain_url(url: str) -> str:
    """The URL without a trailing slash, or an error: http(s) only, no credentials, no link-local address."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an http or https URL")
    if parts.username or parts.password:
        raise ValueError("must not carry credentials; name a variable in api_key_env instead")
    if parts.hostname.startswith("169.254.") or parts.hostname.lower().startswith("fe80"):
        raise ValueError("link-local addresses are refused")
    return url.rstrip("/")


class Models(Part):
    """Who plays which role."""

    teacher: Model
    """Writes the answers, labels, expansions."""
    student: Model
    """The model that learns; `kind: local`, or `openai` where endpoints serve its `weights` as student_0."""
    judge: Model = Model(same_as="teacher")
    """Compares the student's answers with the teacher's."""
    evaluator: Model = Model(same_as="judge")
    """Judges the held-out evaluation (the paper: a stronger model than the judge)."""
    refiner: Model = Model(same_as="teacher")
    """Rewrites instructions so that the teacher answers better."""
    refiner_annotator: Model = Model(same_as="teacher")
    """Annotates the data on which a small refiner is trained (appendix C)."""

    def resolved(self, role: Role, _seen: tuple[str, ...] = ()) -> Model:
        """The role's model with `same_as` followed and single values replaced."""
        model: Model = getattr(self, role)
        if model.same_as is None:
            return model
        if model.same_as in _seen or model.same_as == role:
            raise RecipeError(f"models.{role}: same_as goes in a circle ({' → '.join((*_seen, role))})")
        base = self.resolved(model.same_as, (*_seen, role))
        own = model.model_dump(exclude_unset=True, exclude={"same_as"})
        return Model.model_validate({**base.model_dump(exclude_unset=True, exclude=_left_behind(own)), **own})


def _left_behind(own: Mapping[str, Any]) -> set[str]:
    """What of another role's settings does not hold for a role that gives these.

    By the other's identity a second judge would get the first one's replies from the ledger.
    """
    left = {"identity", "price_per_million"} if own.keys() & WHO_ANSWERS else set[str]()
    if own.get("base_url"):
        left.add("base_urls")
    if own.get("base_urls"):
        left.add("base_url")
    return left
