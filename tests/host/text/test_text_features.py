"""Features of texts from ComfyUI's own CLIP objects, beside a stock CLIP_VISION, and from ours under its patches."""

import json

import pytest
import torch
import torch.nn.functional as F

from ...support import small_clips

ROUNDING = 1e-5  # fp32 on both sides, sums in another order
TEXTS = ["a photo of a cat", "a photo of a dog", "", "a much longer photo of a dog and a cat, 漢字"]


def clip_vision(tmp_path, width: int):
    """A stock CLIP_VISION, tiny and random, whose pictures have features of `width` dimensions."""
    import comfy.clip_vision

    config = {
        "hidden_act": "quick_gelu",
        "hidden_size": 64,
        "image_size": 32,
        "intermediate_size": 128,
        "num_channels": 3,
        "model_type": "clip_vision_model",
        "num_attention_heads": 1,
        "num_hidden_layers": 2,
        "patch_size": 8,
        "projection_dim": width,
    }
    path = tmp_path / "vision.json"
    path.write_text(json.dumps(config))
    vision = comfy.clip_vision.ClipVisionModel(str(path))
    generator = torch.Generator().manual_seed(3)
    for parameter in vision.model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.05
    return vision


@pytest.fixture(scope="module")
def sdxl(comfyui):
    return small_clips.stock_clip("sdxl")


@pytest.fixture
def features(comfyui):
    import sys

    module = sys.modules[comfyui.nodes["CVL_ZeroShotClassify"].__module__].features
    module.TEXTS.clear()
    return module


def test_features_are_the_projected_pooled_vectors_of_the_stock_encoder(features, sdxl, tmp_path):
    found = features.encode_texts(clip_vision(tmp_path, 1280), sdxl, TEXTS).features
    sdxl.load_model()
    encoder = sdxl.cond_stage_model.clip_g
    with torch.no_grad():
        pooled = [encoder.encode_token_weights(sdxl.tokenize(text)["g"])[1].float().cpu() for text in TEXTS]
    assert (found - F.normalize(torch.cat(pooled), dim=-1)).abs().max() <= ROUNDING


def test_a_stock_clip_vision_and_its_clip_classify(comfyui, features, sdxl, tmp_path):
    node = comfyui.nodes["CVL_ZeroShotClassify"]()
    answer = node.classify(clip_vision(tmp_path, 1280), torch.rand(2, 40, 50, 3), "cat, dog", "a {}", clip=sdxl)
    report = json.loads(answer["result"][1])
    assert report["scale"] == 100 and "no logit scale" in report["notes"][0]
    assert len(report["pictures"]) == 2


def test_a_clip_of_another_width_none_and_one_without_a_projection_are_refused(features, sdxl, tmp_path):
    vision = clip_vision(tmp_path, 512)
    with pytest.raises(ValueError, match="512 dimensions.*clip_l of 768, clip_g of 1280"):
        features.encode_texts(vision, sdxl, TEXTS)
    with pytest.raises(ValueError, match="connect the CLIP of the same model"):
        features.encode_texts(vision, None, TEXTS)
    without = small_clips.stock_clip("sd1")
    without.cond_stage_model.clip_l.transformer.text_projection.weight.data.zero_()  # as ComfyUI leaves it
    with pytest.raises(ValueError, match="text projection was expected"):
        features.encode_texts(vision, without, TEXTS)


def test_a_patched_clip_gets_features_of_its_own_and_the_old_ones_stay(features, sdxl, tmp_path):
    vision = clip_vision(tmp_path, 1280)
    before = features.encode_texts(vision, sdxl, TEXTS).features
    changed = sdxl.clone()
    key = "clip_g.transformer.text_model.encoder.layers.0.mlp.fc1.weight"
    weight = changed.patcher.model_state_dict()[key]
    assert changed.add_patches({key: (torch.randn(weight.shape) * 0.1,)}, 1.0)
    assert (features.encode_texts(vision, changed, TEXTS).features - before).abs().max() > 1e-4
    assert torch.equal(features.encode_texts(vision, sdxl, TEXTS).features, before)
    features.TEXTS.clear()
    assert (features.encode_texts(vision, sdxl, TEXTS).features - before).abs().max() <= ROUNDING
