"""A prompt through a text encoder: chunks, emphases, pooling. Beside ComfyUI's: tests/host/test_prompt_parity.py."""

import pytest
import torch

from clip_vae_lora.clip_core.chunks import pack
from clip_vae_lora.clip_core.config import TextConfig
from clip_vae_lora.clip_core.encode import encode_chunks, encode_prompt
from clip_vae_lora.clip_core.prompt import parse
from clip_vae_lora.clip_core.text import CLIPText, first_end
from clip_vae_lora.clip_core.tokenizer import Tokenizer

TOKENIZER = Tokenizer()
WIDTH = 32


@pytest.fixture(scope="module")
def model(networks):
    return networks.randomise_(CLIPText(TextConfig(WIDTH, 3, 2, 64, 16))).requires_grad_(False)


def encode(model, text, **options):
    return encode_prompt(text, model, TOKENIZER, **options)


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
    assert torch.equal(one.pooled, three.pooled)


def test_a_long_prompt_is_its_chunks_in_a_row_and_pooled_is_the_first(model):
    chunks = pack(parse("cat " * 100), TOKENIZER).chunks
    hidden, pooled = encode_chunks(model, chunks)
    parts = [encode_chunks(model, [chunk]) for chunk in chunks]
    assert hidden.shape == (1, 154, WIDTH)
    torch.testing.assert_close(hidden, torch.cat([part for part, _ in parts], 1), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(pooled, parts[0][1], atol=1e-6, rtol=1e-6)


def test_a_learned_vector_equal_to_a_tokens_embedding_is_that_token(model):
    vector = model.embed(torch.tensor([[2368]]))[0]
    found = encode(model, "a embedding:x dog", find_embedding={"x": vector}.get)
    assert torch.equal(found.hidden, encode(model, "a cat dog").hidden)
    assert torch.equal(found.pooled, encode(model, "a cat dog").pooled)
    assert found.packed.found == ("x",)


def test_a_vector_of_another_width_is_refused(model):
    with pytest.raises(ValueError, match="has 7 numbers a vector and this text encoder works with 32"):
        encode(model, "embedding:x", find_embedding={"x": torch.ones(2, 7)}.get)


@pytest.mark.parametrize("emphasis", ["nan", "inf", "-inf"])
def test_an_emphasis_that_is_no_finite_number_is_refused(model, emphasis):
    with pytest.raises(ValueError, match="an emphasis that is no finite number"):
        encode(model, f"(cat:{emphasis})")


def test_a_projected_vector_without_a_projection_is_refused():
    model = CLIPText(TextConfig(WIDTH, 1, 1, 32, WIDTH), has_projection=False)
    with pytest.raises(ValueError, match="came without a text_projection"):
        encode(model, "cat", projected=True)


def test_no_chunks_are_refused(model):
    with pytest.raises(ValueError, match="there is nothing to encode"):
        encode_chunks(model, [])


def test_half_precision_weights_give_float32(networks):
    model = networks.randomise_(CLIPText(TextConfig(WIDTH, 1, 1, 32, 16), dtype=torch.bfloat16)).requires_grad_(False)
    found = encode(model, "a (cat:1.3)")
    assert found.hidden.dtype == found.pooled.dtype == torch.float32
