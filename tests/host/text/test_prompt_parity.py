"""The `comfy` dialect and weighting beside ComfyUI's own tokenizers and encoders: the same tokens, emphases, chunks and
encodings, on generated prompts and tiny random networks.
"""

import math
import re
import unicodedata
from importlib import import_module

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from clip_vae_lora.clip_core.config import TextConfig
from clip_vae_lora.clip_core.encoding.encode import Runner, encode_chunks, encode_packed
from clip_vae_lora.clip_core.families import FAMILIES
from clip_vae_lora.clip_core.networks.text import CLIPText
from clip_vae_lora.clip_core.prompts import chunks, comfy
from clip_vae_lora.clip_core.prompts.plan import Port, PromptSettings, plan_prompt
from clip_vae_lora.clip_core.tokenizer import END, Tokenizer

VECTORS = {"one": 1, "three": 3, "nine": 9, "sub/deep": 2, "x:1.2": 2, "comma,": 1}
WIDTH = 768
PIECES = st.sampled_from(
    ["(", ")", ":", ":1.2)", ":0.5)", ":-1)", ": 1.5 )", ":1_0)", ":٣)", "((", "))", "()", "\\(", "\\)", "\\", "[", "]"]
    + ["<", ",", " ", "\n", "\t", "  ", "embedding:", " embedding:one", "embedding:nine", " embedding:three,"]
    + [" embedding:no", "\nembedding:sub/deep", " embedding:x:1.2", " embedding:,one,", " embedding:comma,", "cat"]
    + ["BREAK", "AND", "a dog ", "it's", "é", "漢字", "🐱", "“q”", "&amp;", "<|endoftext|>", "12", "\0", "\1"]
    + ["word " * 30, "ab" * 60, "tree, " * 12]
)
TEXTS = st.lists(st.one_of(PIECES, PIECES, st.text(max_size=4)), max_size=14).map("".join)
# What 0.3.64 read otherwise, and 0.33.0 changed: a name behind a tab, and a name that ends at < or [
CHANGED = re.compile(r"(?<![ \n])(?<=\s)embedding:|embedding:\s*\S*[<\[]")
PROMPTS = [
    "",
    "a photo of a cat",
    "a (red:1.3) fox, ((jumping)) over the (lazy:0.6) dog, (nothing:0) and (less:-0.7)",
    "many words " * 60,
    " ".join(f"(part{n}:{1 + n / 10:.1f}) of a long prompt about trees and rivers," for n in range(20)),
    "embedding:three of (embedding:nine:1.4) and <|endoftext|> in the middle",
]


@pytest.fixture(scope="module")
def stock(comfyui):
    """A module of ComfyUI by its name."""
    return import_module


@pytest.fixture(scope="module")
def vectors():
    draw = torch.Generator().manual_seed(0)
    return {name: torch.randn(count, WIDTH, generator=draw) for name, count in VECTORS.items()}


@pytest.fixture(scope="module")
def embeddings(tmp_path_factory, vectors):
    folder = tmp_path_factory.mktemp("embeddings")
    for name, tensor in vectors.items():
        path = folder / f"{name}.pt"
        path.parent.mkdir(exist_ok=True)
        torch.save({"string_to_param": {"*": tensor}}, path)
    return str(folder)


def described(rows):
    """Token lists in a form that can be compared: vectors as tuples, NaN as text, words numbered as they appear."""
    numbers = {}
    return [
        [
            (
                token if isinstance(token, int) else tuple(token.tolist()),
                "nan" if math.isnan(emphasis) else emphasis,
                numbers.setdefault(word, len(numbers)),
            )
            for token, emphasis, word in row
        ]
        for row in rows
    ]


def packed(text, vectors=None, pad=49407):
    find = None if vectors is None else lambda name: vectors.get(name, "there is none")
    result = chunks.pack(comfy.parse(text), Tokenizer("transformers"), pad, find)
    return result, [[(token.id, token.emphasis, token.span) for token in chunk] for chunk in result.chunks]


@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=TEXTS)
@example(text="(a (b:1.5) c)")
@example(text=") (a) ((b)")
@example(text="(:1.2) (a:b:1.3) (a: b)")
@example(text="embedding:,one, embedding:comma, embedding:no, rest")
@example(text="(embedding::1.2)")
@example(text=" ".join(["embedding:nine"] * 12))
@example(text="cat " * 70 + "(" + "dog " * 7 + ")")
@example(text="cat " * 70 + "(" + "dog " * 8 + ")")
def test_tokens_emphases_and_chunks_are_the_stock_tokenizers(stock, comfyui, vectors, embeddings, text):
    theirs = _tokenizer(stock, embeddings)
    text = "".join(sign for sign in text if unicodedata.category(sign) not in ("Cn", "Cs"))
    if _is_old(stock) and CHANGED.search(text):
        return
    result, ours = packed(text, vectors)
    try:
        expected = theirs.tokenize_with_weights(text, return_word_ids=True)
    except IndexError:  # a bare "embedding:" stops the stock tokenizer; ours reports a nameless embedding
        assert "" in result.lost
        return
    assert described(ours) == described(expected)


_made = {}


def _tokenizer(stock, embeddings):
    if embeddings not in _made:
        _made[embeddings] = stock("comfy.sd1_clip").SDTokenizer(embedding_directory=embeddings)
    return _made[embeddings]


def _is_old(stock):
    """Whether this is a ComfyUI before embeddings' names ended at `<`, told by what its tokenizer does."""
    return not hasattr(stock("comfy.sd1_clip").SDTokenizer, "pad_tokens")


@pytest.mark.parametrize("text", PROMPTS)
@pytest.mark.parametrize(
    ("module", "name", "pads"),
    [
        ("comfy.sd1_clip", "SD1Tokenizer", {"l": 49407}),
        ("comfy.text_encoders.sd2_clip", "SD2Tokenizer", {"h": 0}),
        ("comfy.sdxl_clip", "SDXLTokenizer", {"l": 49407, "g": 0}),
    ],
)
def test_each_family_pads_as_the_stock_tokenizer(stock, module, name, pads, text):
    expected = getattr(stock(module), name)().tokenize_with_weights(text, return_word_ids=True)
    assert expected.keys() == pads.keys()
    for key, pad in pads.items():
        assert described(packed(text, pad=pad)[1]) == described(expected[key])


def test_an_embedding_that_is_not_there_is_reported_and_left_out(vectors):
    result, _ = packed("a cat, embedding:no, embedding:one", vectors)
    assert (result.found, result.lost) == (("one",), {"no": "there is none"})


def tiny(layers, width, activation):
    return {
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": width // 32,
        "eos_token_id": 49407,
        "intermediate_size": 2 * width,
        "hidden_act": activation,
        "max_position_embeddings": 77,
    }


CONFIGS = {
    "clip_l": tiny(3, WIDTH, "quick_gelu"),
    "clip_h": tiny(4, 96, "gelu"),
    "clip_g": tiny(5, 128, "gelu"),
}
MODELS = {
    "sd1": ("comfy.sd1_clip", "SD1ClipModel"),
    "sd2": ("comfy.text_encoders.sd2_clip", "SD2ClipModel"),
    "sdxl": ("comfy.sdxl_clip", "SDXLClipModel"),
    "sdxl_refiner": ("comfy.sdxl_clip", "SDXLRefinerClipModel"),
}


def stock_model(stock, family):
    """A stock text encoder model with tiny configs and random float32 weights."""
    module, name = MODELS[family]
    # SDClipModel takes the sizes of its JSON file and then of these options, but counts layers by `num_hidden_layers`
    options = {f"{encoder}_model_config": config for encoder, config in CONFIGS.items()}
    model = getattr(stock(module), name)(dtype=torch.float32, model_options={**options, "model_name": "clip_l"})
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter_name, tensor in model.named_parameters():
            if parameter_name.endswith("logit_scale"):
                continue
            noise = 0.05 * torch.randn(tensor.shape, generator=draw)
            tensor.copy_(1 + noise if "norm" in parameter_name and tensor.ndim == 1 else noise)
    return model


def our_encoder(model, encoder):
    config = CONFIGS[encoder]
    width, layers = config["hidden_size"], config["num_hidden_layers"]
    ours = CLIPText(
        TextConfig(width, layers, width // 32, 2 * width, width, activation=config["hidden_act"])
    ).requires_grad_(False)
    ours.load_state_dict(getattr(model, encoder).transformer.state_dict())
    return ours


@pytest.mark.parametrize("layer", [None, -1, -2, -3])
@pytest.mark.parametrize("family", list(MODELS))
def test_encodings_are_the_stock_models(stock, vectors, family, layer):
    model, uses = stock_model(stock, family), FAMILIES[family].uses
    if layer is not None:
        model.set_clip_options({"layer": layer})
    for text in PROMPTS if family == "sd1" else PROMPTS[:-1]:
        tokens, encoded = {}, []
        for use in uses:
            result, tokens[use.key] = packed(text, vectors, use.pad)
            chosen = use.layer if layer is None else layer
            run = Runner(our_encoder(model, use.encoder), chosen, use.final_norm, use.projected)
            encoded.append(encode_chunks(run, result.chunks, empty=result.empty))
        with torch.no_grad():
            hidden, pooled = model.encode_token_weights(
                {key: [[pair[:2] for pair in row] for row in rows] for key, rows in tokens.items()}
            )
        torch.testing.assert_close(torch.cat([part.hidden for part in encoded], -1), hidden, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(encoded[-1].pooled, pooled, atol=1e-5, rtol=1e-5)


def test_a_plan_encoded_is_the_stock_model(stock, vectors):
    model, text = stock_model(stock, "sd1"), PROMPTS[2]
    with torch.no_grad():
        tokens = stock("comfy.sd1_clip").SD1Tokenizer().tokenize_with_weights(text)
        hidden, pooled = model.encode_token_weights(tokens)
    port = Port("clip_l", "l", 768, END, 77, 12)
    planned = plan_prompt(text, [port], PromptSettings())
    found = encode_packed(planned.parts[0].packed["l"], Runner(our_encoder(model, "clip_l")), planned.settings)
    torch.testing.assert_close(found.hidden, hidden, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.pooled, pooled, atol=1e-5, rtol=1e-5)
