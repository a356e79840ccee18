"""CVL_TextEncode and our CLIP object beside CLIPTextEncode and the stock CLIP, on the same full-size files."""

import pytest
import torch

from ...support import models

# fp16 weights, fp32 activations on both sides; the order of additions differs, values are of order one
ROUNDING = 1e-5
PROMPTS = [
    "",
    "a photo of a cat",
    "a (red:1.3) fox, ((jumping)) over the (lazy:0.6) dog",
    r"escaped \(brackets\) and an unbalanced ( one",
    "日本語 and émojis 🦊🦊, " + "many words " * 60,
    " ".join(f"(part{n}:{1 + n / 10:.1f}) of a very long prompt about trees and rivers," for n in range(20)),
]


def encode(comfyui, clip, text):
    ((hidden, extra),) = comfyui.nodes["CLIPTextEncode"]().encode(clip=clip, text=text)[0]
    return hidden, extra["pooled_output"]


def ours(comfyui, clip, text):
    ((hidden, extra),) = comfyui.nodes["CVL_TextEncode"]().encode(clip=clip, text=text)["result"][0]
    return hidden, extra["pooled_output"]


def assert_equal(first, second):
    for theirs, mine in zip(first, second):
        assert theirs.shape == mine.shape and theirs.dtype == mine.dtype and theirs.device == mine.device
        assert (theirs - mine).abs().max() <= ROUNDING


@pytest.fixture(scope="module")
def sd1(comfyui):
    """(stock CLIP, our CLIP) of one CLIP-L file."""
    models.text_encoder(comfyui.models / "text_encoders" / "l.safetensors", "clip_l", seed=1)
    (stock,) = comfyui.nodes["CLIPLoader"]().load_clip("l.safetensors", "stable_diffusion")
    return stock, comfyui.nodes["CVL_LoadTextEncoder"]().load("l.safetensors")["result"][0]


@pytest.fixture(scope="module")
def sdxl(comfyui, sd1):
    models.text_encoder(comfyui.models / "text_encoders" / "g.safetensors", "clip_g", seed=2)
    (stock,) = comfyui.nodes["DualCLIPLoader"]().load_clip("l.safetensors", "g.safetensors", "sdxl")
    return stock, comfyui.nodes["CVL_LoadTextEncoder"]().load("l.safetensors", "g.safetensors")["result"][0]


@pytest.mark.parametrize("text", PROMPTS)
def test_sd1_conditioning_equals_the_stock_node(comfyui, sd1, text):
    reference = encode(comfyui, sd1[0], text)
    for answer in (ours(comfyui, sd1[0], text), ours(comfyui, sd1[1], text), encode(comfyui, sd1[1], text)):
        assert_equal(reference, answer)


@pytest.mark.parametrize("text", PROMPTS[1:5])
def test_sdxl_conditioning_equals_the_stock_node(comfyui, sdxl, text):
    reference = encode(comfyui, sdxl[0], text)
    for answer in (ours(comfyui, sdxl[0], text), ours(comfyui, sdxl[1], text), encode(comfyui, sdxl[1], text)):
        assert_equal(reference, answer)


@pytest.mark.parametrize("layer", [-1, -2, -5, -12, -24])
def test_the_stock_clip_skip_node_works_on_our_clip(comfyui, sd1, layer):
    skipped = [comfyui.nodes["CLIPSetLastLayer"]().set_last_layer(clip, layer)[0] for clip in sd1]
    assert_equal(encode(comfyui, skipped[0], PROMPTS[2]), encode(comfyui, skipped[1], PROMPTS[2]))


def test_the_stock_sdxl_node_works_on_our_clip(comfyui, sdxl):
    node = comfyui.nodes["CLIPTextEncodeSDXL"]
    numbers = {"width": 1024, "height": 1024, "crop_w": 0, "crop_h": 0, "target_width": 1024, "target_height": 1024}
    answers = []
    for clip in sdxl:
        made = (
            node.execute(clip=clip, **numbers, text_g="a cat", text_l="a dog")
            if hasattr(node, "execute")
            else (node().encode(clip=clip, **numbers, text_g="a cat", text_l="a dog"))
        )
        ((hidden, extra),) = made[0]
        answers.append((hidden, extra["pooled_output"]))
    assert_equal(*answers)


def test_merging_and_saving_with_stock_nodes_works_on_our_clip(comfyui, sd1):
    merged = [comfyui.nodes["CLIPMergeSimple"]().merge(clip, clip, 0.5)[0] for clip in sd1]
    assert_equal(encode(comfyui, merged[0], PROMPTS[1]), encode(comfyui, merged[1], PROMPTS[1]))
    comfyui.nodes["CLIPSave"]().save(sd1[1], "clip/cvl")
    (saved,) = (comfyui.base / "output" / "clip").glob("cvl_*.safetensors")
    from clip_vae_lora.files.tensors import open_tensors

    with open_tensors(saved) as file:
        written = file.read(file.shapes)
    original = sd1[0].get_sd()
    assert all(torch.equal(written[k], original[f"clip_l.transformer.{k}"]) for k in written if "text_model" in k)


def test_a_textual_inversion_is_found_by_our_clip_and_a_missing_one_is_said(comfyui, sd1):
    from clip_vae_lora.files.tensors import write_tensors

    vectors = torch.randn(3, 768, generator=torch.Generator().manual_seed(5)) * 0.05
    write_tensors(comfyui.models / "embeddings" / "tabby.safetensors", {"emb_params": vectors}, {})
    text = "a photo of (embedding:tabby:1.2) on a sofa"
    assert_equal(encode(comfyui, sd1[0], text), encode(comfyui, sd1[1], text))
    assert_equal(encode(comfyui, sd1[0], text), ours(comfyui, sd1[1], text))
    report = comfyui.nodes["CVL_TextEncode"]().encode(clip=sd1[1], text="embedding:tabbyy cat")["result"][1]
    assert "tabbyy" in report


@pytest.fixture(scope="module")
def h(comfyui):
    models.text_encoder(comfyui.models / "text_encoders" / "h.safetensors", "clip_h", seed=3)
    (stock,) = comfyui.nodes["CLIPLoader"]().load_clip("h.safetensors", "stable_diffusion")
    return stock, comfyui.nodes["CVL_LoadTextEncoder"]().load("h.safetensors")["result"][0]


@pytest.mark.parametrize("text", PROMPTS[:3])
def test_sd2_conditioning_equals_the_stock_node(comfyui, h, text):
    assert_equal(encode(comfyui, h[0], text), encode(comfyui, h[1], text))


def test_sdxl_refiner_and_sd3_conditioning_equal_the_stock_nodes(comfyui, sdxl):
    nodes = comfyui.nodes
    (refiner,) = nodes["CLIPLoader"]().load_clip("g.safetensors", "stable_diffusion")
    ours_alone = nodes["CVL_LoadTextEncoder"]().load("g.safetensors")["result"][0]
    assert_equal(encode(comfyui, refiner, PROMPTS[2]), encode(comfyui, ours_alone, PROMPTS[2]))
    (sd3,) = nodes["DualCLIPLoader"]().load_clip("l.safetensors", "g.safetensors", "sd3")
    ours_sd3 = nodes["CVL_LoadTextEncoder"]().load("l.safetensors", "g.safetensors", "sd3")["result"][0]
    assert_equal(encode(comfyui, sd3, PROMPTS[2]), encode(comfyui, ours_sd3, PROMPTS[2]))
