"""Emphases evened out before they are applied: means, lengths of words, and the passes that this saves."""

import math

import pytest
import torch

from clip_vae_lora.clip_core.config import TextConfig
from clip_vae_lora.clip_core.encoding.emphasis import emphases, normalise_emphases
from clip_vae_lora.clip_core.encoding.encode import Runner, encode_chunks
from clip_vae_lora.clip_core.networks.text import CLIPText
from clip_vae_lora.clip_core.prompts.chunks import Token, empty_chunk, pack
from clip_vae_lora.clip_core.prompts.comfy import parse
from clip_vae_lora.clip_core.tokenizer import END, START, Tokenizer


def chunks_of(text):
    return pack(parse(text), Tokenizer(), END).chunks


def by_hand(*words):
    """A chunk of (emphasis, word) tokens, all one span."""
    tokens = [Token(START), *(Token(320, emphasis, 1, word) for emphasis, word in words), Token(END)]
    return tokens + [Token(END)] * (77 - len(tokens))


def test_length_divides_by_the_root_of_the_words_tokens_over_all_chunks():
    chunks = [by_hand((1.5, 1), (2, 2), (2, 2)), by_hand((2, 2), (2, 2), (0, 3), (0, 3))]
    found = emphases(normalise_emphases(chunks, "length"))
    assert torch.allclose(found[0, 1:4, 0], torch.tensor([1.5, 1.5, 1.5]).double())  # 1 + 1 / sqrt(4)
    assert torch.allclose(found[1, 3:5, 0], torch.tensor(1 - 1 / math.sqrt(2)).double())
    assert (found[:, [0, -1]] == 1).all()


def test_mean_shifts_the_prompts_tokens_to_a_mean_of_1_over_all_chunks():
    chunks = [by_hand((1.5, 1), (1, 2)), by_hand((2, 3))]
    found = emphases(normalise_emphases(chunks, "mean"))
    assert torch.allclose(found[0, 1:3, 0], torch.tensor([1.0, 0.5]).double())
    assert torch.allclose(found[1, 1, 0], torch.tensor(1.5).double())
    assert (found[:, [0, -1]] == 1).all()


def test_length_comes_before_mean():
    chunks = [by_hand((3, 1), (3, 1), (3, 1), (3, 1), (1, 2))]
    expected = torch.tensor([2, 2, 2, 2, 1.0]).double()
    found = emphases(normalise_emphases(chunks, "length+mean"))[0, 1:6, 0]
    assert torch.allclose(found, expected - expected.mean() + 1)


def test_what_a_mean_brings_to_1_is_1_and_needs_no_further_pass():
    model = CLIPText(TextConfig(32, 2, 2, 64, 16)).requires_grad_(False)
    passes = []

    def run(rows):
        passes.append(len(rows))
        return Runner(model)(rows)

    encode_chunks(run, chunks_of("(all of these eight words are the same:1.1)"), style="comfy++", normalisation="mean")
    assert passes == [1]


def test_a_prompt_without_tokens_is_normalised_to_itself():
    assert normalise_emphases([empty_chunk(END)], "length+mean") == [empty_chunk(END)]


def test_words_and_not_whole_brackets_are_normalised():
    chunks = chunks_of("(a long phrase of seven unbelievably words:2)")
    tokens = [token for token in chunks[0] if token.word]
    lengths = {token.word: sum(other.word == token.word for other in tokens) for token in tokens}
    assert max(lengths.values()) < len(tokens)
    for token, after in zip(chunks[0], normalise_emphases(chunks, "length")[0]):
        assert after.emphasis == pytest.approx(1 + 1 / math.sqrt(lengths[token.word]) if token.word else 1)
