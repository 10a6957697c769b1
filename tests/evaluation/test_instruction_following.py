"""IFEval-like checks, strict and loose."""

import json

import pytest

from tapir.errors import DataError
from tapir.evaluation.instruction_checks import CHECKS, NEEDS
from tapir.evaluation.instruction_following import (
    Prompt,
    follow,
    loose_variants,
    read_prompts,
    read_responses,
    score_responses,
)

AT_LEAST, LESS = {"relation": "at least"}, {"relation": "less than"}
CASES = [
    ("keywords:existence", {"keywords": ["Rock", "c++"]}, "rocky C++", "rock"),
    ("keywords:frequency", {"keyword": "story", "frequency": 2, **AT_LEAST}, "Story, storyline", "story"),
    ("keywords:frequency", {"keyword": "story", "frequency": 2, **LESS}, "story", "story story"),
    ("keywords:forbidden_words", {"forbidden_words": ["rock"]}, "rocky", "a Rock!"),
    ("keywords:letter_frequency", {"letter": "q", "let_frequency": 2, "let_relation": "at least"}, "Qq", "q"),
    ("keywords:letter_frequency", {"letter": "#", "let_frequency": 2, "let_relation": "less than"}, "#", "##"),
    ("language:response_language", {"language": "de"}, "Das ist ein sehr guter Tag und ich bin froh.", "This is it."),
    ("length_constraints:number_sentences", {"num_sentences": 2, **AT_LEAST}, "One here. Two here.", "One here."),
    ("length_constraints:number_sentences", {"num_sentences": 2, **LESS}, "One here.", "One here. Two here."),
    ("length_constraints:number_words", {"num_words": 3, **AT_LEAST}, "it's so", "two words"),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "a\n***\nb", "a\n\nb"),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "***\na\n***\nb", "a\n***\n\n***\nb"),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Weekend"},
        "One.\n\n\"Weekend,\" she said", "One.\n\nA weekend",
    ),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[name] at [place]", "[name]"),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "Bye\nP. P. S more", "Bye\nP.S. more"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Bye\np.s. more", "Bye"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* one\n - two", "* one\n**bold**"),
    ("detectable_format:constrained_response", {}, "Well. My answer is yes.", "Yes."),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* and **b**", "*a* and ** **"),
    ("detectable_format:multiple_sections", {"section_spliter": "Day", "num_sections": 2}, "Day 1\nx\nDay 2", "Day 1"),
    ("detectable_format:json_format", {}, '```json\n{"a": 1}\n```', "{a: 1}"),
    ("detectable_format:title", {}, "<<A title>>\ntext", "<< >>\ntext"),
    ("combination:two_responses", {}, "a\n******\nb", "a\n******\na"),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say hi. "}, "say hi.\nHi!", "Hi!"),
    ("startend:end_checker", {"end_phrase": "The end."}, 'So it goes. the END."', "The end. Bye"),
    ("startend:quotation", {}, ' "all of it" ', '"half" of it'),
    (
        "change_case:capital_word_frequency",
        {"capital_relation": "at least", "capital_frequency": 2}, "SO GOOD", "SO good",
    ),
    (
        "change_case:capital_word_frequency",
        {"capital_relation": "less than", "capital_frequency": 2}, "so COVID-19", "A B",
    ),
    ("change_case:english_capital", {}, "THIS IS THE WAY IT WAS.", "This is the way."),
    ("change_case:english_lowercase", {}, "this is the way it was.", "This is the way."),
    ("punctuation:no_comma", {}, "none at all", "one, here"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "arguments", "good", "bad"), CASES, ids=[f"{i}-{c[0]}" for i, c in enumerate(CASES)])
def test_each_instruction_is_told_from_its_opposite(name, arguments, good, bad):
    assert set(NEEDS.get(name, ())) == set(arguments)
    assert CHECKS[name](good, arguments) is True
    assert CHECKS[name](bad, arguments) is False


def test_all_25_public_ids_have_a_check_and_a_case():
    assert len(CHECKS) == 25
    assert {c[0] for c in CASES} == set(CHECKS)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("hi", "यह एक अच्छा दिन है और मैं घर में हूँ।"), ("mr", "हे एक चांगले पुस्तक आहे आणि मी ते वाचतो."),
        ("ne", "यो मेरो घर हो र म यहाँ बस्छु। राम्रो छ।"), ("fa", "این یک کتاب است که من از آن استفاده می‌کنم."),
        ("ur", "یہ میرا گھر ہے اور میں یہاں رہتا ہوں۔"), ("ar", "هذا هو البيت الذي أعيش فيه مع العائلة."),
        ("ru", "Это мой дом, и я живу в нём."), ("bg", "Това е моята къща и аз живея тук, за да съм щастлив."),
        ("vi", "Đây là nhà của tôi và tôi sống ở đây."),
        ("sw", "Hii ni nyumba yangu na ninaishi hapa katika mji wa Nairobi."),
        ("fi", "Tämä on minun taloni ja asun täällä."), ("kn", "ಇದು ನನ್ನ ಮನೆ."), ("th", "นี่คือบ้านของฉัน"),
    ],
)  # fmt: skip
def test_a_language_is_told_from_its_neighbours(code, text):
    assert CHECKS["language:response_language"](text, {"language": code}) is True
    for other in {"hi", "mr", "ne", "fa", "ur", "ar", "ru", "bg", "vi", "fi", "kn", "th", "en"} - {code}:
        assert CHECKS["language:response_language"](text, {"language": other}) is False, other


def prompt(text: str, *instructions: tuple[str, dict[str, object]]) -> Prompt:
    return Prompt(text, text, instructions)


NO_COMMA, LOWER = ("punctuation:no_comma", {}), ("change_case:english_lowercase", {})


def test_loose_reading_forgives_an_opening_a_closing_and_asterisks():
    assert loose_variants("Sure:\n*a*\nBye")[1:4] == ["*a*\nBye", "Sure:\n*a*", "*a*"]
    found = follow(prompt("p", NO_COMMA, LOWER), "Sure, here it is:\nthis is the text of it.")
    assert (found.strict, found.loose) == ((False, False), (True, True))


def test_a_blank_response_follows_nothing():
    assert follow(prompt("p", NO_COMMA), " \n").loose == (False,)


def test_accuracies_are_by_prompt_and_by_instruction():
    prompts = [prompt("a", NO_COMMA, LOWER), prompt("b", NO_COMMA), prompt("c", NO_COMMA), prompt("d", NO_COMMA)]
    score = score_responses(prompts, {"a": "So it is in the end.", "b": "none", "c": "x,\nnone"})
    assert score.prompt_strict.value == pytest.approx(100 / 3)  # b
    assert score.prompt_loose.value == pytest.approx(200 / 3)  # b, c
    assert score.instruction_strict.value == pytest.approx(50)  # a's first, b
    assert score.instruction_loose.value == pytest.approx(75)
    assert score.by_instruction["punctuation:no_comma"].value == pytest.approx(200 / 3)
    assert (score.missing, score.untold, score.prompt_strict.n) == (1, 0, 3)


UNKNOWN = ("language:response_language", {"language": "xx"})


@pytest.mark.parametrize(("reply", "checked"), [("none", 100), ("one, two", 50), ("", 50)])
def test_a_language_we_do_not_know_counts_nowhere(reply, checked):
    score = score_responses([prompt("a", UNKNOWN, NO_COMMA), prompt("b", NO_COMMA)], {"a": reply, "b": "none"})
    assert (score.untold, score.instruction_strict.value, score.instruction_strict.n) == (1, checked, 2)
    assert (score.prompt_strict.value, score.prompt_strict.n) == (100, 1)
    assert (score.prompt_loose.value, score.prompt_loose.n) == (100, 1)
    assert score.by_instruction[UNKNOWN[0]] is None


def test_a_file_of_unknown_languages_alone_says_so():
    with pytest.raises(DataError, match="each of 1 prompts asks for a language"):
        score_responses([prompt("a", UNKNOWN, NO_COMMA)], {"a": "one, two"})


def test_whole_floats_and_null_arguments_are_read_as_pandas_writes_them(tmp_path):
    path = tmp_path / "input.jsonl"
    name, given, good, _ = next(case for case in CASES if "nth_paragraph" in case[1])
    floats = {k: float(v) if isinstance(v, int) else v for k, v in given.items()}
    line = {"prompt": "p", "instruction_id_list": [name, NO_COMMA[0]], "kwargs": [floats, None]}
    path.write_text(json.dumps(line), encoding="utf-8")
    (found,) = read_prompts(path)
    assert found.instructions == ((name, given), NO_COMMA)
    assert follow(found, good).strict[0] is True


def test_files_are_read_in_the_public_form(tmp_path):
    path, replies = tmp_path / "input.jsonl", tmp_path / "responses.jsonl"
    line = {"key": 7, "prompt": "p", "instruction_id_list": [NO_COMMA[0]], "kwargs": [{"num_words": None}]}
    path.write_text(json.dumps(line), encoding="utf-8")
    replies.write_text('{"prompt": "p", "response": "r"}', encoding="utf-8")
    assert read_prompts(path) == [Prompt("7", "p", (NO_COMMA,))]
    assert read_responses(replies) == {"p": "r"}


@pytest.mark.parametrize(
    ("ids", "arguments", "said"),
    [
        (["no:such"], [{}], "no check is known"),
        (["startend:end_checker"], [{}], "needs end_phrase"),
        ([NO_COMMA[0]], [], "1 instruction ids but 0"),
        (None, [{}], "should be lists"),
        ([], [], "at least one instruction"),
        ([NO_COMMA[0]], ["{}"], "should be an object"),
        (["startend:end_checker"], [None], "needs end_phrase"),
        (["startend:end_checker"], [{"end_phrase": 5}], "end_phrase is 5; it should be a text"),
        (["keywords:existence"], [{"keywords": "rock"}], "keywords is 'rock'; it should be a list of texts"),
        (["length_constraints:number_words"], [{"relation": "at most", "num_words": 3}], "'less than' or 'at least'"),
        (["length_constraints:number_words"], [{"relation": "at least", "num_words": 2.5}], "a whole number from 0"),
        (["detectable_format:number_bullet_lists"], [{"num_bullets": True}], "num_bullets is True"),
    ],
)
def test_a_file_that_cannot_be_checked_is_refused(tmp_path, ids, arguments, said):
    path = tmp_path / "input.jsonl"
    path.write_text("\n" + json.dumps({"prompt": "p", "instruction_id_list": ids, "kwargs": arguments}))
    with pytest.raises(DataError, match=f"line 2: .*{said}"):
        read_prompts(path)
