"""Names of modules in words: the same words for a part in every dialect, and no words for what is unknown."""

import pytest

from clip_vae_lora.lora.models.names import spellings
from clip_vae_lora.lora.models.parts import describe_part, describe_parts
from clip_vae_lora.lora.models.published import PUBLISHED


@pytest.mark.parametrize(
    "name, words",
    [
        (
            "clip_l.transformer.text_model.encoder.layers.3.self_attn.q_proj.weight",
            "text encoder, layer 3, attention query",
        ),
        ("text_encoder_2.text_model.encoder.layers.3.mlp.fc2", "second text encoder, layer 3, MLP second layer"),
        ("lora_te3_encoder_block_2_layer_0_SelfAttention_o", "third text encoder, layer 2, attention output"),
        ("base_model.model.text_model.encoder.layers.3.self_attn.q_proj", "text encoder, layer 3, attention query"),
        ("lora_vision_vision_model_encoder_layers_0_mlp_fc1", "image encoder, layer 0, MLP first layer"),
        ("diffusion_model.middle_block.1.proj_in.bias", "diffusion model, middle block, input projection, bias"),
        (
            "diffusion_model.double_blocks.7.img_attn.qkv",
            "diffusion model, double block 7, attention query, key and value",
        ),
        ("lora_unet_single_blocks_12_linear2", "diffusion model, single block 12, second layer"),
        ("transformer.single_transformer_blocks.12.attn.to_k", "diffusion model, single block 12, attention key"),
        ("unet:12", "diffusion model, layer 12 in cloneofsimo's count"),
    ],
)
def test_a_name_of_any_dialect_becomes_words(name, words):
    assert describe_part(name) == words


@pytest.mark.parametrize("name", ["", "x", "<sks>", "lora_unet_x", "a.b.c", "block.conv", "x" * 10_000, "layers_" * 99])
def test_a_name_without_a_known_part_stays_as_it_is(name):
    assert describe_part(name) == name


@pytest.mark.parametrize("model", PUBLISHED)
@pytest.mark.parametrize("dialect", ["kohya", "diffusers", "peft"])
def test_a_dialects_name_is_in_the_same_part_of_the_model_as_the_key(model, dialect):
    names = {place: name for place, name in spellings(PUBLISHED[model][1](), dialect).items() if isinstance(place, str)}
    described = {key: (describe_part(key), describe_part(name)) for key, name in names.items()}
    known = {key: pair for key, pair in described.items() if pair[0] != key and pair[1] != names[key]}
    assert len(known) > 0.95 * len(names)  # all but a few layers outside the blocks
    for key, (own, theirs) in known.items():
        owners = [words.split(",")[0].removeprefix("second ").removeprefix("third ") for words in (own, theirs)]
        assert owners[0] == owners[1] or owners[1] == "network", (key, own, theirs)  # some PEFT names have no owner
        for layer in ("cross-attention", "self-attention", "query", "MLP second layer"):
            assert (layer in own) == (layer in theirs), (key, own, theirs)


def test_a_sentence_keeps_its_words_and_loses_its_names():
    sentence = "a.b_c.d and diffusion_model.input_blocks.4.1.transformer_blocks.1.attn2.to_v.weight change 0.5 of it"
    words = "diffusion model, block IN04, transformer 1, cross-attention value"
    assert describe_parts(sentence) == f"a.b_c.d and {words} change 0.5 of it"
    assert f"{words} (diffusion_model" in describe_parts(sentence, keep_names=True)
