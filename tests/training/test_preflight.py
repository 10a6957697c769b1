"""Every silent failure is refused with its remedy, and nothing sound is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import CHATML, build_tiny_tokenizer
from training_rows import encoded, example, examples, settings

from tapir.errors import ModelError
from tapir.models.chat_template import ChatFormat, load_tokenizer
from tapir.training.collate import Collator, Groups
from tapir.training.encode import UNTRAINED, EncodedSet, encode_all
from tapir.training.preflight import (
    Preview,
    Span,
    check_collated,
    check_end_of_turn,
    check_lengths,
    check_prompt,
    check_specials,
    check_stop,
    check_trained,
    preflight,
)
from tapir.training.sft import train_round
from tapir.types import Message

END = 2


def chat(folder: Path, template: str | None = CHATML) -> ChatFormat:
    build_tiny_tokenizer(folder, chat_template=template)
    return ChatFormat(load_tokenizer(folder))


def test_a_sound_set_passes_and_shows_its_first_example(tmp_path: Path):
    form = chat(tmp_path)
    rows = encode_all(examples(4), form, max_tokens=128, too_long="drop")
    shown = preflight(examples(4), rows, form, max_truncated=0, stop_ids=[END])
    assert shown.spans[-1] == Span("The answer is 0, .<|im_end|>", trained=True)
    assert shown.coloured().endswith("assistant\n\x1b[32mThe answer is 0, .<|im_end|>\x1b[0m")
    assert shown.marked().endswith("assistant\n⟦The answer is 0, .<|im_end|>⟧")


def test_control_characters_of_a_text_are_shown_not_sent():
    assert "\x1b" not in Preview((Span("a\x1b]0;x\x07", trained=False),)).coloured()


def test_an_answer_whose_end_is_not_trained_is_refused(tmp_path: Path):
    form = chat(tmp_path)
    row = encode_all([example(1)], form, max_tokens=128, too_long="drop").rows[0]
    with pytest.raises(ModelError, match=r"end-of-turn token 2 is not trained.*chat_template: chatml"):
        check_end_of_turn([replace(row, labels=(*row.labels[:-1], UNTRAINED))], form)


def test_a_cut_answer_need_not_end(tmp_path: Path):
    form = chat(tmp_path)
    whole = encode_all([example(1)], form, max_tokens=128, too_long="drop").rows[0]
    rows = encode_all([example(1)], form, max_tokens=len(whole) - 3, too_long="cut")
    assert rows.cut == 1
    check_end_of_turn(rows.rows, form)


def test_an_example_without_a_trained_token_is_refused_by_its_id():
    with pytest.raises(ModelError, match="example x has no trained token; give it an answer or leave it out"):
        check_trained([encoded(4), replace(encoded(4), labels=(UNTRAINED,) * 4)])


def test_more_over_long_examples_than_allowed_are_refused_with_both_remedies():
    found = EncodedSet([encoded(4)] * 9, seen=10, too_long=1)
    check_lengths(found, 0.1)
    with pytest.raises(ModelError, match=r"1 of 10 examples \(10%\).*max_tokens.*max_truncated"):
        check_lengths(found, 0.09)


def test_an_empty_set_is_refused():
    with pytest.raises(ModelError, match=r"no example.*give the round more data"):
        check_lengths(EncodedSet(), 1.0)


def test_a_doubled_beginning_of_text_is_refused():
    check_specials([encoded(4)], 10, END)
    with pytest.raises(ModelError, match=r"twice.*add_bos_token"):
        check_specials([replace(encoded(4), input_ids=(10, 10, 11, 12))], 10, END)


def test_a_doubled_end_of_turn_is_refused():
    with pytest.raises(ModelError, match=r"end-of-turn token twice; take the token's text out of the answer"):
        check_specials([replace(encoded(4), labels=(UNTRAINED, 9, END, END))], None, END)


def test_a_generation_that_stops_elsewhere_is_refused():
    check_stop([0, END], END)
    with pytest.raises(ModelError, match=r"stops on \[0\].*end in 2.*generation_config"):
        check_stop([0], END)


def test_a_student_whose_generation_config_stops_elsewhere_is_refused_before_training(student: Path, tmp_path: Path):
    import shutil

    wrong = tmp_path / "wrong"
    shutil.copytree(student, wrong)
    config = wrong / "generation_config.json"
    config.write_text(config.read_text().replace('"eos_token_id": 2', '"eos_token_id": 0'))
    with pytest.raises(ModelError, match=r"generation stops on.*add it to eos_token_id"):
        train_round(wrong, examples(4), tmp_path / "out", settings(), seed=1)
    assert not (tmp_path / "out").exists()


def test_masking_by_pad_id_is_found_where_pad_is_the_end_of_turn(tmp_path: Path):
    rows = [replace(encoded(4), input_ids=(10, 11, 12, END), labels=(UNTRAINED, UNTRAINED, 12, END)) for _ in range(2)]
    batch = Collator(rows, Groups(rows), pad_id=END, packed=False)([{"rows": [0, 1]}])
    check_collated(rows, batch, END)
    masked = torch.where(batch["input_ids"] == END, UNTRAINED, batch["labels"])
    with pytest.raises(ModelError, match=r"2 of 4 trained tokens were masked.*a pad token of its own"):
        check_collated(rows, {"labels": masked}, END)


def test_our_padding_masks_by_length_so_pad_may_equal_the_end_of_turn():
    rows = [encoded(3), encoded(5)]
    batch = Collator(rows, Groups(rows), pad_id=14, packed=False)([{"rows": [0, 1]}])
    assert batch["input_ids"].tolist() == [[10, 11, 12, 14, 14], [10, 11, 12, 13, 14]]
    assert batch["labels"].tolist() == [[-100, 11, 12, -100, -100], [-100, -100, -100, 13, 14]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1] * 5]


def test_packed_positions_restart_and_no_label_crosses_a_border():
    rows = [encoded(3, trained=3), encoded(2, trained=2)]
    batch = Collator(rows, Groups(rows), pad_id=0, packed=True)([{"rows": [0, 1]}])
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1]]
    assert batch["labels"].tolist() == [[-100, 11, 12, -100, 11]]
    assert "attention_mask" not in batch


THINKING = CHATML.replace("assistant\\n' }}{%- endif %}", "assistant\\n<think>\\n' }}{%- endif %}")


def test_a_template_that_opens_an_answer_otherwise_than_it_writes_one_is_refused(tmp_path: Path):
    with pytest.raises(ModelError, match=r"opens an answer otherwise.*chat_template: chatml"):
        check_prompt((Message("user", "What is the sea?"),), chat(tmp_path, THINKING))


def test_a_template_that_a_server_would_spell_otherwise_is_refused(tmp_path: Path):
    form = chat(tmp_path)
    trained = form.prompt_ids((Message("user", "q"),))
    form.prompt_ids = lambda messages, prefill="": trained[:-1]  # pyright: ignore
    with pytest.raises(ModelError, match=r"differ between training and a server.*chat_template: chatml"):
        check_prompt((Message("user", "q"),), form)


@pytest.mark.parametrize("template", ["chatml", "llama2", "alpaca"])
@pytest.mark.parametrize("system", [True, False])
def test_our_templates_are_spelt_alike_everywhere(template: str, system: bool, tmp_path: Path):
    build_tiny_tokenizer(tmp_path, chat_template=None)
    form = ChatFormat(load_tokenizer(tmp_path), template)
    opening = (Message("system", "You are a helpful assistant."),) if system else ()
    check_prompt((*opening, Message("user", "a"), Message("assistant", "b"), Message("user", "c")), form)
