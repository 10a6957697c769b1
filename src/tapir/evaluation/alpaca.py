"""AlpacaEval 2.0 (§4.2): weighted win rate against a reference, from stored annotations or by live judging.

Owns the public scoring rules. In a row `output_1` is the reference's and `output_2` the model's; a preference lies
between 1 (the reference is better) and 2 (the model is), as in the public files.
"""

from __future__ import annotations

import hashlib
import random
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from tapir.errors import DataError
from tapir.evaluation.length_control import length_controlled_win_rate, logistic
from tapir.evaluation.rows import (
    Estimate,
    Row,
    as_number,
    field,
    last_of_each,
    mean_estimate,
    read_rows,
    share_estimate,
    standard_error,
)
from tapir.models.calls import Asks, Reply, Request, Sampling
from tapir.prompts.delimit import neutralise
from tapir.types import Message

FIRST, SECOND = "m", "M"
"""The two answer tokens of the public prompt."""
IDENTICAL = 1.5
SEED = 0
"""The public annotator's; stored public annotations follow the switch rule with it."""
JUDGING = Sampling(temperature=1.0, max_tokens=1, top_logprobs=5)
"""As the public annotator asks. The temperature touches no preference where log-probabilities are returned unscaled,
and would bend them elsewhere at any value but 1."""

OWN_PROMPT = Path(__file__).parents[1] / "prompts" / "alpaca.txt"
OWN_PROMPT_NOTE = "judged with tapir's own prompt: not comparable with the AlpacaEval leaderboard"
USER_PROMPT_NOTE = "judged with a prompt file of yours: comparable only with results of the same prompt and judge"
STORED_NOTE = "scored from stored annotations by the public rules"


@dataclass(frozen=True, slots=True)
class Annotation:
    """One judged pair. `preference` is None where it could not be read."""

    instruction: str
    reference_output: str
    output: str
    reference: str
    model: str
    preference: float | None
    annotator: str = ""
    problem: str | None = None

    def to_json(self) -> Row:
        """The row as public files spell it."""
        return {
            "instruction": self.instruction, "output_1": self.reference_output, "output_2": self.output,
            "generator_1": self.reference, "generator_2": self.model, "annotator": self.annotator,
            "preference": self.preference,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class AlpacaScore:
    """What AlpacaEval says of one model; all rates in percent."""

    model: str
    reference: str
    win_rate: Estimate
    standard_error: float | None
    discrete_win_rate: Estimate
    n: int
    missing: int
    wins: int
    losses: int
    draws: int
    length_controlled_win_rate: float | None = None
    note: str = STORED_NOTE

    def to_json(self) -> Row:
        return {
            "model": self.model, "reference": self.reference, "win_rate": self.win_rate.to_json(),
            "standard_error": self.standard_error, "discrete_win_rate": self.discrete_win_rate.to_json(),
            "length_controlled_win_rate": self.length_controlled_win_rate, "n": self.n, "missing": self.missing,
            "wins": self.wins, "losses": self.losses, "draws": self.draws, "note": self.note,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pair:
    """Two outputs to compare live."""

    instruction: str
    reference_output: str
    output: str


@dataclass(frozen=True, slots=True)
class JudgePrompt:
    """A comparison prompt with `{instruction}`, `{output_1}` and `{output_2}` in it."""

    messages: tuple[Message, ...]
    own: bool
    sha256: str


def is_switched(instruction: str, seed: int = SEED) -> bool:
    """Whether the judge sees the model's output first: the public rule, a function of the instruction alone."""
    return random.Random(f"is_switched_outputs{instruction}{seed}").choices([False, True])[0]


def preference_from_logprobs(top: Mapping[str, float], *, switched: bool) -> float | None:
    """2 − P(first is better), mirrored when switched; a missing token has probability 0, both missing is None."""
    first, second = top.get(FIRST), top.get(SECOND)
    if first is None and second is None:
        return None
    absent = float("-inf")
    preference = 2.0 - logistic((absent if first is None else first) - (absent if second is None else second))
    return 3.0 - preference if switched else preference


def score_annotations(path: Path, *, model: str | None = None, expected: int | None = None) -> AlpacaScore:
    """Score a public annotations file without one call. `expected` counts rows that are not in it as missing."""
    annotations = read_annotations(path)
    models = sorted({a.model for a in annotations})
    if model is None and len(models) > 1:
        raise DataError(f"{path}: annotations of {len(models)} models ({', '.join(models)}); say which with --model")
    chosen = [a for a in annotations if model is None or a.model == model]
    if not chosen:
        raise DataError(f"{path}: no annotation of {model}; the file has {', '.join(models)}")
    if len({a.reference for a in chosen}) > 1 or len({a.annotator for a in chosen}) > 1:
        raise DataError(f"{path}: several references or annotators for {chosen[0].model}; score one file for each")
    return score(chosen, expected=expected)


def length_controlled(found: AlpacaScore, glm: Path | None, difficulty: Path | None) -> AlpacaScore:
    """The score with its length-controlled win rate, where its data are given; half of them are refused."""
    if glm is None and difficulty is None:
        return found
    if glm is None or difficulty is None:
        raise DataError(
            "a length-controlled win rate needs both --glm (the public weights file) and --difficulty (the public "
            "instruction_difficulty.csv); a fresh fit needs the gamed baselines' annotations, which are not here"
        )
    controlled = length_controlled_win_rate(
        glm, difficulty, model=found.model, reference=found.reference, rows=found.n + found.missing
    )
    return replace(found, length_controlled_win_rate=controlled)


def read_annotations(path: Path) -> list[Annotation]:
    """The rows of a public file; of a pair annotated twice the last readable row stays, with a warning."""
    rows = read_rows(path)
    if not any("preference" in row for row in rows):
        raise DataError(f"{path}: no row has a `preference`; give AlpacaEval's annotations.json")
    found = [_annotation(row, path) for row in rows]
    keyed = (
        ((a.instruction, a.reference_output, a.output, a.reference, a.model, a.annotator), a, a.preference is not None)
        for a in found
    )
    kept, dropped = last_of_each(keyed)
    if dropped:
        warnings.warn(f"{path}: {dropped} duplicate annotations removed", stacklevel=2)
    return kept


def _annotation(row: Row, path: Path) -> Annotation:
    return Annotation(
        instruction=str(field(row, "instruction", path)),
        reference_output=str(row.get("output_1", "")),
        output=str(row.get("output_2", "")),
        reference=str(row.get("generator_1", "reference")),
        model=str(row.get("generator_2", "model")),
        preference=_stored_preference(row.get("preference")),
        annotator=str(row.get("annotator", "")),
    )


def _stored_preference(value: object) -> float | None:
    """Between 1 and 2, or 0 (how old files code a draw); anything else was not read."""
    number = as_number(value)
    if number == 0:
        return IDENTICAL
    return number if number is not None and 1 <= number <= 2 else None


def score(annotations: Sequence[Annotation], *, expected: int | None = None, note: str = STORED_NOTE) -> AlpacaScore:
    """The public numbers of one model's annotations."""
    read = [a.preference - 1 for a in annotations if a.preference is not None]
    missing = max(expected or 0, len(annotations)) - len(read)
    win_rate = mean_estimate(read, missing, scale=100, bounds=(0, 1))
    # Only an exact half is a draw, everything else goes to a side.
    discrete = share_estimate(sum(0.5 if p == 0.5 else float(p > 0.5) for p in read), len(read), missing)
    if win_rate is None or discrete is None:
        raise DataError(f"none of {len(annotations)} annotations has a readable preference, so there is no win rate")
    error = standard_error(read)
    return AlpacaScore(
        model=annotations[0].model,
        reference=annotations[0].reference,
        win_rate=win_rate,
        standard_error=None if error is None else 100 * error,
        discrete_win_rate=discrete,
        n=len(read),
        missing=missing,
        wins=sum(p > 0.5 for p in read),
        losses=sum(p < 0.5 for p in read),
        draws=sum(p == 0.5 for p in read),
        note=note,
    )


def live(
    pairs: Sequence[Pair], judge: Asks, *, model: str, reference: str, annotator: str = "judge",
    prompt: Path | None = None, seed: int = SEED, repeat: int = 0, stage: str = "evaluate",
) -> tuple[list[Annotation], AlpacaScore]:  # fmt: skip
    """One call a pair, as the `repeat`-th time of asking; identical outputs get 1.5 without one.

    Rows come back in the pairs' order.
    """
    asked = read_prompt(prompt)
    switched = [is_switched(p.instruction, seed) for p in pairs]
    to_ask = [i for i, p in enumerate(pairs) if p.output != p.reference_output]
    requests = [Request(_messages(asked, pairs[i], switched[i]), JUDGING, repeat, row=str(i)) for i in to_ask]
    replies = judge.run(requests, stage=stage, accept_truncated=True, accept_empty=True)
    read: dict[int, tuple[float | None, str | None]] = {}
    for i, (_, reply) in zip(to_ask, replies, strict=True):
        read[i] = _read(reply, switched[i])
    rows: list[Annotation] = []
    for i, pair in enumerate(pairs):
        preference, problem = read.get(i, (IDENTICAL, None))
        rows.append(
            Annotation(
                pair.instruction, pair.reference_output, pair.output, reference, model, preference, annotator, problem
            )
        )
    return rows, score(rows, note=OWN_PROMPT_NOTE if asked.own else USER_PROMPT_NOTE)


def mean_annotations(repeats: Sequence[Sequence[Annotation]]) -> list[Annotation]:
    """Each pair with the mean of its readable repeats; one that was never read stays missing."""
    merged: list[Annotation] = []
    for same in zip(*repeats, strict=True):
        read = [a.preference for a in same if a.preference is not None]
        merged.append(replace(same[0], preference=fmean(read), problem=None) if read else same[0])
    return merged


def _read(reply: Reply, switched: bool) -> tuple[float | None, str | None]:
    if reply.problem:
        return None, reply.problem
    if not reply.logprobs:
        return None, "no_logprobs"
    first = reply.logprobs[0]
    top = {first.token: first.logprob} | dict(first.top)
    preference = preference_from_logprobs(top, switched=switched)
    return preference, "no_answer_token" if preference is None else None


def read_prompt(path: Path | None = None) -> JudgePrompt:
    """The shipped prompt, or a file: ChatML as AlpacaEval's own, `### system` / `### user` parts, or one user text."""
    try:
        text = (path or OWN_PROMPT).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: the judge's prompt cannot be read ({error})") from None
    for name in ("{instruction}", "{output_1}", "{output_2}"):
        if name not in text:
            raise DataError(f"{path}: the judge's prompt has no {name}, so the judge would not see it")
    digest = hashlib.sha256(text.encode()).hexdigest()
    return JudgePrompt(_parts(text), own=path is None, sha256=digest)


def _parts(text: str) -> tuple[Message, ...]:
    chatml = re.findall(r"<\|im_start\|>(system|user)\n(.*?)<\|im_end\|>", text, re.DOTALL)
    ours = re.fullmatch(r"### system\n(.*?)\n### user\n(.*)", text.strip(), re.DOTALL)
    if chatml:
        return tuple(Message("system" if role == "system" else "user", body.strip()) for role, body in chatml)
    if ours:
        return Message("system", ours[1]), Message("user", ours[2])
    return (Message("user", text.strip()),)


def _messages(prompt: JudgePrompt, pair: Pair, switched: bool) -> tuple[Message, ...]:
    first, second = pair.reference_output, pair.output
    if switched:
        first, second = second, first
    fields = {"instruction": pair.instruction, "output_1": first, "output_2": second}
    if prompt.own:
        # A public prompt must see the texts as they are, or its numbers would not be the public ones.
        fields = {name: neutralise(text) for name, text in fields.items()}
    # One pass, so that "{output_2}" inside an output stays what it is.
    pattern = re.compile(r"\{(instruction|output_1|output_2)\}")
    return tuple(replace(m, content=pattern.sub(lambda found: fields[found[1]], m.content)) for m in prompt.messages)
