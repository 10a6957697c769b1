"""Duplicates: exact ones, and near ones by ROUGE-L, decided as the textbook decides."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapir.curriculum.dedup import (
    AlikeFinder,
    PrefixIndex,
    RougeIndex,
    exact_duplicates,
    first_of_alike,
    naive_rouge_l,
    near_by_lcs,
    near_duplicates,
    repeated_instructions,
)
from tapir.curriculum.words import folded_words, normalised, word_spans, words
from tapir.types import Instruction, Message

# Few words, so that texts overlap by chance; up to 40, so that they fall into several length bands.
TEXT = st.lists(st.sampled_from(["the", "cat", "dog", "sat", "on", "mat", "猫", "über", "3", "7"]), max_size=40).map(
    " ".join
)


def naive_match(text: str, pool: list[str]) -> int | None:
    """The most alike near duplicate, the earliest among equals."""
    scores = [(naive_rouge_l(text, other), -i) for i, other in enumerate(pool)]
    near = [(s, i) for s, i in scores if s >= 0.7 - 1e-12]
    return -max(near)[1] if near else None


def test_words_are_lower_case_and_chinese_and_japanese_are_cut_by_character():
    assert words("It's 3.5 km, NOT 4!") == ["it", "s", "3", "5", "km", "not", "4"]
    assert words("Über 東京タワー 2号") == ["über", "東", "京", "タ", "ワ", "ー", "2", "号"]
    assert words("हिन्दी में") == ["हिन्दी", "में"]


def test_folding_undoes_full_width_letters_ligatures_and_decomposed_accents():
    assert folded_words("\uff21\uff22\uff23 ﬁne cafe\u0301 STRASSE") == ["abc", "fine", "café", "strasse"]
    assert folded_words("Straße") == ["strasse"]
    text = "«\uff28ello», wörld!"
    assert [text[a:b] for a, b in word_spans(text)] == ["\uff28ello", "wörld"]


def test_normalised_texts_keep_the_punctuation_inside():
    assert normalised("  What IS\n3+4? ") == normalised("what is 3+4") != normalised("what is 3-4")


def test_rouge_l_is_the_f1_of_the_longest_common_subsequence():
    # "the sat on mat" of 6 and 5 words: 2·4 / 11.
    assert naive_rouge_l("The cat sat on the mat.", "The dog sat on mat") == pytest.approx(8 / 11)
    assert naive_rouge_l("", "") == 0.0


def test_the_threshold_is_reached_at_exactly_seven_tenths():
    assert near_by_lcs(7, 10, 10)
    assert not near_by_lcs(6, 10, 10)
    assert near_by_lcs(7, 13, 7)
    assert not near_by_lcs(7, 14, 7)
    assert not near_by_lcs(0, 0, 0)


def test_texts_without_words_are_near_nothing():
    index = RougeIndex()
    index.add("a", "?!")
    assert index.match("...") is None


def test_the_most_alike_text_is_reported_and_the_earliest_among_equals():
    index = RougeIndex()
    index.add("near", "list five green fruits that grow in spain")
    index.add("same", "List five red fruits that grow in Spain!")
    index.add("again", "list five red fruits that grow in spain")
    assert index.match("List five red fruits that grow in Spain.") == ("same", 1.0)
    assert [id for id, _ in index.matches("list five red fruits that grow in spain")] == [
        "same",
        "again",
        "near",
    ]
    assert index.match("Prove that the square root of two is irrational.") is None


@settings(max_examples=300)
@given(st.lists(TEXT, max_size=8), TEXT)
def test_the_index_decides_as_the_textbook_does(pool: list[str], text: str):
    index = RougeIndex()
    for i, other in enumerate(pool):
        index.add(str(i), other)
    found, expected = index.match(text), naive_match(text, pool)
    assert (None if found is None else int(found[0])) == expected
    if found is not None:
        assert found[1] == pytest.approx(naive_rouge_l(text, pool[int(found[0])]))


def edited(rng: random.Random, tokens: list[str], vocabulary: list[str]) -> list[str]:
    """The text with some words dropped, replaced or put in: near the threshold more often than by chance."""
    share = rng.random() * 0.6
    kept = [rng.choice(vocabulary) if rng.random() < share / 2 else w for w in tokens if rng.random() > share / 2]
    return kept + [rng.choice(vocabulary) for _ in range(int(share * rng.random() * len(tokens)))]


@pytest.mark.parametrize("length", [3, 15, 16, 60, 200])
def test_edited_texts_of_every_length_are_decided_as_the_textbook_does(length: int):
    rng = random.Random(length)
    vocabulary = [f"w{i}" for i in range(300)]
    pool = [[rng.choice(vocabulary) for _ in range(rng.randint(length // 2 + 1, length))] for _ in range(25)]
    index = RougeIndex()
    for i, tokens in enumerate(pool):
        index.add(str(i), " ".join(tokens))
    texts = [" ".join(edited(rng, rng.choice(pool), vocabulary)) for _ in range(20)]
    expected = [naive_match(text, [" ".join(tokens) for tokens in pool]) for text in texts]
    found = [index.match(text) for text in texts]
    assert [None if f is None else int(f[0]) for f in found] == expected
    assert 0 < sum(e is None for e in expected) < 20


def test_candidates_are_held_against_the_pool_and_against_each_other():
    pool = [("p1", "Name three rivers that flow through Germany.")]
    candidates = [
        ("c1", "Name three rivers which flow through Germany."),
        ("c2", "Explain how a heat pump works in winter."),
        ("c3", "Explain how a heat pump works in the winter."),
        ("c4", "Write a limerick about a tapir."),
    ]
    found = near_duplicates(candidates, pool)
    assert [(d.id, d.of) for d in found] == [("c1", "p1"), ("c3", "c2")]
    assert found[0].score == pytest.approx(12 / 14)


def chat(first: str, last: str, system: str | None = None) -> Instruction:
    return Instruction(last, system=system, history=(Message("user", first), Message("assistant", "It is like this.")))


def test_the_same_words_after_another_conversation_or_system_text_repeat_nothing():
    more = "Please explain that in more detail."
    first = ("How do volcanoes erupt?", "When was Mozart born?", "What is inflation?", "Why do bees dance, and when?")
    chats = [chat(question, more) for question in first]
    systems = [Instruction(more, system=said) for said in (None, "Speak like a pirate.", "Answer in one French word.")]
    assert repeated_instructions([*chats, *systems]) == []
    again = chat("why do bees dance, and when", more + " Thank you!")
    assert [(d.id, d.of) for d in repeated_instructions([*chats, again])] == [(again.id, chats[3].id)]


def test_a_system_text_that_all_rows_share_makes_no_two_alike():
    system = "You are a careful assistant who names every source and never makes up a fact or repeats a question."
    bees, sky, again = (
        Instruction(text, system=system)
        for text in ("How do bees find home?", "Why is the sky blue?", "Why is the sky so blue?")
    )
    assert [(d.id, d.of) for d in repeated_instructions([bees, sky, again])] == [(again.id, sky.id)]


@settings(max_examples=50)
@given(st.lists(TEXT, max_size=12))
def test_instructions_without_a_context_are_compared_by_their_text_alone(texts: list[str]):
    rows = [Instruction(text) for text in dict.fromkeys(texts)]
    assert repeated_instructions(rows) == near_duplicates([(i.id, i.text) for i in rows])


def test_candidates_that_pass_stay_in_an_index_that_was_given():
    index = RougeIndex()
    near_duplicates([("c1", "Explain how a heat pump works.")], index)
    assert index.match("explain how a heat pump works") == ("c1", 1.0)


@settings(max_examples=200)
@given(st.lists(TEXT, max_size=12), st.randoms(use_true_random=False))
def test_what_is_alike_may_be_found_in_any_order(texts: list[str], rng: random.Random):
    rows = [(f"row {n}", text) for n, text in enumerate(texts)]
    finder, order = AlikeFinder(texts), list(range(len(texts)))
    rng.shuffle(order)
    found = {n: finder.earlier(n) for n in order}
    assert first_of_alike(rows, [found[n] for n in range(len(texts)) if found[n].positions]) == near_duplicates(rows)


def test_texts_from_one_mould_are_compared_with_those_that_stay(monkeypatch: pytest.MonkeyPatch):
    rng = random.Random(3)
    monkeypatch.setattr("tapir.curriculum.dedup.MOST_ALIKE", 4)
    moulds = [[f"m{m}w{n}" for n in range(10)] for m in range(3)]
    texts = [" ".join(edited(rng, moulds[rng.randrange(3)], ["x", "y", "z"])) for _ in range(150)]
    rows = [(f"row {n}", text) for n, text in enumerate(texts)]
    finder = AlikeFinder(texts)
    alike = [found for n in range(len(texts)) if (found := finder.earlier(n)).positions]
    assert any(not found.whole for found in alike)
    assert first_of_alike(rows, alike) == near_duplicates(rows)


def test_exact_duplicates_name_the_first_row_that_says_the_same():
    rows = [("a", "What is 3+4?"), ("b", "what is  3+4"), ("c", "What is 3-4?"), ("d", "WHAT IS 3+4?!")]
    assert exact_duplicates(rows) == [("b", "a"), ("d", "a")]


@settings(max_examples=200, deadline=None)
@given(pool=st.lists(TEXT, max_size=12), texts=st.lists(TEXT, min_size=1, max_size=4))
def test_rare_words_find_what_the_bitmaps_find(pool: list[str], texts: list[str]):
    scanned, looked_up = RougeIndex(), PrefixIndex()
    for i, text in enumerate(pool):
        # Looking while texts still come changes nothing.
        assert looked_up.matches(text) == scanned.matches(text)
        scanned.add(str(i), text)
        looked_up.add(str(i), text)
    assert [looked_up.matches(text) for text in texts] == [scanned.matches(text) for text in texts]


@pytest.mark.parametrize("length", [3, 15, 60, 200])
def test_rare_words_find_every_edited_text(length: int):
    rng = random.Random(length)
    # Drawn as words are: a few stand in every text, most in hardly any.
    vocabulary = [f"w{int(2000 ** rng.random())}" for _ in range(4000)]
    pool = [[rng.choice(vocabulary) for _ in range(rng.randint(length // 2 + 1, length))] for _ in range(300)]
    scanned, looked_up = RougeIndex(), PrefixIndex()
    for i, tokens in enumerate(pool):
        scanned.add(str(i), " ".join(tokens))
        looked_up.add(str(i), " ".join(tokens))
    texts = [" ".join(edited(rng, tokens, vocabulary)) for tokens in pool]
    truth = [scanned.matches(text) for text in texts]
    assert [looked_up.matches(text) for text in texts] == truth
    assert 0 < sum(not found for found in truth) < 300
    assert len(looked_up) == 300
