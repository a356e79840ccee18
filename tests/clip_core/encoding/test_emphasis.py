"""What emphases do: each style beside a few lines of float64 that take the network from transformers."""

import math

import pytest
import torch

from clip_vae_lora.clip_core.config import TextConfig
from clip_vae_lora.clip_core.encoding.emphasis import (
    NORMALISATIONS,
    STYLES,
    mean_restored,
    perpendicular,
)
from clip_vae_lora.clip_core.encoding.encode import Runner, encode_chunks
from clip_vae_lora.clip_core.encoding.masked import MASK
from clip_vae_lora.clip_core.encoding.rows import Row
from clip_vae_lora.clip_core.networks.text import CLIPText
from clip_vae_lora.clip_core.prompts.chunks import empty_chunk, pack
from clip_vae_lora.clip_core.prompts.comfy import parse
from clip_vae_lora.clip_core.tokenizer import END, START, Tokenizer

TOKENIZER = Tokenizer()
WIDTH = 32
VECTORS = {"one": 1, "three": 3}
FIRST_FREE = 40000  # in the reference's table the learned vectors take the places of tokens no prompt here has
PROMPTS = {
    "many weights": "a (red:1.3) fox, (jumping over:0.6) the (lazy:0.25) ((dog)), (nothing:0), (less:-0.7)",
    "raised only": "a (photo of a:1.2) (cat:1.7) (sleeping extraordinarily:3)",
    "neighbours": "(a:0.5)(b:0.5) (c (d:0.5) e:0.5) and (f:0.5)",
    "a cut word": "(unbelievable:0.5)ly (un:1.4)believable",
    "vectors": "(embedding:three:1.4) and (embedding:one:0.5) embedding:three cat",
    "three chunks": "".join(
        f"(part {n}:{0.2 + n / 20:.2f}) of many, (rivers and:{n / 10 - 1:.1f}) " for n in range(28)
    ),
    "a fragment over a border": "cat " * 70 + "(a long phrase about the rivers and all the trees:0.4) (wide:0.8)",
}


@pytest.fixture(scope="module")
def model(networks):
    model = networks.randomise_(CLIPText(TextConfig(WIDTH, 3, 2, 64, 16))).requires_grad_(False)
    model.text_model.final_layer_norm.bias += 0.3  # as in trained models, the mean of the hidden states is not just 0
    return model


@pytest.fixture(scope="module")
def vectors():
    draw = torch.Generator().manual_seed(0)
    return {name: torch.randn(count, WIDTH, generator=draw) for name, count in VECTORS.items()}


@pytest.fixture(scope="module")
def theirs(model, vectors):
    """transformers' network in float64: (ids, places that attention may not see) -> hidden states."""
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        hidden_size=WIDTH,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=64,
        eos_token_id=END,
        hidden_act=model.config.activation,
    )
    network = CLIPTextModel(config).double()
    state = {name: tensor for name, tensor in model.state_dict().items() if name.startswith("text_model.")}
    bare = not any(name.startswith("text_model.") for name in network.state_dict())
    network.load_state_dict({name.removeprefix("text_model.") if bare else name: t for name, t in state.items()})
    table = network.get_input_embeddings().weight.data
    table[FIRST_FREE : FIRST_FREE + 4] = torch.cat(list(vectors.values())).double()

    def encode(ids, unseen=()):
        mask = torch.ones(1, len(ids), dtype=torch.long)
        mask[0, list(unseen)] = 0
        with torch.no_grad():
            return network(torch.tensor([ids]), attention_mask=mask).last_hidden_state[0]

    return encode


def packed(text, vectors=None, pad=END):
    return pack(parse(text), TOKENIZER, pad, None if vectors is None else vectors.get).chunks


def plain_ids(chunk, vectors):
    """A chunk's ids, where a learned vector is its number in the reference's table."""
    places = {tuple(vector.tolist()): FIRST_FREE + n for n, vector in enumerate(torch.cat(list(vectors.values())))}
    return [token.id if isinstance(token.id, int) else places[tuple(token.id.tolist())] for token in chunk]


def weights_of(chunk):
    return torch.tensor([token.emphasis for token in chunk], dtype=torch.float64)[:, None]


def comfy(encode, rows, weights, chunks, z0):
    return [z0 + w * (encode(ids) - z0) for ids, w in zip(rows, weights)]


def a1111(encode, rows, weights, chunks, z0):
    z = [encode(ids) for ids in rows]
    return [w * x * x.mean() / (w * x).mean() for x, w in zip(z, weights)]


def a1111_no_norm(encode, rows, weights, chunks, z0):
    return [w * encode(ids) for ids, w in zip(rows, weights)]


def perp(encode, rows, weights, chunks, z0):
    result = []
    for ids, w in zip(rows, weights):
        z = encode(ids)
        p = (z0 * z).sum(1, keepdim=True) / z.norm(dim=1, keepdim=True) ** 2 * z
        y = torch.where(w.abs() > 1, z + w * p, z - (1 - w) * p)
        result.append(torch.where(w == 0, z0, y))
    return result


def compel(encode, rows, weights, chunks, z0):
    """Over the whole prompt at once, as compel does: a row of all chunks for every fragment."""
    places = [(k, j) for k, chunk in enumerate(chunks) for j, token in enumerate(chunk) if token.span]
    fragments, before = [], None
    for k, j in places:
        w = chunks[k][j].emphasis
        if w < 1:
            if w != before:
                fragments.append((w, []))
            fragments[-1][1].append((k, j))
        before = w
    prompts = [(1.0, [])] + [(math.tan((1 - max(w, 1e-5)) * math.pi / 2), hidden) for w, hidden in fragments]
    encoded = [
        t
        * torch.stack(
            [z0 + weights[k] * (encode(ids, [j for n, j in hidden if n == k]) - z0) for k, ids in enumerate(rows)]
        )
        for t, hidden in prompts
    ]
    return list(sum(encoded) / sum(t for t, _ in prompts))


def down(encode, rows, weights):
    """The staircase over all chunks and all distinct weights below 1."""
    levels = sorted({float(w) for row in weights for w in row.flatten() if w < 1})
    tokens, below, total = [list(ids) for ids in rows], 0.0, 0.0
    for level in [*levels, 1.0]:
        total = total + (level - below) * torch.stack([encode(ids) for ids in tokens])
        tokens = [[MASK if w == level else i for i, w in zip(ids, row)] for ids, row in zip(tokens, weights)]
        below = level
    return total


def down_weight(encode, rows, weights, chunks, z0):
    top = max(float(row.max()) for row in weights)
    shares = [
        torch.tensor([[t.emphasis / top if t.span else 1.0] for t in chunk], dtype=torch.float64) for chunk in chunks
    ]
    return list(down(encode, rows, shares))


def comfy_pp(encode, rows, weights, chunks, z0):
    result = down(encode, rows, weights)
    for word in {t.word for chunk in chunks for t in chunk if t.emphasis > 1}:
        for k, (ids, chunk) in enumerate(zip(rows, chunks)):
            its = torch.tensor([[t.word == word] for t in chunk])
            masked = encode([MASK if t.word == word else i for i, t in zip(ids, chunk)])
            result[k] += its * (weights[k] - 1) * (encode(ids) - masked)
    return list(result)


REFERENCES = {
    "comfy": comfy,
    "a1111": a1111,
    "a1111 no norm": a1111_no_norm,
    "compel": compel,
    "comfy++": comfy_pp,
    "down_weight": down_weight,
    "perp": perp,
}


@pytest.mark.parametrize("pad", [END, 0])
@pytest.mark.parametrize("prompt", list(PROMPTS))
@pytest.mark.parametrize("style", list(STYLES))
def test_each_style_is_its_formula(model, theirs, vectors, style, prompt, pad):
    chunks = packed(PROMPTS[prompt], vectors, pad)
    rows = [plain_ids(chunk, vectors) for chunk in chunks]
    z0 = theirs([START, END, *[pad] * 75])
    expected = REFERENCES[style](theirs, rows, [weights_of(chunk) for chunk in chunks], chunks, z0)
    found = encode_chunks(Runner(model), chunks, empty=empty_chunk(pad), style=style)
    # the figure the project promises; float32 is at 1e-6 here, times the weights, which are up to 3
    torch.testing.assert_close(found.hidden[0].double(), torch.cat(expected), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("prompt", ["a cat", "", "many words, " * 60, "embedding:three of (cats:1.0)"])
@pytest.mark.parametrize("normalisation", NORMALISATIONS)
@pytest.mark.parametrize("style", list(STYLES))
def test_emphasis_1_everywhere_keeps_every_bit(model, vectors, style, normalisation, prompt):
    chunks = packed(prompt, vectors)
    plain = Runner(model)([Row(tuple(chunk)) for chunk in chunks])
    found = encode_chunks(Runner(model), chunks, style=style, normalisation=normalisation)
    assert torch.equal(found.hidden[0], plain.hidden.flatten(0, 1))
    assert torch.equal(found.pooled, plain.pooled[:1])


@pytest.mark.parametrize("style", list(STYLES))
def test_pooled_is_never_weighted(model, style):
    weighted = encode_chunks(Runner(model), packed("a (cat:1.5) and (a dog:0.5)"), style=style)
    plain = encode_chunks(Runner(model), packed("a cat and a dog"), style=style)
    # another batch, so the last bits may differ
    torch.testing.assert_close(weighted.pooled, plain.pooled, atol=1e-5, rtol=1e-5)


def test_the_mask_is_the_plus_sign_and_not_the_comma():
    assert TOKENIZER.encode("+") == [MASK]
    assert TOKENIZER.encode(",") == [MASK + 1]


def test_an_even_mix_is_compels_half(model):
    chunks = packed("a (red:0.5) cat")
    tokens = tuple(chunks[0])
    hidden = Runner(model)([Row(tokens), Row(tokens, frozenset([2])), Row(tuple(empty_chunk(END)))]).hidden
    found = encode_chunks(Runner(model), chunks, style="compel").hidden[0]
    torch.testing.assert_close(found[3:], (hidden[0] + hidden[1])[3:] / 2, atol=1e-6, rtol=1e-6)  # float32


def test_a_mean_that_is_only_rounding_is_not_restored_and_that_is_said():
    hidden = torch.ones(2, 77, 4)
    emphasis = torch.ones(2, 77, 1, dtype=torch.float64)
    emphasis[1, :38] = -1
    emphasis[1, 38] = 0
    found, notes = mean_restored(hidden, hidden[0], emphasis)
    assert torch.equal(found[0], hidden[0])
    assert torch.equal(found[1], hidden[1] * emphasis[1].float())
    assert len(notes) == 1 and notes[0].startswith("chunk 2: ") and "left out" in notes[0]


def test_a_mean_whose_sign_turns_is_restored_as_a1111_does_and_that_is_said():
    hidden = torch.ones(1, 77, 4)
    emphasis = torch.full((1, 77, 1), -2.0, dtype=torch.float64)
    found, notes = mean_restored(hidden, hidden[0], emphasis)
    torch.testing.assert_close(found, hidden)
    assert "chunk 1: A1111's restoring of the mean multiplies it by -0.5" in notes[0]


def test_perp_leaves_a_vector_of_no_length():
    empty = torch.ones(77, 4)
    found, _ = perpendicular(torch.zeros(1, 77, 4), empty, torch.full((1, 77, 1), 1.5, dtype=torch.float64))
    assert torch.equal(found, torch.zeros(1, 77, 4))
