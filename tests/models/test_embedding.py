"""Texts repeat each other by the direction of an encoder's vectors, whatever batch they were read in."""

from __future__ import annotations

from pathlib import Path

import pytest

from tapir.models.embedding import EmbeddingIndex, Encoder

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "name", "a", "river", "sort", "the", "list", "write", "poem"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of one layer with random weights."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("encoder")
    (folder / "vocab.txt").write_text("\n".join(WORDS), encoding="utf-8")
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        initializer_range=0.5,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return folder


def test_the_same_words_repeat_and_others_do_not(encoder: Path):
    index = EmbeddingIndex(Encoder(encoder), above=0.999)
    assert not index.repeats("name a river")
    index.add(["name a river", "sort the list"])
    assert index.repeats("Name a river")
    assert not index.repeats("write a poem")
    index.add(["write a poem"])
    assert index.repeats("write a poem")


def test_many_single_additions_are_remembered(encoder: Path):
    index = EmbeddingIndex(Encoder(encoder), above=0.999)
    for _ in range(70):
        index.add(["sort the list"])
    index.add(["name a river"])
    assert index.repeats("name a river")
