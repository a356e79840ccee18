"""Rows kept: how many passes there are, what is bounded, what belongs to whom."""

import threading

import pytest
import torch

from clip_vae_lora.clip_core.encoding.emphasis import STYLES
from clip_vae_lora.clip_core.encoding.encode import encode_chunks
from clip_vae_lora.clip_core.encoding.rows import Row, RowCache, Rows
from clip_vae_lora.clip_core.prompts.chunks import Token
from clip_vae_lora.clip_core.tokenizer import END, START

T, C, P = 8, 4, 2
SIZE = (T * C + P) * 4  # bytes of a row's float32 numbers


class Encoder:
    """Gives each row numbers made of its ids, and counts."""

    def __init__(self):
        self.passes = []

    def __call__(self, rows):
        self.passes.append([row.key for row in rows])
        ids = torch.tensor([[t.id if isinstance(t.id, int) else 7 for t in row.tokens] for row in rows])
        hidden = torch.sin(ids[..., None] * torch.arange(1.0, C + 1)) - 0.01 * len(rows[0].unseen)
        return Rows(hidden, hidden[:, -1, :P].clone())


@pytest.fixture
def encoder():
    return Encoder()


def chunk(*tokens):
    """(id, emphasis) of a prompt in a chunk of 8."""
    inner = [Token(number, emphasis, n, n) for n, (number, emphasis) in enumerate(tokens, 1)]
    return [Token(START), *inner, *[Token(END)] * (T - 1 - len(inner))]


def row(*ids):
    return Row(tuple(chunk(*((number, 1.0) for number in ids))))


def test_a_row_seen_before_is_not_run_and_gives_the_same_bits(encoder):
    cache = RowCache(1 << 20)
    run = cache.through(encoder, "owner")
    first = run([row(1), row(2)])
    again = run([row(2), row(3), row(1)])
    assert [len(keys) for keys in encoder.passes] == [2, 1]
    assert torch.equal(again.hidden[[2, 0]], first.hidden)
    assert torch.equal(again.pooled[[2, 0]], first.pooled)
    assert torch.equal(again.hidden, encoder([row(2), row(3), row(1)]).hidden)


def test_a_row_that_comes_twice_in_a_request_is_run_once(encoder):
    found = RowCache(1 << 20).through(encoder, "owner")([row(1), row(2), row(1)])
    assert [len(keys) for keys in encoder.passes] == [2]
    assert torch.equal(found.hidden[0], found.hidden[2])


def test_another_owner_is_another_encoding(encoder):
    cache = RowCache(1 << 20)
    for owner in (("clip", "unpatched"), ("clip", "with a LoRA"), ("clip", "unpatched")):
        cache.through(encoder, owner)([row(1)])
    assert len(encoder.passes) == 2


@pytest.mark.parametrize("style", list(STYLES))
def test_other_weights_on_the_same_words_need_no_pass(encoder, style):
    run = RowCache(1 << 20).through(encoder, "owner")
    encode_chunks(run, [chunk((1, 1.2), (2, 0.5), (3, 1.0))], style=style)
    before = len(encoder.passes)
    other = [chunk((1, 1.9), (2, 0.3), (3, 1.0))]
    found = encode_chunks(run, other, style=style)
    assert len(encoder.passes) == before == 1
    assert torch.equal(found.hidden, encode_chunks(encoder, other, style=style).hidden)


def test_bytes_are_counted_and_the_least_recently_used_rows_go(encoder):
    cache = RowCache(2 * SIZE + 1)
    run = cache.through(encoder, "owner")
    run([row(1)])
    run([row(2)])
    run([row(1)])
    assert (len(cache), cache.bytes) == (2, 2 * SIZE)
    run([row(3)])  # 2 goes
    assert (len(cache), cache.bytes) == (2, 2 * SIZE)
    run([row(1), row(3)])
    assert len(encoder.passes) == 3
    run([row(2)])
    assert len(encoder.passes) == 4


def test_more_rows_at_once_than_there_is_room_for_are_all_answered(encoder):
    cache = RowCache(SIZE)
    rows = [row(n) for n in range(5)]
    assert torch.equal(cache.through(encoder, "owner")(rows).hidden, encoder(rows).hidden)
    assert cache.bytes == SIZE


def test_a_cache_of_no_bytes_keeps_nothing(encoder):
    cache = RowCache(0)
    run = cache.through(encoder, "owner")
    run([row(1)])
    run([row(1)])
    assert (len(encoder.passes), len(cache), cache.bytes) == (2, 0, 0)


def test_a_negative_limit_is_refused():
    with pytest.raises(ValueError, match="a cache of -1 bytes was asked for"):
        RowCache(-1)


def test_a_cleared_cache_is_empty(encoder):
    cache = RowCache(1 << 20)
    cache.through(encoder, "owner")([row(1)])
    cache.clear()
    assert (len(cache), cache.bytes) == (0, 0)


def test_what_is_kept_can_be_changed_by_nobody(encoder):
    run = RowCache(1 << 20).through(encoder, "owner")
    first = run([row(1), row(2)])
    expected = first.hidden.clone()
    first.hidden.zero_()
    again = run([row(1), row(2)])
    again.pooled.zero_()
    assert torch.equal(again.hidden, expected)
    assert not (run([row(1)]).pooled == 0).all()


def test_a_pass_that_fails_leaves_nothing(encoder):
    cache = RowCache(1 << 20)

    def failing(rows):
        raise RuntimeError("stopped by the user")

    with pytest.raises(RuntimeError, match="stopped"):
        cache.through(failing, "owner")([row(1)])
    assert len(cache) == 0
    cache.through(encoder, "owner")([row(1)])
    assert len(encoder.passes) == 1


def test_what_was_kept_in_inference_mode_can_be_used_outside(encoder):
    run = RowCache(1 << 20).through(encoder, "owner")
    with torch.inference_mode():
        run([row(1)])
    assert not run([row(1)]).hidden.is_inference()


def test_a_kept_row_is_no_view_of_its_batch(encoder):
    cache = RowCache(1 << 20)
    cache.through(encoder, "owner")([row(n) for n in range(10)])
    assert all(hidden.untyped_storage().nbytes() == T * C * 4 for hidden, _ in cache._entries.values())


def test_threads_can_share_a_cache(encoder):
    cache, wrong = RowCache(3 * SIZE), []

    def work(start):
        for n in range(200):
            rows = [row((start + n) % 7), row((start + n + 3) % 7)]
            if not torch.equal(cache.through(encoder, "owner")(rows).hidden, Encoder()(rows).hidden):
                wrong.append(rows)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert cache.bytes == len(cache) * SIZE <= 3 * SIZE


def test_rows_are_told_apart_by_ids_vectors_and_unseen_places_and_not_by_emphases():
    vector = torch.arange(4.0)
    rows = [
        row(1),
        row(2),
        Row(row(1).tokens, frozenset([1])),
        Row((Token(vector), *row(1).tokens[1:])),
        Row((Token(vector + 1), *row(1).tokens[1:])),
        Row((Token(vector.half()), *row(1).tokens[1:])),
    ]
    assert len({r.key for r in rows}) == len(rows)
    assert Row(tuple(chunk((1, 0.3)))).key == row(1).key
    assert Row((Token(vector.clone(), 2.0), *row(1).tokens[1:])).key == rows[3].key
    assert hash(Row((Token(vector.bfloat16()),)).key)


@pytest.mark.parametrize("unseen", [[0], [8], [-1], [1, 100]])
def test_a_row_without_such_a_place_is_refused(unseen):
    with pytest.raises(ValueError, match="only places 1 to 7 can be"):
        Row(row(1).tokens, frozenset(unseen))
