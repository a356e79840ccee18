"""A prompt through a text encoder: chunks, emphases, pooling, passes. The styles: test_emphasis.py; beside ComfyUI's
encoders: tests/host/text/test_prompt_parity.py.
"""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from clip_vae_lora.clip_core.config import TextConfig
from clip_vae_lora.clip_core.encoding.emphasis import STYLES
from clip_vae_lora.clip_core.encoding.encode import POOLED, ROWS_AT_ONCE, Runner, encode_chunks, encode_packed
from clip_vae_lora.clip_core.encoding.rows import Row, Rows
from clip_vae_lora.clip_core.networks.layers import causal_attention
from clip_vae_lora.clip_core.networks.text import CLIPText, first_end
from clip_vae_lora.clip_core.prompts.chunks import Token, empty_chunk, pack, padded
from clip_vae_lora.clip_core.prompts.comfy import parse
from clip_vae_lora.clip_core.prompts.plan import Port, PromptSettings, plan_prompt
from clip_vae_lora.clip_core.tokenizer import END, Tokenizer

from ...support.growth import check_linear

TOKENIZER = Tokenizer()
WIDTH = 32


@pytest.fixture(scope="module")
def model(networks):
    return networks.randomise_(CLIPText(TextConfig(WIDTH, 3, 2, 64, 16))).requires_grad_(False)


class Library:
    """Learned embeddings by name, for any encoder."""

    def __init__(self, vectors):
        self.vectors = vectors

    def find(self, name, key, width, *, suggest=True):
        return self.vectors.get(name, "there is none")

    def notes(self, name):
        return ()


def encode(model, text, *, pad=END, vectors=None, layer=None, final_norm=True, projected=False, **settings):
    """A prompt through one encoder, the way the nodes go. `.hidden`, `.pooled`, `.packed`, `.notes`"""
    port = Port("clip_l", "l", model.config.width, pad, model.config.context, model.config.layers)
    library = None if vectors is None else lambda: Library(vectors)
    planned = plan_prompt(text, [port], PromptSettings(**settings), library)
    packed = planned.parts[0].packed["l"]
    found = encode_packed(packed, Runner(model, layer, final_norm, projected), planned.settings)
    return SimpleNamespace(
        hidden=found.hidden, pooled=found.pooled, packed=packed, notes=(*planned.notes, *found.notes)
    )


def packed(text):
    return pack(parse(text), TOKENIZER).chunks


class Counting:
    """An encoder without a network: numbers made of the ids, and how many rows each pass had."""

    def __init__(self, width=4):
        self.passes, self.width = [], width

    def __call__(self, rows):
        self.passes.append(len(rows))
        ids = torch.tensor([[t.id for t in row.tokens] for row in rows])
        hidden = torch.sin(ids[..., None] * torch.arange(1.0, self.width + 1))
        return Rows(hidden, hidden.mean(1))


def test_a_plain_prompt_is_the_network_itself(model):
    ids = TOKENIZER.batch(["a cat"], pad=0)[0]
    expected = model(model.embed(ids), first_end(ids), layer=-2)
    found = encode(model, "a cat", layer=-2, projected=True, pad=0)
    assert torch.equal(found.hidden, expected.hidden)
    assert torch.equal(found.pooled, expected.projected)


def test_the_last_layer_is_normed_whatever_is_said_and_others_only_if_asked(model):
    choices = [(None, False), (-1, True), (-1, False)]
    last, normed, raw = (encode(model, "cat", layer=n, final_norm=norm).hidden for n, norm in choices)
    assert torch.equal(last, normed)
    assert not torch.allclose(last, raw)


def test_emphasis_1_written_out_keeps_every_bit(model):
    assert torch.equal(encode(model, "a (cat:1)").hidden, encode(model, "a (cat:1.0)").hidden)
    ids = TOKENIZER.batch(["cat"])[0]
    assert torch.equal(encode(model, "(cat:1)").hidden, model(model.embed(ids), first_end(ids)).hidden)


def test_emphasis_0_is_the_empty_prompt_at_that_place(model):
    empty = encode(model, "").hidden
    weighted = encode(model, "(cat:0)").hidden
    assert torch.allclose(weighted[0, 1], empty[0, 1], atol=1e-6)  # rounding of z0 + 0 (z - z0)
    assert not torch.allclose(weighted[0, 2], empty[0, 2])


def test_emphasis_is_linear_and_pooled_is_never_weighted(model):
    one, two, three = (encode(model, f"(cat:{w})") for w in (1, 2, 3))
    assert torch.allclose(two.hidden - one.hidden, three.hidden - two.hidden, atol=1e-5)  # three roundings
    assert torch.allclose(one.pooled, three.pooled, atol=1e-6)  # a batch of one row and one of two


def test_a_long_prompt_is_its_chunks_in_a_row_and_pooled_is_the_first(model):
    chunks = packed("cat " * 100)
    found = encode_chunks(Runner(model), chunks)
    parts = [encode_chunks(Runner(model), [chunk]) for chunk in chunks]
    assert found.hidden.shape == (1, 154, WIDTH)
    torch.testing.assert_close(found.hidden, torch.cat([part.hidden for part in parts], 1), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(found.pooled, parts[0].pooled, atol=1e-6, rtol=1e-6)


def test_pooled_is_of_the_first_chunk_of_the_last_that_has_tokens_or_their_mean():
    chunks = padded(packed("cat " * 70 + "dog " * 70 + "tree " * 20), 5, END)
    each = Counting()([Row(tuple(chunk)) for chunk in chunks]).pooled
    expected = {"first chunk": each[0], "mean of chunks": each[:3].mean(0), "last chunk": each[2]}
    assert set(expected) == set(POOLED)
    for choice, vector in expected.items():
        torch.testing.assert_close(encode_chunks(Counting(), chunks, pooled=choice).pooled, vector[None])


@pytest.mark.parametrize("pooled", POOLED)
def test_an_empty_prompt_is_pooled_from_its_first_chunk(pooled):
    found = encode_chunks(Counting(), padded([empty_chunk(END)], 3, END), pooled=pooled)
    assert torch.equal(found.pooled, Counting()([Row(tuple(empty_chunk(END)))]).pooled)


def test_a_learned_vector_equal_to_a_tokens_embedding_is_that_token(model):
    vector = model.embed(torch.tensor([[2368]]))[0]
    found = encode(model, "a embedding:x dog", vectors={"x": vector})
    assert torch.equal(found.hidden, encode(model, "a cat dog").hidden)
    assert torch.equal(found.pooled, encode(model, "a cat dog").pooled)
    assert found.packed.found == ("x",)


def test_a_vector_of_another_width_is_refused(model):
    with pytest.raises(ValueError, match="has 7 numbers a vector and this text encoder works with 32"):
        encode(model, "embedding:x", vectors={"x": torch.ones(2, 7)})


def test_dialect_split_and_notes_come_through(model):
    found = encode(model, "[cat] " + "word " * 74 + "(unbelievable:1.2", dialect="a1111", splitting="word")
    assert any("never closed" in note for note in found.notes)
    expected = encode_chunks(Runner(model), found.packed.chunks, style="a1111")
    assert torch.equal(found.hidden, expected.hidden)
    assert found.packed.chunks[0][1].emphasis == pytest.approx(1 / 1.1)


@pytest.mark.parametrize("emphasis", ["nan", "inf", "-inf"])
def test_an_emphasis_that_is_no_finite_number_is_refused(emphasis):
    with pytest.raises(ValueError, match="an emphasis that is no finite number"):
        encode_chunks(Counting(), [[Token(5, float(emphasis), 1, 1), *empty_chunk(END)[1:]]])


def test_emphases_that_a_normalisation_makes_infinite_are_refused():
    chunk = [*empty_chunk(END)[:1], *[Token(5, 1e308, 1, 1)] * 9, *empty_chunk(END)[10:]]
    with pytest.raises(ValueError, match="an emphasis that is no finite number"):
        encode_chunks(Counting(), [chunk], normalisation="mean")


@pytest.mark.parametrize("style", [style for style in STYLES if style != "down_weight"])
def test_weights_too_large_for_float32_are_refused(style):
    with pytest.raises(ValueError, match="is no finite number any more; use weights nearer to 1"):
        encode_chunks(Counting(), packed("a (cat:1e300) and (a dog:-1e300) (bird:0.5)"), style=style)


def test_down_weight_divides_by_the_largest_weight_so_it_stays_finite():
    chunks = packed("a (cat:1e300) and (a dog:-1e300) (bird:0.5)")
    assert encode_chunks(Counting(), chunks, style="down_weight").hidden.isfinite().all()


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"style": "nerdy"}, 'there is no weighting "nerdy"; choose one of comfy, a1111'),
        ({"normalisation": "max"}, 'there is no normalisation "max"; choose one of none, mean'),
        ({"pooled": "all"}, 'there is no pooled vector "all"; choose one of first chunk'),
    ],
)
def test_a_choice_that_is_not_there_is_refused(choice, message):
    with pytest.raises(ValueError, match=message):
        encode_chunks(Counting(), packed("cat"), **choice)


def test_a_projected_vector_without_a_projection_is_refused():
    model = CLIPText(TextConfig(WIDTH, 1, 1, 32, WIDTH), has_projection=False)
    with pytest.raises(ValueError, match="came without a text_projection"):
        encode(model, "cat", projected=True)


def test_no_chunks_are_refused():
    with pytest.raises(ValueError, match="there is nothing to encode"):
        encode_chunks(Counting(), [])


def test_half_precision_weights_give_float32(networks):
    model = networks.randomise_(CLIPText(TextConfig(WIDTH, 1, 1, 32, 16), dtype=torch.bfloat16)).requires_grad_(False)
    found = encode(model, "a (cat:1.3)")
    assert found.hidden.dtype == found.pooled.dtype == torch.float32


@pytest.mark.parametrize("style", list(STYLES))
def test_a_style_asks_for_all_its_rows_in_one_pass(style):
    run = Counting()
    encode_chunks(run, packed("a (red:1.4) cat (and:0.5) a (dog:0.2)" + " tree" * 100), style=style)
    assert len(run.passes) == 1


def test_comfy_runs_the_chunks_and_the_empty_prompt_and_the_empty_one_only_for_weights():
    run = Counting()
    encode_chunks(run, packed("cat " * 70 + "(dog:1.2) " * 30))
    encode_chunks(run, packed("cat " * 70 + "dog " * 30))
    assert run.passes == [3, 2]


def test_chunks_that_are_alike_are_run_once():
    run, chunk = Counting(), packed("cat " * 75)[0]
    found = encode_chunks(run, [chunk] * 4)
    assert run.passes == [1]
    assert torch.equal(found.hidden[0, :77], found.hidden[0, -77:])


def test_long_prompts_run_sixteen_rows_at_a_time_and_can_be_stopped_in_between():
    chunks = [chunk for n in range(40) for chunk in packed(f"a (prompt:1.2) of {n}")]
    run, steps = Counting(), []
    encode_chunks(run, chunks, on_step=lambda done, total: steps.append((done, total)))
    assert run.passes == [16, 16, 9]
    assert steps == [(16, 41), (32, 41), (41, 41)]

    def stop(done, total):
        raise InterruptedError

    run = Counting()
    with pytest.raises(InterruptedError):
        encode_chunks(run, chunks, on_step=stop)
    assert run.passes == [ROWS_AT_ONCE]


@pytest.mark.parametrize("style", list(STYLES))
def test_time_and_rows_are_linear_in_the_length_of_a_prompt(style):
    """Every second word weighted, all differently: the most rows a prompt can ask for."""

    def cost(words):  # rows
        run = Counting(1)
        encode_chunks(run, chunks_of[words], style=style)
        return sum(run.passes)

    chunks_of = {
        words: packed(" ".join(f"(word:{0.5 + n / words:.6f}) and" for n in range(words))) for words in (200, 2000)
    }
    few, many = cost(200), cost(2000)
    assert many <= 2 * 2000 + 4000 // 75 + 2
    assert many <= 11 * few
    check_linear(cost, 2000)


def test_an_unseen_place_is_seen_by_none_and_still_encoded(model):
    tokens = tuple(packed("a red cat")[0])
    other = (*tokens[:2], Token(2368), *tokens[3:])
    hidden = Runner(model)([Row(tokens, frozenset([2])), Row(other, frozenset([2])), Row(tokens)]).hidden
    seen_by = [place for place in range(77) if place != 2]
    assert torch.equal(hidden[0, seen_by], hidden[1, seen_by])
    assert not torch.allclose(hidden[0, 2], hidden[1, 2])
    assert torch.equal(hidden[0, :2], hidden[2, :2])
    assert not torch.allclose(hidden[0, 3:], hidden[2, 3:])


def test_a_row_that_sees_all_keeps_its_bits_beside_one_that_does_not(model):
    tokens = tuple(packed("a red cat")[0])
    both = Runner(model)([Row(tokens), Row(tokens, frozenset([2]))])
    plain = Runner(model)([Row(tokens), Row(tokens)])
    assert torch.equal(both.hidden[0], plain.hidden[0])
    assert torch.equal(both.pooled[0], plain.pooled[0])


def test_the_fused_kernel_is_told_the_same_mask(model):
    q, k, v = torch.randn(3, 2, 2, 9, 8, generator=torch.Generator().manual_seed(0))
    seen = torch.ones(2, 9, dtype=torch.bool)
    seen[1, [2, 5]] = False
    attention = model.text_model.encoder.layers[0].self_attn
    fused = F.scaled_dot_product_attention(q, k, v, attn_mask=attention._allowed(seen))
    torch.testing.assert_close(causal_attention(q, k, v, seen), fused, atol=1e-6, rtol=1e-5)  # float32
