"""Evaluation texts planted in training texts are found, however they are dressed up; clean texts are left alone."""

from __future__ import annotations

import random

import pytest

from tapir.curriculum.contamination import ContaminationIndex, Hit

LONG = (
    "A train leaves the station at noon and travels north at sixty miles an hour while a second train "
    "leaves two hours later on the same track at ninety miles an hour. When does it catch up?"
)
SHORT = "Name the capital of Peru."
VOCABULARY = [f"{a}{b}" for a in "bdfgklmnprst" for b in ("ane", "olo", "irk", "ust", "emy", "ado", "uff", "ell")]


def sentence(rng: random.Random, count: int) -> str:
    return " ".join(rng.choice(VOCABULARY) for _ in range(count))


def index(**kwargs: object) -> ContaminationIndex:
    return ContaminationIndex([("trains", "7", LONG), ("capitals", "1", SHORT)], **kwargs)  # type: ignore[arg-type]


def only(hits: list[Hit]) -> Hit:
    assert len(hits) == 1
    return hits[0]


def test_a_copy_is_found_with_its_set_item_span_and_both_texts():
    hit = only(index().hits(f"Solve this: {LONG}"))
    assert (hit.set_name, hit.item_id, hit.kind) == ("trains", "7", "ngram")
    assert hit.span == (12, 12 + len(LONG) - 1)  # without the closing question mark
    assert hit.matched_text == LONG[:-1]
    assert (hit.item_text, hit.score) == (LONG, 37.0)


def test_a_window_of_thirteen_words_is_found_and_one_of_twelve_is_not():
    words = LONG.split()
    padding = "some words of quite another kind " * 3
    assert only(index().hits(padding + " ".join(words[9:22]) + " and so on")).score == 13.0
    assert index().hits(padding + " ".join(words[9:21]) + " and so on") == []


@pytest.mark.parametrize(
    "dressed",
    [
        LONG.upper(),
        LONG.replace(" ", "  \n"),
        LONG.replace(".", " --- ").replace("and", "*and*,"),
        "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in LONG),  # full-width letters
    ],
)
def test_case_spacing_punctuation_and_typography_hide_nothing(dressed: str):
    assert only(index().hits(dressed)).item_id == "7"


def test_items_shorter_than_the_window_are_found_as_a_whole():
    hit = only(index().hits("First of all, please name the CAPITAL of Peru; then its currency and its largest river."))
    assert (hit.item_id, hit.kind, hit.matched_text) == ("1", "whole_text", "name the CAPITAL of Peru")
    assert index().hits("Write a long letter about how the capital of Peru came to be where it is today.") == []


def test_items_of_one_or_two_words_count_only_as_the_whole_text():
    tiny = ContaminationIndex([("chat", "0", "Thank you!")])
    assert only(tiny.hits("thank you")).kind == "whole_text"
    assert tiny.hits("Thank you for the letter you sent me.") == []


def test_an_item_with_a_few_words_changed_is_found_as_a_near_duplicate():
    # Every eighth word is another one, so no 13 words in a row are shared: 32 of 37 words are.
    changed = " ".join("zebra" if i % 8 == 4 else word for i, word in enumerate(LONG.split()))
    hit = only(index().hits(changed))
    assert (hit.kind, hit.item_id) == ("near_duplicate", "7")
    assert hit.score == pytest.approx(32 / 37)
    assert hit.matched_text == "at noon and travels north at sixty"


def test_an_item_in_chinese_is_cut_by_character():
    chinese = ContaminationIndex([("zh", "1", "请问中国最长的河流叫什么名字它有多长")])
    assert only(chinese.hits("你好。请问,中国最长的河流叫什么名字?它有多长?谢谢。")).kind == "ngram"


def test_an_item_of_several_sets_is_reported_for_each():
    twice = ContaminationIndex([("a", "1", LONG), ("b", "9", LONG)])
    assert [(h.set_name, h.item_id) for h in twice.hits(LONG)] == [("a", "1"), ("b", "9")]


def test_allowed_rows_and_allowed_items_are_left_alone():
    assert index(allow=["row-3"]).hits(LONG, row_id="row-3") == []
    assert index(allow=["row-3"]).hits(LONG, row_id="row-4")
    assert index(allow=["trains/7"]).hits(LONG) == []
    assert index(allow=["row-3 trains/7"]).hits(LONG, row_id="row-3") == []
    assert index(allow=["row-3 capitals/1"]).hits(LONG, row_id="row-3")


def test_no_items_or_no_words_mean_no_hits():
    assert ContaminationIndex([]).hits(LONG) == []
    assert ContaminationIndex([("empty", "0", "?!")]).hits("?!") == []
    assert index().hits("") == []


def test_everything_planted_in_many_texts_is_found_and_nothing_else():
    rng = random.Random(11)
    items = [("bench", str(i), sentence(rng, rng.choice([4, 8, 12, 13, 30, 60]))) for i in range(200)]
    held = ContaminationIndex(items)
    for _, item_id, text in items:
        words = text.split()
        start = rng.randrange(max(1, len(words) - 13 + 1))
        window = words[start : start + 13]
        planted = ", ".join([*sentence(rng, 40).split(), *window, *sentence(rng, 40).split()]).upper() + "!"
        assert [hit.item_id for hit in held.hits(planted)] == [item_id]
    assert [hit for _ in range(300) for hit in held.hits(sentence(rng, 60))] == []
