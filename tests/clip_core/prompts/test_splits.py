"""Where each split cuts a prompt, by example, and AUTOMATIC1111's own chunks beside ours (a1111_reference.md)."""

import gzip
import json
from pathlib import Path

import pytest
import torch

from clip_vae_lora.clip_core.prompts.chunks import pack
from clip_vae_lora.clip_core.prompts.comfy import CHUNK_END, Span
from clip_vae_lora.clip_core.tokenizer import END, Tokenizer

from ...support.prompts import TOKENIZER, bare, ids, used

REFERENCE = Path(__file__).with_name("a1111_reference.json.gz")


def test_hard_keeps_fewer_than_8_tokens_together_and_cuts_8():
    assert pack([Span("cat " * 70), Span("cat " * 7)], TOKENIZER).used == [70, 7]
    assert pack([Span("cat " * 70), Span("cat " * 8)], TOKENIZER).used == [75, 3]


def test_word_keeps_a_word_of_many_tokens_together_that_hard_and_comma_cut():
    long_word = "x" * 30
    text = "cat " * 74 + long_word
    tokens = len(TOKENIZER.encode(long_word))
    assert 2 <= tokens < 75
    assert used(text, "word") == used(text, "sentence") == [74, tokens]
    assert used(text, "hard") == used(text, "comma") == [75, tokens - 1]


def test_comma_moves_what_stands_behind_the_last_comma_of_the_last_20_tokens():
    assert used("cat " * 55 + "," + "cat " * 30, "comma") == [56, 30]
    assert used("cat " * 54 + "," + "cat " * 30, "comma") == [75, 10]
    assert used("cat " * 74 + "," + "cat", "comma") == [75, 1]


def test_a_comma_that_comes_when_the_chunk_is_full_opens_the_next_chunk():
    assert used("cat " * 60 + "," + "cat " * 14 + ", cat", "comma") == [75, 2]


def test_comma_does_not_look_back_over_a_border():
    assert used("cat " * 70 + ", /" + "cat " * 80, "comma") == [71, 75, 5]


def test_comma_forgets_a_comma_behind_which_or_before_which_a_chunk_ended():
    assert used("cat " * 10 + "," + "cat " * 30, "comma", context=16) == [11, 14, 14, 2]
    assert used("cat " * 14 + "," + "cat " * 20, "comma", context=16) == [14, 14, 7]


def test_comma_moves_an_embedding_on_without_looking_back():
    assert used("cat " * 65 + ", cat embedding:nine", "comma") == [67, 9]


def test_sentence_takes_the_last_sentence_that_fills_half_of_the_chunk():
    fifty, sixty = "cat " * 49 + ". ", "cat " * 9 + ", "
    assert used(fifty + sixty + "cat " * 40, "sentence") == [50, 50]
    assert used("cat " * 59 + ", " + "cat " * 40, "sentence") == [60, 40]
    assert used("cat. " + "cat " * 99, "sentence") == [75, 26]
    assert used("cat " * 37 + ". " + "cat " * 60, "sentence") == [38, 60]
    assert used("cat " * 36 + ". " + "cat " * 60, "sentence") == [75, 22]


@pytest.mark.parametrize("sign", [".", "!", "?", "?!", "...", '."', "!)", "。", "！", "…"])
def test_many_signs_end_a_sentence(sign):
    text = "cat " * 50 + sign + " cat " * 5 + ", " + "cat " * 60
    first = 50 + len(TOKENIZER.encode(sign))
    assert used(text, "sentence")[0] == first


@pytest.mark.parametrize("sign", [",", ";", ":", "、", ",)"])
def test_many_signs_end_a_phrase(sign):
    assert used("cat " * 50 + sign + " cat " * 60, "sentence")[0] == 50 + len(TOKENIZER.encode(sign))


@pytest.mark.parametrize("number", ["1.8", "16:9", "1,000"])
def test_a_sign_between_digits_ends_nothing(number):
    assert used("cat " * 60 + number + " cat" * 60, "sentence")[0] == 75


# AUTOMATIC1111's own results


@pytest.fixture(scope="module")
def reference():
    return json.loads(gzip.decompress(REFERENCE.read_bytes()))


def test_ids_emphases_and_borders_are_automatic1111s_on_all_its_prompts(reference):
    for packed, theirs in beside(reference):
        assert len(packed.chunks) == len(theirs)
        for ours, chunk in zip(packed.chunks, theirs):
            assert [0 if number is None else number for number in ids(ours)] == filled(chunk)
            assert [token.emphasis for token in ours] == [w for w, count in chunk["multipliers"] for _ in range(count)]


def test_vectors_stand_where_automatic1111_puts_them_and_move_with_their_places_where_it_leaves_them_behind(reference):
    """When text behind a comma moves to the next chunk, the original leaves the vectors of embeddings in it with the
    chunk that they were in: there they overwrite other places, and in the next chunk their places hold token 0, "!".
    Ours move with their places. So prompts differ where the original has vectors on places that are not kept for them.
    """
    faulty = 0
    for packed, theirs in beside(reference):
        fixes = [[(place, count) for place, _, count in chunk["fixes"]] for chunk in theirs]
        ours = [placed(chunk) for chunk in packed.chunks]
        assert [count for chunk in ours for _, count in chunk] == [count for chunk in fixes for _, count in chunk]
        kept = all(
            set(filled(chunk)[1 + place : 1 + place + count]) == {0} and place + count <= 75
            for chunk, taken in zip(theirs, fixes)
            for place, count in taken
        )
        assert (ours == fixes) == kept
        faulty += not kept
    assert 0 < faulty < len(reference["prompts"]) / 10  # otherwise this would say little


def beside(reference):
    """Each prompt's spans as AUTOMATIC1111 parsed them, packed by us, and its own chunks."""
    counts, tokenizer = reference["embeddings"], Tokenizer("transformers")
    vectors = {name: torch.zeros(count, 1) for name, count in counts.items()}
    for spans, theirs in zip(reference["spans"], reference["chunks"], strict=True):
        spans = [CHUNK_END if text == "BREAK" and weight == -1 else Span(text, weight) for text, weight in spans]
        yield pack(spans, tokenizer, find_embedding=vectors.get, split="comma", bare_name=bare(counts)), theirs


def filled(chunk):
    """A chunk's 77 ids from the file, which leaves out the end tokens at the back."""
    return chunk["ids"] + [END] * (77 - len(chunk["ids"]))


def placed(chunk):
    """(place, not counting the start token; number of vectors) of each embedding of a chunk."""
    places = {}
    for place, token in enumerate(chunk[1:]):
        if not isinstance(token.id, int):
            places.setdefault(token.word, []).append(place)
    return [(taken[0], len(taken)) for taken in places.values()]
