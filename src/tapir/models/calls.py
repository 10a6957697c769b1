"""What is asked of a model and what comes back, whichever way the model is reached.

A `Request` is everything that could change the reply, and its `address` is the ledger's key. How requests are sent,
limited, retried and paid for is `engine`'s business; how replies are read is `tapir.prompts`'.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

from tapir.types import Message, canonical_json


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a reply is drawn."""

    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 512
    stop: tuple[str, ...] = ()
    top_logprobs: int = 0
    """How many alternatives per generated token to return; 0 asks for none."""
    schema: str | None = None
    """Canonical JSON of the response schema, where a structured reply is wanted."""
    extra: str = "{}"
    """Canonical JSON of further body fields (`extra_body` of the recipe)."""


@dataclass(frozen=True, slots=True)
class Request:
    """One call. `prefill` is the opening of the reply that the model must continue (local engines, vLLM)."""

    messages: tuple[Message, ...]
    sampling: Sampling
    sample: int = 0
    prefill: str = ""
    row: str = ""
    """Whose call it is, for receipts and error messages; no part of the address."""

    def address(self, identity: str) -> str:
        """The key under which the reply is kept: everything that could change it, and nothing else."""
        s = self.sampling
        spoken = {
            "identity": identity,
            "messages": [[m.role, m.content] for m in self.messages],
            # float(): 0 and 0.0 are one temperature and must be one key.
            "sampling": [
                float(s.temperature),
                float(s.top_p),
                s.max_tokens,
                list(s.stop),
                s.top_logprobs,
                s.schema,
                s.extra,
            ],
            "sample": self.sample,
            "prefill": self.prefill,
        }
        return hashlib.sha256(canonical_json(spoken).encode("utf-8", "surrogatepass")).hexdigest()


class Coming(Iterable[Request]):
    """Requests that are made one at a time, when they are needed, and how many there will be."""

    def __init__(self, requests: Iterable[Request], count: int) -> None:
        self._requests = requests
        self._count = count

    def __iter__(self) -> Iterator[Request]:
        return iter(self._requests)

    def __len__(self) -> int:
        return self._count


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back. With `problem` set the row is bad, for that reason; the text, if any, is kept all the same."""

    text: str = ""
    finish_reason: str = "stop"
    reasoning: str = ""
    """Thinking text: stored and billed, never judged, trained on or parsed."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    logprobs: tuple[TokenLogprob, ...] = ()
    problem: str | None = None
    cost_usd: float = 0.0
    cached: bool = False
    replayed: bool = False
    """Cached, and the entry came from an imported recording."""
    usage_known: bool = True
    """False where the endpoint told no usage: the token counts are then bounds from above."""
    raw: bytes = field(default=b"", repr=False, compare=False)
    """The reply as it came over the wire, secrets removed; the ledger keeps it beside what was read from it."""


PASSING = frozenset(
    {"timeout", "broken_stream", "rate_limited", "server_error", "unreachable", "unreadable", "oversized", "expired"}
)
"""Problems that another try may not meet; a ledger entry with one is sent again by the next run."""


class PassingFailure(Exception):
    """One try of a call failed in a way that may pass: the engine decides whether to try again.

    Never shown to a user as it is; `detail` carries no secret.
    """

    def __init__(
        self,
        reason: str,
        detail: str = "",
        *,
        billed: bool = False,
        pressure: bool = False,
        unreachable: bool = False,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(detail or reason)
        self.reason = reason
        self.detail = detail or reason
        self.billed = billed
        """The endpoint may have done the work (timeout, broken stream): counted as spent in full."""
        self.pressure = pressure
        """The endpoint asked for less (429, 503)."""
        self.unreachable = unreachable
        """No connection stood: never the row's fault."""
        self.retry_after_s = retry_after_s
        self.at = ""
        """The address that failed; the next try prefers another."""
        self.elsewhere = False
        """Another address of the same model is not failing."""


class Tries(NamedTuple):
    """What it took to get a reply beside the try that brought it."""

    further: int = 0
    """Tries after a passing failure."""
    lost_usd: float = 0.0
    """What those that failed may have cost."""


ONE_TRY = Tries()


@dataclass(slots=True)
class Usage:
    """What a stage's calls came to so far; `engine` adds to it, a receipt reads it."""

    calls: int = 0
    cached: int = 0
    replayed: int = 0
    failed: dict[str, int] = field(default_factory=lambda: dict[str, int]())
    retried: int = 0
    """Further tries after a passing failure; what they may have cost is in `cost_usd`."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0

    def count(self, reply: Reply, tries: Tries) -> None:
        self.retried += tries.further
        self.cost_usd += tries.lost_usd
        if reply.replayed:
            self.replayed += 1
        if reply.cached:
            self.cached += 1
        else:
            self.calls += 1
            self.prompt_tokens += reply.prompt_tokens
            self.completion_tokens += reply.completion_tokens
            self.cost_usd += reply.cost_usd
        if reply.problem:
            self.failed[reply.problem] = self.failed.get(reply.problem, 0) + 1


@runtime_checkable
class RemoteBackend(Protocol):
    """Answers one request at a time, many at once: an HTTP endpoint."""

    identity: str

    async def send(self, request: Request, *, avoid: str = "") -> Reply:
        """One try, at another address than `avoid` where several serve the model."""
        ...

    async def aclose(self) -> None: ...


@runtime_checkable
class BatchBackend(Protocol):
    """Answers a batch at a time in this process: local weights, or the scripted model.

    The same batch always gives the same replies: batches are cut canonically and seeded from their content.
    """

    identity: str
    batch_size: int

    def generate(self, batch: Sequence[Request]) -> list[Reply]: ...

    def close(self) -> None: ...


@runtime_checkable
class WorksElsewhere(Protocol):
    """A batch backend whose batches go on while this process is dead (an offline batch API): jobs in the ledger."""

    def reserved_before(self) -> frozenset[str]:
        """Addresses whose cost an open job of this run has reserved."""
        ...

    def perhaps_sent(self) -> frozenset[str]:
        """Addresses of the last batch that may be under way all the same: no answer told whether their job began."""
        ...


@runtime_checkable
class SpreadBackend(BatchBackend, Protocol):
    """A batch backend that takes all batches of a stage at once and works on many at a time, on many machines."""

    def generate_all(self, batches: Iterable[Sequence[Request]]) -> Iterator[tuple[int, list[Reply]]]:
        """Each batch's number, in the order given, with its replies; batches come as they are finished.

        Called again for a stage where a cap leaves room for a part of its batches only.
        """
        ...


Backend = RemoteBackend | BatchBackend


class Asks(Protocol):
    """A model as stages see it: requests in, the same requests with their replies out, in the same order."""

    def run(
        self, requests: Iterable[Request], *, stage: str, accept_truncated: bool = False, accept_empty: bool = False
    ) -> Iterator[tuple[Request, Reply]]: ...


class Observer(Protocol):
    """Sees each finished call, what it took, and what its stage has used so far; the progress bar is one."""

    def __call__(self, reply: Reply, tries: Tries, usage: Usage) -> None: ...


ReplyStream = AsyncIterator[tuple[Request, Reply]]
Body = dict[str, Any]
