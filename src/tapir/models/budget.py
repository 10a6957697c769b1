"""What a run may spend: reserved durably before a call is sent, settled when its reply is there.

One counter a run and stage, in the ledger's database, holds what is spent *or* reserved. A call that never settles
(a timeout, a broken stream, a killed process) therefore stays counted in full, with nobody having to clean up. Only a
stage whose batches are all handed out at once (`spread`) has counters beside it for what is reserved, which the run's
next writer puts back: all of a stage is more than a kill may cost, and no provider was paid for it.
Waiting for room and stopping the run is `sender`'s and `engine`'s business.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal

from tapir import config
from tapir.errors import RecipeError
from tapir.models.calls import Reply, Request

PICO = 10**12
MESSAGE_OVERHEAD_TOKENS = 16
"""Role markers and the like that a chat template puts around a message; no known template needs more."""


@dataclass(frozen=True, slots=True)
class Spend:
    """An amount, in whole numbers: money in millionths of a millionth of a dollar, so that sums are exact."""

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    pico_usd: int = 0

    def __add__(self, other: Spend) -> Spend:
        return Spend(
            self.calls + other.calls,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.pico_usd + other.pico_usd,
        )

    def __sub__(self, other: Spend) -> Spend:
        return Spend(
            self.calls - other.calls,
            self.prompt_tokens - other.prompt_tokens,
            self.completion_tokens - other.completion_tokens,
            self.pico_usd - other.pico_usd,
        )

    @property
    def usd(self) -> float:
        return self.pico_usd / PICO

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


NOTHING = Spend()
REFUSED = Spend(calls=1)
"""A call that the endpoint turned down before doing any work (429, 500): a call, but no tokens."""


class Tariff:
    """What tokens cost at one endpoint; without a price they are free (local weights)."""

    def __init__(self, price: config.Price | None) -> None:
        self._prompt = _pico_per_token(price.prompt) if price else 0
        self._completion = _pico_per_token(price.completion) if price else 0

    def spend(self, prompt_tokens: int, completion_tokens: int) -> Spend:
        """One call of so many tokens."""
        pico_usd = prompt_tokens * self._prompt + completion_tokens * self._completion
        return Spend(1, prompt_tokens, completion_tokens, pico_usd)

    def bound(self, request: Request) -> Spend:
        """The most that the call can come to."""
        return self.spend(prompt_tokens_bound(request), request.sampling.max_tokens)

    def actual(self, reply: Reply, bound: Spend) -> Spend:
        """What the call came to; its bound where the endpoint does not tell."""
        return self.spend(reply.prompt_tokens, reply.completion_tokens) if reply.usage_known else bound


def prompt_tokens_bound(request: Request) -> int:
    """At least as many tokens as the prompt can have: a token is never shorter than a byte of its text."""
    said = sum(len(m.content.encode("utf-8", "surrogatepass")) for m in request.messages)
    extra = "" if request.sampling.extra == "{}" else request.sampling.extra
    beside = len("".join((request.sampling.schema or "", extra, request.prefill)).encode("utf-8", "surrogatepass"))
    return said + beside + MESSAGE_OVERHEAD_TOKENS * (len(request.messages) + 1)


class Ration:
    """The caps of one run, checked and counted in the ledger's database inside the caller's transaction."""

    def __init__(self, run_id: str, caps: config.Budget | None = None) -> None:
        self.run_id = run_id
        self.caps = caps or config.Budget()

    @property
    def caps_money(self) -> bool:
        return self.caps.usd is not None or any(c.usd is not None for c in self.caps.per_stage.values())

    def require_price(self, price: config.Price | None, identity: str) -> None:
        """Refuse to start where money is capped and its price unknown."""
        if self.caps_money and price is None:
            raise RecipeError(
                f"a money cap is set, but no price is known for {identity}; give its price_per_million, "
                "or cap calls and tokens instead"
            )

    def reserve(self, db: sqlite3.Connection, stage: str, asks: Sequence[Spend]) -> int:
        """Reserve the longest prefix of `asks` that fits under every cap; how many that is."""
        by_stage = self._spending(db)
        total = sum(by_stage.values(), NOTHING)
        of_kind = _of_kind(by_stage, stage)
        own = self.caps.of_stage(stage)
        granted = NOTHING
        count = 0
        for ask in asks:
            wanted = granted + ask
            if _over(self.caps, total + wanted) or (own and _over(own[1], of_kind + wanted)):
                break
            granted = wanted
            count += 1
        if count:
            self._add(db, stage, granted)
        return count

    def settle(
        self, db: sqlite3.Connection, stage: str, settled: Sequence[tuple[Spend, Spend]], *, reserved_as: str = ""
    ) -> None:
        """Replace reservations by what was spent, `(reserved, actual)` each; `reserved_as` where those are apart."""
        if not settled:
            return
        reserved = sum((reserved for reserved, _ in settled), NOTHING)
        actual = sum((actual for _, actual in settled), NOTHING)
        if reserved_as:
            self._add(db, reserved_as, NOTHING - reserved)
            self._add(db, stage, actual)
        else:
            self._add(db, stage, actual - reserved)

    def spent(self, db: sqlite3.Connection, stage: str | None = None) -> Spend:
        """Spent and reserved so far, by the run or one of its stages."""
        by_stage = self._spending(db)
        return sum(by_stage.values(), NOTHING) if stage is None else by_stage.get(stage, NOTHING)

    def refusal(self, db: sqlite3.Connection, stage: str, ask: Spend) -> str:
        """Why `ask` is not granted, and what to do."""
        by_stage = self._spending(db)
        own = self.caps.of_stage(stage)
        over = _over(self.caps, sum(by_stage.values(), NOTHING) + ask)
        place = "budget"
        if not over and own:
            over, place = _over(own[1], _of_kind(by_stage, stage) + ask), f"budget.per_stage.{own[0]}"
        field, cap, reached = over or ("calls", 0, 0)
        return (
            f"stage {stage}: the next call could bring {place}.{field} to {reached:g}, above its cap of {cap:g}; "
            "everything so far is kept: raise the cap and run again to go on"
        )

    def _spending(self, db: sqlite3.Connection) -> dict[str, Spend]:
        rows = db.execute(
            "SELECT stage, calls, prompt_tokens, completion_tokens, pico_usd FROM spending WHERE run = ?",
            (self.run_id,),
        )
        return {row[0]: Spend(*row[1:]) for row in rows}

    def _add(self, db: sqlite3.Connection, stage: str, spend: Spend) -> None:
        db.execute(
            "INSERT INTO spending VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT(run, stage) DO UPDATE SET "
            "calls = calls + excluded.calls, prompt_tokens = prompt_tokens + excluded.prompt_tokens, "
            "completion_tokens = completion_tokens + excluded.completion_tokens, "
            "pico_usd = pico_usd + excluded.pico_usd",
            (self.run_id, stage, spend.calls, spend.prompt_tokens, spend.completion_tokens, spend.pico_usd),
        )


def handed_out(writer: str, stage: str) -> str:
    """The counter for what this writer's stage has reserved and not settled; under the caps of the stage itself."""
    return f"{_handed_out_by(writer)}{stage}"


def put_back(db: sqlite3.Connection, writer: str) -> None:
    """Cancel what a writer had handed out when it was killed. For whoever is now the only one to write as it."""
    mark = _handed_out_by(writer)
    db.execute("DELETE FROM spending WHERE substr(stage, 1, length(?)) = ?", (mark, mark))


def _handed_out_by(writer: str) -> str:
    return f"{writer} handed out/"


def _of_kind(by_stage: Mapping[str, Spend], stage: str) -> Spend:
    """What this stage has spent under any of its names: a run counts `verdicts`, `tapir stage judge` `judge`."""
    kind = config.table_of(stage)
    return sum((spend for name, spend in by_stage.items() if config.table_of(name) == kind), NOTHING)


def _over(caps: config.Caps, spend: Spend) -> tuple[str, float, float] | None:
    return next(passed(caps, spend), None)


def passed(caps: config.Caps, spend: Spend) -> Iterator[tuple[str, float, float]]:
    """The caps that `spend` passes: name, value, and what would be reached."""
    if caps.usd is not None and spend.pico_usd > Decimal(str(caps.usd)) * PICO:
        yield "usd", caps.usd, spend.usd
    for name in ("calls", "prompt_tokens", "completion_tokens"):
        cap: int | None = getattr(caps, name)
        reached: int = getattr(spend, name)
        if cap is not None and reached > cap:
            yield name, cap, reached


def _pico_per_token(usd_per_million: float) -> int:
    """Rounded up, so that a cap stays a cap."""
    return int((Decimal(str(usd_per_million)) * (PICO // 10**6)).to_integral_value(ROUND_CEILING))
