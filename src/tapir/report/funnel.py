"""The page's account of rows: what every step took in, made, handed on and dropped, and why."""

from __future__ import annotations

from typing import Any

from tapir.report.charts import figure, stacked_bars
from tapir.report.facts import Facts
from tapir.report.findings import absent
from tapir.report.markup import Element, el, foreign, table

REASONS = {
    # What came in.
    "exact_duplicate": "the same text is in the pool already",
    "near_duplicate": "nearly the same text is in the pool already",
    "contaminated": "it is part of the evaluation data",
    "no_answer": "the pool holds no answer to it",
    "not_a_string": "a field that should be text is none",
    "no_user_turn": "the conversation asks nothing",
    "unknown_speaker": "the conversation has a speaker who is neither user, assistant nor system",
    "not_an_object": "the row is no object",
    "broken_json": "the line is no JSON",
    "not_utf8": "its text is not UTF-8; save the file in that encoding",
    "bad_check": "its check has none of the forms of docs/checks.md",
    "too_many_columns": "the row has more fields than the file has columns",
    # What a model replied.
    "truncated": "the reply ended at the token limit (max_answer_tokens)",
    "empty": "the reply held no text",
    "content_filter": "the endpoint's content filter refused it",
    "bad_request": "the endpoint refused the request as malformed",
    "prompt_too_long": "longer than the model's context",
    "template_refused": "the model's chat template cannot hold this conversation",
    "invalid_utf8": "the reply was not UTF-8 text",
    "expired": "the batch ended before this row was answered",
    "teacher_wrong": "the teacher's answer fails the instruction's own check",
    # Selection and mix.
    "over_max_pairs": "not judged: above judge.max_pairs",
    "unscored": "no readable verdict in both orders",
    "no_likelihood": "the student gave no likelihood for this answer",
    "no_check": "difficulty by verifier needs a check, and it carries none",
    "not_hard": "difficulty not above δ; it stays in the easy pool",
    "undrawn_hard": "hard, but the mix did not need it this round",
    "undrawn_easy": "easy, but the mix did not need it this round",
    # Growth.
    "surplus": "its task type had enough grown rows",
    "answers": "an answer to its seed, no new instruction",
    "same_meaning": "the pool says the same in other words, by the encoder",
    "too_long": "longer than the limit",
    "too_short": "too short beside its parent",
    "talks_about_given_instruction": "it speaks of the given instruction instead of being one",
    "other_language": "written in another language than its parent",
    "off_type": "the classifier finds another task type in it",
}
FALLBACKS = {
    "fallback": "refinement refused: the original instruction is asked",
    "direct_answer_instead": "the direct answer stands in for the enhanced one",
}
"""Notes of receipts that count rows which lost something and stayed."""


def funnel(facts: Facts) -> list[Element]:
    """Rows in and out of every step, with the reason of each drop."""
    if not facts.receipts:
        return [absent("no step is finished")]
    rows = [(place(p), (r["rows_out"], sum(r["dropped"].values())), _flow(r)) for p, r in facts.receipts.items()]
    chart = stacked_bars(
        "Rows of each step", "Rows handed on and dropped, step by step.", rows, ("handed on", "dropped")
    )
    head = ("step", "in", "made", "handed on", "dropped")
    data = [
        [place(p), *(f"{n:,}" for n in (r["rows_in"], r["made"], r["rows_out"], sum(r["dropped"].values())))]
        for p, r in facts.receipts.items()
    ]
    parts = [figure(chart, "Rows handed on and dropped by each finished step", head, data)]
    reasons = [
        [place(p), foreign(reason.replace("_", " "), 60), f"{n:,}", REASONS.get(reason, "")]
        for p, r in facts.receipts.items()
        for reason, n in r["dropped"].items()
        if n
    ]
    if reasons:
        parts.append(table(("step", "reason", "rows", "meaning"), reasons, caption="Why rows were dropped"))
    parts += _kept_all_the_same(facts)
    return parts


def _kept_all_the_same(facts: Facts) -> list[Element]:
    """Rows that lost something on the way and stayed: refinements and enhanced answers that fell back."""
    rows: list[list[str]] = []
    for p, receipt in facts.receipts.items():
        for note, meaning in FALLBACKS.items():
            found: dict[str, int] = receipt["notes"].get(note) or {}
            rows += [
                [place(p), foreign(reason.replace("_", " "), 60), f"{n:,}", meaning] for reason, n in found.items()
            ]
    if not rows:
        return []
    caption = "Rows that were kept with less than was hoped for"
    head = ("step", "reason", "rows", "what happened")
    return [el("details", el("summary", caption), table(head, rows, caption=caption), class_="data")]


def place(step: str) -> str:
    """A step's place for a reader: round, then name."""
    folder, _, name = step.partition("/")
    return f"{folder.removeprefix('round_')} · {name.partition('_')[2].replace('_', ' ')}"


def _flow(receipt: dict[str, Any]) -> str:
    dropped = sum(receipt["dropped"].values())
    return f"{receipt['rows_out']:,}" + (f", {dropped:,} dropped" if dropped else "")
