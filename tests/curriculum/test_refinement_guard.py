"""A refinement may ask for more; it may not change what is asked."""

from __future__ import annotations

import pytest

from tapir.curriculum.refinement_guard import mentions_rewriting, refusal

TRAIN = "A train leaves Lyon at 9:15 and covers 240 km in 3 hours. What is its speed?"


@pytest.mark.parametrize(
    ("original", "refined", "reason"),
    [
        (TRAIN, TRAIN + " Reason step by step, then state the result on its own line.", None),
        (TRAIN, "1. A train leaves Lyon at 9:15.\n2. It covers 240 km in 3 hours.\nWhat is its speed?", None),
        (TRAIN, TRAIN.replace("240", "250"), "lost_number"),
        (TRAIN, TRAIN.replace("Lyon", "a city"), "lost_name"),
        (TRAIN, "The answer is 80 km an hour: 240 km in 3 hours, from Lyon at 9:15.", "answers"),
        (TRAIN, TRAIN + " The answer is 80 km an hour.", "answers"),
        ("Which school of ethics asks for the greatest good of most people?", "Utilitarianism", "lost_content"),
        (TRAIN, " ", "empty"),
        (TRAIN, "The rewritten text: " + TRAIN, "mentions_rewriting"),
        (TRAIN, TRAIN + " and explain" * 60, "too_long"),
        ("What does `len(x)` return?", "What does the call return?", "lost_code"),
        ("Pick one:\nA) red\nB) blue", "Pick one and say why:\nA) red\nB) green", "lost_option"),
        (
            "Warum ist der Himmel blau und nicht grün?",
            "Why is the sky blue and not of a green colour?",
            "other_language",
        ),
        ("Is it (A) red, (B) blue or (C) green?", "Is it (A) red or (B) blue? Explain.", "lost_option"),
        ("Is it A) red B) blue", "Is it A) red B) blue. Give the letter on its own line.", None),
        ("Four ducks swim by. How many legs?", "Five ducks swim by. How many legs?", "lost_number"),
        ("Four ducks swim by. How many legs?", "Count step by step: 4 ducks swim by. How many legs?", None),
        ("Add up [1, 2, 2, 3].", "Add up 1, 2, 3 and show each step.", "lost_number"),
        ("Share 1,200 apples.", "Share 1200 apples fairly; show how.", None),
        ("Anna beat B and C. Who won?", "Anna beat B. Who won? Explain each step.", "lost_name"),
        ("Name the capital of Peru.", "The capital of Peru is Lima.", "answers"),
        ("What is 3 + 4?", "3 + 4 = 7", "answers"),
        ("Who wrote the novel? Give the name only.", "Who wrote the novel? Give the name only. A. Nonymous", "answers"),
        ("Who wrote the novel?", "Who wrote the novel? Be brief, and avoid titles.", None),
        ("Why use sunscreen? Answer in one sentence.", "Why use sunscreen? Answer in points.", "lost_number"),
        ("Why use sunscreen? Answer in one sentence.", "In one sentence, say why one should use sunscreen.", None),
        ("Erkläre, was die Wurzel ist.", "Erkläre Schritt für Schritt, was die Wurzel einer Zahl ist.", None),
        ("Name 2 rivers.", "Name 2 rivers. List them:\n1. the first\n2. the second", None),
    ],
)
def test_a_refinement_is_kept_or_refused_for_a_reason(original: str, refined: str, reason: str | None):
    assert refusal(original, refined) == reason


FIVE_APPLES = (
    "Five people were eating apples. A finished before B, but behind C. D finished before E, but behind B. "
    "What was the finishing order?",
    "Given the following scenario:\n\n1. Five people were eating apples.\n\n2. A finished before B, but behind C.\n\n"
    "3. D finished before E, but behind B.\n\nDetermine the finishing order of the five people.\n\n"
    "Please think through the steps and explain your reasoning clearly.",
)
DOPPLER = (
    "Give three examples of the Doppler effect.",
    "Provide three specific examples of the Doppler effect, illustrating its occurrence in different physical "
    "scenarios. Ensure each example clearly describes the situation where the Doppler effect is observed, including "
    "the moving source or observer and the resulting change in frequency or wavelength of the observed signal.",
)
BUBBLE = (
    'Describe what a "Market Bubble" is.',
    'Provide a concise definition of "Market Bubble," including its typical characteristics, how it forms, and its '
    "potential impact on the economy.",
)
EQUATIONS = (
    "Find the values of x and y that satisfy the system of equations 2x + 3y = 12 and 5x - 4y = 8.",
    # As printed: the list lost its line breaks, so that "12" and the marker "2." have become "122.".
    "Find the values of x and y that satisfy the following system of equations: 1. 2x + 3y = 122. 5x - 4y = 8Please "
    "think step by step and provide the solution in the form of (x, y).",
)
SQUARES = (
    "How many perfect squares can be formed by choosing two different digits from the set {1, 4, 6, 9} to be used as "
    "the tens digit and units digit?",
    "Calculate the number of distinct perfect squares that can be formed by selecting two different digits from the "
    "set 1, 4, 6, 9 to construct a two-digit number, where the first digit is the tens place and the second digit is "
    "the units place.",
)


@pytest.mark.parametrize("pair", [FIVE_APPLES, DOPPLER, BUBBLE, EQUATIONS, SQUARES])
def test_the_refinements_that_the_paper_prints_pass(pair: tuple[str, str]):
    """Tables 1 and 11."""
    assert refusal(*pair) is None


@pytest.mark.parametrize(
    ("instruction", "answer", "mentions"),
    [
        ("Name a river.", "The rewritten instruction asks for a river: the Rhine.", True),
        ("Name a river.", "Rewritten: Name a long river.", True),
        ("Name a river.", "I answer the original instruction first. The Rhine.", True),
        ("Name a river.", "The Rhine. Its rewritten course is shorter than the original one.", False),
        ("Explain what a rewritten prompt is.", "A rewritten prompt is one that was put in other words.", False),
    ],
)
def test_an_answer_must_not_speak_of_the_rewriting(instruction: str, answer: str, mentions: bool):
    assert mentions_rewriting(instruction, answer) is mentions
