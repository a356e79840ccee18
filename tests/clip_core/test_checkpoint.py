"""Files: every layout of CLIP, alone and inside checkpoints; sizes from shapes; what is refused and how."""

import re

import pytest
import torch

from clip_vae_lora.clip_core.checkpoint import (
    LayoutError,
    find_clip,
    find_text_encoders,
    find_vision_encoders,
)
from clip_vae_lora.clip_core.config import PUBLISHED, TextConfig, VisionConfig, text_heads, vision_heads
from clip_vae_lora.clip_core.layers import Unfilled
from clip_vae_lora.clip_core.model import CLIP
from clip_vae_lora.clip_core.text import CLIPText, first_end
from clip_vae_lora.clip_core.vision import CLIPVision

TEXT = TextConfig(64, 2, text_heads(64), 96, 64)  # square projection: orientation can only come from the name
VISION = VisionConfig(64, 2, vision_heads(64), 96, 8, 24, 64)
OTHERS = {"model.diffusion_model.input_blocks.0.0.bias": (320,), "first_stage_model.quant_conv.bias": (8,)}
FLAT = [
    ("layer_norm", "ln_"), ("mlp.fc1", "mlp.c_fc"), ("mlp.fc2", "mlp.c_proj"), ("self_attn.out_proj", "attn.out_proj"),
    ("encoder.layers", "transformer.resblocks"), ("embeddings.position_embedding.weight", "positional_embedding"),
    ("embeddings.token", "token"), ("embeddings.class", "class"), ("embeddings.patch_embedding", "conv1"),
    ("pre_layrnorm", "ln_pre"), ("post_layernorm", "ln_post"),
]  # fmt: skip


def encoder(kind, config):
    torch.manual_seed(0)
    network = kind(config).eval()
    with torch.no_grad():
        for tensor in network.parameters():
            tensor.normal_(0, 0.1)
    return network


def flat(state, half):
    """Our state dict in OpenAI's names, by replacement in the opposite direction."""
    out, block = {}, re.compile(rf"{half}_model.encoder.layers.(\d+).self_attn.q_proj.(weight|bias)")
    for name, tensor in state.items():
        if name.endswith("_projection.weight"):
            out["text_projection" if half == "text" else "proj"] = tensor.T
        elif match := block.fullmatch(name):
            parts = [state[name.replace("q_proj", part)] for part in ("q_proj", "k_proj", "v_proj")]
            out[f"transformer.resblocks.{match[1]}.attn.in_proj_{match[2]}"] = torch.cat(parts)
        elif "k_proj" not in name and "v_proj" not in name:
            own = name.removeprefix(f"{half}_model.").replace("final_layer_norm", "ln_final")
            for ours, theirs in FLAT:
                own = own.replace(ours, theirs)
            out[own] = tensor
    return out


def under(prefix, state):
    return {prefix + name: tensor for name, tensor in state.items()}


def shapes(state, others=()):
    return {name: tuple(tensor.shape) for name, tensor in state.items()} | dict(others)


def assert_same(source, file, network):
    """Only the source's names are needed, and they give the network's tensors."""
    state = source.translate({name: file[name] for name in source.names})
    expected = network.state_dict()
    assert set(state) == set(expected)
    for name, tensor in state.items():
        assert torch.equal(tensor, expected[name]), name
    source.build().load_state_dict(state)


HF_PREFIXES = [
    "", "cond_stage_model.transformer.", "conditioner.embedders.0.transformer.", "text_encoders.clip_l.transformer.",
    "text_encoders.clip_g.transformer.", "text_encoder.clip_g.transformer.", "clip_l.transformer.",
    "clip_g.transformer.", "clip_h.transformer.", "module.",
]  # fmt: skip
OPENAI_PREFIXES = [
    "", "text.", "cond_stage_model.model.", "conditioner.embedders.0.model.", "conditioner.embedders.1.model.",
    "module.",
]  # fmt: skip


@pytest.mark.parametrize("prefix", HF_PREFIXES)
@pytest.mark.parametrize("inner", ["text_model.", ""], ids=["text_model", "bare"])
def test_text_encoder_in_hugging_face_names(prefix, inner):
    network = encoder(CLIPText, TEXT)
    named = {name.replace("text_model.", inner): tensor for name, tensor in network.state_dict().items()}
    file = under(prefix, named)
    (source,) = find_text_encoders(shapes(file, OTHERS if prefix else ()))
    assert (source.layout, source.prefix, source.config, source.has_projection) == ("hf", prefix, TEXT, True)
    assert source.ignored == ()
    assert_same(source, file, network)


@pytest.mark.parametrize("prefix", OPENAI_PREFIXES)
def test_text_encoder_in_openai_names(prefix):
    network = encoder(CLIPText, TEXT)
    file = under(prefix, flat(network.state_dict(), "text")) | {f"{prefix}logit_scale": torch.ones(())}
    (source,) = find_text_encoders(shapes(file, OTHERS if prefix else ()))
    assert (source.layout, source.prefix, source.config) == ("openai", prefix, TEXT)
    assert source.ignored == (f"{prefix}logit_scale",)
    assert_same(source, file, network)


@pytest.mark.parametrize(
    ("prefix", "inner"),
    [("", "vision_model."), ("", ""), ("clip_l_vision.", "vision_model."), ("image_encoder.", "vision_model.")],
)
def test_image_encoder_in_hugging_face_names(prefix, inner):
    network = encoder(CLIPVision, VISION)
    file = under(prefix, {k.replace("vision_model.", inner): v for k, v in network.state_dict().items()})
    (source,) = find_vision_encoders(shapes(file))
    assert (source.layout, source.prefix, source.config) == ("hf", prefix, VISION)
    assert_same(source, file, network)


@pytest.mark.parametrize(
    "prefix",
    [
        "visual.", "embedder.model.visual.", "conditioner.embedders.0.open_clip.model.visual.",
        "cond_stage_model.model.visual.",
    ],  # fmt: skip
)
def test_image_encoder_in_openai_names(prefix):
    network = encoder(CLIPVision, VISION)
    file = under(prefix, flat(network.state_dict(), "vision"))
    (source,) = find_vision_encoders(shapes(file, OTHERS))
    assert (source.layout, source.prefix, source.config) == ("openai", prefix, VISION)
    assert_same(source, file, network)


@pytest.mark.parametrize("kind", ["CLIPTextModel", "CLIPTextModelWithProjection", "CLIPVisionModel",
                                  "CLIPVisionModelWithProjection", "CLIPModel"])  # fmt: skip
def test_what_transformers_saves_gives_what_it_computes(networks, kind):
    transformers = pytest.importorskip("transformers")
    config, half = networks.tiny("ViT-L-14"), "text" if "Text" in kind else "vision"
    if kind == "CLIPModel":
        theirs = networks.hf_clip(config)
        assert_same(find_clip(shapes(theirs.state_dict())), theirs.state_dict(), theirs)
        return
    made = networks.hf_text_config(config) if half == "text" else networks.hf_vision_config(config)
    theirs = networks.randomise_(getattr(transformers, kind)(made))
    find = find_text_encoders if half == "text" else find_vision_encoders
    (source,) = find(shapes(theirs.state_dict()), networks.metadata(config))
    ours = source.build().eval()
    ours.load_state_dict(source.translate(theirs.state_dict()))
    ids, pixels = networks.ids(), networks.pixels(config)
    with torch.no_grad():
        output = ours(ours.embed(ids), first_end(ids)) if half == "text" else ours(pixels)
        expected = theirs(ids if half == "text" else pixels)
    torch.testing.assert_close(output.hidden, expected.last_hidden_state, atol=1e-5, rtol=1e-5)
    assert source.has_projection is kind.endswith("WithProjection")


@pytest.mark.parametrize("prefix", ["", "text."])
def test_a_pair_in_openai_names(prefix):
    network = encoder(CLIP, find_pair_config())
    state = network.state_dict()
    file = under(prefix, flat({k: v for k, v in state.items() if k.startswith("text")}, "text"))
    file |= under("visual.", flat({k: v for k, v in state.items() if k.startswith("vis")}, "vision"))
    file |= {"logit_scale": state["logit_scale"], "input_resolution": torch.tensor(24), "attn_mask": torch.ones(1)}
    source = find_clip(shapes(file))
    assert source.config == network.config
    assert source.ignored == ("attn_mask", "input_resolution")
    assert_same(source, file, network)


def find_pair_config():
    return find_clip(shapes(hf_pair())).config


def hf_pair():
    halves = encoder(CLIPText, TEXT).state_dict() | encoder(CLIPVision, VISION).state_dict()
    return halves | {"logit_scale": torch.ones(())}


def test_a_scale_of_shape_one_is_taken_and_a_missing_one_noted():
    file = hf_pair() | {"logit_scale": torch.full((1,), 3.0)}
    assert find_clip(shapes(file)).translate(file)["logit_scale"] == 3.0
    del file["logit_scale"]
    source = find_clip(shapes(file))
    assert "no logit_scale in the file: 100 stands in, where the published models are" in source.notes
    assert source.translate(file)["logit_scale"].exp().round() == 100


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_full_sizes_are_inferred_from_shapes_alone(networks, name):
    pytest.importorskip("open_clip")
    with torch.device("meta"):
        file = networks.open_clip_model(PUBLISHED[name]).state_dict()
    assert find_clip(shapes(file), activation=PUBLISHED[name].text.activation).config == PUBLISHED[name]


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_the_activation_is_that_of_the_published_model_of_the_size(name):
    with torch.device("meta"):
        file = CLIP(PUBLISHED[name], Unfilled).state_dict()
    source = find_clip(shapes(file))
    assert source.config == PUBLISHED[name]
    assumed = [note for note in source.notes if "the file does not say the activation" in note]
    assert len(assumed) == (PUBLISHED[name].text.activation == "quick_gelu")


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
        names = shapes(CLIPText(config, Unfilled).state_dict())
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
    for find in (find_text_encoders, find_vision_encoders, find_clip):
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


def test_a_resnet_is_refused_by_name_and_its_text_encoder_read():
    text = flat(encoder(CLIPText, TEXT).state_dict(), "text")
    file = shapes(text, {"visual.layer1.0.conv1.weight": (64, 64, 1, 1)})
    assert find_text_encoders(file)[0].config == TEXT
    for find in (find_clip, find_vision_encoders):
        with pytest.raises(LayoutError, match=r"is a ResNet \(RN50 to RN50x64\), which is not read here yet"):
            find(file)


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
    tables = {"text_model.embeddings.token_embedding.weight": (49410, 64),
              "text_model.embeddings.position_embedding.weight": (32, 64)}  # fmt: skip
    (source,) = find_text_encoders(shapes(encoder(CLIPText, TEXT).state_dict()) | tables)
    assert (source.config.vocab, source.config.context) == (49410, 32)
    assert "2 tokens were added to the vocabulary; no text leads to them" in source.notes
    assert "it takes 32 tokens at a time, where 77 are usual" in source.notes


def test_8_bit_weights_with_scales_are_refused():
    file = shapes(encoder(CLIPText, TEXT).state_dict()) | {"text_model.encoder.layers.0.mlp.fc1.scale_weight": ()}
    with pytest.raises(LayoutError, match="8-bit with separate scales"):
        find_text_encoders(file)


def test_patches_that_make_no_square_are_refused():
    file = shapes(encoder(CLIPVision, VISION).state_dict())
    file["vision_model.embeddings.position_embedding.weight"] = (8, 64)
    with pytest.raises(LayoutError, match="7 patches, which make no square"):
        find_vision_encoders(file)
