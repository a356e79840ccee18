"""Every layout of CLIP, alone and inside checkpoints, gives the network it was made from."""

import pytest
import torch

from clip_vae_lora.clip_core.checkpoint.find import find_clip, find_text_encoders
from clip_vae_lora.clip_core.config import CLIPConfig
from clip_vae_lora.clip_core.networks.clip import CLIP
from clip_vae_lora.clip_core.networks.text import CLIPText, first_end

from ...support.files.clip_files import (
    OTHERS,
    TEXT,
    VISION,
    assert_same,
    encoder,
    flat,
    flat_pair,
    hf_pair,
    shapes,
    under,
)

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


@pytest.mark.parametrize("prefix", ["", "clip.", "image_encoder.", "module."])
def test_a_pair_in_hugging_face_names(prefix):
    network = encoder(CLIP, CLIPConfig(TEXT, VISION))
    file = under(prefix, network.state_dict())
    source = find_clip(shapes(file, OTHERS))
    assert (source.layout, source.config) == ("hf", network.config)
    assert_same(source, file, network)


@pytest.mark.parametrize("kind", ["CLIPTextModel", "CLIPTextModelWithProjection"])
def test_a_text_encoder_that_transformers_saves_gives_what_it_computes(networks, kind):
    transformers = pytest.importorskip("transformers")
    config = networks.tiny("ViT-L-14")
    theirs = networks.randomise_(getattr(transformers, kind)(networks.hf_text_config(config)))
    (source,) = find_text_encoders(shapes(theirs.state_dict()), networks.metadata(config))
    ours, ids = source.build().eval(), networks.ids()
    ours.load_state_dict(source.translate(theirs.state_dict()))
    with torch.no_grad():
        output, expected = ours(ours.embed(ids), first_end(ids)), theirs(ids)
    torch.testing.assert_close(output.hidden, expected.last_hidden_state, atol=1e-5, rtol=1e-5)
    assert source.has_projection is kind.endswith("WithProjection")


def test_a_pair_that_transformers_saves_is_read_whole(networks):
    pytest.importorskip("transformers")
    theirs = networks.hf_clip(networks.tiny("ViT-L-14"))
    assert_same(find_clip(shapes(theirs.state_dict())), theirs.state_dict(), theirs)


@pytest.mark.parametrize("text", ["", "text."])
@pytest.mark.parametrize("prefix", ["", "embedder.model.", "conditioner.embedders.0.open_clip.model."])
def test_a_pair_in_openai_names(prefix, text):
    network = encoder(CLIP, CLIPConfig(TEXT, VISION))
    leftovers = {"input_resolution": torch.tensor(24), "attn_mask": torch.ones(1)}
    file = flat_pair(network.state_dict(), prefix, text) | under(prefix, leftovers)
    source = find_clip(shapes(file, OTHERS))
    assert (source.layout, source.config) == ("openai", network.config)
    if not prefix:
        assert set(source.ignored) >= {"attn_mask", "input_resolution"}
    else:
        assert source.ignored == (f"{prefix}attn_mask", f"{prefix}input_resolution")
    assert_same(source, file, network)


def test_a_scale_of_shape_one_is_taken_and_a_missing_one_noted():
    file = hf_pair() | {"logit_scale": torch.full((1,), 3.0)}
    assert find_clip(shapes(file)).translate(file)["logit_scale"] == 3.0
    del file["logit_scale"]
    source = find_clip(shapes(file))
    assert "no logit_scale in the file: 100 stands in, where the published models are" in source.notes
    assert source.translate(file)["logit_scale"].exp().round() == 100
