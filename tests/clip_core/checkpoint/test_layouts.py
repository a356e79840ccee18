"""Every layout of CLIP, alone and inside checkpoints, gives the network it was made from."""

import pytest
import torch

from clip_vae_lora.clip_core.checkpoint.find import find_clip, find_text_encoders, find_vision_encoders
from clip_vae_lora.clip_core.networks.clip import CLIP
from clip_vae_lora.clip_core.networks.text import CLIPText, first_end
from clip_vae_lora.clip_core.networks.vision import CLIPVision

from ...support.clip_files import OTHERS, TEXT, VISION, assert_same, encoder, flat, hf_pair, shapes, under

HF_PREFIXES = [
    "",
    "cond_stage_model.transformer.",
    "conditioner.embedders.0.transformer.",
    "text_encoders.clip_l.transformer.",
    "text_encoders.clip_g.transformer.",
    "text_encoder.clip_g.transformer.",
    "clip_l.transformer.",
    "clip_g.transformer.",
    "clip_h.transformer.",
    "module.",
]
OPENAI_PREFIXES = [
    "",
    "text.",
    "cond_stage_model.model.",
    "conditioner.embedders.0.model.",
    "conditioner.embedders.1.model.",
    "module.",
]


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
        "visual.",
        "embedder.model.visual.",
        "conditioner.embedders.0.open_clip.model.visual.",
        "cond_stage_model.model.visual.",
    ],
)
def test_image_encoder_in_openai_names(prefix):
    network = encoder(CLIPVision, VISION)
    file = under(prefix, flat(network.state_dict(), "vision"))
    (source,) = find_vision_encoders(shapes(file, OTHERS))
    assert (source.layout, source.prefix, source.config) == ("openai", prefix, VISION)
    assert_same(source, file, network)


@pytest.mark.parametrize(
    "kind",
    ["CLIPTextModel", "CLIPTextModelWithProjection", "CLIPVisionModel", "CLIPVisionModelWithProjection", "CLIPModel"],
)
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
    network = encoder(CLIP, find_clip(shapes(hf_pair())).config)
    state = network.state_dict()
    file = under(prefix, flat({k: v for k, v in state.items() if k.startswith("text")}, "text"))
    file |= under("visual.", flat({k: v for k, v in state.items() if k.startswith("vis")}, "vision"))
    file |= {"logit_scale": state["logit_scale"], "input_resolution": torch.tensor(24), "attn_mask": torch.ones(1)}
    source = find_clip(shapes(file))
    assert source.config == network.config
    assert source.ignored == ("attn_mask", "input_resolution")
    assert_same(source, file, network)


def test_a_scale_of_shape_one_is_taken_and_a_missing_one_noted():
    file = hf_pair() | {"logit_scale": torch.full((1,), 3.0)}
    assert find_clip(shapes(file)).translate(file)["logit_scale"] == 3.0
    del file["logit_scale"]
    source = find_clip(shapes(file))
    assert "no logit_scale in the file: 100 stands in, where the published models are" in source.notes
    assert source.translate(file)["logit_scale"].exp().round() == 100
