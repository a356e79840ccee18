"""Sizes from shapes, what a file lacks, and what is refused and how."""

import re

import pytest
import torch

from clip_vae_lora.clip_core.checkpoint.find import LayoutError, find_clip, find_text_encoders
from clip_vae_lora.clip_core.config import PUBLISHED, TextConfig
from clip_vae_lora.clip_core.networks.clip import CLIP
from clip_vae_lora.clip_core.networks.layers import UNFILLED
from clip_vae_lora.clip_core.networks.text import CLIPText, first_end

from ...support.files.clip_files import TEXT, assert_same, encoder, flat, hf_pair, shapes, under


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_full_sizes_are_inferred_from_shapes_alone(networks, name):
    pytest.importorskip("open_clip")
    with torch.device("meta"):
        file = networks.open_clip_model(PUBLISHED[name]).state_dict()
    assert find_clip(shapes(file), activation=PUBLISHED[name].text.activation).config == PUBLISHED[name]


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_the_activation_is_that_of_the_published_model_of_the_size(name):
    with torch.device("meta"):
        file = CLIP(PUBLISHED[name], UNFILLED).state_dict()
    source = find_clip(shapes(file))
    assert source.config == PUBLISHED[name]
    assumed = [note for note in source.notes if "the file does not say the activation" in note]
    both = {"ViT-B-32", "ViT-B-16", "ViT-L-14", "ViT-H-14", "ViT-bigG-14"}
    assert len(assumed) == (name in both)  # of these sizes there are weights with either


def test_the_header_of_our_own_files_tells_what_shapes_do_not(networks):
    config = networks.tiny("ViT-bigG-14")
    file = networks.randomise_(CLIP(config)).state_dict()
    assert find_clip(shapes(file)).config.vision.heads != config.vision.heads
    assert find_clip(shapes(file), networks.metadata(config)).config == config


def test_a_header_that_cannot_be_read_is_refused():
    with pytest.raises(LayoutError, match="the header's clip_config cannot be read"):
        find_clip(shapes(hf_pair()), {"clip_config": "{"})


def test_without_a_projection_an_identity_stands_in_and_is_announced():
    network = encoder(CLIPText, TEXT)
    file = {name: tensor for name, tensor in network.state_dict().items() if name != "text_projection.weight"}
    (source,) = find_text_encoders(shapes(file))
    assert not source.has_projection
    assert "no text_projection in the file: the pooled text cannot be projected" in source.notes
    state = source.translate(file)
    assert torch.equal(state["text_projection.weight"], torch.eye(64))
    built = source.build()
    built.load_state_dict(state)
    ids = torch.tensor([[49406, 49407]])
    with pytest.raises(ValueError, match="came without a text_projection"):
        built(built.embed(ids), first_end(ids)).require_projected()


@pytest.mark.parametrize(
    ("spelling", "transposed"),
    [("text_projection", True), ("text_projection.weight", False), ("text_projection.weight.weight", False)],
)
@pytest.mark.parametrize("layout", ["hf", "openai"])
def test_a_square_projection_is_turned_by_its_name(layout, spelling, transposed):
    network = encoder(CLIPText, TEXT)
    file = network.state_dict() if layout == "hf" else flat(network.state_dict(), "text")
    file = {name: tensor for name, tensor in file.items() if not name.startswith("text_projection")}
    weight = network.text_projection.weight.detach()
    file[spelling] = weight.T if transposed else weight
    (source,) = find_text_encoders(shapes(file))
    assert_same(source, file, network)


def test_a_projection_beside_the_transformer_is_found():
    """Stable Cascade's."""
    network = encoder(CLIPText, TEXT)
    file = under("text_encoder.clip_g.transformer.", network.state_dict())
    file["text_encoder.clip_g.text_projection"] = file.pop("text_encoder.clip_g.transformer.text_projection.weight").T
    assert_same(find_text_encoders(shapes(file))[0], file, network)


def test_one_weight_under_two_names_is_taken_if_equal_and_refused_if_not():
    network, prefix = encoder(CLIPText, TEXT), "cond_stage_model.transformer."
    file = under(prefix, network.state_dict())
    twin = f"{prefix}final_layer_norm.bias"
    file[twin] = file[f"{prefix}text_model.final_layer_norm.bias"].clone()
    (source,) = find_text_encoders(shapes(file))
    assert_same(source, file, network)
    file[twin] += 1
    with pytest.raises(LayoutError, match="are the same weight under two names and differ"):
        source.translate(file)


def test_leftovers_are_ignored_silently_and_strangers_with_a_note():
    file = encoder(CLIPText, TEXT).state_dict()
    file["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    file["text_model.encoder.text_model.embeddings.position_ids"] = torch.arange(77.0)[None]
    (source,) = find_text_encoders(shapes(file))
    assert len(source.ignored) == 2
    assert not any("were not read" in note for note in source.notes)
    file["text_model.adapter.weight"] = torch.ones(1)
    (source,) = find_text_encoders(shapes(file))
    assert "1 tensors beside the encoder were not read: text_model.adapter.weight" in source.notes


def test_23_layers_of_sd2_are_filled_up_with_one_that_changes_nothing():
    config = TextConfig(1024, 23, 16, 8, 1024, activation="gelu")
    with torch.device("meta"):
        names = shapes(CLIPText(config, UNFILLED).state_dict())
    file = {name: torch.zeros(()).expand(shape) for name, shape in names.items()}
    (source,) = find_text_encoders(names)
    assert (source.config.layers, source.family) == (24, "clip_h")
    assert any(note.startswith("23 of 24 layers") for note in source.notes)
    state = source.translate(file)
    added = [name for name in state if name not in file]
    assert len(added) == 16
    assert all(name.startswith("text_model.encoder.layers.23.") and not state[name].any() for name in added)


def test_a_block_of_zeros_changes_nothing():
    network, ids = encoder(CLIPText, TEXT), torch.tensor([[49406, 320, 49407]])
    with torch.no_grad():
        for tensor in network.text_model.encoder.layers[1].parameters():
            tensor.zero_()
        before, after = (network(network.embed(ids), first_end(ids), layer=n).hidden for n in (-2, -1))
    assert torch.equal(before, after)


NAMED = {
    "it looks like a VAE": ["first_stage_model.encoder.down.0.block.0.norm1.weight"],
    "it looks like a VAE ": ["decoder.up_blocks.0.resnets.0.norm1.weight"],
    "it looks like a diffusion model (UNet or transformer)": ["model.diffusion_model.input_blocks.0.0.bias"],
    "it looks like a LoRA": ["lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight"],
    "it looks like a T5 text encoder": ["encoder.block.0.layer.0.SelfAttention.k.weight", "shared.weight"],
    "it looks like BERT": ["bert.embeddings.word_embeddings.weight"],
    "it looks like a language model": ["model.layers.0.self_attn.q_proj.weight"],
    "it looks like DINOv2": ["encoder.layer.0.layer_scale2.lambda1"],
    "it looks like SigLIP": ["vision_model.head.probe"],
    "it looks like a textual inversion embedding": ["emb_params"],
    "it looks like a tiny autoencoder": ["1.weight", "3.conv.0.weight"],
    "it looks like an empty file": [],
    "it looks like something unknown (2 tensors, the first: a)": ["b", "a"],
}


@pytest.mark.parametrize("says", list(NAMED))
def test_a_file_without_a_clip_is_named(says):
    for find in (find_text_encoders, find_clip):
        with pytest.raises(LayoutError, match=re.escape(says.strip())):
            find(dict.fromkeys(NAMED[says], (1,)))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("logit_bias", "it is SigLIP"),
        ("text_model.head.weight", "it is SigLIP"),
        ("visual.trunk.blocks.0.norm.weight", "timm image encoder"),
        ("text_decoder.token", "it is CoCa"),
        ("positional_embedding_res", "LongCLIP"),
    ],
)
def test_a_relative_of_clip_is_not_taken_for_one(name, says):
    for file in (encoder(CLIPText, TEXT).state_dict(), flat(encoder(CLIPText, TEXT).state_dict(), "text")):
        with pytest.raises(LayoutError, match=says):
            find_text_encoders(shapes(file, {name: (1,)}))


def test_of_a_resnet_without_its_pooling_only_the_text_encoder_is_read():
    text = flat(encoder(CLIPText, TEXT).state_dict(), "text")
    file = shapes(text, {"visual.layer1.0.conv1.weight": (64, 64, 1, 1)})
    assert find_text_encoders(file)[0].config == TEXT
    with pytest.raises(LayoutError, match=r"it holds 1 text encoder\(s\), but no pair"):
        find_clip(file)


def test_half_a_clip_is_no_pair():
    with pytest.raises(LayoutError, match=r"it holds 1 text encoder\(s\), but no pair"):
        find_clip(shapes(encoder(CLIPText, TEXT).state_dict()))


def test_two_pairs_are_one_too_many():
    with pytest.raises(LayoutError, match="it holds 2 CLIPs, under '', 'ema.'"):
        find_clip(shapes(hf_pair() | under("ema.", hf_pair())))


@pytest.mark.parametrize("missing", ["text_model.final_layer_norm.weight", "text_model.encoder.layers.0.mlp.fc2.bias"])
def test_an_incomplete_encoder_is_refused(missing):
    file = shapes(encoder(CLIPText, TEXT).state_dict())
    del file[missing]
    with pytest.raises(LayoutError, match=f"it is incomplete.*{re.escape(missing)}"):
        find_text_encoders(file)


def test_a_tensor_of_the_wrong_shape_is_refused():
    file = shapes(encoder(CLIPText, TEXT).state_dict()) | {"text_model.encoder.layers.1.mlp.fc1.bias": (7,)}
    with pytest.raises(LayoutError, match=r"fc1.bias has the shape \[7\], and the other tensors want \[96\]"):
        find_text_encoders(file)


@pytest.mark.parametrize("rows", [30522, 32000, 256000])
def test_another_vocabulary_is_refused(rows):
    file = shapes(encoder(CLIPText, TEXT).state_dict()) | {"text_model.embeddings.token_embedding.weight": (rows, 64)}
    with pytest.raises(LayoutError, match=f"its vocabulary has {rows} tokens and CLIP's has 49408"):
        find_text_encoders(file)


def test_added_tokens_and_an_unusual_context_are_noted():
    tables = {
        "text_model.embeddings.token_embedding.weight": (49410, 64),
        "text_model.embeddings.position_embedding.weight": (32, 64),
    }
    (source,) = find_text_encoders(shapes(encoder(CLIPText, TEXT).state_dict()) | tables)
    assert (source.config.vocab, source.config.context) == (49410, 32)
    assert "2 tokens were added to the vocabulary; no text leads to them" in source.notes
    assert "it takes 32 tokens at a time, where 77 are usual" in source.notes


def test_8_bit_weights_with_scales_are_refused():
    file = shapes(encoder(CLIPText, TEXT).state_dict()) | {"text_model.encoder.layers.0.mlp.fc1.scale_weight": ()}
    with pytest.raises(LayoutError, match="8-bit numbers with separate scales"):
        find_text_encoders(file)


def test_patches_that_make_no_square_are_refused():
    file = shapes(hf_pair())
    file["vision_model.embeddings.position_embedding.weight"] = (8, 64)
    with pytest.raises(LayoutError, match="7 patches, which make no square"):
        find_clip(file)


@pytest.mark.parametrize(
    ("beside", "what"),
    [
        ("weight.quant_state.bitsandbytes__nf4", "4-bit numbers of bitsandbytes"),
        ("weight.absmax", "4-bit numbers of bitsandbytes"),
        ("qweight", "packed numbers of GPTQ or AWQ"),
        ("weight._data", "packed numbers of quanto"),
        ("comfy_quant", "packed numbers of ComfyUI's quantised files"),
        ("weight_scale", "8-bit numbers with separate scales"),
        ("weight_scale_inv", "8-bit numbers with separate scales"),
    ],
)
def test_weights_packed_in_another_way_are_refused_by_its_name(beside, what):
    file = shapes(encoder(CLIPText, TEXT).state_dict()) | {f"text_model.encoder.layers.0.mlp.fc1.{beside}": (4,)}
    with pytest.raises(LayoutError, match=f"its weights are {what}, which is not read here; use an fp16 file"):
        find_text_encoders(file)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("visual.blocks.0.attn.q_bias", "EVA-CLIP"),
        ("visual.blocks.3.mlp.ffn_ln.weight", "EVA-CLIP"),
        ("image_encoder.model.patch_embed.0.weight", "MobileCLIP"),
    ],
)
def test_an_image_encoder_of_another_kind_is_refused_by_its_name(name, what):
    file = under("text.", shapes(flat(encoder(CLIPText, TEXT).state_dict(), "text"))) | {name: (64,)}
    with pytest.raises(LayoutError, match=what):
        find_clip(file)


def test_metaclip_2_is_refused_by_name():
    file = shapes(hf_pair()) | {"text_model.embeddings.token_embedding.weight": (901_629, 64)}
    with pytest.raises(LayoutError, match="MetaCLIP 2"):
        find_clip(file)
