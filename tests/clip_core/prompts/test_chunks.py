"""Chunks by laws that hold in every split, and by example. Each split by itself: test_splits.py; beside ComfyUI's own:
tests/host/text/test_prompt_parity.py.
"""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clip_vae_lora.clip_core.prompts.chunks import SPLITS, Token, empty_chunk, pack, padded
from clip_vae_lora.clip_core.prompts.comfy import CHUNK_END, Span, parse
from clip_vae_lora.clip_core.tokenizer import END, START, vocabulary

from ...support.growth import check_linear
from ...support.prompts import NO, TOKENIZER, VECTORS, bare, find, ids, used

CAT, COMMA = 2368, 267


def prompt_tokens(packed):
    return [token for chunk in packed.chunks for token in chunk if token.span]


# The laws of every split

WORDS = st.sampled_from(
    ["cat ", "a photo, ", "sky. ", "really?! ", "antidisestablishmentarianism ", "f/1.8 ", "漢字 ", "x" * 400 + " "]
    + ["<|endoftext|> ", "it's ", ", ", ". "]
)
TEXTS = st.tuples(st.lists(st.tuples(WORDS, st.integers(1, 40)), max_size=4), st.sampled_from([0.5, 1.0, 1.5]))
SPANS = st.one_of(
    TEXTS.map(lambda drawn: Span("".join(word * count for word, count in drawn[0]), drawn[1])),
    st.sampled_from([CHUNK_END, *(Span(f"embedding:{name}", 1.2) for name in VECTORS), Span("embedding:no")]),
)


@settings(deadline=None)
@given(st.lists(SPANS, max_size=8), st.sampled_from(SPLITS), st.sampled_from([0, END]), st.sampled_from([4, 16, 77]))
def test_every_chunk_is_whole_and_no_token_is_lost_made_up_or_moved(spans, split, pad, context):
    packed = pack(spans, TOKENIZER, pad, find, context, split=split)
    expected = []
    for span in spans:
        name = span.text.removeprefix("embedding:")
        if name == span.text:
            expected += [(number, span.emphasis) for number in TOKENIZER.encode(span.text)]
        elif name in VECTORS:
            expected += [(None, span.emphasis)] * (1 if name == "flat" else len(VECTORS[name]))
    tokens = prompt_tokens(packed)
    assert [(number, token.emphasis) for number, token in zip(ids(tokens), tokens)] == expected
    assert packed.tokens == len(expected)
    for chunk, count in zip(packed.chunks, packed.used, strict=True):
        assert len(chunk) == context
        assert [bool(token.span) for token in chunk] == [0 < place <= count for place in range(context)]
        assert ids([chunk[0], *chunk[count + 1 :]]) == [START, END] + [pad] * (context - count - 2)
        assert all(token == Token(token.id) for token in [chunk[0], *chunk[count + 1 :]])


@settings(deadline=None)
@given(st.lists(SPANS, max_size=8))
def test_no_word_is_cut_by_word_or_sentence_unless_it_is_longer_than_a_chunk(spans):
    for split in ("word", "sentence"):
        packed = pack(spans, TOKENIZER, find_embedding=find, split=split)
        lengths = torch.bincount(torch.tensor([0, *(token.word for token in prompt_tokens(packed))])).tolist()
        for one, two in pairwise(packed.chunks):
            last, first = one[sum(token.span > 0 for token in one)], two[1]
            if last.word and last.word == first.word:
                assert lengths[last.word] > 75


@settings(deadline=None)
@given(st.lists(SPANS, max_size=8), st.sampled_from([split for split in SPLITS if split != "hard"]))
def test_embeddings_stay_whole_but_in_hard(spans, split):
    packed = pack(spans, TOKENIZER, find_embedding=find, split=split)
    chunks_of = {}
    for number, chunk in enumerate(packed.chunks):
        for token in chunk:
            if not isinstance(token.id, int):
                chunks_of.setdefault(token.word, []).append(number)
    assert all(len(set(numbers)) == 1 for numbers in chunks_of.values() if len(numbers) <= 75)
    assert any(len(numbers) > 75 for numbers in chunks_of.values()) == any("embedding" in n for n in packed.notes)


@settings(deadline=None)
@given(st.lists(SPANS, max_size=6))
def test_words_and_spans_are_numbered_from_1_without_gaps_and_words_end_where_the_vocabulary_says(spans):
    pieces = vocabulary().pieces
    tokens = prompt_tokens(pack(spans, TOKENIZER, find_embedding=find))
    for name in ("span", "word"):
        numbers = [getattr(token, name) for token in tokens]
        assert [*dict.fromkeys(numbers)] == sorted(set(numbers))
    assert {token.word for token in tokens} == set(range(1, len({token.word for token in tokens}) + 1))
    for one, two in pairwise(tokens):
        if isinstance(one.id, int):
            assert (one.word != two.word) == (one.id in (START, END) or pieces[one.id].endswith("</w>"))


@pytest.mark.parametrize("split", SPLITS)
def test_breaks_close_chunks_and_only_the_last_leaves_no_empty_one(split):
    assert used("cat / dog dog", split) == [1, 2]
    assert used("/cat//dog/", split) == [0, 1, 0, 1]
    assert used("/", split) == [0]
    assert used("cat " * 75 + "/" + "cat " * 80, split) == [75, 75, 5]


@pytest.mark.slow
@pytest.mark.parametrize("split", SPLITS)
def test_a_prompt_of_100_kilobytes_takes_time_in_proportion_to_its_length(split):
    kinds = (
        lambda size: [Span("cat, " * (size // 5))],
        lambda size: [Span("cat. ", 1.1)] * (size // 20),
        lambda size: [Span("x" * size)],
        lambda size: [CHUNK_END] * (size // 20),
    )
    for kind in kinds:
        check_linear(
            lambda size, spans=kind: pack(
                spans(size), TOKENIZER, split=split, bare_name=lambda ids: None, find_embedding=find
            ),
            100_000,
        )


# Chunks by example


def test_an_empty_prompt_is_one_empty_chunk():
    assert pack([], TOKENIZER, pad=0).chunks == [empty_chunk(0)]
    assert ids(empty_chunk(0)) == [START, END] + [0] * 75
    assert pack([Span("")], TOKENIZER).used == [0]


def test_a_cut_word_is_named():
    text = "cat " * 74 + "supercalifragilistic"
    (note,) = pack(parse(text), TOKENIZER).notes
    assert "word" in note and "supercalifragilistic" in note and "hard" in note
    assert pack(parse(text), TOKENIZER, split="word").notes == ()
    notes = pack(parse("x" * 2000), TOKENIZER, split="word").notes
    assert len(notes) == 1 and "longer" in notes[0] and len(notes[0]) < 200


def test_a_split_of_another_name_is_refused():
    with pytest.raises(ValueError, match="choose one of hard, word, comma, sentence"):
        pack([], TOKENIZER, split="line")


def test_a_context_without_room_is_refused():
    with pytest.raises(ValueError, match="at least 3"):
        pack([], TOKENIZER, context=2)


def test_a_shorter_context_makes_shorter_chunks():
    packed = pack([Span("cat " * 20)], TOKENIZER, context=16)
    assert [len(chunk) for chunk in packed.chunks] == [16, 16]


def test_chunks_are_padded_with_empty_ones_up_to_a_count():
    chunks = pack([Span("cat")], TOKENIZER, 0, context=16).chunks
    assert padded(chunks, 3, 0) == [*chunks, empty_chunk(0, 16), empty_chunk(0, 16)]
    assert padded(chunks, 1, 0) == padded(chunks, 0, 0) == chunks


def test_a_token_has_no_span_and_no_word_by_default():
    assert Token(START) == Token(START, 1.0, 0, 0)


# Learned embeddings


def test_vectors_stand_in_their_places_with_their_emphasis():
    packed = pack(parse("cat (embedding:x:1.5) embedding:flat, cat embedding:no"), TOKENIZER, 0, find)
    tokens = prompt_tokens(packed)
    kinds = [(token.id if isinstance(token.id, int) else token.id.tolist(), token.emphasis) for token in tokens]
    assert kinds == [(CAT, 1.0), ([0, 1, 2], 1.5), ([3, 4, 5], 1.5), ([1, 1, 1], 1.0), (COMMA, 1.0), (CAT, 1.0)]
    assert [token.word for token in tokens] == [1, 2, 2, 3, 4, 5]
    assert [token.span for token in tokens] == [1, 2, 2, 4, 5, 5]  # the blank behind the bracket is a span: ComfyUI's
    assert (packed.found, packed.lost) == (("x", "flat"), {"no": NO})


def test_without_a_way_to_find_embeddings_their_names_are_text():
    packed = pack(parse("embedding:x"), TOKENIZER, bare_name=lambda ids: ("x", 1))
    assert ids(prompt_tokens(packed)) == TOKENIZER.encode("embedding:x")
    assert packed.lost == {}


def test_a_nameless_embedding_is_lost_with_a_sentence():
    assert "no name" in pack(parse("embedding: "), TOKENIZER, 0, find).lost[""]
    assert "no name" in pack(parse("embedding:,"), TOKENIZER, 0, find).lost[""]


def test_a_name_is_looked_up_once():
    asked = []
    pack(parse("embedding:no " * 5), TOKENIZER, 0, lambda name: asked.append(name) or NO)
    assert asked == ["no"]


def test_hard_cuts_an_embedding_of_8_vectors_and_says_so():
    text = "cat " * 70 + " embedding:nine"
    packed = pack(parse(text), TOKENIZER, find_embedding=find)
    assert packed.used == [75, 4]
    (note,) = packed.notes
    assert "nine" in note and "word or comma or sentence" in note
    for split in ("word", "comma", "sentence"):
        packed = pack(parse(text), TOKENIZER, find_embedding=find, split=split)
        assert (packed.used, packed.notes) == ([70, 9], ())


@pytest.mark.parametrize("split", SPLITS)
def test_an_embedding_longer_than_a_chunk_is_cut_and_named(split):
    packed = pack(parse("cat embedding:long cat"), TOKENIZER, find_embedding=find, split=split)
    assert packed.used == [75, 75, 12]
    (note,) = packed.notes
    assert "long" in note and "longer than the 75 tokens" in note


def test_bare_names_are_found_anywhere_in_a_text_the_vectors_with_its_emphasis():
    packed = pack([Span("cat nine, flat", 1.3)], TOKENIZER, find_embedding=find, bare_name=bare(["nine", "flat"]))
    tokens = prompt_tokens(packed)
    assert ids(tokens) == [CAT, *[None] * 9, COMMA, None]
    assert {(token.emphasis, token.span) for token in tokens} == {(1.3, 1)}
    assert [token.word for token in tokens] == [1, *[2] * 9, 3, 4]
    assert packed.found == ("nine", "flat")


def test_a_bare_name_without_vectors_stays_text_and_is_lost():
    packed = pack([Span("cat no")], TOKENIZER, find_embedding=find, bare_name=bare(["no"]))
    assert ids(prompt_tokens(packed)) == TOKENIZER.encode("cat no")
    assert packed.lost == {"no": f"{NO}; its name stays text"}


def test_a_bare_name_that_ends_inside_a_word_leaves_two_words():
    packed = pack([Span("nightcat cat")], TOKENIZER, find_embedding=find, bare_name=lambda ids: ("flat", 1))
    words = [token.word for token in prompt_tokens(packed)]
    assert words == list(range(1, len(words) + 1))
