"""The prompt dialect and the chunks by laws and by example; beside ComfyUI's own: tests/host/test_prompt_parity.py."""

import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clip_vae_lora.clip_core.chunks import Token, empty_chunk, pack
from clip_vae_lora.clip_core.prompt import Span, parse, split_embedding
from clip_vae_lora.clip_core.tokenizer import END, START, Tokenizer

TOKENIZER = Tokenizer()
CAT = 2368


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("", []),
        ("a cat", [("a cat", 1.0)]),
        ("a (cat)", [("a ", 1.0), ("cat", 1.1)]),
        ("((cat))", [("cat", 1.1 * 1.1)]),
        ("(cat:1.5)", [("cat", 1.5)]),
        ("(cat: 1.5 )", [("cat", 1.5)]),
        ("((cat:1.5) dog:2)", [("cat", 1.5), (" dog", 2.0)]),
        ("(cat:dog)", [("cat:dog", 1.1)]),
        ("(a:b:2)", [("a:b", 2.0)]),
        ("(:2)", [(":2", 1.1)]),
        ("()", []),
        (r"\(cat\)", [("(cat)", 1.0)]),
        ("(cat", [("(cat", 1.0)]),
        ("cat)", [("cat)", 1.0)]),
        ("((cat)", [("(cat", 1.1)]),
        (") (cat)", [(") (cat)", 1.0)]),
        ("[cat]", [("[cat]", 1.0)]),
        ("a embedding:x, b", [("a ", 1.0), ("embedding:x, b", 1.0)]),
        ("a,embedding:x", [("a,embedding:x", 1.0)]),
    ],
)
def test_the_dialect(text, spans):
    assert parse(text) == [Span(*span) for span in spans]


@given(st.text(st.characters(exclude_characters="()\\:\0\1")))
def test_without_parentheses_all_is_one_emphasis(text):
    assert {span.emphasis for span in parse(text)} <= {1.0}
    assert "".join(span.text for span in parse(text)) == text


def test_nesting_ever_so_deep_is_no_error():
    assert parse("(" * 3000 + "cat" + ")" * 3000)[0].text == "cat"


def test_ten_kilobytes_of_open_parentheses_are_quick():
    started = time.perf_counter()
    parse("(" * 10_000)
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize(
    ("text", "name", "rest"),
    [
        ("embedding:x", "x", ""),
        ("embedding:x, a  cat", "x,", "a cat"),
        ("embedding:x<lora:y>", "x", "<lora:y>"),
        ("embedding:x[a] b", "x", "[a] b"),
        ("embedding:", "", ""),
    ],
)
def test_the_name_of_an_embedding_ends_at_a_blank_or_a_bracket(text, name, rest):
    assert split_embedding(text) == (name, rest)


def lengths(packed):
    return [[token.id for token in chunk].index(END) - 1 for chunk in packed.chunks]


def test_an_empty_prompt_is_one_empty_chunk():
    assert pack(parse(""), TOKENIZER, pad=0).chunks == [empty_chunk(0)]
    assert [token.id for token in empty_chunk(0)] == [START, END] + [0] * 75


@given(st.lists(st.tuples(st.integers(1, 90), st.sampled_from([0.5, 1.0, 1.5])), max_size=8), st.sampled_from([0, END]))
def test_every_chunk_is_full_length_and_no_token_is_lost(parts, pad):
    spans = [Span("cat " * count, emphasis) for count, emphasis in parts]
    packed = pack(spans, TOKENIZER, pad)
    assert all(len(chunk) == 77 and chunk[0].id == START for chunk in packed.chunks)
    words = [token for chunk in packed.chunks for token in chunk if token.word]
    assert [(token.id, token.emphasis) for token in words] == [
        (CAT, emphasis) for count, emphasis in parts for _ in range(count)
    ]
    assert packed.tokens == len(words)
    for chunk in packed.chunks:
        ids = [token.id for token in chunk]
        assert set(ids[ids.index(END) + 1 :]) <= {pad}


def test_fewer_than_8_tokens_stay_together_and_8_are_cut():
    assert lengths(pack([Span("cat " * 70), Span("cat " * 7)], TOKENIZER)) == [70, 7]
    assert lengths(pack([Span("cat " * 70), Span("cat " * 8)], TOKENIZER)) == [75, 3]


def test_vectors_stand_in_their_places_with_their_emphasis():
    vectors = {"x": torch.arange(6.0).view(2, 3), "flat": torch.ones(3)}
    packed = pack(parse("cat (embedding:x:1.5) embedding:flat, cat embedding:no"), TOKENIZER, 0, vectors.get)
    tokens = [token for token in packed.chunks[0] if token.word]
    kinds = [(token.id if isinstance(token.id, int) else token.id.tolist(), token.emphasis) for token in tokens]
    assert kinds == [(CAT, 1.0), ([0, 1, 2], 1.5), ([3, 4, 5], 1.5), ([1, 1, 1], 1.0), (267, 1.0), (CAT, 1.0)]
    assert (packed.found, packed.missing) == (("x", "flat"), ("no",))


def test_without_a_way_to_find_embeddings_their_names_are_text():
    packed = pack(parse("embedding:x"), TOKENIZER)
    assert [t.id for t in packed.chunks[0] if t.word] == TOKENIZER.encode("embedding:x")
    assert packed.missing == ()


def test_a_nameless_embedding_is_missing():
    assert pack(parse("embedding: "), TOKENIZER, 0, lambda name: None).missing == ("",)


def test_a_shorter_context_makes_shorter_chunks():
    packed = pack([Span("cat " * 20)], TOKENIZER, context=16)
    assert [len(chunk) for chunk in packed.chunks] == [16, 16]


def test_a_token_has_no_word_by_default():
    assert Token(START) == Token(START, 1.0, 0)
